from collections import Counter
from functools import cache

import numpy as np
import pytest
from box_shop import CATEGORIES, DAYS, ITEMS, bundle_of, changed_item, codes, drawn_events, ids, reasons, shop_of
from tiny import DAY

from recsys.config.settings import Config
from recsys.serving import explore
from recsys.serving.history import InlineEvent

BRANDS = ("Nimbus", "NIMBUS", "Vento")
NEW = tuple(changed_item(f"new{at}", 99, category="Toys", brand="Vento") for at in range(30))
NO_NEW = {"exploration": 0}


@cache
def shop():
    bundle = bundle_of(drawn_events(), brand=[BRANDS[row % 3] for row in range(ITEMS)])
    return shop_of(drawn_events(), bundle=bundle, posted=(("u1", False, "i9", "cart", 99.7),))


@cache
def shop_with_new_items(share):
    config = Config.model_validate({"recommendations": {"exploration": share}})
    return shop_of(drawn_events(), changed=NEW, config=config)


def ask(rules=None, **query):
    return shop().ask(query.pop("box", "for_you"), user_id="u1", rules=[NO_NEW | (rules or {})], **query)


def test_a_pin_is_placed_and_told_of_or_it_is_said_why_not():
    plain = ids(ask(k=6))
    pins = [{"item_id": plain[4], "place": 2}, {"item_id": "i55", "place": 1}]
    found = ask({"pin": pins}, k=6)
    assert ids(found) == ["i55", plain[4], plain[0], plain[1], plain[2], plain[3]]
    assert found.hits[1]["moved"] == {"from": 5, "by": ["pin"]}
    assert (found.hits[0]["moved"], found.hits[0]["reason"]) == ({"from": None, "by": ["pin"]}, "pinned")
    assert found.hits[0]["score"] is None
    assert "moved" not in found.hits[2]
    for item, k, words in (
        ("nobody knows", 6, "nobody knows this item"),
        ("i3", 6, "sold out"),
        (plain[0], 6, "bought, is excluded"),
        (plain[1], 6, "does not meet the filter"),
        (plain[2], 6, "of 6 places none is free"),
    ):
        found = ask(
            {"pin": [{"item_id": item, "place": 7}]},
            k=k,
            exclude=[plain[0]],
            filters=[f"price:gt:{plain[1][1:]}"] if item == plain[1] else [],
        )
        assert "pin_left_out" in codes(found)
        assert words in next(w["detail"] for w in found.warnings if w["code"] == "pin_left_out")


def test_boosts_bury_and_caps_move_items_and_it_is_told():
    plain = ids(ask(k=10))
    found = ask({"boost": [{"item_ids": [plain[5]], "factor": 6}, {"item_ids": [plain[0]], "factor": 0}]}, k=10)
    assert ids(found)[:2] == [plain[5], plain[1]]
    assert plain[0] not in ids(found)
    assert found.hits[0]["moved"] == {"from": 6, "by": ["boost"]}
    found = ask({"boost": [{"filter": "brand:eq:vento", "factor": 100}]}, k=10)
    assert {int(item[1:]) % 3 for item in ids(found)} == {2}
    found = ask({"max_per": {"brand": 1, "price": 1}}, k=10)
    assert sorted(BRANDS[int(item[1:]) % 3].lower() for item in ids(found)) == ["nimbus", "vento"]
    assert codes(found) == ["fewer_than_k"]


def test_a_cap_takes_the_best_of_each_kind():
    plain, taken, expected = ids(ask(k=60)), Counter(), []
    for item in plain:
        category = CATEGORIES[int(item[1:]) % 4]
        taken[category] += 1
        if category is None or taken[category] <= 2:
            expected.append(item)
    found = ask({"max_per": {"category": 2}}, k=15)
    assert ids(found) == expected[:15]
    assert codes(found) == []
    moved = [plain.index(item) != at for at, item in enumerate(ids(found))]
    assert [hit.get("moved", {}).get("by") == ["max_per"] for hit in found.hits] == moved
    assert any(moved)


def test_diversity_changes_the_list_and_keeps_its_first():
    plain, diverse = ids(ask(k=10)), ask({"diversity": 0.9}, k=10)
    assert ids(diverse)[0] == plain[0]
    assert ids(diverse) != plain
    assert any(hit.get("moved", {}).get("by") == ["diversity"] for hit in diverse.hits)
    assert ids(ask({"diversity": 0}, k=10)) == plain


