import pytest

from recsys.errors import RefusedError
from recsys.serving.filters import Condition
from recsys.serving.rules import NO_RULES, Boost, Pin, Rules, join, parse

KINDS = {"brand": "text", "price": "number", "stores": "texts"}


def test_rules_are_read_from_json():
    rules = parse(
        {
            "pin": [{"item_id": "a", "place": 2}],
            "boost": [
                {"filter": "brand:eq:Vento", "factor": 2},
                {"filter": {"column": "price", "op": "lt", "value": 5}, "factor": 0.5},
                {"item_ids": ["b"], "factor": 0},
            ],
            "max_per": {"brand": 2},
            "diversity": 0.3,
            "exploration": None,
            "allow_repurchase": True,
        },
        KINDS,
    )
    assert rules == Rules(
        pin=(Pin("a", 2),),
        boost=(
            Boost(2.0, wanted=Condition("brand", "eq", ("Vento",))),
            Boost(0.5, wanted=Condition("price", "lt", (5,))),
            Boost(0.0, item_ids=("b",)),
        ),
        max_per={"brand": 2},
        diversity=0.3,
        allow_repurchase=True,
    )
    assert parse({}, KINDS) == NO_RULES
    assert rules.moves
    assert not Rules(allow_seen=False).moves


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ([], "rules: expected an object, found a list of 0"),
        ({"pins": []}, "allow_repurchase; is pin meant?"),
        ({"pin": {}}, "rules.pin: expected a list of at most 100, found an object"),
        ({"pin": ["a"]}, 'rules.pin[0]: expected {"item_id", "place"}'),
        ({"pin": [{"item_id": "", "place": 1}]}, "rules.pin[0].item_id: expected a text"),
        ({"pin": [{"item_id": "a", "place": 0}]}, "rules.pin[0].place: expected a whole number from 1 to 500"),
        ({"pin": [{"item_id": "a", "place": True}]}, "rules.pin[0].place"),
        ({"pin": [{"item_id": "a", "place": 1}, {"item_id": "a", "place": 2}]}, "an item is pinned twice"),
        ({"boost": [{"factor": 2}]}, "rules.boost[0]: expected"),
        ({"boost": [{"filter": "brand:eq:x", "item_ids": ["a"], "factor": 2}]}, "rules.boost[0]: expected"),
        ({"boost": [{"item_ids": ["a"], "factor": -1}]}, "rules.boost[0].factor: expected a number from 0 to 100"),
        ({"boost": [{"item_ids": ["a"], "factor": float("nan")}]}, "rules.boost[0].factor"),
        ({"boost": [{"item_ids": [], "factor": 1}]}, "rules.boost[0].item_ids: expected a list of 1 to 1000"),
        (
            {"boost": [{"filter": "band:eq:x", "factor": 2}]},
            "rules.boost[0].filter.column: no such column; allowed are brand",
        ),
        (
            {"boost": [{"filter": {"or": [{"column": "price", "op": "lt", "value": 5}] * 13}, "factor": 2}] * 5},
            "rules.boost.filter: 65 conditions; at most 64 are allowed",
        ),
        ({"max_per": {"bramd": 1}}, "rules.max_per: no such column; allowed are brand, price; is brand meant?"),
        ({"max_per": {"stores": 1}}, "rules.max_per: no such column"),
        ({"max_per": {"brand": 0}}, "rules.max_per.brand: expected a whole number from 1 on"),
        ({"diversity": 1.1}, "rules.diversity: expected a number from 0 to 1"),
        ({"exploration": True}, "rules.exploration: expected a number from 0 to 1"),
        ({"allow_seen": "no"}, "rules.allow_seen: expected true or false, found a text"),
    ],
)
def test_a_wrong_rule_is_named(expression, words):
    with pytest.raises(RefusedError) as error:
        parse(expression, KINDS)
    assert words in str(error.value)


def test_of_two_sets_of_rules_the_second_counts_and_of_two_caps_the_smaller():
    first = parse(
        {
            "pin": [{"item_id": "a", "place": 1}, {"item_id": "b", "place": 2}],
            "max_per": {"brand": 2},
            "diversity": 0.5,
            "allow_seen": False,
            "boost": [{"item_ids": ["c"], "factor": 2}],
        },
        KINDS,
    )
    second = parse(
        {
            "pin": [{"item_id": "a", "place": 3}],
            "max_per": {"brand": 3, "price": 1},
            "diversity": 0,
            "boost": [{"item_ids": ["d"], "factor": 3}],
        },
        KINDS,
    )
    both = join(first, second)
    assert both.pin == (Pin("a", 3), Pin("b", 2))
    assert [boost.item_ids for boost in both.boost] == [("c",), ("d",)]
    assert both.max_per == {"brand": 2, "price": 1}
    assert (both.diversity, both.allow_seen, both.exploration) == (0.0, False, None)
    assert join(NO_RULES, first) == join(first, NO_RULES) == first
