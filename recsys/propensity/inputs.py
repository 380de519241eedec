"""From a shop's events and catalog to what scorers learn from. Shapes: I items, C categories."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from recsys.data.arrays import Int64
from recsys.data.catalog import Catalog
from recsys.data.interactions import Interactions
from recsys.propensity.days import BuyingDays, summarize


def categories_of(catalog: Catalog) -> tuple[Int64, list[str]]:
    """The category of each item as a number [I], -1 where the catalog says none, and the names of the numbers."""
    if "category" not in catalog.columns.column_names:
        return np.full(len(catalog), -1, np.int64), []
    column = catalog.columns.column("category").cast(pa.string()).combine_chunks()
    encoded = column.dictionary_encode()
    codes = np.asarray(encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
    return codes, encoded.dictionary.to_pylist()


def days_of(events: Interactions, category_of: Int64, bought_codes: Sequence[int], as_of: int) -> BuyingDays:
    """Sum up events before `as_of` (microseconds UTC) by user and day."""
    events = events.before(as_of)
    return summarize(
        events.users.astype(np.int64),
        events.items.astype(np.int64),
        np.asarray(events.times),
        np.asarray(events.values, np.float64),
        is_purchase=np.isin(events.kinds, np.asarray(bought_codes, np.int8)),
        category_of=category_of,
        user_count=events.user_count,
        as_of=as_of,
    )
