"""Filters on catalog columns: an expression from a request, typed against the catalog. `masks` says who meets it.

An expression is a condition {"column", "op", "value"} with an `op` of FILTERS, or {"and": [...]}, {"or": [...]},
{"not": ...} of such. A condition on texts may add "exact": true. An unknown value (null) meets no condition, so it
meets every `not` of one; {"not": ..., "unknown": "out"} leaves it out.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from recsys.data.times import parse_time
from recsys.errors import RefusedError
from recsys.serving.operators import COUNTS, ELEMENTS, EXISTS, FILTERS, KINDS, OPEN, Kind, Value, kind_of
from recsys.spelling import meant

MAX_DEPTH = 8
MAX_CONDITIONS = 64
MAX_TEXT = 1_000  # characters of one value

# What other languages call an operator.
_OTHERS = {"gte": "ge", ">=": "ge", ">": "gt", "lte": "le", "<=": "le", "<": "lt", "=": "eq", "==": "eq", "is": "eq"}
_CONDITION = ("column", "op", "value", "exact")
_WORDS = ("and", "or", "not")
_LISTED = re.compile(r'"((?:[^"]|"")*)"(?=,|$)|([^,]*)', re.DOTALL)  # one of several values of the short form


@dataclass(frozen=True)
class Condition:
    """One column, one test."""

    column: str
    op: str
    values: tuple[Value | None, ...]  # None: an open end of a range
    exact: bool = False  # texts are compared letter by letter, not without case and Unicode form


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
    with_unknown: bool = True  # an item of which it is not known whether it meets the part is in


Filter = Condition | All | Any_ | Not


def column_kinds(columns: pa.Table) -> dict[str, Kind]:
    """The columns of a catalog that can be filtered on, and what their values are."""
    kinds = {field.name: kind_of(field) for field in columns.schema}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def parse(expression: Any, kinds: Mapping[str, Kind]) -> Filter:
    """Check an expression, as JSON decodes it, against the columns.

    Raises RefusedError that names the part, what was found and what is allowed.
    """
    return _Parser(kinds).parse(expression, "filter", 1)


def parse_short(text: str, kinds: Mapping[str, Kind]) -> Filter:
    """Read `column:op:value`; or, where it begins with "{", JSON.

    Several values have commas between. A value that has a comma stands in double quotes, as in CSV, with quotes inside
    doubled. An empty value is an open end of `range`. Raises RefusedError as `parse` does.
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
    kind = "boolean" if op == EXISTS else kinds.get(column)
    if op not in COUNTS:
        return parse({"column": column, "op": op, "value": _read(value, kind)}, kinds)
    typed = [None if op == OPEN and not one else _read(_unquoted(one), kind) for one in _split(value)]
    return parse({"column": column, "op": op, "value": typed}, kinds)


def join(filters: Sequence[Filter]) -> Filter | None:
    """All of them at once; None when there are none. Raises RefusedError when they are too many together."""
    conditions = sum(_count(part) for part in filters)
    if conditions > MAX_CONDITIONS:
        raise RefusedError(f"filter: {conditions} conditions; at most {MAX_CONDITIONS} are allowed")
    return (filters[0] if len(filters) == 1 else All(tuple(filters))) if filters else None


