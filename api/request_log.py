"""Which answers are kept, and the thread that writes them: no answer waits for it.

What it holds is lost with the process, and it drops what comes faster than it can write; `/metrics` counts both.
"""

import hashlib
import logging
import queue
import threading
import time
from contextlib import suppress
from functools import partial

from api import metrics
from recsys.config.settings import RequestSettings
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.errors import AwayError
from recsys.store.database import Store
from recsys.store.requests import KeptRequest, insert_requests, prune_requests
from recsys.store.resilient import ResilientStore

_WAITING = 1_000  # answers that wait to be written, at most
_WAITING_BYTES = 32 * 2**20  # of their questions and answers: one alone may have a megabyte
_AT_ONCE = 200
_PAUSE_SECONDS = 0.2  # so that several answers share a transaction
_PRUNE_SECONDS = 3_600.0

_log = logging.getLogger("recsys.api")


class RequestLog:
    """Keeps a share of the answers of this process."""

    def __init__(self, settings: RequestSettings, store: ResilientStore) -> None:
        """Nothing is kept before `start`."""
        self._settings, self._store = settings, store
        self._waiting: queue.SimpleQueue[KeptRequest] = queue.SimpleQueue()
        self._bytes, self._lock = 0, threading.Lock()  # of what waits
        self._stop = threading.Event()
        self._pruned: float | None = None  # when, by the monotonic clock
        self._thread = threading.Thread(target=self._run, name="requests", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        self._stop.set()
        self._thread.join(timeout=10)

    def wants(self, request_id: str) -> bool:
        """Whether the answer to a request is kept: the share of all that the configuration says, by the id."""
        if self._settings.share <= 0:
            return False
        drawn = int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=6).digest()) / 2**48
        return drawn < self._settings.share

    def keep(self, request: KeptRequest) -> None:
        """Take a request to be written soon."""
        with self._lock:
            is_full = self._waiting.qsize() >= _WAITING or self._bytes + _size_of(request) > _WAITING_BYTES
            if not is_full:
                self._bytes += _size_of(request)
                self._waiting.put(request)
        if is_full:
            metrics.KEPT.labels("dropped").inc()

    def prune(self) -> None:
        """Remove requests that are too old, once in a while; also where none is kept any more."""
        if self._pruned is None or time.monotonic() - self._pruned > _PRUNE_SECONDS:
            try:
                self._store.write(self._remove_old)
                self._pruned = time.monotonic()
            except Exception as error:  # it is tried again at the next visit
                _log.error("old requests are not removed: %s", type(error).__name__)

    def _run(self) -> None:
        while True:
            is_last = self._stop.wait(_PAUSE_SECONDS)
            try:
                self._write()
            except AwayError:
                pass
            except Exception as error:  # one bad row must not end the thread
                _log.error("keeping requests failed: %s", type(error).__name__)
            if is_last:
                return

    def _write(self) -> None:
        """Write what waits. Of a batch that cannot be written nothing is tried again."""
        while batch := self._taken():
            try:
                self._store.write(partial(insert_requests, requests=batch))
            except Exception:
                metrics.KEPT.labels("failed").inc(len(batch))
                raise
            metrics.KEPT.labels("kept").inc(len(batch))

    def _taken(self) -> list[KeptRequest]:
        taken: list[KeptRequest] = []
        with suppress(queue.Empty):
            while len(taken) < _AT_ONCE:
                taken.append(self._waiting.get_nowait())
        with self._lock:
            self._bytes -= sum(map(_size_of, taken))
        return taken

    def _remove_old(self, store: Store) -> int:
        return prune_requests(store, asked_before=store.now() - round(self._settings.days * MICROSECONDS_PER_DAY))


def _size_of(request: KeptRequest) -> int:
    return len(request.question) + len(request.answer)
