"""Split of the events by time: fit, validation and holdout."""

from dataclasses import dataclass
from functools import cached_property

from recsys.data.arrays import Int64
from recsys.data.interactions import Interactions, merge
from recsys.data.times import MICROSECONDS_PER_DAY


@dataclass(frozen=True)
class Splits:
    """Events by time: fit < validation_start <= validation < holdout_start <= holdout."""

    fit: Interactions
    validation: Interactions
    holdout: Interactions
    validation_start: int
    holdout_start: int

    @cached_property
    def known(self) -> Interactions:
        """Everything before the holdout: fit and validation, from which a candidate may learn."""
        return merge(self.fit, self.validation)

    def shortened(self, holdout_start: int) -> "Splits":
        """Start the holdout at `holdout_start`, if that is later; events before it move to validation."""
        if holdout_start <= self.holdout_start:
            return self
        freed = self.holdout.before(holdout_start)
        return Splits(
            fit=self.fit,
            validation=merge(self.validation, freed),
            holdout=self.holdout.select(self.holdout.times >= holdout_start),
            validation_start=self.validation_start,
            holdout_start=holdout_start,
        )


def split_starts(times: Int64, *, validation_days: float, holdout_days: float) -> tuple[int, int]:
    """When validation and holdout begin, in microseconds, for events at these times [E].

    The holdout is the last `holdout_days`, validation the `validation_days` before them. Each takes at most a fifth of
    the time that the events span, so that a young shop keeps most events for training.
    Raises ValueError when there is no event.
    """
    if len(times) == 0:
        raise ValueError("there are no events to split")
    first, last = int(times.min()), int(times.max())
    longest = (last - first) / 5
    holdout_start = last + 1 - round(min(holdout_days * MICROSECONDS_PER_DAY, longest))
    return holdout_start - round(min(validation_days * MICROSECONDS_PER_DAY, longest)), holdout_start


def split_by_time(events: Interactions, *, validation_days: float, holdout_days: float) -> Splits:
    """Split the events at the times that `split_starts` gives. Raises ValueError when there is no event."""
    validation_start, holdout_start = split_starts(
        events.times, validation_days=validation_days, holdout_days=holdout_days
    )
    return Splits(
        fit=events.before(validation_start),
        validation=events.between(validation_start, holdout_start),
        holdout=events.select(events.times >= holdout_start),
        validation_start=validation_start,
        holdout_start=holdout_start,
    )
