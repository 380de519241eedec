"""Guard a night: measure what it has read and made, judge it by the last good nights, and keep both in the ledger.

A good night is one that was published while no guard had anything to say. One that was published all the same, by hand
or by force, is accepted: a later night passes when it agrees with the last good nights or with the accepted one since.
So one bad night blocks no good one, and a change that was meant is confirmed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from jobs.ledger import ActiveRun
from recsys.bundle.bundle import Bundle
from recsys.config.settings import Config
from recsys.data import extract
from recsys.errors import BundleError, NotFoundError, RefusedError
from recsys.guards import lists
from recsys.guards.bases import judge_beside
from recsys.guards.comparison import Known
from recsys.guards.figures import Figures, NightData, measure
from recsys.guards.judge import LEAST_DAYS, Night, judge_freshness
from recsys.guards.verdicts import Verdict, softened
from recsys.source.dataset import Dataset
from recsys.store.database import Store
from recsys.store.runs import Run, list_runs
from recsys.training import pipeline
from recsys.training.pipeline import TrainingRun

GUARDS = "guards"  # of a run's metrics
GOOD, ACCEPTED = "good", "accepted"  # what a night was
KEPT = 7  # good nights that count
_RUNS = 60  # among which they are looked for
_DUPLICATE = "duplicate"  # the reason of the finding about equal rows


@dataclass
class Guarding:
    """What the guards of a run have found until now."""

    record: ActiveRun
    config: Config
    figures: Figures
    verdicts: list[Verdict]
    beside: list[int]  # the runs that it was compared with
    forced: str | None  # the reason for which it is published whatever they find
    unjudged: str | None = None  # what they cannot judge yet, and why

    @property
    def is_good(self) -> bool:
        """Whether no guard has anything to say."""
        return not any(verdict.deviates for verdict in self.verdicts)

    def add(self, verdicts: Sequence[Verdict]) -> None:
        """Keep more verdicts. Raises RefusedError when one refuses and the run is not forced."""
        self.verdicts += verdicts
        self.record.metrics[GUARDS] = self.to_dict()
        refusing = [verdict for verdict in self.verdicts if verdict.outcome == "refuse"]
        if refusing and self.forced is None:
            lines = [f"  {verdict}" for verdict in refusing]
            raise RefusedError("\n".join(["the guards refuse the night:", *lines]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the ledger."""
        return {
            "night": GOOD if self.is_good else ACCEPTED,
            "beside": self.beside,
            "unjudged": self.unjudged,
            "verdicts": [verdict.to_dict() for verdict in self.verdicts],
            "figures": self.figures.to_dict(),
        }


def guard_source(
    record: ActiveRun, store: Store, config: Config, dataset: Dataset, *, now: int, forced: str | None
) -> Guarding:
    """Measure and judge what was read, before anything is trained. Raises RefusedError when a guard refuses.

    What compares with earlier nights refuses a scheduled run that has a last good night, and warns otherwise.
    """
    with record.step("guards") as counts:
        data = night_data(dataset)
        guarding = Guarding(record, config, measure(data, now=now), [], [], forced)
        good, accepted = past_nights(list_runs(store, _RUNS, job="train", statuses=("done",)))
        known = partial(_known, config)
        verdicts, nights = judge_beside(guarding.figures, data, good, accepted, known, config)
        if not (record.is_scheduled and good):
            verdicts = softened(verdicts)
        guarding.beside, guarding.unjudged = [night.run_id for night in nights], _unjudged(nights)
        counts.update(deviating=[verdict.guard for verdict in verdicts if verdict.deviates])
        guarding.add(verdicts)
    return guarding


def _unjudged(nights: Sequence[Night]) -> str | None:
    """What guards cannot judge beside these nights, newest first."""
    if not nights:
        return "no earlier night to compare with; the guards of the source begin with the next one"
    days = nights[0].figures.span_days
    if days < LEAST_DAYS:
        return f"freshness and volume are judged from {LEAST_DAYS} days of events on; there were {days:.0f} at last"
    return None


