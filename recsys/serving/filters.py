"""Filters on catalog columns: an expression from a request, typed against the catalog, becomes a mask of items.

An expression is a condition {"column", "op", "value"} with an `op` of FILTERS, or {"and": [...]}, {"or": [...]},
{"not": ...} of such. An unknown value (null) meets no condition, so it meets every `not` of one. Shapes: I items.
"""

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.arrays import Bool
from recsys.data.times import parse_time
from recsys.errors import RefusedError

MAX_DEPTH = 8
MAX_CONDITIONS = 64
MAX_VALUES = 1_000  # of one `in`
MAX_TEXT = 1_000  # characters of one value

Kind = Literal["text", "number", "boolean", "time"]
Value = str | float | int | bool
_Test = Callable[[Any, Sequence[Value]], Any]

_TIMES = frozenset({"created_at"})  # known columns that hold microseconds since 1970


def _equal(column: Any, values: Sequence[Value]) -> Any:
    if pa.types.is_boolean(column.type):
        return column if values[0] else pc.invert(column)
    return pc.equal(column, _scalar(values[0], column.type))


def _among(column: Any, values: Sequence[Value]) -> Any:
    scalars = [_scalar(value, column.type) for value in values]
    kind = pa.float64() if any(pa.types.is_floating(scalar.type) for scalar in scalars) else scalars[0].type
    return pc.is_in(column, value_set=pa.array([scalar.as_py() for scalar in scalars], kind))


def _between(column: Any, values: Sequence[Value]) -> Any:
    low, high = (_scalar(value, column.type) for value in values)
    return pc.and_(pc.greater_equal(column, low), pc.less_equal(column, high))


# What `op` may say. Each gets an arrow array and the values, checked, and returns a boolean array; null is no.
FILTERS: dict[str, _Test] = {"eq": _equal, "in": _among, "between": _between}

# How many values each takes. An operation that is not here takes one.
COUNTS: dict[str, tuple[int, int]] = {"in": (1, MAX_VALUES), "between": (2, 2)}


@dataclass(frozen=True)
class Condition:
    """One column, one test."""

    column: str
    op: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class All:
    """Every part is met."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Any_:  # noqa: N801  the name `Any` is taken
    """At least one part is met."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Not:
    """The part is not met."""

    part: "Filter"


Filter = Condition | All | Any_ | Not


def column_kinds(columns: pa.Table) -> dict[str, Kind]:
    """The columns of a catalog that can be filtered on, and what their values are."""
    kinds = {field.name: _kind(field) for field in columns.schema}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def parse(expression: Any, kinds: Mapping[str, Kind]) -> Filter:
    """Check an expression, as JSON decodes it, against the columns.

    Raises RefusedError that names the part, what was found and what is allowed.
    """
    return _Parser(kinds).parse(expression, "filter", 1)


def parse_short(text: str, kinds: Mapping[str, Kind]) -> Filter:
    """Read `column:op:value`, values of `in` and `between` with commas; or, where it begins with "{", JSON.

    Raises RefusedError as `parse` does.
    """
    if text.lstrip().startswith("{"):
        try:
            return parse(json.loads(text), kinds)
        except (ValueError, RecursionError):
            raise RefusedError("filter: this is no JSON") from None
    column, _, rest = text.partition(":")
    op, colon, value = rest.partition(":")
    if not colon:
        raise RefusedError('filter: expected column:op:value, as category:eq:Toys, or JSON that begins with "{"')
    kind = kinds.get(column)
    values = value.split(",") if op in COUNTS else [value]
    typed: list[Any] = [_read(one, kind) for one in values]
    return parse({"column": column, "op": op, "value": typed if op in COUNTS else typed[0]}, kinds)


def join(filters: Sequence[Filter]) -> Filter | None:
    """All of them at once; None when there are none. Raises RefusedError when they are too many together."""
    conditions = sum(_count(part) for part in filters)
    if conditions > MAX_CONDITIONS:
        raise RefusedError(f"filter: {conditions} conditions; at most {MAX_CONDITIONS} are allowed")
    return (filters[0] if len(filters) == 1 else All(tuple(filters))) if filters else None


def mask(wanted: Filter, columns: pa.Table) -> Bool:
    """Which items of a catalog meet the filter: bool [I]. Where a column is missing its values are unknown."""
    if isinstance(wanted, Condition):
        if wanted.column not in columns.column_names:
            return np.zeros(columns.num_rows, np.bool_)
        chunks = [_meets(wanted, chunk) for chunk in columns.column(wanted.column).chunks]
        return np.concatenate(chunks) if chunks else np.zeros(0, np.bool_)
    if isinstance(wanted, Not):
        return ~mask(wanted.part, columns)
    parts = (mask(part, columns) for part in wanted.parts)
    return functools.reduce(np.logical_and if isinstance(wanted, All) else np.logical_or, parts)


