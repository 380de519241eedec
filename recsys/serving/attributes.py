"""Attributes of posted items: each has the type of its first value, and a name may be a known one misspelled."""

import difflib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa

from recsys.serving.operators import ELEMENTS, Kind

KNOWN = ("title", "category", "brand", "price", "available", "image_url", "created_at")
ALIKE = 0.8  # from which two names may be one: `avaliable` and `available` have 0.89, `stock` and `color` 0.2

_WORDS = {"true": True, "false": False}


def arrow_type(value: Any) -> pa.DataType:
    """The type of a column whose first value this is."""
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, list):
        return pa.large_list(arrow_type(next(iter(value), "")))
    return pa.float64() if isinstance(value, int | float) else pa.string()


def fit(items: Sequence[Mapping[str, Any]], kinds: Mapping[str, Kind]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Convert the attributes of items to the kinds of the columns, or to that of the first value among the items.

    What cannot be converted is left out. Returns the items, and for each attribute how many values were left out.
    """
    types = {name: kind for name, kind in kinds.items() if name not in KNOWN}
    lost: dict[str, int] = {}
    fitted = []
    for item in items:
        values = dict(item)
        for name, value in item.items():
            if name in ("item_id", *KNOWN) or value is None:
                continue
            fitting = _converted(value, types.setdefault(name, _kind(value)))
            if fitting is None:
                lost[name] = lost.get(name, 0) + 1
                del values[name]
            else:
                values[name] = fitting
        fitted.append(values)
    return fitted, lost


def misspelled(names: Collection[str], columns: Collection[str]) -> dict[str, str]:
    """The names that look like a known column, or like another one that is there, and that column."""
    found = {}
    for name in sorted(set(names) - {"item_id", *KNOWN}):
        likely = KNOWN if name in columns else dict.fromkeys((*KNOWN, *columns))
        if near := difflib.get_close_matches(name.lower(), likely, 1, ALIKE):
            found[name] = near[0]
    return found


def _kind(value: Any) -> Kind:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, list):
        return "numbers" if value and _kind(value[0]) == "number" else "texts"
    return "number" if isinstance(value, int | float) else "text"


def _converted(value: Any, kind: Kind) -> Any:
    if kind in ELEMENTS:
        elements = [_converted(one, ELEMENTS[kind]) for one in (value if isinstance(value, list) else [value])]
        if None in elements:
            return None
        return [float(one) for one in elements] if kind == "numbers" else elements
    if kind == "number":
        return _number(value)
    if kind == "text":
        return value if isinstance(value, str) else json.dumps(value)
    return value if isinstance(value, bool) else _WORDS.get(str(value))


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool | list):
        return None
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
