"""Columns of files: any header is mapped to the names that an import needs, and decimal commas become points."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from recsys.errors import SourceError
from recsys.source.contract import EVENT_COLUMNS, USER_COLUMNS
from recsys.source.known import KNOWN
from recsys.source.words import NO, YES

KNOWN_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "events": EVENT_COLUMNS,
    "items": ("item_id", *KNOWN),
    "users": USER_COLUMNS,
    "reviews": ("item_id", "user_id", "rating", "title", "text", "time", "language"),
}
NUMBERS = ("value", "price", "rating")

_NUMBER = r"^[+-]?[\d.,]+$"
_DECIMAL_COMMA = r",\d{1,2}$|,\d{4,}$|\.\d{3},\d+$"
_OPPOSITE = r"unsub|opt(ed)?[ _-]?out|b(lack|lock)list|suppress|bounce|complain|do[ _-]?not|dont|refus|revoke|withdraw"
_DECIMAL_POINT = r"\.\d{1,2}$|\.\d{4,}$"


@dataclass(frozen=True)
class Columns:
    """Which column of a file becomes which: ours -> theirs.

    `named` must be there, as somebody named them for this file; `configured` count where they are there.
    """

    named: Mapping[str, str] = field(default_factory=dict)
    configured: Mapping[str, str] = field(default_factory=dict)

    @property
    def are_places(self) -> bool:
        """Whether every column is named by its place: the file has no header."""
        return bool(self.named) and all(theirs.isdecimal() for theirs in self.named.values())

    @property
    def theirs(self) -> tuple[str, ...]:
        """Every name that a header may have."""
        return (*self.named.values(), *self.configured.values())


def map_columns(rows: pl.DataFrame, columns: Columns, wanted: Sequence[str], name: str) -> tuple[pl.DataFrame, str]:
    """Rename columns; return what became what, in words, too. Errors call the file `name`.

    A name that differs only in case, blanks or hyphens is taken for the wanted one, when that is missing.
    Raises SourceError when a named column is missing.
    """
    for ours, theirs in columns.named.items():
        if theirs not in rows.columns:
            found = ", ".join(rows.columns)
            raise SourceError(f"{name} has no column {theirs!r}, which is to be {ours}; found: {found}")
    mapping = {ours: theirs for ours, theirs in columns.configured.items() if theirs in rows.columns}
    mapping |= columns.named
    folded = {_fold(found): found for found in reversed(rows.columns)}
    for ours in wanted:
        if ours not in rows.columns and ours not in mapping and ours in folded:
            mapping[ours] = folded[ours]
    mapping = {ours: theirs for ours, theirs in mapping.items() if ours != theirs}
    if consent := mapping.get("email_consent"):
        _refuse_opposite(consent, rows[consent], name)
    copies = [pl.col(theirs).alias(ours) for ours, theirs in mapping.items()]
    taken = [theirs for theirs in set(mapping.values()) if theirs not in mapping]
    return rows.with_columns(copies).drop(taken), ", ".join(f"{theirs} is {ours}" for ours, theirs in mapping.items())


def _refuse_opposite(column: str, values: pl.Series, name: str) -> None:
    """Raise SourceError when a yes in the column that is to be email_consent says that somebody must not be mailed."""
    words = values.cast(pl.String, strict=False).str.strip_chars().str.to_lowercase().drop_nulls().unique()
    if re.search(_OPPOSITE, column.casefold()) and len(words) and words.is_in([*YES, *NO, ""]).all():
        raise SourceError(
            f"{name}: email_consent is to be {column!r}, whose name says the opposite, and its values are yes and no; "
            "export a column that says who may be mailed, or turn the values round"
        )


def with_points(rows: pl.DataFrame, names: Sequence[str]) -> tuple[pl.DataFrame, list[str]]:
    """Write the decimal commas of text columns as points; return the names of those that had some, too.

    `1.234,50` is 1234.50. A comma before exactly three digits is decimal only where another value shows that it is.
    """
    changed = []
    for name in names:
        if name in rows.columns and rows[name].dtype == pl.String and _has_decimal_comma(rows[name]):
            changed.append(name)
            texts = rows[name].str.strip_chars()
            if texts.str.contains(_NUMBER).all():  # beside other forms the column is read as a whole
                points = texts.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
                rows = rows.with_columns(points)
    return rows, changed


def _has_decimal_comma(values: pl.Series) -> bool:
    texts = values.str.strip_chars()
    numbers = texts.filter(texts.str.contains(_NUMBER).fill_null(False))
    with_comma = numbers.filter(numbers.str.contains(",", literal=True))
    if with_comma.is_empty() or not with_comma.str.contains(_DECIMAL_COMMA).any():
        return False
    return not numbers.filter(~numbers.str.contains(",", literal=True)).str.contains(_DECIMAL_POINT).any()


def _fold(name: str) -> str:
    return name.strip().casefold().replace(" ", "_").replace("-", "_")
