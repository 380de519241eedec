"""Deliver a written list: read it row by row, keep who may be mailed now, and send or store it.

`DESTINATIONS` lists where a list may go; the command has an option for each.
"""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.audience.eligible import FILTERED, Mailable
from recsys.audience.files import FORMATS
from recsys.errors import ConfigError, RecsysError

Row = dict[str, Any]
DESTINATIONS: dict[str, str] = {  # option -> what it is
    "--to": "a webhook: pages of rows, or the request bodies of a mailing service (--shape)",
    "--table": "a table of a database, whose rows are replaced in one transaction",
}
NO_ADDRESS = "have no e-mail address"


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file that `recsys audience` or `recsys picks` wrote. In CSV every value is a text.

    Raises ConfigError for another kind of file, RecsysError for one that cannot be read.
    """
    readers = {".csv": _csv_rows, ".parquet": _parquet_rows, ".jsonl": _json_rows}
    if path.suffix.lower() not in readers:
        raise ConfigError(f"{path}: the name has to end with one of {', '.join(FORMATS)}")
    try:
        for number, row in enumerate(readers[path.suffix.lower()](path), 1):
            if not isinstance(row.get("user_id"), str):
                raise RecsysError(f"{path}: row {number} has no user_id")
            yield row
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RecsysError(f"{path} cannot be read: {error}") from None


def chunks(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    """So many rows at a time."""
    while chunk := list(islice(rows, size)):
        yield chunk


def digest_of(path: Path) -> str:
    """A hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=12)).hexdigest()


class Recipients:
    """Who may be mailed at the moment of the delivery, and at which address."""

    def __init__(self, mailable: Mailable, people: pl.DataFrame | None) -> None:
        """people: the users as the shop knows them now; None: it has no query of users."""
        self._mailable, self._emails = mailable, dict[str, str]()
        self.left_out: dict[str, int] = {}
        if people is not None and "email" in people.columns:
            named = people.select("user_id", pl.col("email").cast(pl.String)).drop_nulls()
            self._emails = dict(named.iter_rows())

    def keep(self, rows: list[Row], *, needs_email: bool) -> list[Row]:
        """The rows of those who may be mailed, with `email` where it is known; the others are counted by reason."""
        at = self._mailable.users.rows_of([row["user_id"] for row in rows])
        why: list[str | None] = [None] * len(rows)
        for reason in reversed(self._mailable.reasons):  # a user with several counts for the first
            # Of who is not known any more, everything is unknown.
            excluded = np.append(reason.excluded, reason.later == FILTERED)[at]
            why = [reason.later if is_out else before for is_out, before in zip(excluded, why, strict=True)]
        kept = []
        for row, reason_of in zip(rows, why, strict=True):
            email = self._emails.get(row["user_id"])
            told = NO_ADDRESS if reason_of is None and needs_email and not email else reason_of
            if told is not None:
                self.left_out[told] = self.left_out.get(told, 0) + 1
            else:
                kept.append(row | ({"email": email} if email else {}))
        return kept


def read_headers(path: Path | None) -> Mapping[str, str]:
    """The headers of a file, one `Name: value` on each line. Raises ConfigError."""
    if path is None:
        return {}
    found = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--headers-file {path} cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        name, colon, value = line.partition(":")
        if line.strip() and (not colon or not name.strip().replace("-", "").isalnum() or not line.isascii()):
            raise ConfigError(f"--headers-file {path}: line {number} is no header; expected Name: value")
        if line.strip():
            found[name.strip()] = value.strip()
    return found


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            # An apostrophe stands before what a spreadsheet would take as a formula.
            values = {str(name): _without_guard(value) for name, value in row.items()}
            yield _folded(values) if "item_id_1" in values else values


def _without_guard(value: str | None) -> str | None:
    return (value[1:] if value.startswith("'") else value) if value else None


def _folded(row: Row) -> Row:
    """The columns item_id_1, title_1, … of a row as its picks."""
    picks: dict[int, Row] = {}
    others: Row = {}
    for name, value in row.items():
        column, _, place = name.rpartition("_")
        if not (column and place.isdecimal()):
            others[name] = value
        elif value is not None:
            picks.setdefault(int(place), {})[column] = value
    return others | {"picks": [picks[place] for place in sorted(picks) if "item_id" in picks[place]]}


def _parquet_rows(path: Path) -> Iterator[Row]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=4096):
            yield from batch.to_pylist()


def _json_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("a line is no object")
            yield row
