"""Filters of a campaign in the catalog's grammar: over the columns of the users, and over the catalog.

Shapes: U users, I items.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from recsys.audience.suppression import find_users
from recsys.bundle.bundle import Bundle
from recsys.data.arrays import Bool, Int32
from recsys.data.vocabulary import Vocabulary
from recsys.errors import RefusedError
from recsys.serving.filters import column_kinds, join, parse_short
from recsys.serving.masks import mask

MAX_TARGETS = 1_000  # items that one campaign may be about


def find_meeting(users: Vocabulary, people: pl.DataFrame | None, filters: Sequence[str]) -> Bool:
    """Mark the users [U] who meet all filters on the columns of the shop's query of users.

    Who is not in the query meets none. Raises RefusedError for a filter that cannot be read, and without a query.
    """
    if people is None:
        raise RefusedError("--user-filter: there are no columns of users; let [source] users return them")
    return find_users(users, people["user_id"].filter(pl.Series(_met(people.drop("user_id"), filters))).to_list())


def _met(people: pl.DataFrame, filters: Sequence[str]) -> Bool:
    table = people.to_arrow()
    texts = [pa.field(f.name, pa.string()) if pa.types.is_large_string(f.type) else f for f in table.schema]
    columns = table.cast(pa.schema(texts))
    wanted = join([parse_short(text, column_kinds(columns)) for text in filters])
    return np.ones(people.height, np.bool_) if wanted is None else mask(wanted, columns)


def find_targets(bundle: Bundle, filters: Sequence[str]) -> Int32:
    """The rows of all items of the shop's catalog that meet all filters, in order.

    Raises RefusedError for a filter that cannot be read, and when no item or more than MAX_TARGETS meet it.
    """
    columns = bundle.catalog.columns
    wanted = join([parse_short(text, column_kinds(columns)) for text in filters])
    assert wanted is not None  # there is at least one filter
    rows = np.flatnonzero(mask(wanted, columns) & bundle.catalog.is_listed).astype(np.int32)
    if not 1 <= len(rows) <= MAX_TARGETS:
        raise RefusedError(
            f"--filter {' '.join(filters)}: {len(rows)} of {len(bundle.catalog)} items meet it; allowed are 1 to "
            f"{MAX_TARGETS:,}"
        )
    return rows


def count_sold_out(bundle: Bundle, items: Int32) -> int:
    """How many of the items were not available when the bundle was trained."""
    if "available" not in bundle.catalog.columns.column_names:
        return 0
    available = bundle.catalog.columns.column("available").to_pylist()
    return sum(available[row] is False for row in items.tolist())
