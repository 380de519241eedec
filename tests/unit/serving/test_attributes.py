"""Attributes of posted items: typed on first sight, and told of when a name looks misspelled."""

import pyarrow as pa
import pytest

from recsys.serving.attributes import arrow_type, fit, misspelled

KINDS = {"title": "text", "available": "boolean", "color": "text", "stock": "number", "vegan": "boolean"}


def test_values_take_the_type_of_their_column_and_what_does_not_fit_is_left_out_and_counted() -> None:
    items = [
        {"item_id": "a", "color": 5, "stock": "7", "vegan": "true", "title": "T"},
        {"item_id": "b", "color": True, "stock": "many", "vegan": 1, "available": None},
        {"item_id": "c", "color": "red", "stock": True, "vegan": False},
        {"item_id": "d", "stock": "inf", "vegan": "no"},
        {"item_id": "e", "stock": 10**400, "color": None},
    ]
    fitted, lost = fit(items, KINDS)
    assert fitted == [
        {"item_id": "a", "color": "5", "stock": 7.0, "vegan": True, "title": "T"},
        {"item_id": "b", "color": "true", "available": None},
        {"item_id": "c", "color": "red", "vegan": False},
        {"item_id": "d"},
        {"item_id": "e", "color": None},
    ]
    assert lost == {"stock": 4, "vegan": 2}


def test_the_first_value_of_a_new_attribute_says_what_it_is() -> None:
    items = [{"item_id": "a", "size": None}, {"item_id": "b", "size": 4}, {"item_id": "c", "size": "large"}]
    assert fit(items, {}) == ([items[0], items[1], {"item_id": "c"}], {"size": 1})
    assert [arrow_type(value) for value in (True, 4, 4.5, "x")] == [pa.bool_(), pa.float64(), pa.float64(), pa.string()]


def test_lists_are_of_texts_or_of_numbers() -> None:
    items = [{"stores": ["Bonn"], "sizes": [38, 40.5]}, {"stores": "Ulm", "sizes": 41}, {"stores": [7], "sizes": ["x"]}]
    fitted, lost = fit(items, {})
    assert [item["stores"] for item in fitted] == [["Bonn"], ["Ulm"], ["7"]]
    assert [item.get("sizes") for item in fitted] == [[38.0, 40.5], [41.0], None]
    assert lost == {"sizes": 1}
    assert fit([{"stock": [1]}], KINDS) == ([{}], {"stock": 1})
    assert [arrow_type(value) for value in (["a"], [], [2])] == [
        pa.large_list(pa.string()),
        pa.large_list(pa.string()),
        pa.large_list(pa.float64()),
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("avaliable", "available"),
        ("Availible", "available"),
        ("tittle", "title"),
        ("imageurl", "image_url"),
        ("colour", "color"),
        ("created", "created_at"),
        ("stok", "stock"),
        ("material", None),
        ("color", None),
        ("price", None),
        ("item_id", None),
    ],
)
def test_a_name_like_a_known_one_is_told(name: str, meant: str | None) -> None:
    assert misspelled({name}, KINDS) == ({} if meant is None else {name: meant})


def test_a_misspelled_known_column_is_told_again_once_it_is_an_attribute() -> None:
    assert misspelled({"avaliable", "colour"}, {**KINDS, "avaliable": "boolean", "colour": "text"}) == {
        "avaliable": "available"
    }
