"""Similar items: taste where an item has events, the catalog where it has few."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
from box_shop import ITEMS, bundle_of, changed_item, ids, reasons, shop_of
from tiny import VIEW

from recsys.config.settings import Config
from recsys.related.content import first_of_each, read_content

EVERYTHING = Config.model_validate({"recommendations": {"exclude_sold_out": False}})
CATEGORIES = [f"Shelf {row % 6}" for row in range(ITEMS)]
# i0 to i2 are looked at hundreds of times, all others once.
EVENTS = tiny.events(
    [(user, item, VIEW, day) for user in range(20) for item in range(3) for day in range(1, 11)]
    + [(row % 20, row, VIEW, 20) for row in range(3, ITEMS)],
    users=25,
    items=ITEMS,
)


def shop(**values):
    """Every item has the direction of its tens, and the category of its row modulo six."""
    directions = np.eye(6)[np.arange(ITEMS) // 10]
    bundle = bundle_of(EVENTS, category=CATEGORIES)
    vectors = replace(bundle.vectors, item_vectors=directions.astype(np.float32))
    with_vector = np.ones(ITEMS, np.bool_)
    bundle = values.pop("bundle", replace(bundle, vectors=vectors, with_vector=with_vector))
    return shop_of(EVENTS, bundle=bundle, config=EVERYTHING, **values)


def category(item):
    return CATEGORIES[int(item[1:])]


def test_an_item_with_few_events_is_like_those_of_its_category():
    found = shop().ask("similar", items=["i31"], k=9)
    assert {category(item) for item in ids(found)} == {category("i31")}
    assert set(reasons(found)) == {"similar"}


def test_an_item_with_many_events_is_like_those_that_share_taste_and_category():
    # i6 shares the direction of i0 and its category, i1 to i9 the direction alone.
    assert ids(shop().ask("similar", items=["i0"], k=1)) == ["i6"]


def test_scores_descend_and_the_item_itself_is_no_answer():
    found = shop().ask("similar", items=["i0"], k=ITEMS)
    similar = [hit["score"] for hit in found.hits if hit["reason"] == "similar"]
    assert similar == sorted(similar, reverse=True)
    assert "i0" not in ids(found)


def test_an_item_that_came_after_training_is_known_by_its_content():
    changed = [
        changed_item("new", 99, title="Item", category="Shelf 4"),
        changed_item("i31", 99.1, title="Item 31", price=1.0),
    ]
    found = shop(changed=changed)
    assert {category(item) for item in ids(found.ask("similar", items=["new"], k=5))} == {"Shelf 4"}
    assert {category(item) for item in ids(found.ask("similar", items=["i31"], k=5))} == {category("i31")}


def test_only_eligible_items_are_compared():
    found = shop().ask("similar", items=["i31"], filters=["price:between:0,30"], exclude=["i1"], k=5)
    assert all(int(item[1:]) <= 30 for item in ids(found))
    assert "i1" not in ids(found)
    assert {category(item) for item in ids(found)[:4]} == {category("i31")}


def test_without_content_taste_alone_ranks():
    bundle = shop().snapshot.bundle
    bare = replace(bundle, related=replace(bundle.related, content=None))
    found = shop(bundle=bare).ask("similar", items=["i31"], k=5)
    assert {int(item[1:]) // 10 for item in ids(found)} == {3}


def test_the_share_of_taste_grows_with_events_and_is_all_where_the_catalog_says_nothing():
    columns = tiny.catalog(4, category=["A", "A", None, "B"]).columns.select(["category"])
    content = read_content(columns, np.array([0, 20, 5, 5]))
    assert [content.of_row(row).taste_share for row in range(3)] == [0, 0.25, 1]


def test_likeness_is_the_cosine_of_rare_tokens():
    columns = tiny.catalog(6, category=["A > B", "A > B", "A > C", "D", "D", "C"]).columns.select(["category"])
    content = read_content(columns, np.array([1, 2, 3, 4, 5, 6]))
    likeness = content.likeness(content.of_row(0), np.arange(6, dtype=np.int32))
    assert likeness[:2] == pytest.approx(1)
    assert 1 > likeness[2] > likeness[3] == 0
    dense = content.matrix.toarray()
    np.testing.assert_allclose(likeness, dense @ dense[0], rtol=1e-5)
    found = content.candidates(content.of_row(0))
    assert [found.row(token).tolist() for token in range(len(found))] in ([[2, 1, 0], [1, 0]], [[1, 0], [2, 1, 0]])
    assert first_of_each(found, np.ones(len(found.values), np.bool_)).tolist() == [0, 1, 2]
    assert first_of_each(found, found.values != 1).tolist() == [0, 2]


@pytest.mark.parametrize("item", ["i0", "i31"])
def test_a_similar_item_says_how_much_taste_and_content_made_it_come(item):
    plain, found = (shop().ask("similar", items=[item], k=5, explain=told) for told in (False, True))
    assert ids(plain) == ids(found)
    assert all("explanation" not in hit for hit in plain.hits)
    for hit in found.hits:
        told = hit["explanation"]
        taste, content = told["parts"]
        assert (told["method"], taste["part"], content["part"], told["rest"]) == ("exact", "taste", "content", 0)
        assert taste["share"] + content["share"] == pytest.approx(1)
        assert all(part["contribution"] == part["share"] * part["likeness"] for part in told["parts"])
        assert sum(part["contribution"] for part in told["parts"]) == pytest.approx(hit["score"], abs=1e-5)
    of_popular = item == "i0"
    assert (found.hits[0]["explanation"]["parts"][0]["share"] > 0.4) == of_popular


def test_what_a_rule_did_to_a_similar_item_stands_beside_its_explanation():
    boosted = [{"boost": [{"item_ids": ["i30"], "factor": 9}]}]
    found = shop().ask("similar", items=["i31"], k=3, explain=True, rules=boosted)
    hit = next(hit for hit in found.hits if hit["item_id"] == "i30")
    assert hit["moved"]
    assert sum(part["contribution"] for part in hit["explanation"]["parts"]) == pytest.approx(
        hit["explanation"]["score"], abs=1e-6
    )


def test_an_item_without_content_is_explained_by_taste_alone():
    bundle = bundle_of(EVENTS)
    found = shop(bundle=replace(bundle, related=None)).ask("similar", items=["i1"], k=3, explain=True)
    for hit in found.hits:
        (part,) = hit["explanation"]["parts"]
        assert (part["part"], part["share"]) == ("taste", 1)
        assert part["likeness"] == pytest.approx(hit["score"], abs=1e-5)
