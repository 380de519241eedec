"""Which items of a catalog meet a filter.

What costs time is kept while the catalog is: the masks of filters that were asked before, and texts without case and
Unicode form. Both are bounded by bytes, and shared by all requests of a process. Shapes: I items.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.arrays import Bool
from recsys.serving.filters import All, Condition, Filter, Not
from recsys.serving.operators import EXISTS, FILTERS, fold, folded, is_list, is_text

MASK_BYTES = 16 * 2**20  # of kept masks: 128 of a million items
TEXT_BYTES = 64 * 2**20  # of kept texts: a million titles are 50 MB
MIN_ROWS = 1_000  # a smaller catalog, as that of fresh items, is asked again at once


class Kept:
    """Results by catalog and key, those used last, up to a number of bytes. A catalog that is gone is forgotten."""

    def __init__(self, max_bytes: int) -> None:
        """Nothing is kept yet."""
        self._max_bytes = max_bytes
        self._results: OrderedDict[tuple[int, Hashable], tuple[Any, int]] = OrderedDict()
        self._catalogs: dict[int, weakref.ref[pa.Table]] = {}
        self._lock = threading.RLock()  # the garbage collector may call `_forget` while a thread holds it
        self.size = 0  # bytes

    def get(self, columns: pa.Table, key: Hashable, compute: Callable[[], Any], count: Callable[[Any], int]) -> Any:
        """The result that is kept for a catalog, or else a computed one. count: the bytes of a result."""
        place = (id(columns), key)
        with self._lock:
            if place in self._results:
                self._results.move_to_end(place)
                return self._results[place][0]
        result = compute()
        size = count(result)
        with self._lock:
            if size > self._max_bytes or place in self._results:
                return result
            if place[0] not in self._catalogs:
                self._catalogs[place[0]] = weakref.ref(columns, lambda _: self._forget(place[0]))
            self._results[place] = (result, size)
            self.size += size
            while self.size > self._max_bytes:
                self.size -= self._results.popitem(last=False)[1][1]
        return result

    def _forget(self, catalog: int) -> None:
        with self._lock:
            self._catalogs.pop(catalog, None)
            for place in [place for place in self._results if place[0] == catalog]:
                self.size -= self._results.pop(place)[1]


_masks, _texts = Kept(MASK_BYTES), Kept(TEXT_BYTES)


def mask(wanted: Filter, columns: pa.Table) -> Bool:
    """Which items of a catalog meet the filter: bool [I]. Where a column is missing its values are unknown."""
    return _Catalog(columns).met(wanted)


class _Catalog:
    """The columns of a catalog. It answers with three values: what is not met may be refuted or unknown.

    An item refutes `and` when it refutes one part, `or` when it refutes all (Kleene, 1938).
    """

    def __init__(self, columns: pa.Table) -> None:
        self._columns = columns
        self._own: dict[str, list[Any]] = {}  # what is too large to be kept is kept for this question

    def met(self, wanted: Filter) -> Bool:
        if self._columns.num_rows < MIN_ROWS:
            return self._met(wanted)
        bits = _masks.get(
            self._columns, wanted, lambda: np.packbits(self._met(wanted)), lambda bits: len(bits) + _size_of(wanted)
        )
        return np.unpackbits(bits, count=self._columns.num_rows).view(np.bool_)

    def _met(self, wanted: Filter) -> Bool:
        if isinstance(wanted, Condition):
            return self._tested(wanted)
        if isinstance(wanted, Not):
            return ~self.met(wanted.part) if wanted.with_unknown else self._refuted(wanted.part)
        return reduce(np.logical_and if isinstance(wanted, All) else np.logical_or, map(self.met, wanted.parts))

    def _refuted(self, wanted: Filter) -> Bool:
        if isinstance(wanted, Condition):
            is_known = Condition(wanted.column, EXISTS, (True,))
            return ~self.met(wanted) if wanted.op == EXISTS else self.met(is_known) & ~self.met(wanted)
        if isinstance(wanted, Not):
            return self.met(wanted.part)
        return reduce(np.logical_or if isinstance(wanted, All) else np.logical_and, map(self._refuted, wanted.parts))

    def _tested(self, condition: Condition) -> Bool:
        if condition.column not in self._columns.column_names:
            return np.full(self._columns.num_rows, condition.op == EXISTS and condition.values[0] is False)
        if condition.op == EXISTS:
            chunks = self._columns.column(condition.column).chunks
            return _joined([_unpack(FILTERS[EXISTS](chunk, condition.values)) for chunk in chunks])
        values = condition.values
        is_text = any(isinstance(value, str) for value in values)
        if is_text and not condition.exact:
            values = tuple(fold(value) if isinstance(value, str) else value for value in values)
            chunks = self._folded(condition.column)
        else:
            chunks = self._columns.column(condition.column).chunks
        return _joined([_meets(condition.op, values, chunk) for chunk in chunks])

    def _folded(self, column: str) -> list[Any]:
        """The chunks of a column of texts, without case and Unicode form."""
        if column not in self._own:
            self._own[column] = _texts.get(
                self._columns,
                column,
                lambda: [_with_texts(chunk, folded) for chunk in self._columns.column(column).chunks],
                lambda chunks: 500 + sum(map(_bytes_of, chunks)),
            )
        return self._own[column]


def _size_of(wanted: Filter) -> int:
    """About how many bytes a filter takes as the key of its mask, which may be more than the mask itself."""
    if isinstance(wanted, Condition):
        return 500 + sum(100 + 4 * len(value) if isinstance(value, str) else 50 for value in wanted.values)
    return 500 + sum(map(_size_of, [wanted.part] if isinstance(wanted, Not) else wanted.parts))


def _bytes_of(values: Any) -> int:
    return int(values.dictionary.nbytes if pa.types.is_dictionary(values.type) else values.nbytes)


def _joined(chunks: list[Bool]) -> Bool:
    return np.concatenate(chunks) if chunks else np.zeros(0, np.bool_)


def _with_texts(values: Any, change: Callable[[Any], Any]) -> Any:
    """An array with its texts changed, which may be entries of a dictionary or elements of lists."""
    if pa.types.is_dictionary(values.type):
        return pa.DictionaryArray.from_arrays(values.indices, change(values.dictionary))
    if is_list(values.type):
        lists = pa.LargeListArray if pa.types.is_large_list(values.type) else pa.ListArray
        return lists.from_arrays(_offsets(values), change(values.flatten()))
    return change(values) if is_text(values.type) else values


def _offsets(lists: Any) -> Any:
    """Where each list begins in the elements of all; a null has none."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    kind = pa.int64() if pa.types.is_large_list(lists.type) else pa.int32()
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), kind)


def _meets(op: str, wanted: tuple[Any, ...], values: Any) -> Bool:
    """Which values of an arrow array meet a condition; a list does when one of its elements does.

    Of a dictionary each entry is tested once.
    """
    if pa.types.is_dictionary(values.type):
        entries = np.append(_meets(op, wanted, values.dictionary), False)
        codes = values.indices
        if codes.null_count:
            codes = pc.fill_null(codes.cast(pa.int64()), len(entries) - 1)
        return np.asarray(entries.take(codes.to_numpy(zero_copy_only=False)), np.bool_)
    if is_list(values.type):
        met = np.zeros(len(values), np.bool_)
        owners = pc.list_parent_indices(values).to_numpy(zero_copy_only=False)
        met[owners[_meets(op, wanted, values.flatten())]] = True
        return met
    return _unpack(pc.fill_null(FILTERS[op](values, wanted), False))


def _unpack(met: Any) -> Bool:
    """A boolean arrow array without nulls as numpy has it; arrow's own way takes twenty times as long."""
    if not len(met):
        return np.zeros(0, np.bool_)
    bits = np.frombuffer(met.buffers()[1], np.uint8)
    return np.unpackbits(bits, count=met.offset + len(met), bitorder="little")[met.offset :].view(np.bool_)
