"""What every box keeps to."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tiny
from box_shop import DAYS, ITEMS, bundle_of, changed_item, codes, drawn_events, ids, prices_until, reasons, shop_of
from tiny import DAY

from recsys.config.settings import Config
from recsys.errors import NotFoundError, RefusedError
from recsys.serving.answer import Query
from recsys.serving.boxes import BOXES
from recsys.serving.eligibility import available_items
from recsys.serving.history import InlineEvent

QUESTIONS = 20  # of each box
CHANGED = (
    changed_item("i4", 99, price=1.5),
    changed_item("i8", 99.1, available=False),
    changed_item("new1", 99.2, price=8.0, category="Toys"),
    changed_item("new2", 99.3, created_at=round(98.5 * DAY)),
)
POSTED = (
    ("u1", False, "i2", "purchase", 99.5),
    ("u1", False, "new1", "view", 99.6),
    ("v1", True, "i5", "view", 99.7),
    ("v1", True, "i6", "cart", 99.8),
)


@cache
def shop():
    return shop_of(drawn_events(), changed=CHANGED, posted=POSTED)


@cache
def shop_with_an_old_bundle():
    events = drawn_events()
    return shop_of(
        events,
        bundle=replace(bundle_of(events), demand=None, related=None, prices=None),
        changed=CHANGED,
        posted=POSTED,
    )


def allowed_items(found_shop):
    """The items that may be answered at all, with their prices and categories."""
    catalog = found_shop.snapshot.bundle.catalog
    prices, categories = (catalog.columns.column(name).to_pylist() for name in ("price", "category"))
    on_sale = available_items(catalog)
    known = {f"i{row}": (prices[row], categories[row]) for row in range(ITEMS) if on_sale[row]}
    known["i4"], known["new1"], known["new2"] = (1.5, "Food"), (8.0, "Toys"), (None, None)
    del known["i8"]
    return known


def drawn_questions(box, seed):
    """Random questions that the box takes, and which items each of them admits."""
    random, shop_items = np.random.default_rng(seed), allowed_items(shop())
    names = [*(f"i{row}" for row in range(ITEMS)), "new1", "new2", "nobody knows"]
    for _ in range(QUESTIONS):
        admitted = dict(shop_items)
        query = {"box": box, "k": int(random.choice([1, 5, 20, 100]))}
        query["user_id"] = random.choice([None, "u1", f"u{random.integers(25)}", "nobody"])
        query["visitor_id"] = random.choice([None, "v1", "nobody"])
        query["exclude"] = random.choice(names, random.integers(4)).tolist()
        query["as_of"] = None if random.random() < 0.5 else round(random.uniform(0, 110) * DAY)
        if BOXES[box].needs == "person":
            query["user_id"] = random.choice(["u1", "u2", "nobody"])
        if BOXES[box].needs == "item":
            query["items"] = [str(random.choice(names[:-1]))]
        elif BOXES[box].needs == "items":
            query["items"] = random.choice(names, 25).tolist()
        elif random.random() < 0.3:
            query["items"] = random.choice(names, random.integers(4)).tolist()
        if random.random() < 0.5:
            query["filters"] = ["price:between:0,20"]
            admitted = {name: what for name, what in admitted.items() if what[0] is not None and what[0] <= 20}
        if random.random() < 0.2:
            query["category"] = "food"
            admitted = {name: what for name, what in admitted.items() if (what[1] or "").startswith("Food")}
        if random.random() < 0.3:
            query["history"] = [InlineEvent(str(random.choice(names)), "cart")]
        if BOXES[box].takes_window and random.random() < 0.5:
            query["window_days"] = int(random.choice([1, 7, 40]))
        named = set(query.get("items", []))
        admitted = set(admitted) & named if BOXES[box].lists_named else set(admitted) - named
        yield Query(**query), admitted - set(query["exclude"])


@pytest.mark.parametrize("asked_shop", [shop, shop_with_an_old_bundle], ids=["with all files", "of before boxes"])
@pytest.mark.parametrize("box", BOXES)
def test_a_box_lists_only_what_is_eligible_each_once_and_as_much_as_there_is(box, asked_shop):
    asked_shop, full, own = asked_shop(), 0, 0
    for query, admitted in drawn_questions(box, seed=5):
        found = asked_shop.answer(query)
        assert set(ids(found)) <= admitted, query
        assert len(ids(found)) == len(set(ids(found))) == min(query.k, found.eligible), query
        assert found.eligible + sum(found.excluded_counts.values()) == len(asked_shop.snapshot.view), query
        assert ("fewer_than_k" in codes(found)) == (len(found.hits) < query.k), query
        assert asked_shop.answer(query) == found, query
        if BOXES[box].only is None:  # what it may list is what is eligible at all
            assert found.eligible <= len(admitted)
        full += len(found.hits) == query.k
        own += "fallback" not in codes(found) and bool(found.hits)
    assert full > 2 or BOXES[box].only is not None
    if asked_shop is shop():
        assert own > 2


@pytest.mark.parametrize("box", BOXES)
def test_what_happens_after_the_moment_asked_for_changes_no_box(box):
    events, moment, answers = drawn_events(), 60 * DAY, []
    related = bundle_of(events).related  # as the vectors, it is of one training
    for seen, day in ((events, DAYS), (events.before(moment), 60)):
        asked = shop_of(seen, bundle=replace(bundle_of(seen), prices=prices_until(day), related=related))
        items = ["i7", "i8", "i9"] if BOXES[box].needs in ("item", "items") else []
        found = [asked.ask(box, user_id=user, items=items, as_of=moment) for user in ("u1", "u2", "nobody")]
        answers.append([(each.hits, each.warnings, each.eligible) for each in found])
    assert answers[0] == answers[1]
    late = shop_of(events).ask(box, user_id="u2", items=items, as_of=DAYS * DAY)
    # Similar items and those of a cart or a basket are as of the training, not as of a moment.
    assert late.hits != found[1].hits or box in ("similar", "bought_together", "viewed_together", "cart", "looks_like")


def test_a_user_s_history_and_an_item_make_their_boxes():
    history, item = shop().ask("for_you", user_id="u1"), shop().ask("similar", items=["i7"], user_id="u1")
    assert set(reasons(history)) == {"personal"}
    assert set(reasons(shop().ask("for_you", visitor_id="v1"))) == {"visitor"}
    assert set(reasons(item)) == {"similar"}
    bought = {"i2"}
    assert not bought & {*ids(history), *ids(item)}
    assert history.excluded_counts["bought"] > 0
    assert item.excluded_counts["not_in_box"] == 1
    assert codes(shop().ask("for_you", user_id="nobody")) == ["no_history"]


def test_an_item_that_is_named_is_not_listed():
    first = ids(shop().ask("trending"))
    assert ids(shop().ask("trending", items=first[:2], k=18)) == first[2:]
    found = shop().ask("trending", items=[first[0], "nobody knows"])
    assert codes(found) == ["unknown_items"]


def test_an_empty_box_shows_its_fallback_and_says_so():
    vectorless = shop_with_an_old_bundle().ask("similar", items=["i11"])
    assert (set(reasons(vectorless)), codes(vectorless)) == ({"popular"}, ["fallback"])
    old = shop_with_an_old_bundle().ask("trending", k=5)
    assert (reasons(old), codes(old)) == (["popular"] * 5, ["fallback"])
    early = shop().ask("bestsellers", as_of=DAY // 2, k=5)
    assert (reasons(early), codes(early)) == (["popular"] * 5, ["fallback"])
    some = shop().ask("trending", k=60)
    assert reasons(some) == sorted(reasons(some), key=("trending", "bestsellers", "popular").index)
    assert (set(reasons(some)), codes(some)) == ({"trending", "bestsellers", "popular"}, ["fewer_than_k"])


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"box": "trendin"}, r"there is no 'trendin'; allowed are for_you, .*; is trending meant\?"),
        ({"box": "similar"}, "item_id: the box similar is about an item"),
        ({"box": "rerank"}, "item_id: the box rerank is about items"),
        ({"box": "recently_viewed"}, "user_id: the box recently_viewed needs a user_id, a visitor_id or a history"),
        ({"box": "similar", "items": ["i1"], "window_days": 7}, "those that have one are trending, bestsellers"),
    ],
)
def test_a_question_that_does_not_fit_its_box_is_refused(query, says):
    with pytest.raises(RefusedError, match=says):
        shop().answer(Query(**query))


def test_an_item_that_nobody_knows_has_no_box():
    with pytest.raises(NotFoundError):
        shop().ask("similar", items=["nobody knows"])


def test_what_was_bought_may_come_again_where_the_configuration_says_so():
    again = shop_of(drawn_events(), config=Config(recommendations={"allow_repurchase": True}))
    assert again.ask("bestsellers", user_id="u1").excluded_counts["bought"] == 0
    assert shop().ask("bestsellers", user_id="u1").excluded_counts["bought"] > 0


def test_recently_viewed_lists_what_was_looked_at_the_latest_first_each_once():
    posted = [("v1", True, "i5", "view", 99), ("v1", True, "i6", "cart", 99.5), ("v1", True, "i9", "purchase", 99.7)]
    posted += [("v1", True, "i5", "view", 99.8), ("v1", True, "i10", "view", 98), ("v1", True, "gone", "view", 99.9)]
    seen = shop_of(drawn_events(), posted=posted)
    found = seen.ask("recently_viewed", visitor_id="v1")
    assert (ids(found), set(reasons(found))) == (["i5", "i6"], {"recently_viewed"})  # i10 is sold out
    np.testing.assert_allclose([hit["score"] for hit in found.hits], [-1.2, -1.5], atol=1e-3)
    assert (found.eligible, codes(found)) == (2, ["fewer_than_k"])
    assert ids(seen.ask("recently_viewed", visitor_id="v1", items=["i5"])) == ["i6"]
    assert ids(seen.ask("recently_viewed", visitor_id="v1", as_of=round(99.2 * DAY))) == ["i5"]
    inline = [InlineEvent("i2", "view"), InlineEvent("i1", "view")]
    assert ids(seen.ask("recently_viewed", history=inline)) == ["i2", "i1"]
    assert seen.ask("recently_viewed", visitor_id="nobody").hits == []


def test_rerank_sorts_the_given_items_by_taste_and_by_popularity_where_there_is_none():
    listed = [f"i{row}" for row in range(30)]
    everything = [item for item in ids(shop().ask("for_you", user_id="u3", k=100)) if item in listed]
    found = shop().ask("rerank", user_id="u3", items=listed, k=100)
    assert [item for item in ids(found) if item in everything] == everything
    assert found.excluded_counts["bought"] == 0
    assert set(reasons(found)) == {"personal", "popular"}  # some items have no vector
    unknown = shop().ask("rerank", items=["i3", "i20", "i1", "i50", "nowhere"], k=5)
    popular = [item for item in ids(shop().ask("popular", k=100)) if item in ("i20", "i1", "i50")]
    assert (ids(unknown), set(reasons(unknown))) == (popular, {"popular"})
    assert codes(unknown) == ["fewer_than_k", "no_history", "unknown_items"]


def test_a_category_has_those_below_it_and_a_wrong_one_is_told_its_nearest():
    found = shop().ask("popular", category="Food", k=100, fields=["category"])
    assert {hit["fields"]["category"] for hit in found.hits} == {"Food", "Food > Coffee"}
    below = shop().ask("trending", category="food > coffee", fields=["category"])
    assert {hit["fields"]["category"] for hit in below.hits} == {"Food > Coffee"}
    wrong = shop().ask("popular", category="Tois")
    assert (wrong.hits, codes(wrong)) == ([], ["fewer_than_k", "unknown_category"])
    assert wrong.warnings[1]["detail"] == "No item has the category 'Tois' or one below it; is Toys meant?"
    bare = shop_of(drawn_events(), bundle=tiny.bundle(np.eye(ITEMS, 6)))
    with pytest.raises(RefusedError, match="category: the catalog has no column"):
        bare.ask("popular", category="Food")
