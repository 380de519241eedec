"""Filters on any catalog meet the items that a plain reading of the expression meets."""

import unicodedata

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from recsys.serving.filters import column_kinds, parse
from recsys.serving.masks import mask

TEXTS = st.sampled_from(["Food", "food > Tea", "Foodstuff", "Straße", "STRASSE", "a\u0308", "Ä", "", "Food>Tea"])
NUMBERS = st.integers(-3, 3) | st.sampled_from([0.5, -1.5])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | TEXTS,
            "code": st.none() | TEXTS,
            "number": st.none() | NUMBERS,
            "flag": st.none() | st.booleans(),
            "tags": st.none() | st.lists(TEXTS, max_size=3),
        }
    ),
    max_size=12,
)
ORDERS = {
    "gt": lambda value, other: value > other,
    "ge": lambda value, other: value >= other,
    "lt": lambda value, other: value < other,
    "le": lambda value, other: value <= other,
    "eq": lambda value, other: value == other,
}


def plain(value):
    return unicodedata.normalize("NFC", value).casefold() if isinstance(value, str) else value


def holds(op, value, asked):
    """Whether a known value meets a condition."""
    asked = [plain(one) for one in asked] if isinstance(asked, list) else plain(asked)
    if isinstance(value, list):
        return any(holds("eq" if op == "contains" else op, one, asked) for one in value)
    value = plain(value)
    if op in ORDERS:
        return ORDERS[op](value, asked)
    if op == "in":
        return value in asked
    if op == "prefix":
        return value == asked or value.replace(" ", "").startswith(asked.replace(" ", "") + ">")
    low, high = asked
    is_below = high is None or (value <= high if op == "between" else value < high)
    return (low is None or value >= low) and is_below


def truth(expression, row):
    """True, false, or None where it is unknown whether a row meets the expression."""
    if "not" in expression:
        inner = truth(expression["not"], row)
        return not inner if inner is not None else True if expression["unknown"] == "in" else None
    for word, decides in (("and", False), ("or", True)):
        if word in expression:
            found = [truth(part, row) for part in expression[word]]
            return decides if decides in found else None if None in found else not decides
    value, asked = row[expression["column"]], expression["value"]
    is_known = value is not None and value != []
    if expression["op"] == "exists":
        return is_known == asked
    return holds(expression["op"], value, asked) if is_known else None


def conditions():
    compare = st.sampled_from(["eq", "gt", "ge", "lt", "le"])
    columns = st.sampled_from(["text", "code"])
    pairs = st.tuples(NUMBERS, NUMBERS).map(list)
    of = {
        "one text": st.tuples(columns, compare, TEXTS),
        "texts": st.tuples(columns, st.just("in"), st.lists(TEXTS, min_size=1, max_size=3)),
        "levels": st.tuples(columns, st.just("prefix"), st.sampled_from(["Food", "food > Tea"])),
        "number": st.tuples(st.just("number"), compare, NUMBERS),
        "numbers": st.tuples(st.just("number"), st.sampled_from(["between", "range", "in"]), pairs),
        "open": st.tuples(st.just("number"), st.just("range"), NUMBERS.map(lambda one: [one, None])),
        "flag": st.tuples(st.just("flag"), st.just("eq"), st.booleans()),
        "lists": st.tuples(st.just("tags"), st.just("contains"), TEXTS),
        "known": st.tuples(
            st.sampled_from(["text", "code", "number", "flag", "tags"]), st.just("exists"), st.booleans()
        ),
    }
    return st.one_of(list(of.values())).map(lambda parts: dict(zip(("column", "op", "value"), parts, strict=True)))


def combined(parts):
    several = st.lists(parts, min_size=1, max_size=3)
    negated = st.tuples(parts, st.sampled_from(["in", "out"])).map(lambda one: {"not": one[0], "unknown": one[1]})
    return several.map(lambda some: {"and": some}) | several.map(lambda some: {"or": some}) | negated


@given(ROWS, st.recursive(conditions(), combined, max_leaves=6))
def test_a_filter_meets_what_a_plain_reading_of_it_meets(rows, expression):
    columns = pa.table(
        {
            "text": pa.array([row["text"] for row in rows], pa.string()),
            "code": pa.array([row["code"] for row in rows], pa.string()).dictionary_encode(),
            "number": pa.array([row["number"] for row in rows], pa.float64()),
            "flag": pa.array([row["flag"] for row in rows], pa.bool_()),
            "tags": pa.array([row["tags"] for row in rows], pa.large_list(pa.string())),
        }
    )
    met = mask(parse(expression, column_kinds(columns)), columns)
    assert met.tolist() == [truth(expression, row) is True for row in rows]
