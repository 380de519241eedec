"""Search by words: what people type, with beginnings and mistakes, finds what they mean."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.content.search import CatalogSearch, _changes, build_search

TITLES = [
    "Paper lantern, red",
    "Paper lanterns, white",
    "White hanging heart t-light holder",
    "Café latte cup",
    "Coffee grinder",
    "赤い紙のランタン",
    None,
    "Lantana seeds",
]
CATEGORIES = ["Home > Lights", "Home > Lights", "Home > Lights", "Kitchen", "Kitchen", None, None, "Garden"]
BRANDS = [None, None, "Nimbus", "Vento", "Nimbus", None, None, "Nimbus"]


@pytest.fixture(scope="module")
def shop() -> CatalogSearch:
    columns = pa.table({"title": TITLES, "category": CATEGORIES, "brand": BRANDS})
    return build_search([f"P{at:04}" for at in range(len(TITLES))], columns)


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("paper lantern", [0, 1]),
        ("red lantern", [0]),
        ("LANTERN Paper", [0, 1]),
        ("papper lantren", [0]),  # one letter too many, two swapped
        ("cafe", [3]),
        ("coffe", [4]),  # the beginning of a word
        ("cofffee grindr", [4]),
        ("hart holder", [2]),
        ("ランタン", [5]),
        ("赤い", [5]),
        ("p0004", [4]),
        ("nimbus kitchen", [4]),
        ("heart of white", [2]),
        ("handing", [2]),
    ],
)
def test_what_is_typed_finds_what_is_meant(shop: CatalogSearch, words: str, first: list[int]) -> None:
    rows, scores = shop.find(words)
    assert rows[: len(first)].tolist() == first
    assert (np.diff(scores) <= 0).all()
    assert 0 < scores[0] <= 1


@pytest.mark.parametrize("words", ["", "   ", "?!", "zzzz", "xy", "\u200b", "lamp" * 60, "%_'\"", "qqq " * 500])
def test_what_means_nothing_finds_nothing(shop: CatalogSearch, words: str) -> None:
    assert len(shop.find(words)[0]) == 0


def test_items_with_all_words_come_before_those_with_some(shop: CatalogSearch) -> None:
    rows, scores = shop.find("white lantern")
    assert rows[0] == 1  # lanterns, white: the last word begins there
    assert set(rows[1:3].tolist()) == {0, 2}
    assert scores[1] < 0.6 * scores[0]


def test_short_words_have_no_typing_mistakes(shop: CatalogSearch) -> None:
    assert len(shop.find("rad")[0]) == 0
    assert shop.find("red")[0].tolist() == [0]


@pytest.mark.parametrize(
    ("one", "other", "changes"),
    [("lantern", "lantern", 0), ("lantern", "lantren", 1), ("cup", "cups", 1), ("heart", "hart", 1), ("abc", "cab", 2)],
)
def test_letters_that_change(one: str, other: str, changes: int) -> None:
    assert _changes(one, other, 2) == _changes(other, one, 2) == changes
    assert _changes(one, other + "xxx", 2) > 2


def test_an_empty_catalog_finds_nothing() -> None:
    for columns in (pa.table({}), pa.table({"price": pa.array([], pa.float64())})):
        assert len(build_search([], columns).find("lantern")[0]) == 0
    assert build_search(["a1"], pa.table({"price": [1.0]})).find("a1")[0].tolist() == [0]