class _Parser:
    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self._kinds = kinds
        self._conditions = 0

    def parse(self, expression: Any, where: str, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise RefusedError(f"{where}: nested deeper than {MAX_DEPTH}")
        if not isinstance(expression, dict):
            raise RefusedError(f"{where}: expected an object, found {name_of(expression)}")
        keys = set(expression)
        if keys - {"exact"} == {"column", "op", "value"}:
            return self._condition(expression, where)
        if keys - {"unknown"} == {"not"}:
            return self._not(expression, where, depth)
        if len(keys) != 1 or not keys <= {"and", "or"}:
            wrong = next((key for key in expression if key not in (*_CONDITION, *_WORDS, "unknown")), "")
            expected = 'expected {"column", "op", "value"} or one of "and", "or", "not"'
            raise RefusedError(f"{where}: {expected}{meant(wrong, (*_CONDITION, *_WORDS))}")
        word, inner = next(iter(expression.items()))
        if not isinstance(inner, list) or not 1 <= len(inner) <= MAX_CONDITIONS:
            raise RefusedError(f"{where}.{word}: expected a list of 1 to {MAX_CONDITIONS}, found {name_of(inner)}")
        parts = tuple(self.parse(part, f"{where}.{word}[{at}]", depth + 1) for at, part in enumerate(inner))
        return All(parts) if word == "and" else Any_(parts)

    def _not(self, expression: dict[str, Any], where: str, depth: int) -> Not:
        unknown = expression.get("unknown", "in")
        if unknown not in ("in", "out"):
            raise RefusedError(f'{where}.unknown: allowed are "in" and "out", found {name_of(unknown)}')
        return Not(self.parse(expression["not"], f"{where}.not", depth + 1), with_unknown=unknown == "in")

    def _condition(self, expression: dict[str, Any], where: str) -> Condition:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise RefusedError(f"{where}: more than {MAX_CONDITIONS} conditions")
        column, op, value = expression["column"], expression["op"], expression["value"]
        if not isinstance(column, str) or column not in self._kinds:
            allowed, near = ", ".join(self._kinds) or "none", meant(str(column), self._kinds)
            raise RefusedError(f"{where}.column: no such column; allowed are {allowed}{near}")
        if not isinstance(op, str) or op not in FILTERS:
            near = meant(_OTHERS.get(str(op), str(op)), FILTERS)
            raise RefusedError(f"{where}.op: unknown; allowed are {', '.join(FILTERS)}{near}")
        kind = self._kinds[column]
        if kind not in KINDS.get(op, (kind,)):
            raise RefusedError(
                f"{where}.op: {op!r} takes a column of {' or '.join(KINDS[op])}, and {column!r} is one of {kind}; "
                f"allowed are {', '.join(op for op in FILTERS if kind in KINDS.get(op, (kind,)))}"
            )
        exact = expression.get("exact", False)
        if not isinstance(exact, bool):
            raise RefusedError(f"{where}.exact: expected true or false, found {name_of(exact)}")
        return Condition(column, op, self._values(column, op, value, f"{where}.value"), exact)

    def _values(self, column: str, op: str, value: Any, where: str) -> tuple[Value | None, ...]:
        values = value if op in COUNTS else [value]
        fewest, most = COUNTS.get(op, (1, 1))
        if not isinstance(values, list) or not fewest <= len(values) <= most:
            expected = f"{most}" if fewest == most else f"{fewest} to {most}"
            raise RefusedError(f"{where}: {op!r} takes a list of {expected} values, found {name_of(value)}")
        if op == EXISTS:
            if not isinstance(value, bool):
                raise RefusedError(f"{where}: {op!r} takes true or false, found {name_of(value)}")
            return (value,)
        if op == OPEN and values == [None, None]:
            raise RefusedError(f"{where}: {op!r} takes at least one end that is not null")
        kind = ELEMENTS.get(self._kinds[column], self._kinds[column])
        return tuple(None if op == OPEN and one is None else _typed(one, kind, column, where) for one in values)


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
    raise RefusedError(f"{where}: {column!r} takes a {kind}{limit}, found {name_of(value)}")


def _read(text: str, kind: Kind | None) -> Any:
    """A value of the short form; what cannot be read stays text, and `parse` says what is wrong."""
    if kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if kind in ("number", "numbers"):
        try:
            return int(text) if text.lstrip("+-").isdecimal() and len(text) < 19 else float(text)
        except ValueError:
            return text
    return text


def _split(text: str) -> list[str]:
    """The values between commas, those in quotes with their quotes."""
    found, at = [], 0
    while True:
        value = _LISTED.match(text, at)
        end = len(text) if value is None else value.end()
        found.append(text[at:end])
        if end >= len(text):
            return found
        at = end + 1


def _unquoted(text: str) -> str:
    is_quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1].replace('""', '"') if is_quoted else text


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


def name_of(value: Any) -> str:
    """What a value is, without saying it."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    names = {str: "a text", bool: "true or false", dict: "an object", type(None): "null"}
    return names.get(type(value), "a number")
