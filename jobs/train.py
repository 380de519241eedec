"""Rows in, published bundle out: the nightly run, step by step."""

import time
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version as version_of
from typing import Any

from jobs import ledger
from jobs.guarding import GUARDS, Guarding, doubt_about, guard_ages, guard_lists, guard_source
from jobs.model_tables import comparisons, holdout_table
from jobs.output import Output
from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.bundle.bundle import Bundle
from recsys.config.settings import Config
from recsys.data import extract
from recsys.data.folder import check_folder, current, failpoint
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.errors import BundleError, NotFoundError, RefusedError
from recsys.progress import Progress
from recsys.source.dataset import Dataset, load, load_news
from recsys.source.readings import note_trained
from recsys.store.database import Store
from recsys.store.events import settle
from recsys.store.leases import holding_lease
from recsys.store.migrate import open_store
from recsys.store.shop import claim_folder
from recsys.store.visitors import prune_visitors
from recsys.training import pipeline
from recsys.training.gate import GateResult
from recsys.training.looks import encode_looks
from recsys.training.pipeline import HOLDOUT_START, Candidate, TrainingRun
from recsys.training.propensity import learn_propensity

LEASE = "train"


def train(
    config: Config,
    *,
    progress: Progress,
    now: int | None = None,
    scheduled: bool = False,
    force: str | None = None,
    full: bool = False,
) -> Output:
    """Read what is new, check, fit, evaluate, refit and publish, under the lease; the ledger says how it went.

    Where nothing is new since the live bundle was made, by this version with these settings, nothing is fitted and it
    stays.

    now: microseconds UTC; an event after it is a fault of the source. scheduled: judge it as a run of the schedule.
    force: the reason to publish whatever the guards and the gate say; the ledger keeps it. full: read everything, and
    train whatever is new.
    Raises RefusedError when a check, a guard or the gate says no: the live bundle and the extract are then as they
    were. Raises ConfigError or RecsysError before anything is read when a model, the index, the device or the folder is
    not there.
    """
    now = now if now is not None else time.time_ns() // 1000
    with (
        closing(open_store(config.store.url, config.store.table_prefix)) as store,
        ledger.run(store, LEASE, config, scheduled=scheduled) as record,
    ):
        if force is not None:
            record.started["forced"] = force
        pipeline.check_settings(config)
        check_folder(config.storage.path, writable=True)
        claim_folder(store, config.storage.path, config.source.url)
        days_kept = round(config.events.visitor_days * MICROSECONDS_PER_DAY)
        settle(store)
        removed = prune_visitors(store, received_before=store.now() - days_kept)  # before what may refuse the run
        kept = None if force is not None or full else _usable(config, store)
        dataset = read_news(
            config,
            store,
            record,
            now=now,
            progress=progress,
            is_full=full,
            removed_visits=removed,
            trained=_made(config, kept.version) if kept is not None else None,
        )
        if dataset is None:
            return _nothing_new(config, store, record, now)
        guarding = guard_source(record, store, config, dataset, now=now, forced=force)
        run = TrainingRun(config, dataset, record.step, progress)
        candidates = pipeline.evaluate_all(run)
        winner, baseline = pipeline.best(candidates, config), candidates[0]
        live, skipped = _live(config, store)
        result = pipeline.compare(run, winner, baseline, live, skipped)
        _keep_result(record, candidates, winner, result)
        _refuse_unless_better(result, run.dataset.report.doubts, force)
        bundle = pipeline.refit(run, winner, baseline, live)
        bundle = replace(bundle, propensity=learn_propensity(run, live), looks=encode_looks(run))
        guard_lists(guarding, run, bundle, None if "live_skipped" in result.metrics else live)
        failpoint("after fit")
        record.bundle = version = _save(run, record, bundle, live)
        failpoint("before publish")
        published = _publish(run, record, version, _made(config, version))
        versions.prune(config.storage.path, config.storage.keep_bundles)
        failpoint("before outcome")
    data = {"run": record.run_id, "bundle": version, "published": published, **record.metrics}
    data[GUARDS] = [verdict.to_dict() for verdict in guarding.verdicts]
    state = "published" if published else "saved; a rollback keeps another one live until `recsys publish VERSION`"
    tables = [*comparisons(candidates), *(holdout_table(candidates, row) for row in winner.result.rows)]
    told = [*_told(dataset, guarding, result), f"{winner.name}: {version} {state}"]
    return Output(data, [*tables, *told])


def _nothing_new(config: Config, store: Store, record: ledger.ActiveRun, now: int) -> Output:
    """End a night that brought nothing new: the live bundle stays, and the ages of its events are judged."""
    record.bundle = version = current(bundles.bundles_folder(config.storage.path))
    record.metrics["nothing_new"] = True
    verdicts = guard_ages(record, store, config, now=now)
    lines = [f"warning: {verdict}" for verdict in verdicts if verdict.deviates]
    lines.append(f"nothing is new since {version} was made; it stays (--full trains all the same)")
    return Output({"run": record.run_id, "bundle": version, "published": False, **record.metrics}, lines)


def _made(config: Config, bundle: str) -> str:
    """What must be the same beside the data so that a night fits nothing: settings, program, and the live bundle."""
    return f"{config.hash()}/{version_of('recsys')}/{bundle}"


