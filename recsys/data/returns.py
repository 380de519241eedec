"""Returns: an event that takes back the latest earlier purchase of the same user and item."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.config.settings import RETURN
from recsys.data.arrays import Bool, Int8, Int32, Int64


@dataclass(frozen=True)
class Returned:
    """What is left of N events after their returns."""

    kept: Bool  # [N], false for returns and for what they took back
    lone: int  # returns without an earlier purchase


def take_back(owners: Int64 | Int32, items: Int32, kinds: Int8, times: Int64, bought: Sequence[int]) -> Returned:
    """Let each return take back the owner's latest purchase of the item that no other return has taken.

    Each array is [N], in any order. bought: the codes of kinds that mean a purchase. A purchase at the same time as the
    return is an earlier one. Returns of items below 0, which nobody knows, take nothing.
    """
    is_return = kinds == RETURN
    kept = ~is_return
    pairs = owners.astype(np.int64) * (int(items.max(initial=0)) + 1) + items
    wanted = np.unique(pairs[is_return & (items >= 0)])
    touched = np.flatnonzero((is_return | np.isin(kinds, np.asarray(bought, np.int8))) & (items >= 0))
    touched = touched[np.isin(pairs[touched], wanted)]
    order = touched[np.lexsort((is_return[touched], times[touched], pairs[touched]))]
    lone, pair, open_purchases = 0, -1, list[int]()
    for at, its_pair, returns in zip(order.tolist(), pairs[order].tolist(), is_return[order].tolist(), strict=True):
        if its_pair != pair:
            pair, open_purchases = its_pair, []
        if not returns:
            open_purchases.append(at)
        elif open_purchases:
            kept[open_purchases.pop()] = False
        else:
            lone += 1
    return Returned(kept, lone)
