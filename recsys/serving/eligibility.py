"""Which items may be answered: listed, not sold out, within the filter, not bought before, not excluded by the caller.

Each rule is applied once, here, and the search gets the outcome. Item rows are joint rows (see
recsys.serving.fresh_items). Shapes: B users, N rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.arrays import Bool, Int32, is_among, is_one_of
from recsys.data.catalog import Catalog
from recsys.data.interactions import Histories
from recsys.data.ragged import Ragged
from recsys.serving import masks
from recsys.serving.filters import Filter
from recsys.serving.fresh_items import CatalogView


@dataclass(frozen=True)
class Stock:
    """Which items of a view can be bought at all."""

    allowed: tuple[Bool | None, ...]  # for each bundle of the view: not replaced, listed, not sold out; None: all
    unlisted: int
    sold_out: int


@dataclass(frozen=True)
class Eligibility:
    """Which items may be answered to one query, and how many may not and why."""

    allowed: tuple[Bool | None, ...]  # for each bundle of the view; None: all of its items
    excluded: Int32  # [N] rows that are allowed and still no answer, ascending, each once
    eligible: int  # how many items are left
    # By the first reason that fits: unlisted, sold_out, filtered, bought, excluded, not_in_box.
    excluded_counts: dict[str, int]

    def keeps(self, view: CatalogView, rows: Int32) -> Bool:
        """Which of the joint rows [N] may be answered: bool [N]."""
        kept = (rows >= 0) & ~is_among(rows, self.excluded)
        for (_, inside, own), mask in zip(view.split(rows), self.allowed, strict=True):
            if mask is not None:
                kept[inside] &= mask[own]
        return kept

    def only(self, view: CatalogView, rows: Int32) -> "Eligibility":
        """Leave only these joint rows [N]; all others are not in the box."""
        masks, left = list[Bool](), 0
        for bundle, start, allowed in zip(view.bundles, view.starts, self.allowed, strict=True):
            mask = np.zeros(len(bundle.catalog), np.bool_)
            for own, is_kept in ((rows, True), (self.excluded, False)):
                mask[own[(own >= start) & (own < start + len(mask))] - start] = is_kept
            if allowed is not None:
                mask &= allowed
            masks.append(mask)
            left += int(np.count_nonzero(mask))
        return Eligibility(tuple(masks), np.zeros(0, np.int32), left, self._moved(self.eligible - left))

    def without(self, view: CatalogView, rows: Int32) -> "Eligibility":
        """Leave out these joint rows [N] too; they are not in the box."""
        if not len(rows):
            return self
        gone = np.unique(rows[self.keeps(view, rows)]).astype(np.int32)
        excluded = np.union1d(self.excluded, gone)
        return Eligibility(self.allowed, excluded, self.eligible - len(gone), self._moved(len(gone)))

    def _moved(self, count: int) -> dict[str, int]:
        """The counts when so many that were eligible are not in the box."""
        return self.excluded_counts | {"not_in_box": self.excluded_counts["not_in_box"] + count}


def available_items(catalog: Catalog) -> Bool:
    """Which items are not sold out: bool [I]; unknown counts as available."""
    if "available" not in catalog.columns.column_names:
        return np.ones(len(catalog), np.bool_)
    column = catalog.columns.column("available").cast(pa.bool_())
    return np.asarray(pc.fill_null(column, True).to_numpy(), np.bool_)


def stock_of(view: CatalogView, *, allow_unlisted: bool, exclude_sold_out: bool) -> Stock:
    """Take stock of a view; once for each view, not for each query.

    allow_unlisted: items that the shop's catalog does not list, such as deleted ones, may be answered all the same.
    """
    allowed, unlisted, sold_out = [], 0, 0
    for bundle, standing in zip(view.bundles, view.standing, strict=True):
        valid = np.ones(len(bundle.catalog), np.bool_) if standing is None else standing
        listed = valid if allow_unlisted else valid & bundle.catalog.is_listed
        available = listed & available_items(bundle.catalog) if exclude_sold_out else listed
        unlisted += int(np.count_nonzero(valid)) - int(np.count_nonzero(listed))
        sold_out += int(np.count_nonzero(listed)) - int(np.count_nonzero(available))
        allowed.append(None if available.all() else available)
    return Stock(tuple(allowed), unlisted, sold_out)


def bought_rows(view: CatalogView, histories: Histories, bought_codes: Sequence[int]) -> Ragged:
    """The items that each of B users has bought, under the rows by which they are answered now.

    bought_codes: the bundle's codes of the kinds of events that mean "bought".
    """
    bought = histories.select(is_one_of(histories.kinds, bought_codes))
    return Ragged(bought.offsets, view.current_row(bought.items))


def decide(view: CatalogView, stock: Stock, wanted: Filter | None, *, bought: Int32, excluded: Int32) -> Eligibility:
    """Decide for one query. bought, excluded: rows to leave out, in any order; -1 is none."""
    allowed = list(stock.allowed)
    before = after = _count(view, allowed)
    if wanted is not None:
        for at, bundle in enumerate(view.bundles):
            met, mask = masks.mask(wanted, bundle.catalog.columns), allowed[at]
            allowed[at] = met if mask is None else met & mask
        after = _count(view, allowed)
    bought = _allowed_rows(view, allowed, bought)
    named = _allowed_rows(view, allowed, excluded)
    named = named[~is_among(named, bought)]
    counts = {
        "unlisted": stock.unlisted,
        "sold_out": stock.sold_out,
        "filtered": before - after,
        "bought": len(bought),
        "excluded": len(named),
        "not_in_box": 0,
    }
    left_out = np.sort(np.concatenate([bought, named]))
    return Eligibility(tuple(allowed), left_out, after - len(bought) - len(named), counts)


def _count(view: CatalogView, allowed: Sequence[Bool | None]) -> int:
    return sum(
        len(bundle.catalog) if mask is None else int(np.count_nonzero(mask))
        for bundle, mask in zip(view.bundles, allowed, strict=True)
    )


def _allowed_rows(view: CatalogView, allowed: Sequence[Bool | None], rows: Int32) -> Int32:
    """Those of the rows, each once and ascending, that are allowed."""
    if not len(rows):
        return rows
    rows = np.unique(rows[rows >= 0]).astype(np.int32)
    kept = np.ones(len(rows), np.bool_)
    for (_, inside, own), mask in zip(view.split(rows), allowed, strict=True):
        if mask is not None:
            kept[inside] = mask[own]
    return rows[kept]
