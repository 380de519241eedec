"""A snapshot: all that answers come from at a moment. It is loaded, grown by changed items, and warmed up here.

A snapshot is never changed in place: a change of the catalog makes a new one with more fresh items, another bundle or
extract a new one from disk. Whoever serves holds the latest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsys.bundle import bundle as bundles
from recsys.bundle.bundle import Bundle
from recsys.config.settings import Config
from recsys.data.catalog import ChangedItem
from recsys.data.extract import Extract, open_extract
from recsys.data.interactions import Histories, Interactions
from recsys.data.ragged import Ragged
from recsys.data.resident import bring_in
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary
from recsys.errors import AwayError, NotFoundError
from recsys.serving import recommender
from recsys.serving.eligibility import Stock, stock_of
from recsys.serving.filters import column_kinds
from recsys.serving.fresh_items import CatalogView, extend
from recsys.serving.history import EventLog
from recsys.serving.operators import Kind
from recsys.serving.posted import Posted, Read, catch_up, no_events
from recsys.store.changes import read_changes
from recsys.store.database import Store

ITEMS_AT_ONCE = 1_000  # changed items that one query brings
MARGIN = 15 * 60 * 1_000_000  # microseconds: what was written before training read may have been committed after

ReadItems = Callable[[int], list[ChangedItem]]  # revision -> the first ITEMS_AT_ONCE items that changed after it


@dataclass(frozen=True)
class Snapshot:
    """The live bundle, the items that are newer, and the extract."""

    view: CatalogView
    log: EventLog
    revision: int  # changes of items up to then are in the view
    knows_until: int  # older changes of items that the bundle knows are in the bundle
    is_full: bool  # there are more changes than may be held
    stock: Stock
    columns: dict[str, Kind]  # those that can be filtered on
    bought_codes: list[int]  # the bundle's codes of the kinds that mean "bought"
    posted: Posted | None = None  # what was posted since the bundle; None: nobody has read it

    @property
    def bundle(self) -> Bundle:
        """The bundle itself."""
        return self.view.main

    @property
    def fresh_count(self) -> int:
        """How many items came or changed after training."""
        return len(self.view.fresh) if self.view.fresh else 0


def load(
    config: Config,
    read_items: ReadItems,
    *,
    version: str | None = None,
    bundle: Bundle | None = None,
    extract: Extract | None = None,
) -> Snapshot:
    """Load the live bundle, or `version`, the extract, and the items that changed since.

    bundle, extract: those that are open already. Where there is no extract nobody has a history on disk. Where the
    database is away (read_items raises AwayError) changed items are missing; `grow` adds them later.
    Raises BundleError for a bundle or an extract that cannot be read.
    """
    bundle = bundle or bundles.load(config.storage.path, version)
    log = EventLog.of(extract or _open_extract(config, bundle), bundle, config)
    yesterday = bundle.manifest.get("created_at", MICROSECONDS_PER_DAY) - MICROSECONDS_PER_DAY
    watermark = int(bundle.manifest.get("watermark", yesterday)) - MARGIN
    # Where the shop's database is the source, the bundle knows nothing of the own items, however old.
    revision = watermark if config.source.interactions is None else 0
    snapshot = replace(_snapshot(config, CatalogView(bundle), log, revision), knows_until=watermark)
    while True:
        try:
            items = read_items(snapshot.revision)
        except AwayError:
            break
        if not items:
            break
        snapshot = grow(config, snapshot, items)
    return snapshot


def items_after(store: Store, revision: int) -> list[ChangedItem]:
    """The first ITEMS_AT_ONCE items that changed after a revision, in that order."""
    return read_changes(store, revision=revision, item_limit=ITEMS_AT_ONCE).items


def grow(config: Config, snapshot: Snapshot, items: Sequence[ChangedItem]) -> Snapshot:
    """A snapshot with more changed items, in the order of their revisions.

    It holds [api] max_fresh_items at most, and beyond these only items of the bundle that were deleted or sold out:
    what must not be answered any more never waits.
    """
    if not items:
        return snapshot
    ids = snapshot.bundle.catalog.ids
    changed = [item for item in items if item.revision > snapshot.revision]
    changed = [item for item in changed if item.revision > snapshot.knows_until or ids.row_of(item.item_id) < 0]
    held = snapshot.view.fresh.items if snapshot.view.fresh else {}
    changed = [item for item in changed if not item.is_deleted or item.item_id in held or ids.row_of(item.item_id) >= 0]
    room = max(0, config.api.max_fresh_items - len(held))
    again = [item for item in changed if item.item_id in held]
    new = [item for item in changed if item.item_id not in held]
    known_beyond = [item for item in new[room:] if ids.row_of(item.item_id) >= 0]
    beyond = [item for item in known_beyond if item.is_deleted or item.available is False]
    taken = sorted(again + new[:room] + beyond, key=lambda item: item.revision)
    view = CatalogView(snapshot.bundle, extend(snapshot.bundle, snapshot.view.fresh, taken))
    return replace(
        _snapshot(config, view, snapshot.log, items[-1].revision),
        is_full=snapshot.is_full or len(new) - len(beyond) > room,
        knows_until=snapshot.knows_until,
        posted=None if snapshot.posted is None else snapshot.posted.under(view),
    )


def read_posted(snapshot: Snapshot, read: Read) -> Posted:
    """What was posted since the bundle was trained: what `snapshot` holds and what is newer. Raises as `read` does."""
    return catch_up(snapshot.posted or no_events(snapshot.knows_until + MARGIN), snapshot.view, read)


def warm_up(snapshot: Snapshot) -> None:
    """Answer once before anybody asks: it brings the vectors into memory and shows that the bundle works."""
    bundle, view, allowed = snapshot.bundle, snapshot.view, snapshot.stock.allowed
    if not len(bundle.catalog):
        return
    vectors = bundle.vectors
    bring_in([vectors.item_vectors, *(part.history_vectors for part in vectors.parts)])
    row = np.array([bundle.most_popular[0]], np.int32)
    history = Histories(np.array([0, 1], np.int64), row, np.zeros(1, np.int8), np.zeros(1, np.float32))
    recommender.recommend(view, history, 20, allowed=allowed)
    recommender.similar(view, row, 20, allowed=allowed, excluded=Ragged.of_one(row))


def _snapshot(config: Config, view: CatalogView, log: EventLog, revision: int) -> Snapshot:
    return Snapshot(
        view=view,
        log=log,
        revision=revision,
        knows_until=0,
        is_full=False,
        stock=stock_of(
            view,
            allow_unlisted=config.recommendations.allow_unlisted,
            exclude_sold_out=config.recommendations.exclude_sold_out,
        ),
        columns=column_kinds(view.schema.empty_table()),
        bought_codes=view.main.codes_of(config.bought),
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
