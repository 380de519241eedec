"""End a run by itself when memory runs out, before the kernel kills it without a word."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.background import repeating
from jobs.schedule.resources import MEGABYTE, available_memory, own_memory

WATCH_SECONDS = 0.05  # memory fills at some gigabytes a second


@contextmanager
def watching_memory(reserve_mb: int, give_up: Callable[[str], None]) -> Iterator[None]:
    """Call `give_up` with the reason, once, when less than the reserve is left and this process uses more than that.

    It is called in a thread of its own: the main one may be in a library that does not come back.
    """
    reserve = reserve_mb * MEGABYTE

    def watch() -> bool:
        left = available_memory()
        if left >= reserve or (used := own_memory(Path("/proc/self"))) <= reserve:
            return True
        give_up(
            f"memory ran out: {left / MEGABYTE:,.0f} MB were left, this run used {used / MEGABYTE:,.0f} MB and "
            f"ended by itself; [schedule] reserve_memory_mb = {reserve_mb} are kept free"
        )
        return False

    with repeating("memory", WATCH_SECONDS, watch):
        yield
