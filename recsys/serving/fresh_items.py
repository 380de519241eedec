"""Items that are newer than the bundle: a small bundle of their own, searched beside it.

Item rows are joint: those of the bundle first, then the delta's. An item that the bundle knows and whose catalog row
changed lies in the delta too, with the vectors it was trained to and its new columns; its row in the bundle is then
no answer any more, but histories go on naming it. Shapes: I items of the bundle, J of the delta, B users, K top-k.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.bundle.bundle import Bundle, assemble
from recsys.config.settings import IndexSettings
from recsys.data.arrays import Bool, Float32, Int32, Int64
from recsys.data.catalog import Catalog
from recsys.data.interactions import Histories
from recsys.data.vocabulary import Vocabulary
from recsys.index.exact import Ragged
from recsys.models.vectors import Part, Vectors
from recsys.serving import recommender
from recsys.serving.recommender import Hits
from recsys.store.items import ChangedItem

_KNOWN = ("title", "category", "brand", "price", "available", "image_url", "created_at")
_POPULAR = recommender.REASONS.index("popular")


@dataclass(frozen=True)
class Delta:
    """J items that were posted, imported or changed after training."""

    bundle: Bundle  # of the J items
    replaces: Int32  # [J]: their rows in the main bundle, -1 where they are new
    items: dict[str, ChangedItem]  # [J] what the own tables say of them, in the order of the rows
    new_rows: dict[str, int]  # id -> joint row, of those that the main bundle does not know
    replaced: Bool  # [I]: rows of the main bundle that the delta stands for

    def __len__(self) -> int:
        return len(self.replaces)


@dataclass(frozen=True)
class Shelf:
    """A bundle and what is newer than it: everything that can be recommended at a moment."""

    main: Bundle
    delta: Delta | None = None

    def row_of(self, item_id: str) -> int:
        """The joint row of an item that can be answered, -1 when nobody knows it."""
        row = self.main.catalog.ids.row_of(item_id)
        if self.delta is None:
            return row
        return self.delta.new_rows.get(item_id, -1) if row < 0 else int(self.standing_for(np.array([row], np.int32))[0])

    def standing_for(self, rows: Int32) -> Int32:
        """Joint rows, those that the delta has replaced as the rows by which they are answered now."""
        if self.delta is None or not len(rows):
            return rows
        count = len(self.main.catalog)
        place = np.full(len(rows), -1, np.int64)
        order = np.argsort(self.delta.replaces, kind="stable")
        at = np.searchsorted(self.delta.replaces, rows, sorter=order)
        inside = at < len(order)
        place[inside] = order[at[inside]]
        found = inside & (self.delta.replaces[place] == rows) & (rows < count)
        return np.where(found, count + place, rows).astype(np.int32)

    def place(self, row: int) -> tuple[Bundle, int]:
        """The bundle that a joint row lies in, and its row there."""
        count = len(self.main.catalog)
        return (self.main, row) if row < count or self.delta is None else (self.delta.bundle, row - count)

    @property
    def bundles(self) -> list[Bundle]:
        """The bundle and, when there is one, that of the delta."""
        return [self.main] if self.delta is None else [self.main, self.delta.bundle]


def extend(main: Bundle, delta: Delta | None, items: Iterable[ChangedItem]) -> Delta | None:
    """The delta with more items, or with newer words of those it holds. None when there are none at all.

    Only the items that came are encoded; those it holds already are copied.
    """
    came = {item.item_id: item for item in items}
    if not came:
        return delta
    columns, replaces = _columns(main, came)
    vectors = _vectors(main, columns, replaces)
    held = came
    if delta is not None:
        stay = np.array([at for at, item in enumerate(delta.items) if item not in came], np.int64)
        held = {item: said for item, said in delta.items.items() if item not in came} | came
        columns = pa.concat_tables([delta.bundle.catalog.columns.take(pa.array(stay)), columns]).combine_chunks()
        replaces = np.concatenate([delta.replaces[stay], replaces])
        vectors = _join(delta.bundle.vectors, stay, vectors)
    known = replaces >= 0
    # What nobody could buy yet is the least popular.
    popularity = np.full(len(held), min(0.0, float(main.popularity.min(initial=0.0))), np.float32)
    popularity[known] = main.popularity[replaces[known]]
    replaced = np.zeros(len(main.catalog), np.bool_)
    replaced[replaces[known]] = True
    catalog = Catalog(Vocabulary.from_ids(held), columns)
    small = assemble(vectors, catalog, popularity, kinds=main.kinds, index_settings=IndexSettings())
    new_rows = {item: len(replaced) + at for at, item in enumerate(held) if replaces[at] < 0}
    return Delta(small, replaces, held, new_rows, replaced)


def recommend(
    shelf: Shelf,
    histories: Histories,
    k: int,
    *,
    target_codes: Sequence[int],
    repeats: bool,
    allowed: Sequence[Bool | None],
    excluded: Ragged | None = None,
) -> Hits:
    """As recommender.recommend, over joint rows. allowed: a mask for each of the shelf's bundles."""
    if shelf.delta is None:
        found = allowed[0]
        return recommender.recommend(
            shelf.main, histories, k, target_codes=target_codes, repeats=repeats, allowed=found, excluded=excluded
        )
    pairs = [] if excluded is None else [(np.repeat(np.arange(len(histories)), np.diff(excluded[0])), excluded[1])]
    if not repeats:
        seen = np.isin(histories.kinds, np.asarray(target_codes, np.int8))
        pairs.append((histories.users[seen], shelf.standing_for(histories.items[seen])))
    queries = encode(shelf, histories)
    answers = []
    for bundle, start, mask in zip(shelf.bundles, (0, len(shelf.main.catalog)), _masks(shelf, allowed), strict=True):
        out = _ragged(pairs, len(histories), start, start + len(bundle.catalog))
        answers.append(recommender.answer(bundle, queries, k, allowed=mask, left_out=out))
    return _merge(shelf, answers, k)


