import json

import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import RefusedError
from recsys.serving.filters import FILTERS, MAX_CONDITIONS, MAX_DEPTH, column_kinds, join, mask, parse, parse_short

CATEGORIES = ["Toys", "toys", None, "Home", "Toys"]
COLUMNS = pa.table(
    {
        "category": pa.array(CATEGORIES).dictionary_encode(),
        "title": ["Robot", "Robot", "a:b,c", None, ""],
        "price": [9.5, None, 20.0, 5.0, 1e9],
        "stock": pa.array([3, 0, None, 200, -1], pa.int16()),
        "available": [True, False, None, True, True],
        "created_at": pa.array([0, 1_000_000, None, 1_795_420_800_000_000, 2], pa.int64()),
        "tags": [["a"], [], None, [], []],
    }
)
KINDS = column_kinds(COLUMNS)


def met(expression):
    return np.flatnonzero(mask(parse(expression, KINDS), COLUMNS)).tolist()


def test_the_catalog_says_what_can_be_filtered_and_how():
    assert KINDS == {
        "category": "text",
        "title": "text",
        "price": "number",
        "stock": "number",
        "available": "boolean",
        "created_at": "time",
    }


@pytest.mark.parametrize(
    ("column", "op", "value", "rows"),
    [
        ("category", "eq", "Toys", [0, 4]),
        ("category", "eq", "Garden", []),
        ("category", "in", ["Toys", "Home"], [0, 3, 4]),
        ("category", "between", ["Home", "Toyz"], [0, 3, 4]),
        ("title", "eq", "", [4]),
        ("price", "between", [5, 9.5], [0, 3]),
        ("price", "eq", 20, [2]),
        ("stock", "eq", 3.0, [0]),
        ("stock", "eq", 3.5, []),
        ("stock", "in", [3, 200.5, 10**30], [0]),
        ("stock", "between", [-0.5, 10**30], [0, 1, 3]),
        ("available", "eq", True, [0, 3, 4]),
        ("available", "in", [False, True], [0, 1, 3, 4]),
        ("created_at", "between", ["1970-01-01T00:00:00Z", "1970-01-01T01:00:01+01:00"], [0, 1, 4]),
    ],
)
def test_a_condition_finds_exactly_the_items_that_meet_it(column, op, value, rows):
    assert met({"column": column, "op": op, "value": value}) == rows


def test_and_or_and_not_combine_and_an_unknown_value_meets_no_condition():
    toys = {"column": "category", "op": "eq", "value": "Toys"}
    cheap = {"column": "price", "op": "between", "value": [0, 10]}
    assert met({"and": [toys, cheap]}) == [0]
    assert met({"or": [toys, cheap]}) == [0, 3, 4]
    assert met({"not": toys}) == [1, 2, 3]  # of row 2 nobody knows the category
    assert met({"and": [{"not": toys}, {"not": cheap}]}) == met({"not": {"or": [toys, cheap]}}) == [1, 2]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("category:eq:Toys", [0, 4]),
        ("category:in:Toys,Home", [0, 3, 4]),
        ("price:between:5,9.5", [0, 3]),
        ("available:eq:false", [1]),
        ("stock:eq:-1", [4]),
        ("title:eq:a:b,c", [2]),
        ("created_at:eq:1970-01-01T00:00:01Z", [1]),
        (json.dumps({"not": {"column": "price", "op": "between", "value": [0, 100]}}), [1, 4]),
    ],
)
def test_the_short_form_says_the_same(text, rows):
    assert np.flatnonzero(mask(parse_short(text, KINDS), COLUMNS)).tolist() == rows


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("text", "expected an object, found a text"),
        ([], "a list of 0"),
        ({}, "expected"),
        ({"and": [], "or": []}, "expected"),
        ({"and": []}, "1 to 64"),
        ({"and": {"a": 1}}, "an object"),
        ({"xor": []}, "expected"),
        ({"column": "color", "op": "eq", "value": "red"}, "allowed are category, title, price"),
        ({"column": "tags", "op": "eq", "value": "a"}, "no such column"),
        ({"column": ["price"], "op": "eq", "value": 1}, "no such column"),
        ({"column": "price", "op": "like", "value": 1}, "allowed are eq, in, between"),
        ({"column": "price", "op": {}, "value": 1}, "allowed are eq, in, between"),
        ({"column": "price", "op": "eq", "value": "9"}, "'price' takes a number, found a text"),
        ({"column": "price", "op": "eq", "value": True}, "found true or false"),
        ({"column": "price", "op": "eq", "value": None}, "found null"),
        ({"column": "price", "op": "eq", "value": float("nan")}, "takes a number"),
        ({"column": "price", "op": "eq", "value": 10**400}, "takes a number"),
        ({"column": "price", "op": "eq", "value": [1]}, "a list of 1"),
        ({"column": "category", "op": "eq", "value": 3}, "takes a text"),
        ({"column": "category", "op": "eq", "value": "x" * 1001}, "at most 1000 characters"),
        ({"column": "category", "op": "eq", "value": "\ud800"}, "takes a text"),
        ({"column": "available", "op": "eq", "value": 1}, "takes a boolean"),
        ({"column": "created_at", "op": "eq", "value": "2026-01-01"}, "takes times as"),
        ({"column": "created_at", "op": "eq", "value": 5}, "takes a time"),
        ({"column": "price", "op": "in", "value": []}, "1 to 1000"),
        ({"column": "price", "op": "in", "value": [1] * 1001}, "1 to 1000"),
        ({"column": "price", "op": "between", "value": [1]}, "a list of 2 values"),
        ({"column": "price", "op": "between", "value": 1}, "a list of 2 values"),
        ({"column": "price", "op": "eq", "value": 1, "more": 1}, "expected"),
    ],
)
def test_a_wrong_expression_is_refused_in_words_that_say_what_is_allowed(expression, words):
    with pytest.raises(RefusedError, match="filter") as error:
        parse(expression, KINDS)
    assert words in str(error.value)


