"""What the catalog says of items, as texts: which columns are read, and what is taken out of them.

Shapes: n items.
"""

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

LONGEST = 20_000  # characters of one column of an item that are read; a description of 1 MB takes no longer
_FIRST = (
    "title",
    "brand",
    "category",
    "description",
)  # a network reads so many words only: what matters most comes first
_NO_TEXT = ("image_url", "url", "link", "item_id")
_UNSEEN = re.compile(r"<!--.*?-->|<(style|script)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_SPACE = re.compile(r"\s+")
_ACCENT = re.compile(r"[\u0300-\u036f]+")


@dataclass(frozen=True)
class Field:
    """One column of the catalog as texts."""

    name: str
    values: list[list[str]]  # [n]: the texts of each item, none where the catalog says nothing


def text_columns(columns: pa.Table) -> list[str]:
    """The columns that say something in words: title, brand, category, description, then attributes by name."""
    names = [name for name in _FIRST if name in columns.column_names]
    others = [field.name for field in columns.schema if field.name not in (*_FIRST, *_NO_TEXT) and _is_text(field.type)]
    return names + sorted(others)


def read_fields(columns: pa.Table, names: Sequence[str]) -> list[Field]:
    """Read those of the columns that the catalog has."""
    return [Field(name, _texts(columns.column(name))) for name in names if name in columns.column_names]


def full_texts(columns: pa.Table) -> list[str]:
    """Everything that the catalog says of each item in one text [n]; empty where it says nothing."""
    fields = read_fields(columns, text_columns(columns))
    return [". ".join(part for field in fields for part in field.values[row]) for row in range(columns.num_rows)]


def fold(text: str) -> str:
    """The text in lower case without accents, in one form of Unicode: `Café` and `CAFE` are the same."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", _ACCENT.sub("", apart))


def clean(text: str) -> str:
    """A text without HTML, in one line, cut at LONGEST characters."""
    text = text[:LONGEST]
    if "<" in text or "&" in text:
        text = html.unescape(_TAG.sub(" ", _UNSEEN.sub(" ", text)))
    return _SPACE.sub(" ", text).strip()


def _texts(column: pa.ChunkedArray) -> list[list[str]]:
    known: dict[str, list[str]] = {}

    def parts(value: Any) -> list[str]:
        if value is None:
            return []
        if isinstance(value, list):
            return [text for one in value for text in parts(one)]
        if value not in known:
            text = clean(value)
            known[value] = [text] if text else []
        return known[value]

    return [parts(value) for value in column.to_pylist()]


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
