"""All items with their attributes, and what changes in them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.arrays import Bool, Int64
from recsys.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class Catalog:
    """All items with attributes. Row r of `columns` belongs to row r of `ids`; items known from events only hold nulls.

    Known columns: title, category, brand (string), price (float64), available (bool), image_url (string), created_at
    (int64 microseconds UTC). Known columns may be missing; other columns may be present.
    """

    ids: Vocabulary
    columns: pa.Table
    listed: int | None = None  # so many rows, the first, are of the shop's catalog; None: it has none, all items count

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_listed(self) -> Bool:
        """Which items the shop's catalog lists: bool [I]; all of them where it has none."""
        return np.arange(len(self)) < (len(self) if self.listed is None else self.listed)

    @property
    def prices(self) -> npt.NDArray[np.float64]:
        """The price of each item: float64 [I], NaN where the catalog does not say."""
        if "price" not in self.columns.column_names:
            return np.full(len(self), np.nan)
        column = self.columns.column("price").cast(pa.float64())
        return np.asarray(pc.fill_null(column, np.nan).to_numpy(), np.float64)

    @property
    def created_at(self) -> Int64:
        """When each item was created: int64 [I], microseconds UTC; -1 where the catalog does not say."""
        if "created_at" not in self.columns.column_names:
            return np.full(len(self), -1, np.int64)
        column = self.columns.column("created_at").cast(pa.int64())
        return np.asarray(pc.fill_null(column, -1).to_numpy(), np.int64)


@dataclass(frozen=True)
class ChangedItem:
    """An item of the own tables. None: the own tables hold no such value."""

    item_id: str
    revision: int  # grows with every change of any item
    title: str | None
    category: str | None
    brand: str | None
    price: float | None
    available: bool | None
    image_url: str | None
    created_at: int | None  # microseconds UTC
    attributes: str | None  # a JSON object
    is_deleted: bool = False
