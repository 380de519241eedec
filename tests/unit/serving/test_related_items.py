"""Boxes of related items, on a shop whose baskets are known."""

from dataclasses import replace

import tiny
from box_shop import ITEMS, bundle_of, changed_item, codes, ids, reasons, shop_of
from tiny import CART, DAY, PURCHASE, VIEW

from recsys.config.settings import Config
from recsys.related.tables import POPULARITY

# Ten days are a basket: u0 to u9 buy i1 with i2, most of them with i4 too; u10 to u14 look at i5 with i6.
EVENTS = tiny.events(
    [(user, item, PURCHASE, 11 + user / 10) for user in range(10) for item in (1, 2, 4)[: 2 + (user > 3)]]
    + [(user, item, kind, 31) for user in range(10, 15) for item, kind in ((5, VIEW), (6, CART))]
    + [(20, item, PURCHASE, day) for item, day in ((7, 5), (8, 5), (8, 60), (8, 90), (9, 99))],
    users=25,
    items=ITEMS,
)
KEEP = Config.model_validate({"recommendations": {"allow_repurchase": True, "exclude_sold_out": False}})


def shop(**values):
    return shop_of(EVENTS, config=values.pop("config", KEEP), **values)


def of_box(found, box):
    return [item for item, reason in zip(ids(found), reasons(found), strict=True) if reason == box]


def test_what_was_bought_or_viewed_together_comes_by_how_often():
    assert of_box(shop().ask("bought_together", items=["i1"]), "bought_together") == ["i2", "i4"]
    assert of_box(shop().ask("viewed_together", items=["i5"]), "viewed_together") == ["i6"]
    assert of_box(shop().ask("viewed_together", items=["i1"]), "viewed_together") == []


def test_a_short_list_goes_on_with_similar_and_popular_items():
    found = shop().ask("bought_together", items=["i1"], k=60)
    assert list(dict.fromkeys(reasons(found))) == ["bought_together", "similar", "popular"]
    assert len(set(ids(found))) == len(ids(found)) == ITEMS - 1


def test_a_cart_is_completed_by_all_of_its_items_and_does_not_repeat_them():
    found = shop().ask("cart", items=["i1", "i4", "nobody knows it"], k=5)
    assert ids(found)[0] == "i2"
    assert not {"i1", "i4"} & set(ids(found))
    assert "unknown_items" in codes(found)
    assert set(reasons(shop().ask("cart", items=["nobody knows it"], k=3))) == {"popular"}


def test_what_was_bought_comes_again_by_how_often_and_how_lately():
    found = shop(config=Config()).ask("buy_again", user_id="u20", k=60)
    assert ids(found) == ["i8", "i9", "i7"]
    assert set(reasons(found)) == {"buy_again"}
    assert ids(shop().ask("buy_again", user_id="u20", as_of=50 * DAY))[0] in ("i7", "i8")
    assert "i9" not in ids(shop().ask("buy_again", user_id="u20", as_of=50 * DAY))
    assert ids(shop().ask("buy_again", user_id="nobody")) == []


def test_a_purchase_of_a_minute_ago_counts():
    found = shop(posted=[("u21", False, "i30", "purchase", 99.9)]).ask("buy_again", user_id="u21")
    assert ids(found) == ["i30"]


def test_an_item_that_changed_since_keeps_what_belongs_to_it():
    changed = [changed_item("i1", 99, price=3.0), changed_item("i2", 99.1, price=4.0), changed_item("new", 99.2)]
    found = shop(changed=changed)
    assert of_box(found.ask("bought_together", items=["i1"]), "bought_together") == ["i2", "i4"]
    assert sorted(of_box(found.ask("bought_together", items=["i4"]), "bought_together")) == ["i1", "i2"]
    assert of_box(found.ask("bought_together", items=["new"]), "bought_together") == []


def test_what_a_filter_or_a_purchase_leaves_out_is_not_listed():
    assert "i2" not in ids(shop().ask("bought_together", items=["i1"], exclude=["i2"], k=60))
    assert "i2" not in ids(shop(config=Config()).ask("bought_together", items=["i1"], user_id="u0", k=60))


def test_where_popular_items_served_better_they_are_listed():
    bundle = bundle_of(EVENTS)
    facts = bundle.related.facts | {"bought_together": {"method": POPULARITY}}
    found = shop(bundle=replace(bundle, related=replace(bundle.related, facts=facts))).ask(
        "bought_together", items=["i1"], k=3
    )
    assert of_box(found, "bought_together") == of_box(shop().ask("bestsellers", items=["i1"], k=3), "bestsellers") != []


def test_a_bundle_of_before_shows_fallbacks_and_counts_purchases():
    bundle = replace(bundle_of(EVENTS), related=None)
    old = shop(bundle=bundle)
    assert set(reasons(old.ask("bought_together", items=["i1"], k=3))) == {"similar"}
    assert ids(old.ask("buy_again", user_id="u20"))[0] == "i8"
