"""Rows in, published bundle out: the nightly run, step by step."""

import time
from dataclasses import replace
from typing import Any

from jobs import candidates, gate, ledger
from jobs.candidates import BASELINE, Candidate
from jobs.show import Output, Report, Table
from recsys import bundle as bundles
from recsys import extract
from recsys.artifact import crash_point
from recsys.bundle import Bundle
from recsys.config import Config
from recsys.data import Splits, split_by_time
from recsys.errors import BundleError, RefusedError
from recsys.evaluation import judge
from recsys.source import Loaded, load
from recsys.store import Store, open_store
from recsys.vectors import Vectors

LEASE = "train"


def train(config: Config, *, report: Report, now: int | None = None) -> Output:
    """Read, check, fit, judge, refit and publish, under the lease; one row in the ledger says how it went.

    now: microseconds UTC; an event after it is a fault of the source. Raises RefusedError when a check or the gate says
    no: the live bundle and the extract are then as they were.
    """
    store = open_store(config.store.url, config.store.table_prefix)
    with ledger.run(store, LEASE, config) as run:
        loaded = read(config, store, run, now=now, report=report)
        splits = split(loaded, config)
        judged = candidates.fit_candidates(loaded.catalog, splits, config, run=run, report=report)
        winner = candidates.best(judged, config)
        live = _live(config)
        verdict = _verdict(winner, judged, live, loaded, splits, config, run)
        final, popularity = _refit(winner, judged, loaded, config, run, report)
        crash_point("after fit")
        version = _save(winner, final, popularity, loaded, live, config, run)
        crash_point("before publish")
        published = _publish(store, run, loaded, config)
        bundles.prune(config.folder.path, config.folder.keep_bundles)
    return _output(run, judged, verdict, version, published)


def read(config: Config, store: Store, run: ledger.Run, *, now: int | None, report: Report) -> Loaded:
    """Load and check the source as a step of the run."""
    with run.step("read") as counts:
        loaded = load(config, store, now=now if now is not None else time.time_ns() // 1000, report=report)
        counts.update(events=len(loaded.events), users=loaded.events.user_count, items=len(loaded.catalog))
    return loaded


def split(loaded: Loaded, config: Config) -> Splits:
    """Fit, validation and holdout as configured."""
    settings = config.evaluation
    return split_by_time(loaded.events, validation_days=settings.validation_days, holdout_days=settings.holdout_days)


def _live(config: Config) -> Bundle | None:
    """The live bundle; None when there is none or when it is damaged, which must not keep tonight's from replacing it."""
    try:
        return bundles.load(config.folder.path)
    except BundleError:
        return None


def _verdict(
    winner: Candidate,
    judged: list[Candidate],
    live: Bundle | None,
    loaded: Loaded,
    splits: Splits,
    config: Config,
    run: ledger.Run,
) -> gate.Verdict:
    with run.step("gate") as counts:
        verdict = gate.decide(
            winner.judged.ndcg_per_user,
            None if winner.name == BASELINE else judged[0].judged.ndcg_per_user,
            _judge_live(live, judged[0].vectors, loaded, splits, config),
            events=len(loaded.events),
            live_events=live.manifest["data"]["events"] if live else None,
            settings=config.gate,
            seed=config.training.seed,
        )
        counts.update(verdict.figures, reasons=list(verdict.reasons))
    run.metrics = {"winner": winner.name, "gate": counts, "models": {c.name: c.judged.rows for c in judged}}
    if not verdict.publish:
        raise RefusedError("the gate refused to publish:\n" + "\n".join(f"  {reason}" for reason in verdict.reasons))
    return verdict


def _judge_live(
    live: Bundle | None, baseline: Vectors, loaded: Loaded, splits: Splits, config: Config
) -> Any:
    """NDCG@20 per user of the live bundle's pre-refit vectors on tonight's holdout: float32 [B], or None."""
    if live is None or live.evaluation is None or live.kinds != tuple(config.events.weights):
        return None
    vectors = gate.align(live.evaluation, live.catalog.ids, loaded.catalog.ids)
    return judge(candidates.assemble_with(vectors, baseline, loaded.catalog, config), splits, config).ndcg_per_user


def _refit(
    winner: Candidate, judged: list[Candidate], loaded: Loaded, config: Config, run: ledger.Run, report: Report
) -> tuple[Vectors, Vectors]:
    """The winner and the baseline again on all events, settings as chosen."""
    with run.step("refit"):
        now = int(loaded.events.times.max()) + 1
        final = {
            c.name: candidates.fit(
                c.name, loaded.events, loaded.catalog, config, now=now, chosen=c.vectors.settings, report=report
            )
            for c in (judged[0], winner)
        }
    return final[winner.name], final[BASELINE]


def _save(
    winner: Candidate,
    final: Vectors,
    popularity: Vectors,
    loaded: Loaded,
    live: Bundle | None,
    config: Config,
    run: ledger.Run,
) -> str:
    with run.step("save"):
        fresh = candidates.assemble_with(final, popularity, loaded.catalog, config)
        facts = {
            "configuration": config.model_dump(mode="json", exclude={"store", "source"}),
            "config_hash": config.hash(),
            "data": loaded.report.summary(),
            "metrics": run.metrics,
            "replaces": live.version if live else None,
        }
        run.bundle = bundles.save(replace(fresh, evaluation=winner.vectors), config.folder.path, facts=facts)
    return run.bundle


def _publish(store: Store, run: ledger.Run, loaded: Loaded, config: Config) -> bool:
    """Move the extract and CURRENT while the lease's row is locked; a pinned bundle stays live. Whether it moved."""
    with run.step("publish"):
        prepared = extract.write(config.folder.path, loaded)
        with store.holding(LEASE, run.fencing):
            extract.publish(config.folder.path, prepared)
            return bundles.publish(config.folder.path, run.bundle, unless_pinned=True)


def _output(
    run: ledger.Run, judged: list[Candidate], verdict: gate.Verdict, version: str, published: bool
) -> Output:
    state = "published" if published else "saved, but another bundle is pinned: `recsys publish` moves on"
    data = {"run": run.run_id, "bundle": version, "published": published, **run.metrics}
    return Output(data, [candidates.table(judged), f"{run.metrics['winner']}: {version} {state}"])
