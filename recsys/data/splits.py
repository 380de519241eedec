"""Split of the events by time: fit, validation and holdout."""

from dataclasses import dataclass
from functools import cached_property

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


def split_by_time(events: Interactions, *, validation_days: float, holdout_days: float) -> Splits:
    """Split off the last `holdout_days`, and the `validation_days` before them.

    Each takes at most a fifth of the time that the events span, so that a young shop keeps most events for training.
    Raises ValueError when there is no event.
    """
    if len(events) == 0:
        raise ValueError("there are no events to split")
    first, last = int(events.times.min()), int(events.times.max())
    longest = (last - first) / 5
    holdout_start = last + 1 - round(min(holdout_days * MICROSECONDS_PER_DAY, longest))
    validation_start = holdout_start - round(min(validation_days * MICROSECONDS_PER_DAY, longest))
    return Splits(
        fit=events.before(validation_start),
        validation=events.between(validation_start, holdout_start),
        holdout=events.between(holdout_start, last + 1),
        validation_start=validation_start,
        holdout_start=holdout_start,
    )
