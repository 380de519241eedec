"""How long a training may take: a model asks, and ends when it is told to."""

import math
import time

from recsys.progress import Progress, no_progress

_PROJECTED_FROM = 0.02  # of an epoch: from then on its speed tells when it will end


class Budget:
    """Says whether a training goes on, and shows people how far it is.

    A model asks `expired()` between two steps and `epoch()` within an epoch. Once either says to end, `stopped` stays
    true and `reason` says why. Without seconds it never ends by itself.
    """

    def __init__(self, seconds: float = math.inf, *, progress: Progress = no_progress) -> None:
        self.reason: str | None = None
        self.has_seen_all_events = False  # whether an epoch over all events has ended
        self._started = time.monotonic()
        self.deadline = self._started + seconds  # of time.monotonic(); may be set while training goes on
        self._show = progress
        self._begun: tuple[float, float] | None = None  # the moment and the share of the first call in this epoch
        self._share = 0.0

    @property
    def stopped(self) -> bool:
        """Whether the training was told to end."""
        return self.reason is not None

    def stop(self, reason: str) -> None:
        """End the training; `reason` is for people."""
        self.reason = self.reason or reason

    def expired(self) -> bool:
        """Whether to end here: the time is over, or somebody has said so before."""
        if time.monotonic() > self.deadline:
            self.stop(f"its {self.deadline - self._started:.0f} s were over")
        return self.stopped

    def progress(self, step: str, share: float) -> None:
        """Show the share of a step, 0 to 1, that is done; for any step but an epoch."""
        self._begun = None
        self._show(step, share)

    def epoch(self, share: float, *, step: str, is_whole: bool = True) -> bool:
        """Show the share of the epoch, 0 to 1, that is done; return whether to go on.

        False when the budget has ended, or when the epoch would end after it at the speed of this epoch so far. An
        epoch that has come to its end is kept, however late. is_whole: False for an epoch over a sample of the events,
        whose score does not show yet whether the model is any good.
        """
        now = time.monotonic()
        if self._begun is None or share < self._share:
            self._begun = now, share  # the time before this call is that of a slow start, and does not count
        self._share = share
        if share >= 1:
            self._begun = None
            self.has_seen_all_events |= is_whole
        elif not self.expired():
            moment, first = self._begun
            if share - first >= _PROJECTED_FROM:
                left, to_come = self.deadline - now, (now - moment) / (share - first) * (1 - share)
                if to_come > left:
                    self.stop(f"{step} takes {to_come:.0f} s more, {left:.0f} s were left for it")
        self._show(step, share)
        return not self.stopped
