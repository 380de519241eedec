"""Admit a request while it can be answered soon; beyond that a 503 at once is better than an answer after seconds."""

from collections import deque

_ANSWERS = 16  # whose times are averaged
_AVERAGES = 4  # of which the lowest counts: a database that hangs for a moment turns nobody away, a full processor does
_LONGEST = 0.1  # seconds between two answers; longer ones are stalls
_ASSUMED = [0.01] * 4  # the times that a worker begins with, so that its first answers may be overloaded too


class Admission:
    """Counts the requests that a worker is answering, and how long after one another they are answered.

    A request that finds n others waits for n + 1 answers. While fewer are under way than there are threads, each gets a
    thread of its own, so it is admitted whatever earlier ones took. Used by the event loop alone.
    """

    def __init__(self, *, threads: int, max_wait_seconds: float) -> None:
        """threads: requests that are answered at a time. max_wait_seconds: longer nobody shall wait."""
        self._threads, self._max_wait = threads, max_wait_seconds
        self._under_way = 0
        self._since = 0.0  # when the latest answer was given, or when work began after a pause
        self._times = list(_ASSUMED)  # between answers, of the average to come
        self._averages = deque[float](maxlen=_AVERAGES)

    def admit(self, now: float) -> bool:
        """Whether to answer one more request; if so, `leave` has to follow. now: seconds of any clock."""
        if self._under_way >= self._threads and (self._under_way + 1) * self._between() > self._max_wait:
            return False
        if not self._under_way:
            self._since = now
        self._under_way += 1
        return True

    def leave(self, now: float) -> None:
        """A request that was admitted has been answered. now: as for `admit`."""
        self._times.append(min(now - self._since, _LONGEST))
        if len(self._times) == _ANSWERS:
            self._averages.append(sum(self._times) / _ANSWERS)
            self._times.clear()
        self._since = now
        self._under_way -= 1

    def _between(self) -> float:
        """Seconds between two answers, as far as they are known by now."""
        return min(self._averages) if self._averages else sum(self._times) / len(self._times)
