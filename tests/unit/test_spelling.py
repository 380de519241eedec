"""Wrong names and the right ones that they may mean."""

import pytest

from recsys.spelling import MOST, meant, nearest

PARAMETERS = ["k", "exclude", "filter", "fields", "visitor_id", "cursor"]
EVENT = ["event_id", "user_id", "visitor_id", "kind", "item_id", "value", "quantity", "occurred_at", "order_id"]


@pytest.mark.parametrize(
    ("wrong", "allowed", "right"),
    [
        ("limit", PARAMETERS, "k"),
        ("limit", ["limit", "fields"], "limit"),
        ("filtre", PARAMETERS, "filter"),
        ("Filter", PARAMETERS, "filter"),
        ("page", PARAMETERS, "cursor"),
        ("titel", ["title", "price"], "title"),
        ("pricee", ["title", "price"], "price"),
        ("timestamp", EVENT, "occurred_at"),
        ("product_id", EVENT, "item_id"),
        ("amount", EVENT, "value"),
        ("userid", EVENT, "user_id"),
        ("color", ["stock", "price"], None),
        ("limit", ["title"], None),
        ("", PARAMETERS, None),
        ("x" * 10_000, PARAMETERS, None),
    ],
)
def test_the_nearest_right_name(wrong, allowed, right):
    assert nearest(wrong, allowed) == right
    assert meant(wrong, allowed) == (f"; is {right} meant?" if right else "")


def test_very_many_names_are_not_compared_letter_by_letter(monkeypatch):
    names = [f"Category {at}" for at in range(MOST + 1)]
    assert nearest("Categry 7", names[:MOST]) is not None
    monkeypatch.setattr("difflib.get_close_matches", lambda *_: 1 / 0)
    assert nearest("Categry 7", names) is None
    assert nearest("category 7", names) == "Category 7"
