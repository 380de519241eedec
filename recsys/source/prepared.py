"""What a preset makes of a file: the rows that an import expects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import polars as pl


@dataclass(frozen=True)
class Prepared:
    """A file in the form that an import of events expects.

    key: text that identifies the row, whatever its value. reduced: a return took off a part of the value.
    """

    rows: pl.DataFrame  # of events: user_id, item_id, event, timestamp; optional: value, and both of key and reduced
    items: pl.DataFrame | None = None  # item_id and columns of the catalog
    left_out: Mapping[str, int] = field(default_factory=dict)  # reason -> rows of the file
    notes: Mapping[str, int] = field(default_factory=dict)  # what to tell of rows that count -> how many
    kinds: Mapping[str, str] = field(default_factory=dict)  # the file's words -> kinds, beside [events.aliases]
    gone: Sequence[str] = ()  # keys of purchases that were returned whole
    time_format: str | None = None  # of times that are text, as in `read_times`
    what: Literal["events", "items", "users"] = "events"  # what `rows` are
    of: int | None = None  # rows in all, those left out among them, where one row of the file may become several
