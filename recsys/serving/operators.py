"""What a condition of a filter may ask: the table of operators, each a test of an arrow column.

Texts are compared without case and Unicode form: both sides come folded. A column of lists meets a condition when one
of its elements does.
"""

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

MAX_VALUES = 1_000  # of one `in`
LEVELS = ">"  # between the levels of a category, as in Home > Kitchen

Kind = Literal["text", "number", "boolean", "time", "texts", "numbers"]  # the last two: lists of such
Value = str | float | int | bool
Test = Callable[[Any, Sequence[Any]], Any]

ELEMENTS: dict[Kind, Kind] = {"texts": "text", "numbers": "number"}  # what the lists of a column hold

_TIMES = frozenset({"created_at"})  # known columns that hold microseconds since 1970


def fold(text: str) -> str:
    """A text without case and Unicode form, so that two ways to write a word are one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def folded(texts: Any) -> Any:
    """An arrow array of texts, each folded; nulls stay."""
    is_plain = pc.string_is_ascii(texts)
    lower = pc.ascii_lower(texts)
    others = pc.fill_null(pc.invert(is_plain), False)
    values = [fold(text) for text in texts.filter(others).to_pylist()]
    return pc.replace_with_mask(lower, others, pa.array(values, texts.type)) if values else lower


def kind_of(field: pa.Field) -> Kind | None:
    """What the values of a column are to a filter; None: no filter can ask about it."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if field.name in _TIMES and pa.types.is_integer(kind):
        return "time"
    if is_list(kind):
        element = kind_of(pa.field("", kind.value_type))
        return next((lists for lists, inner in ELEMENTS.items() if inner == element), None)
    if is_text(kind):
        return "text"
    if pa.types.is_boolean(kind):
        return "boolean"
    return "number" if pa.types.is_integer(kind) or pa.types.is_floating(kind) else None


def is_list(kind: pa.DataType) -> bool:
    """Whether an arrow type is one of lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether an arrow type is one of texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def has_value(column: Any) -> Any:
    """Which values of a column are known: a boolean array without nulls. A list without elements says nothing."""
    if is_list(column.type):
        return pc.fill_null(pc.greater(pc.list_value_length(column), 0), False)
    return pc.invert(pc.is_null(column, nan_is_null=True))


def _equal(column: Any, values: Sequence[Any]) -> Any:
    if pa.types.is_boolean(column.type):
        return column if values[0] else pc.invert(column)
    return pc.equal(column, _scalar(values[0], column.type))


def _among(column: Any, values: Sequence[Any]) -> Any:
    scalars = [_scalar(value, column.type) for value in values]
    kind = pa.float64() if any(pa.types.is_floating(scalar.type) for scalar in scalars) else scalars[0].type
    return pc.is_in(column, value_set=pa.array([scalar.as_py() for scalar in scalars], kind))


def _between(column: Any, values: Sequence[Any]) -> Any:
    low, high = (_scalar(value, column.type) for value in values)
    return pc.and_(pc.greater_equal(column, low), pc.less_equal(column, high))


def _range(column: Any, values: Sequence[Any]) -> Any:
    low, high = values
    above = None if low is None else pc.greater_equal(column, _scalar(low, column.type))
    below = None if high is None else pc.less(column, _scalar(high, column.type))
    return below if above is None else above if below is None else pc.and_(above, below)


def _compared_by(compare: Callable[[Any, Any], Any]) -> Test:
    return lambda column, values: compare(column, _scalar(values[0], column.type))


def _prefix(column: Any, values: Sequence[Any]) -> Any:
    start = values[0].rstrip().removesuffix(LEVELS).rstrip()
    whole = pc.equal(pc.utf8_rtrim_whitespace(column), _scalar(start, column.type))
    below = (pc.starts_with(column, pattern=f"{start}{space}{LEVELS}") for space in ("", " "))
    return pc.or_(whole, pc.or_(*below))


def _exists(column: Any, values: Sequence[Any]) -> Any:
    return has_value(column) if values[0] else pc.invert(has_value(column))


# What `op` may say. Each gets an arrow array and the values, checked, and returns a boolean array; null is no.
FILTERS: dict[str, Test] = {
    "eq": _equal,
    "in": _among,
    "between": _between,
    "range": _range,
    "gt": _compared_by(pc.greater),
    "ge": _compared_by(pc.greater_equal),
    "lt": _compared_by(pc.less),
    "le": _compared_by(pc.less_equal),
    "prefix": _prefix,
    "contains": _equal,
    "exists": _exists,
}

# How many values each takes. An operator that is not here takes one.
COUNTS: dict[str, tuple[int, int]] = {"in": (1, MAX_VALUES), "between": (2, 2), "range": (2, 2)}

# The columns that an operator can be asked of. One that is not here can be asked of any.
KINDS: dict[str, tuple[Kind, ...]] = {"prefix": ("text", "texts"), "contains": ("texts", "numbers")}

OPEN = "range"  # one of its two values may be null: no limit on that side
EXISTS = "exists"  # asks about the column itself, with true or false


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