def guard_ages(record: ActiveRun, store: Store, config: Config, *, now: int) -> list[Verdict]:
    """Judge how old the newest events are in a night that brought none. Raises RefusedError when a guard refuses.

    It is no good night of its own: the ages of its events would become the usual ones.
    """
    with record.step("guards") as counts:
        good, accepted = past_nights(list_runs(store, _RUNS, job="train", statuses=("done",)))
        nights = [night.figures for night in good or accepted]
        verdicts = judge_freshness(replace(nights[0], at=now), nights, config.guards) if nights else []
        if not (record.is_scheduled and good):
            verdicts = softened(verdicts)
        counts.update(deviating=[verdict.guard for verdict in verdicts if verdict.deviates])
        record.metrics[GUARDS] = {"verdicts": [verdict.to_dict() for verdict in verdicts]}
        if refusing := [verdict for verdict in verdicts if verdict.outcome == "refuse"]:
            lines = [f"  {verdict}" for verdict in refusing]
            raise RefusedError("\n".join(["the guards refuse the night, which brought nothing new:", *lines]))
    return verdicts


def night_data(dataset: Dataset) -> NightData:
    """What is measured of a dataset."""
    findings = dataset.report.findings
    return NightData(
        events=dataset.events,
        visits=dataset.visits,
        users=dataset.users,
        catalog=dataset.catalog,
        kinds=dataset.kinds,
        watermark=dataset.watermark,
        duplicates=sum(finding.rows for finding in findings if finding.reason == _DUPLICATE),
    )


def past_nights(runs: Sequence[Run]) -> tuple[list[Night], list[Night]]:
    """The good nights of published runs, and the accepted one that came after them; all newest first."""
    good, accepted = list[Night](), list[Night]()
    for run in runs:
        kept = run.metrics.get(GUARDS, {})
        figures = Figures.from_dict(kept.get("figures", {}))
        if figures is None:
            continue
        night = Night(figures, {v["guard"]: v["figure"] for v in kept["verdicts"]}, run.run_id)
        if kept["night"] == GOOD:
            good.append(night)
        elif not good and not accepted:
            accepted.append(night)
    return good[:KEPT], accepted


def _known(config: Config, night: Night) -> Known | None:
    """The ids of that night, when the extract is still its own."""
    try:
        found = extract.open_extract(config.storage.path)
    except (NotFoundError, BundleError):
        return None
    return Known(found.users, found.items) if found.watermark == night.figures.watermark else None


def guard_lists(guarding: Guarding, run: TrainingRun, bundle: Bundle, live: Bundle | None) -> None:
    """Judge the vectors of a bundle, and its lists for a fixed sample of users beside the live bundle's.

    live: None when there is nothing to compare with. Raises RefusedError when a guard refuses.
    """
    events, settings = run.dataset.events, guarding.config.guards
    with run.step("guards of lists") as counts:
        trained = np.flatnonzero(np.bincount(events.items, minlength=events.item_count))
        verdicts = lists.judge_vectors(bundle.vectors.item_vectors, trained)
        users = lists.sample_users(run.dataset.users, np.diff(events.offsets))
        mine = pipeline.best_items(run, bundle, users, lists.PLACES)
        theirs = None if live is None else pipeline.best_items(run, pipeline.aligned(run, live), users, lists.PLACES)
        is_popularity = bundle.vectors.model == pipeline.BASELINE
        beside = lists.judge_lists(mine, theirs, settings, is_popularity=is_popularity)
        if theirs is not None:
            counts["movers"] = [
                {"item_id": bundle.catalog.ids.id_of(mover.row), "before": mover.before, "now": mover.now}
                for mover in lists.movers(mine, theirs, len(bundle.catalog))
            ]
        is_compared = guarding.record.is_scheduled and guarding.beside
        guarding.add([*verdicts, *(beside if is_compared else softened(beside))])


def doubt_about(store: Store, bundle: str) -> str | None:
    """Why a live bundle is no measure for tonight's: the guards had something to say of its night."""
    for run in list_runs(store, _RUNS, job="train", statuses=("done",)):
        if run.bundle == bundle and run.metrics.get(GUARDS, {}).get("night") == ACCEPTED:
            return f"it is of run {run.run_id}, of which the guards had something to say"
    return None