def test_known_items_come_or_stay_out_as_asked():
    history = [InlineEvent("i20", "view"), InlineEvent("i21", "cart"), InlineEvent("i22", "purchase")]
    history += [InlineEvent("i23", "cart"), InlineEvent("i23", "purchase")]

    def listed(**rules):
        return {"i20", "i21", "i22", "i23"} & set(
            ids(shop().ask("for_you", history=history, k=100, rules=[NO_NEW | rules]))
        )

    assert listed() == {"i20", "i21"}
    assert listed(allow_repurchase=True) == {"i20", "i21", "i22", "i23"}
    assert listed(allow_viewed=False) == {"i21"}
    assert listed(allow_in_basket=False) == {"i20"}
    assert listed(allow_in_basket=False, allow_repurchase=True) == {"i20", "i22", "i23"}
    assert listed(allow_seen=False, allow_repurchase=True) == set()
    assert ids(shop().ask("for_you", history=history, k=100, rules=[{"allow_seen": False}])).count("i9") == 1


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.1, 1.6, 2.4), (1.0, 19, 19)])
def test_new_items_get_the_configured_share_of_the_places_of_for_you(share, low, high):
    shop = shop_with_new_items(share)
    answers = [shop.ask("for_you", user_id=f"u{user}", k=20) for user in range(25)]
    assert low <= np.mean([reasons(found).count("new") for found in answers]) <= high
    for found in answers:
        assert reasons(found) == sorted(reasons(found), key=lambda reason: reason == "new")  # the last places
        assert reasons(found)[0] != "new"
    if share == 0.1:
        assert len({item for found in answers for item in ids(found) if item.startswith("new")}) > 10
        assert "new" not in reasons(shop.ask("trending", k=20))
        assert "new" in reasons(shop.ask("trending", k=20, rules=[{"exploration": 0.5}]))


def test_new_items_get_the_last_places_that_no_pin_has():
    pins = [{"item_id": "i55", "place": 20}, {"item_id": "i54", "place": 19}]
    rules = {"exploration": 0.1, "pin": pins, "allow_repurchase": True}
    for user in range(5):
        found = shop_with_new_items(0.1).ask("for_you", user_id=f"u{user}", k=20, rules=[rules])
        assert reasons(found)[16:] == ["new", "new", "pinned", "pinned"]


def test_the_same_question_gets_the_same_answer_and_a_day_later_others():
    shop = shop_with_new_items(0.1)
    days = [
        [shop.ask("for_you", user_id="u2", k=40, as_of=(DAYS + day) * DAY + 5 * turn) for turn in (0, 1)]
        for day in (0, 1)
    ]
    assert [ids(found[0]) == ids(found[1]) for found in days] == [True, True]
    assert ids(days[0][0]) != ids(days[1][0])


def test_new_is_what_came_of_late_and_had_few_events():
    bundle = bundle_of(drawn_events())
    shop = shop_of(drawn_events(), bundle=bundle, changed=(changed_item("new1", 99), changed_item("i4", 99, price=1.0)))
    view = shop.snapshot.view
    rows = explore.new_rows(view, DAYS * DAY).tolist()
    counts = bundle.demand.between(0, 1000, [1.0] * 3, ITEMS)
    came = {row: bundle.arrived[row] >= (DAYS - explore.NEW_DAYS + 1) * DAY for row in range(ITEMS)}
    expected = [row for row in range(ITEMS) if row != 4 and counts[row] <= explore.FEW_EVENTS and came[row]]
    undated = [row for row in range(ITEMS) if bundle.arrived[row] < 0 and counts[row] == 0]
    assert set(expected) <= set(rows) <= {*expected, *undated, view.row_of("new1"), view.row_of("i4")}
    assert view.row_of("new1") in rows
    assert 4 not in rows


def test_the_demand_to_expect_is_that_of_category_and_brand():
    sold = ["Toys" if row % 2 else "Food" for row in range(ITEMS)]
    bundle = bundle_of(drawn_events(), category=sold, brand=[None] * ITEMS)
    new = [changed_item(f"new {name}", 99, category=name) for name in ("Toys", "Food", "Unknown")]
    view = shop_of(drawn_events(), bundle=bundle, changed=new).snapshot.view
    rows = np.array([view.row_of(item.item_id) for item in new], np.int32)
    toys, food, unknown = explore.expected_demand(view, rows, DAYS * DAY, (0.0, 0.0, 1.0)).tolist()
    demand = bundle.demand.decayed(bundle.demand.end_day, (0.0, 0.0, 1.0), ITEMS)
    means = {
        name: demand[[row for row in range(ITEMS) if sold[row] == name and demand[row] > 0]].mean() for name in sold
    }
    assert unknown == pytest.approx(demand[demand > 0].mean(), rel=1e-5)
    assert (toys > food) == (means["Toys"] > means["Food"])
    assert min(toys, food) < unknown < max(toys, food)


def test_who_has_more_demand_to_expect_is_drawn_more_often():
    drawn = Counter(int(explore.draw(np.array([1.0, 8.0]), 1, seed)[0]) for seed in range(300))
    assert 200 < drawn[1] < 270  # 8 / 2 against 1
    assert sorted(explore.draw(np.ones(5, np.float32), 9, 1).tolist()) == [0, 1, 2, 3, 4]
