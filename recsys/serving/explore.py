"""New items: which they are, how much demand they may expect, and who of them gets a place.

What nobody could buy yet ranks behind what sells, however good it is, and without a place it never sells. Expected
demand is the mean demand for items of the same category and brand, shrunk towards that of all items.
Shapes: I items of a bundle, N rows, M values of a column.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.bundle.bundle import Bundle
from recsys.data.arrays import Float32, Int32
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.serving.fresh_items import CatalogView
from recsys.serving.masks import Kept
from recsys.serving.popular import Weights

NEW_DAYS = 30  # an item that came longer ago is not new
FEW_EVENTS = 5  # an item with more tells by itself how much it is in demand
MOST = 1_000  # new items that are ranked for one answer
KEPT_BYTES = 32 * 2**20

_PRIOR = 10.0  # the mean of all items counts as so many items of a category or brand
_COLUMNS = ("category", "brand")

_kept = Kept(KEPT_BYTES)
_latest: list[
    tuple[CatalogView, tuple[int, int], Int32]
] = []  # the last view and day that were asked for, and the new items


@dataclass(frozen=True)
class _Means:
    """The mean demand of all items of a bundle, and how that of each value of a column compares with it."""

    overall: float
    ratios: dict[str, dict[Any, float]]  # column -> value -> mean of the value / mean of all

    def expect(self, columns: pa.Table, count: int) -> Float32:
        """The expected demand of `count` catalog rows: float32 [N], above 0. A table without columns has no rows."""
        expected = np.full(count, self.overall, np.float32)
        for name, ratios in self.ratios.items():
            if name in columns.column_names:
                values, codes = _encoded(columns.column(name))
                expected *= np.array([*(ratios.get(value, 1.0) for value in values), 1.0], np.float32)[codes]
        return expected


def new_rows(view: CatalogView, as_of: int) -> Int32:
    """The joint rows of the items that are new on the day of a moment: they came of late, and had few events.

    An item of which it is not known when it came is new while it had no event.
    """
    moment = (as_of // MICROSECONDS_PER_DAY, _stop(view.main, as_of))
    for known, of_moment, rows in tuple(_latest):
        if known is view and of_moment == moment:
            return rows
    rows = _new_rows(view, as_of)
    _latest[:] = [(view, moment, rows)]
    return rows


def sample(rows: Int32, seed: int) -> Int32:
    """At most MOST of the rows, drawn: ranking more of them would take longer than the answer itself."""
    return rows if len(rows) <= MOST else np.random.default_rng([seed, 2]).choice(rows, MOST, replace=False)


def expected_demand(view: CatalogView, rows: Int32, as_of: int, weights: Weights) -> Float32:
    """The expected demand of joint rows [N], as far as it is known at a moment: float32 [N], above 0.

    weights: of an event as demand, by kind code.
    """
    stop = _stop(view.main, as_of)
    expected = np.zeros(len(rows), np.float32)
    for bundle, inside, own in view.split(rows):
        expected[inside] = _expected(view.main, bundle, stop, weights)[own]
    return expected


def draw(expected: Float32, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw `count` of N items, best first, by expected demand / rank: positions, in the order they were drawn.

    The same seed draws the same. (Gumbel's way to draw without replacement; Vieira 2014.)
    """
    weights = np.log(np.maximum(expected, 1e-30)) - np.log(np.arange(1, len(expected) + 1))
    keys = weights + np.random.default_rng(seed).gumbel(size=len(expected))
    return np.argsort(-keys, kind="stable")[:count]


def places_for(share: float, k: int, seed: int) -> int:
    """How many of k places a share of them is: rounded up or down by chance, so that the mean is right.

    The first place is none of them.
    """
    return min(k - 1, int(share * k + np.random.default_rng([seed, 1]).random()))


def seed_of(*parts: Any) -> int:
    """A number for random draws that is the same for the same parts."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big")


def _new_rows(view: CatalogView, as_of: int) -> Int32:
    rows, times = view.arrivals
    counts = _events(view.main, _stop(view.main, as_of))
    if view.fresh is not None:
        known, own = view.fresh.replaces >= 0, np.zeros(len(view.fresh), np.int64)
        own[known] = counts[view.fresh.replaces[known]]
        counts = np.concatenate([counts, own])
    until = (as_of // MICROSECONDS_PER_DAY + 1) * MICROSECONDS_PER_DAY
    came = rows[(times < until) & (times >= until - NEW_DAYS * MICROSECONDS_PER_DAY)]
    is_new = np.ones(len(counts), np.bool_)
    is_new[rows[times < until]] = False  # what is left came nobody knows when
    is_new &= counts == 0
    is_new[came] = counts[came] <= FEW_EVENTS
    if view.fresh is not None:
        is_new[: len(view.main.catalog)] &= ~view.fresh.replaced
    return np.flatnonzero(is_new).astype(np.int32)


def _stop(bundle: Bundle, as_of: int) -> int:
    """The day up to which events are known at a moment; see Demand.days_before."""
    return 0 if bundle.demand is None else bundle.demand.days_before(as_of)


def _events(bundle: Bundle, stop: int) -> npt.NDArray[np.int64]:
    """How many events each item had: int64 [I]; where a bundle does not count them, whether it is popular at all."""

    def count() -> npt.NDArray[np.int64]:
        demand = bundle.demand
        if demand is None:
            return np.where(bundle.popularity > 0, FEW_EVENTS + 1, 0)
        ones = [1.0] * demand.kind_count
        return demand.between(demand.first_day, stop, ones, len(bundle.catalog)).astype(np.int64)

    counts: npt.NDArray[np.int64] = _kept.get(bundle.catalog.columns, ("events", stop), count, lambda c: c.nbytes)
    return counts


def _expected(main: Bundle, bundle: Bundle, stop: int, weights: Weights) -> Float32:
    """The expected demand of all items of a bundle, a view's main one or that of its fresh items: float32 [I]."""
    of_main, columns = main.catalog.columns, bundle.catalog.columns

    def expect() -> Float32:
        means: _Means = _kept.get(
            of_main, ("means", stop, weights), lambda: _means(main, stop, weights), lambda _: 2**20
        )
        return means.expect(columns, len(bundle.catalog))

    key = ("expected", id(of_main), stop, weights)
    expected: Float32 = _kept.get(columns, key, expect, lambda found: found.nbytes)
    return expected


def _means(bundle: Bundle, stop: int, weights: Weights) -> _Means:
    demand = np.maximum(np.asarray(bundle.popularity, np.float64), 0)
    if bundle.demand is not None:
        demand = bundle.demand.decayed(stop, weights, len(demand))
    sells = demand > 0
    overall = float(demand[sells].mean()) if sells.any() else 1.0
    ratios = {}
    for name in _COLUMNS:
        if name not in bundle.catalog.columns.column_names:
            continue
        values, codes = _encoded(bundle.catalog.columns.column(name))
        sums = np.bincount(codes[sells], demand[sells], minlength=len(values) + 1)
        counts = np.bincount(codes[sells], minlength=len(values) + 1)
        means = (sums + _PRIOR * overall) / (counts + _PRIOR)
        ratios[name] = dict(zip(values, (means / overall).tolist(), strict=False))
    return _Means(overall, ratios)


def _encoded(column: Any) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """The values of a column, and for each row the code of its value; M where there is none."""
    encoded = column.combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # of no chunk
        return [], np.zeros(0, np.int64)
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    values = encoded.dictionary.to_pylist()
    codes = encoded.indices.cast(pa.int64()).fill_null(len(values)).to_numpy()
    return values, codes
