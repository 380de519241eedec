"""The served bundle: found, loaded and warmed aside, then swapped in whole; a broken one is refused and the old stays.

A request takes one Snapshot and answers from it alone. Whoever sees that the catalog has changed makes a new snapshot
with a larger delta; whoever sees that CURRENT has moved, one with another bundle. Nothing is ever changed in place.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from api import metrics as measures
from recsys.bundle import bundle as bundles
from recsys.bundle.bundle import Bundle
from recsys.config.settings import Config
from recsys.data import folder as artifact
from recsys.data.arrays import Bool, Int8, Int32
from recsys.data.extract import Extract, open_extract
from recsys.data.interactions import Histories, Interactions, codes_in
from recsys.data.vocabulary import Vocabulary
from recsys.errors import AwayError, NotFoundError, RecsysError
from recsys.serving import fresh_items as delta
from recsys.serving import recommender
from recsys.serving.filters import Kind, column_kinds
from recsys.serving.fresh_items import Shelf
from recsys.store.database import Store
from recsys.store.items import ChangedItem, changed_items
from recsys.store.resilient import ResilientStore

ITEMS_AT_ONCE = 1_000  # changed items that one query brings
MARGIN = 15 * 60 * 1_000_000  # what was written before training read may have been committed after
_DAY = 86_400_000_000
_RETRY_SECONDS = 30.0  # before a bundle that was refused is tried again

_log = logging.getLogger("recsys.api")


@dataclass(frozen=True)
class Snapshot:
    """All that an answer comes from. I items of the bundle, X of the extract."""

    shelf: Shelf
    extract: Extract
    rows: Int32  # [X]: the bundle's row of every item of the extract, -1 where it does not know it
    revision: int  # changes of items up to then are in the delta
    knows_until: int  # older changes of items that the bundle knows are in the bundle
    is_full: bool  # there are more changes than a worker may hold
    eligible: tuple[Bool | None, ...]  # for each bundle of the shelf: what is not sold out and not replaced; None: all
    sold_out: int
    columns: dict[str, Kind]  # those that can be filtered on
    codes: Int8  # the bundle's code of every kind of the extract, -1 where it does not know it
    targets: list[int]  # the bundle's codes of the kinds that mean "bought"

    @property
    def bundle(self) -> Bundle:
        """The bundle itself."""
        return self.shelf.main

    @property
    def size(self) -> int:
        """All items that there are."""
        newer = self.shelf.delta
        return len(self.bundle.catalog) + (len(newer.new_rows) if newer else 0)

    def joint(self, histories: Histories) -> Histories:
        """Histories in the extract's rows, X and above meaning joint row plus X -> histories in joint rows."""
        count = len(self.extract.items)
        stored = histories.items < count
        rows = np.where(stored, 0, histories.items - count).astype(np.int32)
        rows[stored] = self.rows[histories.items[stored]]
        kinds = self.codes[histories.kinds]
        return replace(histories, items=rows, kinds=kinds).select((rows >= 0) & (kinds >= 0))

    def history_row(self, item_id: str) -> int:
        """The joint row under which histories name an item, -1 when nobody knows it."""
        row = self.bundle.catalog.ids.row_of(item_id)
        newer = self.shelf.delta
        return newer.new_rows.get(item_id, -1) if row < 0 and newer else row


