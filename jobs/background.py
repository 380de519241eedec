"""What a run repeats in a thread of its own while it works."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeating(name: str, seconds: float, step: Callable[[], bool]) -> Iterator[None]:
    """Call `step` every so many seconds until it returns False or the block ends, which waits for a call under way."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds) and step():
            pass

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
