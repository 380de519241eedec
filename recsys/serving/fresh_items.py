"""Items that are newer than the bundle: a small bundle of their own, searched beside the main one.

Rows of both together are joint rows: those of the catalog first, then those of the fresh items. An item that the bundle
knows and whose catalog row changed is a fresh item too, with the vectors it was trained to and its new columns. Its
catalog row is then no answer any more, but histories go on naming it.
Shapes: I items of the bundle, J fresh items.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.bundle.bundle import Bundle, assemble
from recsys.config.settings import IndexSettings
from recsys.data.arrays import Bool, Int32, Int64
from recsys.data.catalog import Catalog, ChangedItem
from recsys.data.vocabulary import Vocabulary
from recsys.models.vectors import Part, Vectors
from recsys.serving.attributes import KNOWN, arrow_type

MAX_NEW_COLUMNS = 200  # attributes that the bundle does not know; those beyond are stored until the next training


@dataclass(frozen=True)
class FreshItems:
    """J items that were posted, imported or changed after training."""

    bundle: Bundle  # of the J items
    replaces: Int32  # [J]: their catalog rows in the main bundle, -1 where they are new
    items: dict[str, ChangedItem]  # [J] what the own tables say of them, in the order of the rows
    new_rows: dict[str, int]  # id -> joint row, of those that the main bundle does not know
    replaced: Bool  # [I]: catalog rows that a fresh item stands for
    deleted: Bool  # [J]: those that are no answer, since somebody deleted them

    def __len__(self) -> int:
        return len(self.replaces)

    @cached_property
    def by_replaced(self) -> tuple[Int64, Int32]:
        """The order [J] of the rows by what they replace, and `replaces` in that order. Computed on first use."""
        order = np.argsort(self.replaces, kind="stable")
        return order, self.replaces[order]


@dataclass(frozen=True)
class CatalogView:
    """A bundle and what is newer than it: everything that can be recommended at a moment."""

    main: Bundle
    fresh: FreshItems | None = None

    def __len__(self) -> int:
        """How many items there are, each counted once."""
        fresh = self.fresh
        return len(self.main.catalog) + (len(fresh.new_rows) - int(fresh.deleted.sum()) if fresh else 0)

    def trained_row(self, item_id: str) -> int:
        """The joint row under which histories name an item, -1 when it is unknown."""
        row = self.main.catalog.ids.row_of(item_id)
        return self.fresh.new_rows.get(item_id, -1) if row < 0 and self.fresh else row

    def row_of(self, item_id: str) -> int:
        """The joint row under which an item is answered, -1 when it is unknown or was deleted."""
        return int(self.rows_of([item_id])[0])

    def rows_of(self, item_ids: Sequence[str]) -> Int32:
        """As `row_of` for many items: int32 [N]."""
        rows = self.current_row(np.fromiter(map(self.trained_row, item_ids), np.int32, len(item_ids)))
        if self.fresh is None:
            return rows
        at = rows - len(self.main.catalog)
        return np.where((at >= 0) & self.fresh.deleted[np.maximum(at, 0)], -1, rows).astype(np.int32)

    def current_row(self, rows: Int32) -> Int32:
        """Joint rows [N] under which histories name items -> those under which they are answered: int32 [N]."""
        if self.fresh is None or not len(rows):
            return rows
        count, (order, replaced) = len(self.main.catalog), self.fresh.by_replaced
        at = np.minimum(np.searchsorted(replaced, rows), len(order) - 1)
        found = (replaced[at] == rows) & (rows >= 0)
        return np.where(found, count + order[at], rows).astype(np.int32)

    def rows_in_bundle(self, rows: Int32) -> Int32:
        """Joint rows [N] under which items are answered -> those of the bundle, -1 for what came after training."""
        if self.fresh is None:
            return rows
        count = len(self.main.catalog)
        is_fresh = rows >= count
        replaced = self.fresh.replaces[np.where(is_fresh, rows - count, 0)]
        return np.where(is_fresh, replaced, rows).astype(np.int32)

    def place(self, row: int) -> tuple[Bundle, int]:
        """The bundle that a joint row lies in, and its row there."""
        count = len(self.main.catalog)
        return (self.main, row) if row < count or self.fresh is None else (self.fresh.bundle, row - count)

    def split(self, rows: Int32) -> list[tuple[Bundle, Int64, Int32]]:
        """Joint rows [N] by bundle, in the order of `bundles`: which of the N lie in it, and their rows there."""
        if self.fresh is None:
            inside = np.flatnonzero(rows >= 0)
            return [(self.main, inside, rows[inside])]
        found = []
        for bundle, start in zip(self.bundles, self.starts, strict=True):
            inside = np.flatnonzero((rows >= start) & (rows < start + len(bundle.catalog)))
            found.append((bundle, inside, rows[inside] - np.int32(start)))
        return found

    @property
    def schema(self) -> pa.Schema:
        """The columns of the catalog, and then those that only fresh items have."""
        schema = self.main.catalog.columns.schema
        newer = [] if self.fresh is None else self.fresh.bundle.catalog.columns.schema
        return pa.schema([*schema, *(field for field in newer if field.name not in schema.names)])

    @property
    def bundles(self) -> list[Bundle]:
        """The bundle and, when there is one, that of the fresh items."""
        return [self.main] if self.fresh is None else [self.main, self.fresh.bundle]

    @property
    def starts(self) -> list[int]:
        """The first joint row of each of the bundles."""
        return [0] if self.fresh is None else [0, len(self.main.catalog)]

    @property
    def standing(self) -> tuple[Bool | None, ...]:
        """For each of the bundles which rows are answers, none that is replaced or deleted; None: all of them."""
        if self.fresh is None:
            return (None,)
        return (~self.fresh.replaced, ~self.fresh.deleted if self.fresh.deleted.any() else None)

    @cached_property
    def arrivals(self) -> tuple[Int32, Int64]:
        """The items of which it is known when they came, the newest first: joint rows [N] and times [N].

        Times are microseconds UTC; see Bundle.arrived. A fresh item without a created_at came when it was posted.
        Computed on first use.
        """
        rows, times = self.main.newest, self.main.arrived[self.main.newest]
        if self.fresh is None:
            return rows, times
        stays = ~self.fresh.replaced[rows]
        rows, times = rows[stays], times[stays]
        replaces = self.fresh.replaces
        posted = np.array([item.revision for item in self.fresh.items.values()], np.int64)
        first = np.where(replaces < 0, posted, self.main.arrived[replaces])
        created = self.fresh.bundle.catalog.created_at
        came = np.where(created < 0, first, created)
        order = np.argsort(-came, kind="stable")
        order = order[came[order] >= 0]
        at = np.searchsorted(-times, -came[order], side="right")
        joint = (len(self.main.catalog) + order).astype(np.int32)
        return np.insert(rows, at, joint), np.insert(times, at, came[order])


def extend(main: Bundle, fresh: FreshItems | None, items: Iterable[ChangedItem]) -> FreshItems | None:
    """Add changed items to the fresh ones, or newer values of those among them. None when there are none at all.

    Only the items that came are encoded; the others are copied.
    """
    came = {item.item_id: item for item in items}
    if not came:
        return fresh
    columns, replaces = _columns(main, came, None if fresh is None else fresh.bundle.catalog.columns.schema)
    vectors = _vectors(main, columns, replaces)
    held = came
    if fresh is not None:
        stay = np.array([at for at, item in enumerate(fresh.items) if item not in came], np.int64)
        held = {item: said for item, said in fresh.items.items() if item not in came} | came
        parts = [fresh.bundle.catalog.columns.take(pa.array(stay)), columns]
        columns = pa.concat_tables(parts, promote_options="default").combine_chunks()
        replaces = np.concatenate([fresh.replaces[stay], replaces])
        vectors = _join(fresh.bundle.vectors, stay, vectors)
    known = replaces >= 0
    # What nobody could buy yet is the least popular.
    popularity = np.full(len(held), min(0.0, float(main.popularity.min(initial=0.0))), np.float32)
    popularity[known] = main.popularity[replaces[known]]
    replaced = np.zeros(len(main.catalog), np.bool_)
    replaced[replaces[known]] = True
    catalog = Catalog(Vocabulary.from_ids(held), columns)
    small = assemble(vectors, catalog, popularity, kinds=main.kinds, index_settings=IndexSettings())
    new_rows = {item: len(replaced) + at for at, item in enumerate(held) if replaces[at] < 0}
    deleted = np.array([item.is_deleted for item in held.values()], np.bool_)
    return FreshItems(small, replaces, held, new_rows, replaced, deleted)


def _columns(main: Bundle, items: dict[str, ChangedItem], earlier: pa.Schema | None) -> tuple[pa.Table, Int32]:
    """The catalog of fresh items in the main bundle's columns and new ones [J], and the main rows [J] of its items.

    What the own tables do not say of an item stays as the bundle knows it. earlier: the columns of items that came
    before; an attribute that was seen keeps its type.
    """
    replaces = main.catalog.ids.rows_of(list(items))
    known = np.flatnonzero(replaces >= 0)
    said = [_values(item) for item in items.values()]
    columns: dict[str, Any] = {}
    schema = main.catalog.columns.schema
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        values = [_convert(one.get(field.name), kind) for one in said]
        trained = main.catalog.columns.column(field.name).take(pa.array(replaces[known])).to_pylist()
        for at, value in zip(known.tolist(), trained, strict=True):
            if values[at] is None:
                values[at] = value
        columns[field.name] = pa.array(values, kind)
    for name, kind in _MISSING.items():  # the item encoder reads these, whether or not the shop had them in training
        if name not in columns:
            columns[name] = pa.array([_convert(one.get(name), kind) for one in said], kind)
    for name, kind in _new_types(said, columns, earlier).items():
        columns[name] = pa.array([_convert(one.get(name), kind) for one in said], kind)
    return pa.table(columns), replaces


def _new_types(
    said: Sequence[dict[str, Any]], known: Collection[str], earlier: pa.Schema | None
) -> dict[str, pa.DataType]:
    """The attributes that the bundle does not know: each has the type of the value that came first."""
    types = {} if earlier is None else {field.name: field.type for field in earlier if field.name not in known}
    for one in said:
        for name, value in one.items():
            if name not in known and name not in types and value is not None and len(types) < MAX_NEW_COLUMNS:
                types[name] = arrow_type(value)
    return types


_MISSING = {"title": pa.string(), "category": pa.string(), "brand": pa.string(), "price": pa.float64()}
_MISSING |= {"available": pa.bool_(), "image_url": pa.string(), "created_at": pa.int64()}


def _values(item: ChangedItem) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if item.attributes:
        attributes = json.loads(item.attributes)
        values = attributes if isinstance(attributes, dict) else {}
    return values | {name: getattr(item, name) for name in KNOWN}


def _convert(value: Any, kind: pa.DataType) -> Any:
    """A value in the type of its column, None where that cannot hold it."""
    if value is None:
        return None
    try:
        return pc.cast(pa.scalar(value), kind).as_py()
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return None


def _vectors(main: Bundle, columns: pa.Table, replaces: Int32) -> Vectors:
    """Vectors of fresh items: trained ones where there are, else the item encoder's, else zeros."""
    known, count = replaces >= 0, len(replaces)
    new = np.flatnonzero(~known)
    vectors = main.vectors
    item_vectors = np.zeros((count, vectors.dim), np.float32)
    parts = [np.zeros((count, part.history_vectors.shape[1]), np.float32) for part in vectors.parts]
    item_vectors[known] = vectors.item_vectors[replaces[known]]
    for own, part in zip(parts, vectors.parts, strict=True):
        own[known] = part.history_vectors[replaces[known]]
    if vectors.item_encoder is not None and len(new):
        item_vectors[new], encoded = vectors.item_encoder.encode(columns.take(pa.array(new)))
        for own, values in zip(parts, encoded, strict=True):
            own[new] = values
    return Vectors(
        model=vectors.model,
        item_vectors=item_vectors,
        parts=tuple(Part(own, part.encoder) for own, part in zip(parts, vectors.parts, strict=True)),
        item_encoder=None,
        settings={},
    )


def _join(first: Vectors, stay: Int64, second: Vectors) -> Vectors:
    """The rows `stay` of the first, then all of the second."""
    return replace(
        second,
        item_vectors=np.concatenate([first.item_vectors[stay], second.item_vectors]),
        parts=tuple(
            Part(np.concatenate([one.history_vectors[stay], other.history_vectors]), other.encoder)
            for one, other in zip(first.parts, second.parts, strict=True)
        ),
    )