class Live:
    """Holds the snapshot of this process and keeps it up to date."""

    def __init__(self, config: Config, link: ResilientStore) -> None:
        """Nothing is loaded yet: `watch` does that."""
        self._config, self._link = config, link
        self._folder = config.storage.path
        self._snapshot: Snapshot | None = None
        self._lock = threading.Lock()  # who makes a new snapshot
        self._names: tuple[str | None, str | None] = (None, None)
        self._refused: tuple[tuple[str | None, str | None], float] | None = None

    @property
    def snapshot(self) -> Snapshot | None:
        """What to answer from; None until the first bundle is loaded and warm."""
        return self._snapshot

    def look(self) -> None:
        """Load and swap in what CURRENT names, when that has changed. Never raises: the old one goes on serving."""
        names = (artifact.current(self._folder / "bundles"), artifact.current(self._folder / "extract"))
        if names == self._names or names[0] is None or self._is_refused(names):
            return
        try:
            fresh = self._load(names)
        except Exception as error:  # whatever a damaged bundle does, the old one goes on
            self._refused = (names, time.monotonic())
            measures.SWAPS.labels("refused").inc()
            _log.error("bundle %s is refused, %s: %s", names[0], self._still(), _words(error))
            return
        self._swap(fresh, names)

    def catch_up(self, seen: Snapshot, items: Sequence[ChangedItem]) -> Snapshot:
        """The snapshot with these items, which changed after those that `seen` holds."""
        if not items:
            return seen
        with self._lock:
            latest = self._snapshot
            if latest is None or latest.bundle is not seen.bundle or latest.revision < seen.revision:
                return self._grow(seen, items)  # swapped meanwhile: this request ends as it began
            if items[-1].revision > latest.revision:
                latest = self._grow(latest, items)
                self._snapshot = latest
            measures.NEW_ITEMS.set(len(latest.shelf.delta) if latest.shelf.delta else 0)
            return latest

    def poll_items(self) -> None:
        """Read what changed in the catalog, so that no request has to carry a large import alone."""
        while (seen := self._snapshot) is not None and not seen.is_full:
            items = self._link.read(partial(_changes, after=seen.revision))
            self.catch_up(seen, items)
            if len(items) < ITEMS_AT_ONCE:
                return

    def _is_refused(self, names: tuple[str | None, str | None]) -> bool:
        if self._refused is None or self._refused[0] != names:
            return False
        return time.monotonic() - self._refused[1] < _RETRY_SECONDS

    def _still(self) -> str:
        return f"{self._snapshot.bundle.version} goes on" if self._snapshot else "and there is no other"

    def _load(self, names: tuple[str | None, str | None]) -> Snapshot:
        held = self._snapshot
        bundle = held.bundle if held and self._names[0] == names[0] else bundles.load(self._folder, names[0])
        extract = held.extract if held and self._names[1] == names[1] else _open_extract(self._config, bundle)
        watermark = int(bundle.manifest.get("watermark", bundle.manifest.get("created_at", _DAY) - _DAY)) - MARGIN
        # Where the shop's database is the source, the bundle knows nothing of the own items, however old.
        start = watermark if self._config.source.interactions is None else 0
        fresh = _snapshot(self._config, Shelf(bundle), extract, extract.items.rows_in(bundle.catalog.ids), start)
        fresh = self._with_items(replace(fresh, knows_until=watermark))
        _warm(fresh)
        return fresh

    def _with_items(self, fresh: Snapshot) -> Snapshot:
        """What changed since training, as far as the database answers; the rest comes with the requests."""
        while not fresh.is_full:
            try:
                items = self._link.read(partial(_changes, after=fresh.revision))
            except AwayError:
                break
            if not items:
                break
            fresh = self._grow(fresh, items)
        return fresh

    def _grow(self, seen: Snapshot, items: Sequence[ChangedItem]) -> Snapshot:
        ids, since = seen.bundle.catalog.ids, seen.knows_until
        news = [item for item in items if item.revision > seen.revision]
        news = [item for item in news if item.revision > since or ids.row_of(item.item_id) < 0]
        held = seen.shelf.delta.items if seen.shelf.delta else {}
        room = max(0, self._config.api.max_fresh_items - len(held))
        taken = [item for item in news if item.item_id in held]
        new = [item for item in news if item.item_id not in held]
        newer = delta.extend(seen.bundle, seen.shelf.delta, sorted(taken + new[:room], key=lambda item: item.revision))
        revision = items[-1].revision if items else seen.revision
        grown = _snapshot(self._config, Shelf(seen.bundle, newer), seen.extract, seen.rows, revision)
        return replace(grown, is_full=seen.is_full or len(new) > room, knows_until=since)

    def _swap(self, fresh: Snapshot, names: tuple[str | None, str | None]) -> None:
        with self._lock:
            old, self._snapshot, self._names, self._refused = self._snapshot, fresh, names, None
        if old is None or old.bundle is not fresh.bundle:
            measures.SWAPS.labels("swapped").inc()
            _log.info("answering from bundle %s", fresh.bundle.version)
        if old is not None and old.bundle.version != fresh.bundle.version:
            measures.LIVE.labels(old.bundle.version).set(0)
        measures.LIVE.labels(fresh.bundle.version).set(1)
        measures.CREATED.set(fresh.bundle.manifest.get("created_at", 0) / 1e6)
        measures.NEW_ITEMS.set(len(fresh.shelf.delta) if fresh.shelf.delta else 0)
        measures.READY.set(1)


def _changes(store: Store, *, after: int) -> list[ChangedItem]:
    return changed_items(store, after, ITEMS_AT_ONCE)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, RecsysError) else type(error).__name__


def _snapshot(config: Config, shelf: Shelf, extract: Extract, rows: Int32, revision: int) -> Snapshot:
    eligible, sold_out = [], 0
    for bundle in shelf.bundles:
        allowed = np.ones(len(bundle.catalog), np.bool_)
        if bundle is shelf.main and shelf.delta is not None:
            allowed &= ~shelf.delta.replaced
        standing = int(np.count_nonzero(allowed))
        if config.recommendations.exclude_sold_out:
            allowed &= recommender.available_items(bundle.catalog)
        sold_out += standing - int(np.count_nonzero(allowed))
        eligible.append(None if allowed.all() else allowed)
    return Snapshot(
        shelf=shelf,
        extract=extract,
        rows=rows,
        revision=revision,
        knows_until=0,
        is_full=False,
        eligible=tuple(eligible),
        sold_out=sold_out,
        columns=column_kinds(shelf.main.catalog.columns),
        codes=codes_in(extract.kinds, shelf.main.kinds),
        targets=shelf.main.codes_of(config.evaluation.targets),
    )


def _open_extract(config: Config, bundle: Bundle) -> Extract:
    """The current extract; where there is none, one that knows the bundle's items and nobody's events."""
    try:
        return open_extract(config.storage.path)
    except NotFoundError:
        nothing = np.zeros(0, np.int32)
        events = Interactions(
            np.zeros(1, np.int64),
            nothing,
            nothing.astype(np.int8),
            nothing.astype(np.int64),
            nothing.astype(np.float32),
            len(bundle.catalog),
        )
        return Extract(Vocabulary.from_ids([]), bundle.catalog.ids, events, bundle.kinds, watermark=0, as_of=0)


def _warm(snapshot: Snapshot) -> None:
    """Answer once before anybody asks: it brings the vectors into memory and shows that the bundle works."""
    bundle = snapshot.bundle
    if not len(bundle.catalog):
        return
    row = np.array([bundle.most_popular[0]], np.int32)
    history = Histories(np.array([0, 1], np.int64), row, np.zeros(1, np.int8), np.zeros(1, np.float32))
    allowed = snapshot.eligible
    delta.recommend(snapshot.shelf, history, 20, target_codes=[], repeats=True, allowed=allowed)
    delta.similar(snapshot.shelf, int(row[0]), 20, allowed=allowed, excluded=row)
