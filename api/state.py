"""What the routes of one process share, and the two threads that keep it up to date."""

import hashlib
import logging
import os
import threading
from dataclasses import dataclass, field

from fastapi import Request

from api import metrics
from api.auth import KeyAuth
from api.live import Live
from api.request_log import RequestLog
from recsys.config.settings import Config
from recsys.errors import AwayError, RecsysError
from recsys.serving.snapshot import MARGIN
from recsys.store.keys import list_keys
from recsys.store.placements import PlacementChange, list_placements
from recsys.store.resilient import ResilientStore
from recsys.store.users import read_deletions

SETTLE_SECONDS = 10.0  # a process that takes longer to load its bundle listens meanwhile, and says that it is not ready

_log = logging.getLogger("recsys.api")


@dataclass
class AppState:
    """Made when the process starts."""

    config: Config
    store: ResilientStore
    live: Live
    auth: KeyAuth
    requests: RequestLog
    # Answers are computed by as many threads as the process has processors: more would only take the interpreter from
    # each other, and from the loop that reads requests. Others wait for the database meanwhile.
    processors: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_processors()))
    tag: str = field(init=False)  # differs between configurations, which shape answers
    deleted: dict[str, int] = field(default_factory=dict)  # tombstones, for when the database is away
    placements: dict[str, PlacementChange] = field(default_factory=dict)  # those of the own tables, as last read
    _reached: threading.Event = field(default_factory=threading.Event)  # the database was looked for once
    _looked: threading.Event = field(default_factory=threading.Event)  # and the bundle
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Set the tag."""
        self.tag = hashlib.blake2b(self.config.model_dump_json().encode(), digest_size=8).hexdigest()

    def start(self) -> None:
        """Begin to keep up with database and bundle."""
        for name, loop in (("database", self._look_after_database), ("bundle", self._look_after_bundle)):
            thread = threading.Thread(target=loop, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        self.requests.start()

    def settle(self) -> None:
        """Wait until the first bundle is loaded, if that is soon: one of several workers shall not answer worse."""
        self._looked.wait(SETTLE_SECONDS)

    def stop(self) -> None:
        """End the threads and close the database."""
        self._stop.set()
        self.requests.stop()
        for thread in self._threads:
            thread.join(timeout=2 * self.config.api.database_timeout_seconds)
        self.store.close()

    def _look_after_database(self) -> None:
        while not self._stop.is_set():
            was_away = self.store.is_away
            is_there = self._visit_database()
            if is_there == was_away:
                level = logging.INFO if is_there else logging.WARNING
                _log.log(level, "the database %s", "is there" if is_there else "is away")
            self._reached.set()  # many old requests shall not keep a process from being ready
            if is_there:
                self.requests.prune()
            self._stop.wait(self.config.api.poll_seconds)

    def _visit_database(self) -> bool:
        """Read keys, tombstones, placements and changed items; whether the database was there."""
        if self.store.is_away and not self.store.revive():
            return False
        try:
            self.auth.learn(self.store.read(list_keys))
            self._learn_deletions()
            self.learn_placements(self.store.read(list_placements))
            self.live.poll_items()
            self.live.poll_events()
        except AwayError:
            return False
        except Exception as error:  # one bad row must not end the thread
            _log.error("looking after the database failed: %s", type(error).__name__)
        return True

    def learn_placements(self, stored: dict[str, PlacementChange]) -> None:
        """Replace the placements of the own tables by those just read."""
        self.placements = stored

    def _learn_deletions(self) -> None:
        """Older tombstones are heeded by the extract already."""
        snapshot = self.live.snapshot
        since = snapshot.log.extract.watermark - MARGIN if snapshot else 0
        self.deleted = self.store.read(lambda store: read_deletions(store, deleted_after=since))

    def _look_after_bundle(self) -> None:
        self._reached.wait()
        while not self._stop.is_set():
            try:
                self.live.refresh()
            except (OSError, RecsysError) as error:
                _log.error("the folder of the bundles cannot be read: %s", error)
            self._looked.set()
            self._stop.wait(self.config.api.poll_seconds)
        metrics.READY.set(0)


def _processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def state_of(request: Request) -> AppState:
    """The state of the process that a request came to."""
    state: AppState = request.app.state.shared
    return state
