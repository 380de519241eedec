"""Rows in, published bundle out: the nightly run, step by step."""

import time
from dataclasses import replace
from typing import Any

from jobs import ledger
from jobs.output import Output, Report
from recsys.bundle import bundle as bundles
from recsys.bundle.bundle import Bundle
from recsys.config.settings import Config
from recsys.data import extract
from recsys.data.arrays import Float32
from recsys.data.folder import check_folder, failpoint
from recsys.errors import BundleError, RefusedError
from recsys.models.vectors import Vectors
from recsys.source.dataset import Dataset, load
from recsys.store.database import Store
from recsys.store.leases import holding_lease
from recsys.store.migrate import open_store
from recsys.training import candidates, gate
from recsys.training.candidates import BASELINE, Candidate, TrainingRun
from recsys.training.evaluation import evaluate

LEASE = "train"
HOLDOUT_START = "holdout_start"  # of a manifest: the evaluation vectors have seen nothing from then on (microseconds)


def train(config: Config, *, report: Report, now: int | None = None) -> Output:
    """Read, check, fit, judge, refit and publish, under the lease; one row in the ledger says how it went.

    now: microseconds UTC; an event after it is a fault of the source. Raises RefusedError when a check or the gate says
    no: the live bundle and the extract are then as they were. Raises ConfigError or RecsysError before anything is
    read when a model, the index, the device or the folder is not there.
    """
    store = open_store(config.store.url, config.store.table_prefix)
    with ledger.run(store, LEASE, config) as run:
        candidates.check_settings(config)
        check_folder(config.storage.path, writable=True)
        night = TrainingRun(config, read(config, store, run, now=now, report=report), run, report)
        judged = candidates.evaluate_all(night)
        winner = candidates.best(judged, config)
        live = _live(config)
        _pass_the_gate(night, winner, judged, live)
        fresh = _refit(night, winner, judged)
        failpoint("after fit")
        run.bundle = version = _save(night, fresh, live)
        failpoint("before publish")
        published = _publish(night, store, version)
        bundles.prune(config.storage.path, config.storage.keep_bundles)
    data = {"run": run.run_id, "bundle": version, "published": published, **run.metrics}
    state = "published" if published else "saved; a rollback keeps another one live until `recsys publish VERSION`"
    tables = [*candidates.comparisons(judged), *(candidates.table(judged, row) for row in winner.judged.rows)]
    return Output(data, [*tables, f"{winner.name}: {version} {state}"])


def read(config: Config, store: Store, run: ledger.Run, *, now: int | None, report: Report) -> Dataset:
    """Load and check the source, as a step of the run."""
    with run.step("read") as counts:
        loaded = load(config, store, now=now if now is not None else time.time_ns() // 1000, report=report)
        counts.update(events=len(loaded.events), users=loaded.events.user_count, items=len(loaded.catalog))
    return loaded


def _live(config: Config) -> Bundle | None:
    """The live bundle. None when there is none, or it is damaged: that must not keep tonight's from replacing it."""
    try:
        return bundles.load(config.storage.path)
    except BundleError:
        return None


def _pass_the_gate(night: TrainingRun, winner: Candidate, judged: list[Candidate], live: Bundle | None) -> None:
    """Raises RefusedError with every reason that speaks against the winner."""
    with night.run.step("gate") as counts:
        verdict = gate.decide(
            winner.judged.ndcg_per_user,
            None if winner.name == BASELINE else judged[0].judged.ndcg_per_user,
            _beside_live(night, winner, live, judged[0]),
            events=len(night.loaded.events),
            live_events=live.manifest["data"]["events"] if live else None,
            settings=night.config.gate,
            seed=night.config.training.seed,
        )
        counts.update(verdict.figures, reasons=list(verdict.reasons))
    models = {candidate.name: candidate.judged.rows for candidate in judged}
    night.run.metrics = {"winner": winner.name, "gate": counts, "models": models}
    if verdict.reasons:
        raise RefusedError("the gate refused to publish:\n" + "\n".join(f"  {reason}" for reason in verdict.reasons))


def _beside_live(
    night: TrainingRun, winner: Candidate, live: Bundle | None, baseline: Candidate
) -> tuple[Float32, Float32] | None:
    """NDCG@20 per user [B] of the candidate and of the live bundle's pre-refit vectors, with tonight's histories.

    Of tonight's holdout only what neither has learnt from counts: the live bundle may have been held back less, or from
    a later day on. None when it kept no such vectors, or was trained on other kinds of events, which tonight's
    histories cannot feed.
    """
    if live is None or live.evaluation is None or live.kinds != tuple(night.config.events.weights):
        return None
    splits = night.splits.shortened(live.manifest.get(HOLDOUT_START, night.splits.holdout_start))
    vectors = gate.align(live.evaluation, live.catalog.ids, night.loaded.catalog.ids)

    def judged(rival: Vectors) -> Float32:
        return evaluate(candidates.with_popularity(night, rival, baseline.vectors), splits, night.config).ndcg_per_user

    ours = winner.judged.ndcg_per_user if splits is night.splits else judged(winner.vectors)
    return ours, judged(vectors)


def _refit(night: TrainingRun, winner: Candidate, judged: list[Candidate]) -> Bundle:
    """The winner and the baseline again on all events, settings as chosen."""
    with night.run.step("refit"):
        final = {
            c.name: candidates.fit(night, c.name, night.loaded.events, night.as_of, chosen=c.vectors.settings)
            for c in (judged[0], winner)
        }
    with night.step("index"):
        bundle = candidates.with_popularity(night, final[winner.name], final[BASELINE], measured=True)
    return replace(bundle, evaluation=winner.vectors)


def _save(night: TrainingRun, fresh: Bundle, live: Bundle | None) -> str:
    with night.step("save"):
        facts: dict[str, Any] = {
            "configuration": night.config.model_dump(mode="json", exclude={"store", "source"}),
            "config_hash": night.config.hash(),
            "data": night.loaded.report.summary(),
            "watermark": night.loaded.watermark,
            "metrics": night.run.metrics,
            "replaces": live.version if live else None,
            HOLDOUT_START: night.splits.holdout_start,
        }
        return bundles.save(fresh, night.config.storage.path, facts=facts)


def _publish(night: TrainingRun, store: Store, version: str) -> bool:
    """Move the extract and CURRENT while the lease's row is locked; whether CURRENT moved: a pinned bundle stays."""
    folder = night.config.storage.path
    with night.step("publish") as counts:
        prepared = extract.write(folder, night.loaded)
        with holding_lease(store, LEASE, night.run.fencing):
            extract.publish(folder, prepared)
            counts["published"] = bundles.publish(folder, version, unless_pinned=True)
    return bool(counts["published"])