class _Parser:
    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self._kinds = kinds
        self._conditions = 0

    def parse(self, expression: Any, where: str, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise RefusedError(f"{where}: nested deeper than {MAX_DEPTH}")
        if not isinstance(expression, dict):
            raise RefusedError(f"{where}: expected an object, found {_name(expression)}")
        if set(expression) == {"column", "op", "value"}:
            return self._condition(expression, where)
        if len(expression) != 1 or not set(expression) <= {"and", "or", "not"}:
            raise RefusedError(f'{where}: expected {{"column", "op", "value"}} or one of "and", "or", "not"')
        word, inner = next(iter(expression.items()))
        if word == "not":
            return Not(self.parse(inner, f"{where}.not", depth + 1))
        if not isinstance(inner, list) or not 1 <= len(inner) <= MAX_CONDITIONS:
            raise RefusedError(f"{where}.{word}: expected a list of 1 to {MAX_CONDITIONS}, found {_name(inner)}")
        parts = tuple(self.parse(part, f"{where}.{word}[{at}]", depth + 1) for at, part in enumerate(inner))
        return All(parts) if word == "and" else Any_(parts)

    def _condition(self, expression: dict[str, Any], where: str) -> Condition:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise RefusedError(f"{where}: more than {MAX_CONDITIONS} conditions")
        column, op, value = expression["column"], expression["op"], expression["value"]
        if not isinstance(column, str) or column not in self._kinds:
            raise RefusedError(f"{where}.column: no such column; allowed are {', '.join(self._kinds) or 'none'}")
        if not isinstance(op, str) or op not in FILTERS:
            raise RefusedError(f"{where}.op: unknown; allowed are {', '.join(FILTERS)}")
        values = value if op in COUNTS else [value]
        fewest, most = COUNTS.get(op, (1, 1))
        if not isinstance(values, list) or not fewest <= len(values) <= most:
            expected = f"{most}" if fewest == most else f"{fewest} to {most}"
            raise RefusedError(f"{where}.value: {op!r} takes a list of {expected} values, found {_name(value)}")
        kind = self._kinds[column]
        return Condition(column, op, tuple(_typed(one, kind, column, f"{where}.value") for one in values))


def _typed(value: Any, kind: Kind, column: str, where: str) -> Value:
    """The value as the column holds it."""
    if kind == "boolean" and isinstance(value, bool):
        return value
    if kind == "number" and isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value):
        return value
    if kind == "text" and isinstance(value, str) and len(value) <= MAX_TEXT and _is_text(value):
        return value
    if kind == "time" and isinstance(value, str) and len(value) <= MAX_TEXT:
        try:
            return parse_time(value)
        except (ValueError, OverflowError):
            raise RefusedError(f"{where}: {column!r} takes times as 2026-11-23T08:00:00Z") from None
    limit = f" of at most {MAX_TEXT} characters" if kind == "text" else ""
    raise RefusedError(f"{where}: {column!r} takes a {kind}{limit}, found {_name(value)}")


def _read(text: str, kind: Kind | None) -> Any:
    """A value of the short form; what cannot be read stays text, and `parse` says what is wrong."""
    if kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if kind == "number":
        try:
            return int(text) if text.lstrip("+-").isdecimal() and len(text) < 19 else float(text)
        except ValueError:
            return text
    return text


def _kind(field: pa.Field) -> Kind | None:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if field.name in _TIMES and pa.types.is_integer(kind):
        return "time"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_boolean(kind):
        return "boolean"
    return "number" if pa.types.is_integer(kind) or pa.types.is_floating(kind) else None


def _meets(condition: Condition, values: Any) -> Bool:
    """Which values of an arrow array meet the condition. Of a dictionary each entry is tested once."""
    if pa.types.is_dictionary(values.type):
        entries = np.append(_meets(condition, values.dictionary), False)
        codes = values.indices
        if codes.null_count:
            codes = pc.fill_null(codes.cast(pa.int64()), len(entries) - 1)
        return np.asarray(entries.take(codes.to_numpy(zero_copy_only=False)), np.bool_)
    return _unpack(pc.fill_null(FILTERS[condition.op](values, condition.values), False))


def _unpack(met: Any) -> Bool:
    """A boolean arrow array without nulls as numpy has it; arrow's own way takes twenty times as long."""
    if not len(met):
        return np.zeros(0, np.bool_)
    bits = np.frombuffer(met.buffers()[1], np.uint8)
    return np.unpackbits(bits, count=met.offset + len(met), bitorder="little")[met.offset :].view(np.bool_)


def _scalar(value: Value, kind: Any) -> Any:
    """The value in the column's type, or as a wide number where that type would not hold it as it is."""
    if pa.types.is_integer(kind):
        if isinstance(value, float) and not value.is_integer():
            return pa.scalar(value, pa.float64())
        try:
            return pa.scalar(int(value), kind)
        except (pa.ArrowException, OverflowError):
            return pa.scalar(float(value), pa.float64())
    return pa.scalar(float(value) if pa.types.is_floating(kind) else value, kind)


def _count(wanted: Filter) -> int:
    if isinstance(wanted, Condition):
        return 1
    return _count(wanted.part) if isinstance(wanted, Not) else sum(_count(part) for part in wanted.parts)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _name(value: Any) -> str:
    """What a value is, without saying it."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    names = {str: "a text", bool: "true or false", dict: "an object", type(None): "null"}
    return names.get(type(value), "a number")
