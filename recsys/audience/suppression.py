"""Lists of people who must not be mailed: ids or e-mail addresses, and which users they mean.

Shapes: U users.
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recsys.audience.export import spellings
from recsys.data.arrays import Bool
from recsys.data.folder import read_utf8
from recsys.data.vocabulary import Vocabulary
from recsys.errors import RefusedError, SourceError
from recsys.source.lists import KEYS, Entry, distinct

_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class SuppressionList:
    """A list of people and its entries, each once."""

    name: str  # of the list or of its file, as reasons name it
    entries: tuple[Entry, ...]
    title: str = "the suppression file"  # what messages call it before its name


def read_suppression(path: Path) -> SuppressionList:
    """Read a file: an id or an address on each line, or a CSV with a header that names user_id, email or both.

    The file of another audience works: an id behind an apostrophe counts with and without it. Raises SourceError when
    the file cannot be read as UTF-8.
    """
    text = read_utf8(path, "the suppression file", SourceError)
    head = text.split("\n", 1)[0].rstrip("\r")
    for delimiter in _DELIMITERS:
        cells = next(csv.reader([head], delimiter=delimiter), [])
        if keys := [at for at, cell in enumerate(cells) if cell.strip().lower() in KEYS]:
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))[1:]
            return _listed(path, (tuple(row[at] for at in keys if at < len(row) and row[at]) for row in rows))
    return _listed(path, ((line,) if line else () for line in (one.strip("\r") for one in text.split("\n"))))


def _listed(path: Path, entries: Iterable[Entry]) -> SuppressionList:
    return SuppressionList(str(path), distinct(entries))


class Directory:
    """Finds users by what a list may call them: their ids, and their addresses where the shop's query has `email`."""

    def __init__(self, users: Vocabulary, people: pl.DataFrame | None, deleted: Iterable[str] = ()) -> None:
        """users: [U]. people: the users as the shop knows them now. deleted: ids that are known, and of nobody now."""
        self._users = users
        self._others = set(deleted) | (set() if people is None else set(people["user_id"]))
        self._by_email: dict[str, list[str]] = {}
        if people is not None and "email" in people.columns:
            given = people.select("user_id", pl.col("email").cast(pl.String)).drop_nulls()
            for user_id, email in given.iter_rows():
                self._by_email.setdefault(email.strip().casefold(), []).append(user_id)

    def find(self, entry: Entry) -> list[str]:
        """The ids of all users whom an entry means; none: it matches nobody."""
        names = {spelling for name in entry for spelling in spellings(name)}
        found = [name for name in names if self._users.row_of(name) >= 0 or name in self._others]
        return [*found, *(user for name in names for user in self._by_email.get(name.strip().casefold(), ()))]


def find_users(users: Vocabulary, ids: Iterable[str]) -> Bool:
    """Mark the users [U] whose ids are among these; ids of nobody are ignored."""
    rows = users.rows_of(list(dict.fromkeys(ids)))
    among = np.zeros(len(users), np.bool_)
    among[rows[rows >= 0]] = True
    return among


def find_suppressed(
    one: SuppressionList,
    users: Vocabulary,
    directory: Directory,
    max_unknown_share: float,
    *,
    allow_empty: bool,
) -> tuple[Bool, list[str]]:
    """Mark the users [U] whom the list names; and warn of entries that match nobody.

    Raises RefusedError for a list without entries, unless allowed, and for one of which too many match nobody.
    """
    if not one.entries and not allow_empty:
        raise RefusedError(
            f"{one.title} {one.name} is empty, so nobody would be left out; --allow-empty-suppression says that this "
            "is right"
        )
    found = [directory.find(entry) for entry in one.entries]
    unknown = sum(not matched for matched in found)
    told = f"{unknown} of the {len(found)} entries of {one.title} {one.name} match no user"
    if unknown > max_unknown_share * len(found):
        raise RefusedError(
            f"{told}; at most a share of {max_unknown_share:g} is allowed ([audience] max_unknown_share). Entries "
            "are ids, or e-mail addresses where the query of users returns a column email"
        )
    return find_users(users, (user for matched in found for user in matched)), [told] if unknown else []
