"""How prices changed from one training to the next. Bundles keep it, since a catalog knows today's prices only.

Shapes: I items, N changes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.data.arrays import Int32, Int64
from recsys.data.catalog import Catalog
from recsys.data.times import MICROSECONDS_PER_DAY

Float64 = npt.NDArray[np.float64]

KEPT_DAYS = 365


@dataclass(frozen=True, eq=False)
class PriceChanges:
    """N changes, by item and time."""

    rows: Int32  # [N], ascending
    times: Int64  # [N] microseconds UTC: when a training saw the new price first; ascending within an item
    former: Float64  # [N]
    current: Float64  # [N]

    def __len__(self) -> int:
        return len(self.rows)


def no_changes() -> PriceChanges:
    """What is known of a shop that is trained for the first time."""
    nothing = np.zeros(0)
    return PriceChanges(nothing.astype(np.int32), nothing.astype(np.int64), nothing, nothing)


def next_changes(earlier: PriceChanges | None, old: Catalog, new: Catalog, now: int) -> PriceChanges:
    """The changes up to `old` and those from it to `new`, in rows of the new catalog.

    earlier: in rows of the old catalog; None: nothing is known of before. now: of the new prices (microseconds UTC).
    What is older than KEPT_DAYS, and items that are gone, are left out. An unknown price is no change.
    """
    earlier, rows = earlier or no_changes(), old.ids.rows_in(new.ids)
    before = np.full(len(new), np.nan)
    before[rows[rows >= 0]] = old.prices[rows >= 0]
    after = new.prices
    changed = np.flatnonzero(np.isfinite(before) & np.isfinite(after) & (before != after))
    moved = rows[earlier.rows]
    kept = (moved >= 0) & (earlier.times > now - KEPT_DAYS * MICROSECONDS_PER_DAY)
    changed_rows = np.concatenate([moved[kept], changed]).astype(np.int32)
    times = np.concatenate([earlier.times[kept], np.full(len(changed), now, np.int64)])
    order = np.lexsort((times, changed_rows))
    return PriceChanges(
        changed_rows[order],
        times[order],
        np.concatenate([earlier.former[kept], before[changed]])[order],
        np.concatenate([earlier.current[kept], after[changed]])[order],
    )