@pytest.mark.parametrize("text", ["", "category", "category:eq", "color:eq:red", "price:eq:cheap", "{", "{" * 100_000])
def test_a_wrong_short_form_is_refused(text):
    with pytest.raises(RefusedError, match="filter"):
        parse_short(text, KINDS)


def test_depth_and_size_are_limited():
    leaf = {"column": "price", "op": "eq", "value": 1}
    deep = leaf
    for _ in range(MAX_DEPTH - 1):
        deep = {"not": deep}
    parse(deep, KINDS)
    with pytest.raises(RefusedError, match="nested deeper than 8"):
        parse({"not": deep}, KINDS)
    for _ in range(1000):
        deep = {"not": deep}
    with pytest.raises(RefusedError, match="nested deeper than 8"):
        parse(deep, KINDS)
    half = {"or": [leaf] * (MAX_CONDITIONS // 2)}
    parse({"and": [half, half]}, KINDS)
    with pytest.raises(RefusedError, match="more than 64 conditions"):
        parse({"and": [half, half, leaf]}, KINDS)
    with pytest.raises(RefusedError, match="at most 64"):
        join([parse(half, KINDS)] * 3)


def test_an_error_does_not_repeat_what_was_sent():
    with pytest.raises(RefusedError) as error:
        parse({"column": "price", "op": "eq", "value": "alice@example.org"}, KINDS)
    assert "alice" not in str(error.value)


def test_several_filters_have_to_be_met_at_once():
    both = join([parse_short("category:eq:Toys", KINDS), parse_short("price:between:0,10", KINDS)])
    assert np.flatnonzero(mask(both, COLUMNS)).tolist() == [0]
    assert join([]) is None


def test_every_operation_of_the_table_gives_no_item_of_an_empty_catalog():
    empty = COLUMNS.slice(0, 0)
    for op in FILTERS:
        value = {"in": [1], "between": [1, 2]}.get(op, 1)
        assert mask(parse({"column": "price", "op": op, "value": value}, KINDS), empty).shape == (0,)


def test_columns_in_pieces_and_slices_are_filtered_as_whole_ones():
    columns = pa.table({"price": [0.0, 5.0, None, 7.0, 9.0] * 5, "new": [True, None, False, True, False] * 5})
    whole = parse(
        {"or": [{"column": "price", "op": "between", "value": [5, 8]}, {"column": "new", "op": "eq", "value": False}]},
        column_kinds(columns),
    )
    pieces = pa.concat_tables([columns.slice(0, 3), columns.slice(3, 10), columns.slice(13, 0), columns.slice(13)])
    expected = [False, True, True, True, True] * 5
    assert mask(whole, columns).tolist() == mask(whole, pieces).tolist() == expected
