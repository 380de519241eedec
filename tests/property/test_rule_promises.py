"""No rule is broken, no list is short while items are eligible, and a pin is placed or it is said why not."""

from collections import Counter
from functools import cache
from unittest.mock import patch

import pytest
from box_shop import DAYS, ITEMS, bundle_of, changed_item, drawn_events, ids, shop_of
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import DAY

from recsys.serving import ruled
from recsys.serving.boxes import BOXES

BRANDS = ("Nimbus", "NIMBUS", "Vento", "Lumo", None)
ROWS = {f"i{row}": row for row in range(ITEMS)}
NAMED = {"item": ["i7"], "items": [f"i{row}" for row in range(0, ITEMS, 2)]}  # by what a box needs
FLAGS = ("allow_seen", "allow_viewed", "allow_in_basket", "allow_repurchase")


@cache
def shop():
    events = drawn_events()
    bundle = bundle_of(events, brand=[BRANDS[row % 5] for row in range(ITEMS)])
    changed = (
        changed_item("i4", 99, price=1.5),
        changed_item("new1", 99.2, price=8.0, category="Toys", brand="vento"),
        changed_item("new2", 99.3, created_at=round(98.5 * DAY), brand="Lumo"),
    )
    posted = (
        ("u1", False, "i2", "purchase", 99.5),
        ("u1", False, "new1", "view", 99.6),
        ("u1", False, "i9", "cart", 99.7),
    )
    return shop_of(events, bundle=bundle, changed=changed, posted=posted)


def group(item, column):
    """What a cap counts an item as."""
    if item in ROWS:
        row = ROWS[item]
        brand, category = BRANDS[row % 5], ("Food", "Food > Coffee", "Toys", None)[row % 4]
    else:
        brand, category = {"new1": ("vento", "Toys"), "new2": ("Lumo", None)}[item]
    value = brand if column == "brand" else category
    return None if value is None else value.lower()


ITEM_IDS = st.sampled_from([*ROWS, "new1", "new2", "nobody knows"])
BOOSTS = st.fixed_dictionaries({"factor": st.sampled_from([0, 0.1, 0.5, 1, 2, 7.5, 100])}).flatmap(
    lambda one: st.one_of(
        st.sampled_from(["brand:eq:vento", "price:lt:20", "category:prefix:Food"]).map(
            lambda text: one | {"filter": text}
        ),
        st.lists(ITEM_IDS, min_size=1, max_size=4).map(lambda items: one | {"item_ids": items}),
    )
)
PINS = st.lists(
    st.fixed_dictionaries({"item_id": ITEM_IDS, "place": st.integers(1, 12)}),
    max_size=4,
    unique_by=(lambda pin: pin["item_id"]),
)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "pin": PINS,
        "boost": st.lists(BOOSTS, max_size=3),
        "max_per": st.dictionaries(st.sampled_from(["brand", "category"]), st.integers(1, 3), max_size=2),
        "diversity": st.sampled_from([0, 0.2, 0.7, 1]),
        "exploration": st.sampled_from([0, 0.1, 0.5, 1]),
        **dict.fromkeys(FLAGS, st.booleans()),
    },
)
DEPTHS = st.sampled_from([10, ruled.MAX_DEPTH])  # how many candidates rules look at; the shop has few items
QUERIES = st.fixed_dictionaries(
    {
        "box": st.sampled_from(sorted(BOXES)),
        "k": st.sampled_from([1, 3, 8, 20, 70]),
        "user_id": st.sampled_from([None, "u1", "u3", "nobody"]),
        "filters": st.sampled_from([[], ["price:lt:30"], ["category:prefix:Food"]]),
        "exclude": st.lists(ITEM_IDS, max_size=2),
        "as_of": st.sampled_from([None, round(60.5 * DAY), DAYS * DAY]),
    }
)


def check(query, rules, depth):
    with patch.object(ruled, "MAX_DEPTH", depth):
        check_list(query, rules)


def check_list(query, rules):
    needs = BOXES[query["box"]].needs
    query = query | {"items": NAMED.get(needs, [])}
    if needs == "person" and query["user_id"] is None:
        query["user_id"] = "u1"
    flags = {name: rules[name] for name in FLAGS if name in rules} | {"exploration": 0}
    eligible = set(ids(shop().ask(**query | {"k": 500}, rules=[flags])))
    found = shop().ask(**query, rules=[rules])
    listed, pins, caps = (
        ids(found),
        {pin["item_id"]: pin["place"] for pin in rules.get("pin", [])},
        rules.get("max_per", {}),
    )
    assert len(listed) == len(set(listed)) <= query["k"]
    assert set(listed) <= eligible

    details = [warning["detail"] for warning in found.warnings if warning["code"] == "pin_left_out"]
    left_out = {item for item in pins if any(detail.startswith(f"{item} is pinned") for detail in details)}
    placed = set(pins) - left_out
    assert len(left_out) == len(details)
    assert set(pins) - eligible <= left_out
    assert placed <= set(listed)
    for item in placed:
        if len(set(pins.values())) == len(pins) and len(listed) == query["k"]:
            assert listed.index(item) == pins[item] - 1  # pins win over caps

    counts = {column: Counter(group(item, column) for item in listed) for column in caps}
    for column, limit in caps.items():
        pinned = Counter(group(item, column) for item in placed)
        for value, count in counts[column].items():
            assert value is None or count <= max(limit, pinned[value])
    assert ("fewer_than_k" in [warning["code"] for warning in found.warnings]) == (len(listed) < query["k"])
    if len(listed) < query["k"]:
        for item in eligible - set(listed):
            full = [
                counts[column][group(item, column)] >= limit for column, limit in caps.items() if group(item, column)
            ]
            assert any(full), item


@settings(max_examples=150, deadline=None)
@given(QUERIES, RULES, DEPTHS)
def test_no_rule_is_broken_and_no_list_is_short_while_items_are_eligible(query, rules, depth):
    check(query, rules, depth)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(QUERIES, RULES, DEPTHS)
def test_no_rule_is_broken_by_any_of_ten_thousand(query, rules, depth):
    check(query, rules, depth)