def similar(shelf: Shelf, row: int, k: int, *, allowed: Sequence[Bool | None], excluded: Int32) -> Hits:
    """The k items most similar to the item of a joint row, as recommender.similar does; never itself nor `excluded`."""
    bundle, own = shelf.place(row)
    vectors = np.asarray(bundle.vectors.item_vectors[own : own + 1])
    rows = np.unique(np.append(excluded, np.int32(row))).astype(np.int32)
    answers = []
    for part, start, mask in zip(shelf.bundles, (0, len(shelf.main.catalog)), _masks(shelf, allowed), strict=False):
        out = _ragged([(np.zeros(len(rows), np.int64), rows)], 1, start, start + len(part.catalog))
        answers.append(recommender.nearest(part, vectors, k, allowed=mask, left_out=out))
    return answers[0] if len(answers) == 1 else _merge(shelf, answers, k)


def encode(shelf: Shelf, histories: Histories) -> Float32:
    """B histories of joint rows -> user vectors [B, D]."""
    used, items = np.unique(histories.items, return_inverse=True)
    small = Histories(histories.offsets, items.astype(np.int32), histories.kinds, histories.ages_days)
    of_main = used < len(shelf.main.catalog)
    encoded = []
    for number, part in enumerate(shelf.main.vectors.parts):
        vectors = np.empty((len(used), part.history_vectors.shape[1]), np.float32)
        vectors[of_main] = part.history_vectors[used[of_main]]
        if shelf.delta is not None:
            newer = shelf.delta.bundle.vectors.parts[number].history_vectors
            vectors[~of_main] = newer[used[~of_main] - len(shelf.main.catalog)]
        encoded.append(part.encoder.encode(vectors, small))
    return np.concatenate(encoded, axis=1)


def _masks(shelf: Shelf, allowed: Sequence[Bool | None]) -> list[Bool | None]:
    """What may be answered, without the rows of the main bundle that the delta stands for."""
    if shelf.delta is None:
        return [allowed[0]]
    main = ~shelf.delta.replaced if allowed[0] is None else allowed[0] & ~shelf.delta.replaced
    return [main, allowed[1]]


def _ragged(pairs: Sequence[tuple[Int64, Int32]], users: int, start: int, stop: int) -> Ragged | None:
    """(user, joint row) pairs within start..stop-1, as the rows of one bundle by user."""
    if not pairs:
        return None
    owners, rows = (np.concatenate(column) for column in zip(*pairs, strict=True))
    inside = (rows >= start) & (rows < stop)
    owners, rows = owners[inside], rows[inside] - start
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=users))]).astype(np.int64)
    return offsets, rows[np.argsort(owners, kind="stable")].astype(np.int32)


def _merge(shelf: Shelf, answers: Sequence[Hits], k: int) -> Hits:
    """The k best of both answers: popular items behind all others, else by score; equal scores by row."""
    rows = np.concatenate(
        [np.where(a.rows < 0, -1, a.rows + s) for a, s in zip(answers, (0, len(shelf.main.catalog)), strict=True)],
        axis=1,
    )
    scores = np.concatenate([answer.scores for answer in answers], axis=1)
    reasons = np.concatenate([answer.reasons for answer in answers], axis=1)
    behind = np.where(rows < 0, 2, reasons == _POPULAR)
    order = np.lexsort((rows, -scores, behind), axis=1)[:, :k]
    return Hits(*(np.take_along_axis(values, order, axis=1) for values in (rows.astype(np.int32), scores, reasons)))


def _columns(main: Bundle, items: dict[str, ChangedItem]) -> tuple[pa.Table, Int32]:
    """The catalog of the delta in the main bundle's columns [J], and the main rows [J] of its items.

    What the own tables do not say of an item stays as the bundle knows it.
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
    return pa.table(columns), replaces


_MISSING = {"title": pa.string(), "category": pa.string(), "brand": pa.string(), "price": pa.float64()}
_MISSING |= {"available": pa.bool_(), "image_url": pa.string(), "created_at": pa.int64()}


def _values(item: ChangedItem) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if item.attributes:
        attributes = json.loads(item.attributes)
        values = attributes if isinstance(attributes, dict) else {}
    return values | {name: getattr(item, name) for name in _KNOWN}


def _convert(value: Any, kind: pa.DataType) -> Any:
    """A value in the type of its column, None where that cannot hold it."""
    if value is None:
        return None
    try:
        return pc.cast(pa.scalar(value), kind).as_py()
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return None


def _vectors(main: Bundle, columns: pa.Table, replaces: Int32) -> Vectors:
    """Vectors of the delta's items: trained ones where there are, else the item encoder's, else zeros."""
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
