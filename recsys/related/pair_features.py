"""What a network learns from about a pair of items: counts in several weightings, demand, buyers, and the catalog.

Shapes: I items, S seeds, P pairs, F features.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from recsys.data.arrays import Bool, Float32, Int32
from recsys.data.catalog import Catalog
from recsys.related.content import Content
from recsys.related.counts import Counted, Pairs, Weighting

FEATURE_WEIGHTINGS = (Weighting(60.0, 0.5), Weighting(size_exponent=1.0), Weighting(20.0, 0.5), Weighting(180.0, 1.0))
_SMALL = 1e-3
_PAIRS_AT_ONCE = 100_000


@dataclass(frozen=True)
class Known:
    """What the catalog says of I items."""

    tokens: sparse.csr_array  # float32 [I, tokens], each row of length 1, rare tokens counting more; may have none
    log_price: Float32  # [I], NaN where unknown


def read_catalog(content: Content, catalog: Catalog) -> Known:
    """Take from the catalog what helps to tell which items belong together."""
    return Known(content.matrix, _log_prices(catalog.columns))


def features_of(counted: Counted, known: Known, pairs: Pairs) -> Float32:
    """Features of pairs counted raw, in any weighting, and in FEATURE_WEIGHTINGS: float32 [P, F]."""
    owners = np.repeat(pairs.seeds, np.diff(pairs.offsets))
    items = pairs.items
    raw, own, *others = pairs.counts
    total, (d60, d20, d7) = counted.total, counted.latest_demand
    users, both = _buyers(counted, pairs)
    likeness = _likeness(known.tokens, owners, items)
    price = np.nan_to_num(known.log_price[items])
    gap = np.nan_to_num(np.abs(known.log_price[items] - known.log_price[owners]), nan=1.0)
    columns = [
        *(_log(count) for count in (raw, own, *others)),
        raw / np.sqrt(total[owners] * total[items] + 1),
        raw / (total[owners] + 5),
        raw / (total[items] + 5),
        *(_log(demand[items]) for demand in (total, d60, d20, d7)),
        _log(total[owners]),
        _log(d20[owners]) - _log(d60[owners]),
        _log(d20[items]) - _log(d60[items]),
        _log(both),
        both / np.sqrt(users[owners] * users[items] + 1),
        both / (users[items] + 5),
        likeness,
        likeness > 0.5,
        price,
        gap,
        _log(others[2]) - _log(d20[items]),
        _log(others[0]) - _log(d60[items]),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _log(values: Any) -> Any:
    return np.log(values + np.float32(_SMALL))


def _buyers(counted: Counted, pairs: Pairs) -> tuple[Float32, Float32]:
    """How many users have each item [I], and how many have both items of each pair [P]."""
    by_user, by_item = counted.buyers
    common = (by_item[pairs.seeds] @ by_user).tocsr()
    common.sort_indices()
    width = np.int64(counted.baskets.item_count)
    seed = np.repeat(np.arange(len(pairs.seeds)), np.diff(common.indptr))
    return np.diff(by_item.indptr).astype(np.float32), _look_up(
        seed * width + common.indices, common.data, pairs.owners * width + pairs.items
    )


def _look_up(keys: Any, values: Any, wanted: Any) -> Float32:
    """The values under the wanted ones of ascending keys, 0 where there is none."""
    if not len(keys):
        return np.zeros(len(wanted), np.float32)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0).astype(np.float32)


def _likeness(tokens: sparse.csr_array, first: Any, second: Int32) -> Float32:
    """The cosine of the tokens of each pair of items: float32 [P]."""
    found = np.zeros(len(second), np.float32)
    for start in range(0, len(second) if tokens.nnz else 0, _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        found[part] = tokens[first[part]].multiply(tokens[second[part]]).sum(axis=1)
    return found


def _log_prices(columns: pa.Table) -> Float32:
    if "price" not in columns.column_names:
        return np.full(columns.num_rows, np.nan, np.float32)
    prices = np.asarray(pc.fill_null(columns.column("price").cast(pa.float64()), float("nan")).to_numpy())
    valid: Bool = np.isfinite(prices) & (prices > 0)
    return np.log(np.where(valid, prices, np.nan)).astype(np.float32)
