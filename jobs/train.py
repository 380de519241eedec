"""Rows in, published bundle out: the nightly run, step by step."""

import time
from contextlib import closing
from dataclasses import replace
from typing import Any

from jobs import ledger
from jobs.output import Output, Report
from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.bundle.bundle import Bundle
from recsys.config.settings import Config
from recsys.data import extract
from recsys.data.arrays import Float32
from recsys.data.folder import check_folder, current, failpoint
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
    with (
        closing(open_store(config.store.url, config.store.table_prefix)) as store,
        ledger.run(store, LEASE, config) as run,
    ):
        candidates.check_settings(config)
        check_folder(config.storage.path, writable=True)
        night = TrainingRun(config, read(config, store, run, now=now, report=report), run, report)
        judged = candidates.evaluate_all(night)
        winner = candidates.best(judged, config)
        live, skipped = _live(config)
        _pass_the_gate(night, winner, judged, live, skipped)
        fresh = _refit(night, winner, judged)
        failpoint("after fit")
        run.bundle = version = _save(night, fresh, live)
        failpoint("before publish")
        published = _publish(night, store, version)
        versions.prune(config.storage.path, config.storage.keep_bundles)
    data = {"run": run.run_id, "bundle": version, "published": published, **run.metrics}
    state = "published" if published else "saved; a rollback keeps another one live until `recsys publish VERSION`"
    tables = [*candidates.comparisons(judged), *(candidates.table(judged, row) for row in winner.judged.rows)]
    warnings = [f"warning: not compared with the live bundle: {skipped}"] if skipped else []
    return Output(data, [*tables, *warnings, f"{winner.name}: {version} {state}"])


def read(config: Config, store: Store, run: ledger.ActiveRun, *, now: int | None, report: Report) -> Dataset:
    """Load and check the source, as a step of the run."""
    with run.step("read") as counts:
        loaded = load(config, store, now=now if now is not None else time.time_ns() // 1000, progress=report)
        counts.update(events=len(loaded.events), users=loaded.events.user_count, items=len(loaded.catalog))
    return loaded


def _live(config: Config) -> tuple[Bundle | None, str | None]:
    """Open the live bundle. Returns it and why tonight cannot be compared with it; neither when none is published.

    A live bundle that cannot be opened does not keep tonight's from replacing it.
    """
    if current(bundles.bundles_folder(config.storage.path)) is None:
        return None, None
    try:
        live = bundles.load(config.storage.path)
    except BundleError as error:
        return None, f"it cannot be opened: {error}"
    if live.evaluation is None:
        return live, f"{live.version} has no vectors from before its refit"
    if live.kinds != tuple(config.events.weights):
        return live, f"{live.version} was trained on other kinds of events: {', '.join(live.kinds)}"
    return live, None


def _pass_the_gate(
    night: TrainingRun, winner: Candidate, judged: list[Candidate], live: Bundle | None, skipped: str | None
) -> None:
    """Raises RefusedError with every reason that speaks against the winner.

    skipped: why the winner is not compared with the live bundle; it goes into the ledger.
    """
    with night.run.step("gate") as counts:
        verdict = gate.decide(
            winner.judged.ndcg_per_user,
            None if winner.name == BASELINE else judged[0].judged.ndcg_per_user,
            None if live is None or skipped else _beside_live(night, winner, live, judged[0]),
            events=len(night.loaded.events),
            live_events=live.manifest["data"]["events"] if live else None,
            settings=night.config.gate,
            seed=night.config.training.seed,
        )
        counts.update(verdict.figures, reasons=list(verdict.reasons))
        if skipped:
            counts["live_skipped"] = skipped
    models = {candidate.name: candidate.judged.rows for candidate in judged}
    night.run.metrics = {"winner": winner.name, "gate": counts, "models": models}
    if verdict.reasons:
        raise RefusedError("the gate refused to publish:\n" + "\n".join(f"  {reason}" for reason in verdict.reasons))


def _beside_live(night: TrainingRun, winner: Candidate, live: Bundle, baseline: Candidate) -> tuple[Float32, Float32]:
    """NDCG@20 per user [B] of the candidate and of the live bundle's pre-refit vectors, with tonight's histories.

    Only days of tonight's holdout that neither has learned from count: the live bundle may have held back fewer, or
    others.
    """
    assert live.evaluation is not None  # `_live` says so
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
    """Move the extract and CURRENT while the lease's row is locked. Returns whether CURRENT moved: a pin keeps it.

    Raises BundleError, with neither moved, when a server could not open the bundle.
    """
    folder = night.config.storage.path
    with night.step("publish") as counts:
        versions.check(folder, version)  # here, so that the locked row waits for no checksums
        prepared = extract.write(folder, night.loaded)
        with holding_lease(store, LEASE, night.run.fencing):
            extract.publish(folder, prepared)
            counts["published"] = versions.publish(folder, version, unless_pinned=True)
    return bool(counts["published"])
