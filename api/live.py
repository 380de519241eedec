"""The snapshot that this process answers from: loaded and warmed aside, then swapped in whole.

A request takes one snapshot and answers from it alone. Whoever sees that the catalog has changed makes a new one with
more fresh items; whoever sees that CURRENT has moved, one with another bundle. A broken bundle is refused and the old
one goes on.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from api import metrics
from recsys.config.settings import Config
from recsys.data import folder as folders
from recsys.data.catalog import ChangedItem
from recsys.errors import RecsysError
from recsys.serving.snapshot import ITEMS_AT_ONCE, Snapshot, grow, items_after, load, read_posted, warm_up
from recsys.store.resilient import ResilientStore

_RETRY_SECONDS = 30.0  # before a bundle that was refused is tried again

_log = logging.getLogger("recsys.api")


class Live:
    """Holds the snapshot of this process and keeps it up to date."""

    def __init__(self, config: Config, store: ResilientStore) -> None:
        """Nothing is loaded yet: `refresh` does that."""
        self._config, self._store = config, store
        self._folder = config.storage.path
        self._snapshot: Snapshot | None = None
        self._lock = threading.Lock()  # who makes a new snapshot
        self._names: tuple[str | None, str | None] = (None, None)
        self._refused: tuple[tuple[str | None, str | None], float] | None = None

    @property
    def snapshot(self) -> Snapshot | None:
        """What to answer from; None until the first bundle is loaded and warm."""
        return self._snapshot

    def refresh(self) -> None:
        """Load and swap in what CURRENT names, when that has changed. Never raises: the old one goes on serving."""
        names = (folders.current(self._folder / "bundles"), folders.current(self._folder / "extract"))
        if names == self._names or names[0] is None or self._is_refused(names):
            return
        try:
            new = self._load(names)
        except Exception as error:  # whatever a damaged bundle does, the old one goes on
            self._refused = (names, time.monotonic())
            metrics.SWAPS.labels("refused").inc()
            _log.error("bundle %s is refused, %s: %s", names[0], self._still(), _words(error))
            return
        self._swap(new, names)

    def catch_up(self, seen: Snapshot, items: Sequence[ChangedItem]) -> Snapshot:
        """The snapshot with these items, which changed after those that `seen` holds."""
        if not items:
            return seen
        with self._lock:
            latest = self._snapshot
            if latest is None or latest.bundle is not seen.bundle or latest.revision < seen.revision:
                return grow(self._config, seen, items)  # swapped meanwhile: this request ends as it began
            if items[-1].revision > latest.revision:
                latest = grow(self._config, latest, items)
                self._snapshot = latest
            metrics.NEW_ITEMS.set(latest.fresh_count)
            return latest

    def poll_items(self) -> None:
        """Read what changed in the catalog, so that no request has to carry a large import alone."""
        while (seen := self._snapshot) is not None:
            items = self._read_items(seen.revision)
            self.catch_up(seen, items)
            if len(items) < ITEMS_AT_ONCE:
                return

    def poll_events(self) -> None:
        """Read which events were posted, for the boxes that count those of everybody."""
        if (seen := self._snapshot) is None:
            return
        posted = read_posted(seen, self._store.read)
        with self._lock:
            latest = self._snapshot
            if latest is not None and latest.bundle is seen.bundle and posted is not latest.posted:
                self._snapshot = replace(latest, posted=posted.under(latest.view))

    def _read_items(self, revision: int) -> list[ChangedItem]:
        return self._store.read(partial(items_after, revision=revision))

    def _is_refused(self, names: tuple[str | None, str | None]) -> bool:
        if self._refused is None or self._refused[0] != names:
            return False
        return time.monotonic() - self._refused[1] < _RETRY_SECONDS

    def _still(self) -> str:
        return f"{self._snapshot.bundle.version} goes on" if self._snapshot else "and there is no other"

    def _load(self, names: tuple[str | None, str | None]) -> Snapshot:
        """What of the old snapshot has not moved is kept open."""
        held = self._snapshot
        new = load(
            self._config,
            self._read_items,
            version=names[0],
            bundle=held.bundle if held and self._names[0] == names[0] else None,
            extract=held.log.extract if held and self._names[1] == names[1] else None,
        )
        if held is not None and new.bundle is held.bundle:
            new = replace(new, posted=None if held.posted is None else held.posted.under(new.view))
        warm_up(new)
        return new

    def _swap(self, new: Snapshot, names: tuple[str | None, str | None]) -> None:
        with self._lock:
            old, self._snapshot, self._names, self._refused = self._snapshot, new, names, None
        if old is None or old.bundle is not new.bundle:
            metrics.SWAPS.labels("swapped").inc()
            _log.info("answering from bundle %s", new.bundle.version)
        if old is not None and old.bundle.version != new.bundle.version:
            metrics.LIVE.labels(old.bundle.version).set(0)
        metrics.LIVE.labels(new.bundle.version).set(1)
        metrics.CREATED.set(new.bundle.manifest.get("created_at", 0) / 1e6)
        metrics.NEW_ITEMS.set(new.fresh_count)
        metrics.READY.set(1)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, RecsysError) else type(error).__name__
