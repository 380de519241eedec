"""Conversion of a shop's values: columns of Python objects, texts and numbers.

An unreadable value becomes null. Callers compare with the original column to count such values.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal
from typing import Any

import polars as pl

from recsys.source.contract import EXACT, float_error


def read_texts(values: pl.Series) -> pl.Series:
    """Convert any column to text: whole numbers as digits, the decimal 20.00 as 20, lists as JSON, bytes as null."""
    if values.dtype == pl.Binary:
        return pl.repeat(None, len(values), dtype=pl.String, eager=True).alias(values.name)
    if values.dtype.is_nested():
        return pl.Series(values.name, [_text(value) for value in values.to_list()], dtype=pl.String)
    texts = values.cast(pl.String, strict=False)
    return texts.str.replace(r"\.0+$", "") if isinstance(values.dtype, pl.Decimal) else texts


def read_numbers(values: pl.Series) -> pl.Series:
    """Convert any column to Float64; other text, bytes, lists and values that are not finite become null."""
    if values.dtype == pl.Binary or values.dtype.is_nested():
        return pl.repeat(None, len(values), dtype=pl.Float64, eager=True).alias(values.name)
    numbers = values.cast(pl.Float64, strict=False)
    return pl.select(pl.when(numbers.is_finite()).then(numbers)).to_series().alias(values.name)


def read_lists(texts: pl.Series) -> pl.Series:
    """Convert a column of texts to lists where every text is a JSON list, of texts only or of numbers only."""
    given = texts.drop_nulls()
    if given.is_empty() or not given.str.starts_with("[").all():
        return texts
    try:
        lists = [None if text is None else json.loads(text) for text in texts.to_list()]
    except (ValueError, RecursionError):
        return texts
    read = _series(texts.name, lists, None)
    return read if isinstance(read.dtype, pl.List) else texts


def frame_of(names: Sequence[str], rows: Sequence[Sequence[Any]], types: Mapping[str, Any]) -> pl.DataFrame:
    """Convert Python rows to columns, each of the given type or of one inferred from its values.

    Dates and times become ISO 8601 text, decimals Float64; a column of several types becomes text.
    """
    return frame_of_columns(names, list(zip(*rows, strict=True)), types)


def frame_of_columns(names: Sequence[str], columns: Sequence[Sequence[Any]], types: Mapping[str, Any]) -> pl.DataFrame:
    """Convert columns of Python values as `frame_of` does rows."""
    pairs = zip(names, columns, strict=True)
    return pl.DataFrame([_series(name, values, types.get(name)) for name, values in pairs])


def frame_of_objects(names: Sequence[str], objects: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Convert JSON objects to columns; nested objects become JSON text, lists of one type stay lists."""
    return frame_of(names, [[found.get(name) for name in names] for found in objects], {})


@dataclass
class Kinds:
    """What the Python values of a column are, over any number of batches."""

    types: set[type] = field(default_factory=set)  # of values that are not None
    largest: int = 0  # of whole numbers, without their signs
    elements: set[type] = field(default_factory=set)  # of lists

    def add(self, values: Sequence[Any]) -> None:
        """Look at more values."""
        found = {type(value) for value in values} - {type(None)}
        self.types |= found
        if int in found:
            self.largest = max(self.largest, *(abs(value) for value in values if type(value) is int))
        if list in found:
            lists = (value for value in values if type(value) is list)
            self.elements |= {type(element) for value in lists for element in value} - {type(None)}

    @property
    def kind(self) -> Any:
        """The type of a polars column that holds them all."""
        if not self.types:
            return pl.Null
        if self.types == {bool}:
            return pl.Boolean
        if self.types == {int} and self.largest < 2**63:
            return pl.Int64
        if self.types <= {int, float, Decimal} and self.largest <= EXACT:
            return pl.Float64
        return self._kind_of_lists if self.types == {list} else pl.String

    @property
    def _kind_of_lists(self) -> Any:
        if self.elements <= {str}:
            return pl.List(pl.String)
        return pl.List(pl.Float64) if self.elements <= {int, float, Decimal} else pl.String


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_json_value)


def _json_value(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else _text(value)


def _series(name: str, values: Sequence[Any], kind: Any) -> pl.Series:
    found = {type(value) for value in values} - {type(None)}
    if found and found <= {bytes, bytearray, memoryview}:
        return pl.Series(name, [None if value is None else bytes(value) for value in values], dtype=pl.Binary)
    if kind == pl.String:  # a column of ids
        return pl.Series(name, [_id_text(value, name) for value in values], dtype=kind)
    if kind is None:
        seen = Kinds()
        seen.add(values)
        kind = seen.kind
    if kind == pl.String:
        return pl.Series(name, [_text(value) for value in values], dtype=kind)
    if isinstance(kind, pl.List):
        return pl.Series(name, [_plain_list(value) for value in values], dtype=kind)
    if kind == pl.Float64:
        values = [float(value) if isinstance(value, int | float | Decimal) else value for value in values]
    return pl.Series(name, values, dtype=kind, strict=False)


def _plain_list(value: Any) -> Any:
    return [float(e) if isinstance(e, Decimal | int) else e for e in value] if value is not None else None


def _id_text(value: Any, column: str) -> str | None:
    if not isinstance(value, float):
        return _text(value)
    if not math.isfinite(value):
        return None
    if abs(value) > EXACT:
        raise float_error(column, "the query", value)
    return _text(Decimal(value)) if value.is_integer() else str(value)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, bytes | bytearray | memoryview):
        return None
    if isinstance(value, dict | list):
        return _json(value)
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, Decimal):  # 20.00 is 20, and never 2E+1
        return f"{value.to_integral_value() if value == value.to_integral_value() else value:f}"
    return str(value)