def _told(dataset: Dataset, guarding: Guarding, result: GateResult) -> list[str]:
    """What the check, the guards and the gate found, a line each, the worst first."""
    skipped = result.metrics.get("live_skipped")
    lines = [f"warning: not compared with the live bundle: {skipped}"] if skipped else []
    lines += [f"warning: {warning}" for warning in result.warnings]
    if guarding.forced is not None:
        lines += [f"forced ({guarding.forced}): {reason}" for reason in result.reasons]
    deviating = [verdict for verdict in guarding.verdicts if verdict.deviates]
    is_forced = guarding.forced is not None
    lines += [f"{'forced' if v.outcome == 'refuse' and is_forced else 'warning'}: {v}" for v in deviating]
    lines += [f"{finding.severity}: {replace(finding, examples=())}" for finding in dataset.report.findings]
    lines += [] if guarding.unjudged is None else [f"note: {guarding.unjudged}"]
    lines.append(f"guards: {len(guarding.verdicts) - len(deviating)} of {len(guarding.verdicts)} within their bounds")
    return lines


def read(
    config: Config,
    store: Store,
    record: ledger.ActiveRun,
    *,
    now: int | None = None,
    progress: Progress,
    is_evaluated: bool = True,
) -> Dataset:
    """Load and check the source, as a step of the run that keeps the findings. is_evaluated: as for `load`."""
    with record.step("read") as counts:
        dataset = load(
            config,
            store,
            now=now if now is not None else time.time_ns() // 1000,
            progress=progress,
            is_evaluated=is_evaluated,
            tell=lambda report: counts.update(
                findings=report.counted(), kinds=report.rows_by_kind(), newest_event_at=report.last
            ),
        )
        counts.update(_counted(dataset))
    return dataset


def read_news(
    config: Config,
    store: Store,
    record: ledger.ActiveRun,
    *,
    now: int,
    progress: Progress,
    is_full: bool,
    removed_visits: int,
    trained: str | None,
) -> Dataset | None:
    """As `read`, but only what is new since the last reading, which the step says. is_full: read everything.

    removed_visits: how many events of visitors were too old to be kept; the step counts them.
    trained: how the live bundle was made; where it was made so of the same data, None is returned. None: always read.
    """
    with record.step("read") as counts:
        if removed_visits:
            counts.update(removed_visits=removed_visits)
        dataset = load_news(
            config,
            store,
            now=now,
            progress=progress,
            is_full=is_full,
            is_evaluated=True,
            trained=trained,
            tell=lambda report: counts.update(findings=report.counted()),
            note=lambda how: counts.update(reading=how),
        )
        counts.update(_counted(dataset) if dataset is not None else {"nothing_new": True})
    return dataset


def _counted(dataset: Dataset) -> dict[str, int]:
    counts = {"events": len(dataset.events), "users": dataset.events.user_count, "items": len(dataset.catalog)}
    visits = dataset.visits
    return counts | ({"visitors": visits.user_count, "visitor_events": len(visits)} if len(visits) else {})


def _live(config: Config, store: Store) -> tuple[Bundle | None, str | None]:
    """Open the live bundle, or say why it cannot be opened; neither when none is published.

    One from a night that the guards doubted is opened, and why it is no measure is said too.

    A live bundle that cannot be opened does not keep tonight's from replacing it.
    """
    if current(bundles.bundles_folder(config.storage.path)) is None:
        return None, None
    try:
        live = bundles.load(config.storage.path)
        return live, doubt_about(store, live.version)
    except BundleError as error:
        return None, f"it cannot be opened: {error}"


def _usable(config: Config, store: Store) -> Bundle | None:
    """The live bundle, when it and the extract can be opened: a night that brings nothing new keeps both."""
    try:
        extract.open_extract(config.storage.path)
    except (NotFoundError, BundleError):
        return None
    return _live(config, store)[0]


def _keep_result(record: ledger.ActiveRun, candidates: list[Candidate], winner: Candidate, result: GateResult) -> None:
    models = {candidate.name: candidate.result.rows for candidate in candidates}
    gate = {**result.metrics, "reasons": list(result.reasons), "warnings": list(result.warnings)}
    record.metrics.update(winner=winner.name, gate=gate, models=models)


def _refuse_unless_better(result: GateResult, doubts: list[str], force: str | None) -> None:
    """Raises RefusedError with every reason that speaks against the winner, and what the check doubted."""
    if not result.publish and force is None:
        lines = [f"  {reason}" for reason in result.reasons]
        lines += [f"  the check of the source: {doubt}" for doubt in doubts]
        raise RefusedError("\n".join(["the gate refused to publish:", *lines]))


def _save(run: TrainingRun, record: ledger.ActiveRun, bundle: Bundle, live: Bundle | None) -> str:
    with run.step("save"):
        facts: dict[str, Any] = {
            "configuration": run.config.model_dump(mode="json", exclude={"store", "source"}),
            "config_hash": run.config.hash(),
            "data": run.dataset.report.summary(),
            "watermark": run.dataset.watermark,
            "metrics": {name: value for name, value in record.metrics.items() if name != GUARDS},
            "replaces": live.version if live else None,
            HOLDOUT_START: run.splits.holdout_start,
        }
        return bundles.save(bundle, run.config.storage.path, facts=facts)


def _publish(run: TrainingRun, record: ledger.ActiveRun, version: str, made: str) -> bool:
    """Move the extract and CURRENT while the lease's row is locked. Returns whether CURRENT moved: a pin keeps it.

    made: which bundle it is, and how it was made.
    Raises BundleError, with neither moved, when a server could not open the bundle.
    """
    folder = run.config.storage.path
    with run.step("publish") as counts:
        versions.check(folder, version)  # here: while the lease's row is locked, SQLite takes no events
        prepared = extract.write(folder, run.dataset, run.dataset.recent)
        with holding_lease(record.store, LEASE, record.fencing):
            extract.publish(folder, prepared)
            failpoint("after extract")
            counts["published"] = versions.publish(folder, version, unless_pinned=True, is_checked=True)
        failpoint("after publish")
        if run.dataset.reading is not None:
            note_trained(folder, run.dataset.reading, made)
    return bool(counts["published"])
