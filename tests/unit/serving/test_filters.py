import json

import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import RefusedError
from recsys.serving.filters import FILTERS, MAX_CONDITIONS, MAX_DEPTH, column_kinds, join, parse, parse_short
from recsys.serving.masks import mask

CATEGORIES = ["Toys", "toys", None, "Home", "Toys"]
COLUMNS = pa.table(
    {
        "category": pa.array(CATEGORIES).dictionary_encode(),
        "title": ["Robot", "Robot", "a:b,c", None, ""],
        "price": [9.5, None, 20.0, 5.0, 1e9],
        "stock": pa.array([3, 0, None, 200, -1], pa.int16()),
        "available": [True, False, None, True, True],
        "created_at": pa.array([0, 1_000_000, None, 1_795_420_800_000_000, 2], pa.int64()),
        "tags": [["Ä", "b"], [], None, ["B", None], ["c"]],
        "sizes": pa.array([[38, 40], None, [40.5], [], [1]], pa.large_list(pa.float64())),
        "shape": pa.array([{"a": 1}] * 5),
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
        "tags": "texts",
        "sizes": "numbers",
    }


@pytest.mark.parametrize(
    ("column", "op", "value", "rows"),
    [
        ("category", "eq", "Toys", [0, 1, 4]),
        ("category", "eq", "Garden", []),
        ("category", "in", ["TOYS", "Home"], [0, 1, 3, 4]),
        ("category", "between", ["Home", "Toyz"], [0, 1, 3, 4]),
        ("category", "exists", True, [0, 1, 3, 4]),
        ("category", "exists", False, [2]),
        ("price", "exists", False, [1]),
        ("price", "gt", 9.5, [2, 4]),
        ("price", "ge", 9.5, [0, 2, 4]),
        ("price", "lt", 9.5, [3]),
        ("price", "le", 9.5, [0, 3]),
        ("price", "range", [5, 9.5], [3]),
        ("price", "range", [None, 9.5], [3]),
        ("price", "range", [9.5, None], [0, 2, 4]),
        ("stock", "gt", 2.5, [0, 3]),
        ("created_at", "lt", "1970-01-01T00:00:01Z", [0, 4]),
        ("tags", "contains", "ä", [0]),
        ("tags", "contains", "A\u0308", [0]),
        ("tags", "contains", "b", [0, 3]),
        ("tags", "in", ["b", "c"], [0, 3, 4]),
        ("tags", "exists", True, [0, 3, 4]),
        ("tags", "exists", False, [1, 2]),
        ("sizes", "contains", 40, [0]),
        ("sizes", "contains", 40.5, [2]),
        ("sizes", "range", [39, 41], [0, 2]),
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
    assert met({"or": [toys, cheap]}) == [0, 1, 3, 4]
    assert met({"not": toys}) == [2, 3]  # of row 2 nobody knows the category
    assert met({"and": [{"not": toys}, {"not": cheap}]}) == met({"not": {"or": [toys, cheap]}}) == [2]


def test_a_not_leaves_out_what_is_unknown_where_it_is_asked_to():
    toys = {"column": "category", "op": "eq", "value": "Toys"}
    cheap = {"column": "price", "op": "between", "value": [0, 10]}
    assert met({"not": toys, "unknown": "in"}) == [2, 3]
    assert met({"not": toys, "unknown": "out"}) == [3]
    assert met({"not": cheap, "unknown": "out"}) == [2, 4]
    assert met({"not": {"and": [toys, cheap]}, "unknown": "out"}) == [2, 3, 4]  # row 1 may be a cheap toy, nobody knows
    assert met({"not": {"or": [toys, cheap]}, "unknown": "out"}) == []  # row 2 may be a toy
    assert met({"not": {"not": toys, "unknown": "out"}, "unknown": "out"}) == [0, 1, 4]
    known = {"column": "category", "op": "exists", "value": True}
    assert met({"not": known, "unknown": "out"}) == met({"not": known}) == [2]
    assert met({"not": {"column": "tags", "op": "contains", "value": "b"}, "unknown": "out"}) == [4]


def test_texts_are_compared_without_case_and_unicode_form_unless_they_have_to_be_exact():
    columns = pa.table({"brand": ["Söhne", "So\u0308hne", "SÖHNE", "Straße", "STRASSE", "ΟΔΟΣ", None, "x"]})
    for chosen in (columns, pa.table({"brand": columns["brand"].combine_chunks().dictionary_encode()})):
        kinds = column_kinds(chosen)

        def rows(value, op="eq", exact=False, kinds=kinds, chosen=chosen):
            wanted = parse({"column": "brand", "op": op, "value": value, "exact": exact}, kinds)
            return np.flatnonzero(mask(wanted, chosen)).tolist()

        assert rows("söhne") == rows("so\u0308HNE") == [0, 1, 2]
        assert rows("strasse") == [3, 4]
        assert rows("οδος") == [5]
        assert rows("Söhne", exact=True) == [0]
        assert rows(["söhne", "X"], "in", exact=True) == []
        assert rows(["söhne", "X"], "in") == [0, 1, 2, 7]


def test_a_prefix_means_whole_levels():
    columns = pa.table({"category": ["Food", "food > Coffee", "Food>Tea", "Foodstuff", "Food > Coffee > Beans", None]})
    kinds = column_kinds(columns)

    def rows(value):
        return np.flatnonzero(mask(parse_short(f"category:prefix:{value}", kinds), columns)).tolist()

    assert rows("Food") == rows("Food >") == rows("FOOD > ") == [0, 1, 2, 4]
    assert rows("Food > Coffee") == [1, 4]
    assert rows("Foo") == []


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("category:eq:Toys", [0, 1, 4]),
        ("category:in:Toys,Home", [0, 1, 3, 4]),
        ('title:in:"a:b,c",robot', [0, 1, 2]),
        ('title:in:"",robot', [0, 1, 4]),
        ("price:range:5,", [0, 2, 3, 4]),
        ("price:range:,9.5", [3]),
        ("price:exists:false", [1]),
        ("price:ge:9.5", [0, 2, 4]),
        ("sizes:contains:40", [0]),
        ("sizes:range:39,41", [0, 2]),
        ("tags:contains:C", [4]),
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
        ({"column": "shape", "op": "eq", "value": "a"}, "no such column"),
        ({"column": "pirce", "op": "eq", "value": 1}, "; is price meant?"),
        ({"column": "Brand name", "op": "eq", "value": 1}, "no such column; allowed"),
        ({"column": "price", "op": "gte", "value": 1}, "; is ge meant?"),
        ({"column": "price", "op": "eq", "values": 1}, "; is value meant?"),
        ({"column": "title", "op": "contains", "value": "a"}, "takes a column of texts or numbers"),
        ({"column": "price", "op": "prefix", "value": "a"}, "allowed are eq, in, between"),
        ({"column": "sizes", "op": "contains", "value": "a"}, "'sizes' takes a number, found a text"),
        ({"column": "price", "op": "exists", "value": 1}, "takes true or false"),
        ({"column": "price", "op": "range", "value": [None, None]}, "at least one end"),
        ({"column": "price", "op": "range", "value": [1, "2"]}, "found a text"),
        ({"column": "price", "op": "between", "value": [1, None]}, "found null"),
        ({"column": "title", "op": "eq", "value": "a", "exact": 1}, "expected true or false"),
        ({"not": {"column": "price", "op": "eq", "value": 1}, "unknown": "no"}, 'allowed are "in" and "out"'),
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
        value = {"in": [1], "between": [1, 2], "range": [1, 2], "exists": True}.get(op, 1)
        column = {"prefix": "title", "contains": "sizes"}.get(op, "price")
        expression = {"column": column, "op": op, "value": "a" if op == "prefix" else value}
        assert mask(parse(expression, KINDS), empty).shape == (0,)


def test_columns_in_pieces_and_slices_are_filtered_as_whole_ones():
    columns = pa.table({"price": [0.0, 5.0, None, 7.0, 9.0] * 5, "new": [True, None, False, True, False] * 5})
    whole = parse(
        {"or": [{"column": "price", "op": "between", "value": [5, 8]}, {"column": "new", "op": "eq", "value": False}]},
        column_kinds(columns),
    )
    pieces = pa.concat_tables([columns.slice(0, 3), columns.slice(3, 10), columns.slice(13, 0), columns.slice(13)])
    expected = [False, True, True, True, True] * 5
    assert mask(whole, columns).tolist() == mask(whole, pieces).tolist() == expected


def test_lists_in_pieces_are_filtered_as_whole_ones():
    lists = pa.table({"stores": [["Bonn"], None, [], ["Köln", "bonn"], ["Ulm"]] * 3})
    pieces = pa.concat_tables([lists.slice(0, 2), lists.slice(2, 7), lists.slice(9)])
    wanted = parse_short("stores:contains:BONN", column_kinds(lists))
    assert mask(wanted, lists).tolist() == mask(wanted, pieces).tolist() == [True, False, False, True, False] * 3
