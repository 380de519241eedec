"""Lists of many users at once are those that the engine answers one by one, without exploration."""

from dataclasses import replace
from typing import Any

import box_shop
import numpy as np
import pytest
from box_shop import DAYS, USERS, changed_item, drawn_events, shop_of
from tiny import DAY

from recsys.config.settings import Config
from recsys.data.ragged import Ragged
from recsys.errors import RefusedError
from recsys.serving.bulk import REASONS, BulkAnswers, BulkQuery
from recsys.store.changes import NewEvents

NOW = (DAYS + 1) * DAY
WHO = [*(f"u{row}" for row in range(USERS)), "nobody"]
POSTED = [("u3", False, "i5", "purchase", 99.5), ("u4", False, "i9", "view", 99.5), ("v1", True, "i8", "view", 99.5)]


def bulk(shop: box_shop.Shop, **query: Any) -> list[list[tuple[str, str]]]:
    """Item and reason of what everybody of WHO gets."""
    left_out = query.pop("left_out", None)
    answers = BulkAnswers(shop.config, shop.snapshot, shop.posted, BulkQuery(as_of=NOW, **query))
    hits = answers.answer(WHO, left_out)
    return [
        [
            (bundle.catalog.ids.id_of(own), REASONS[code])
            for row, code in zip(rows, codes, strict=True)
            if row >= 0
            for bundle, own in [shop.snapshot.view.place(row)]
        ]
        for rows, codes in zip(hits.rows.tolist(), hits.reasons.tolist(), strict=True)
    ]


def one_by_one(shop: box_shop.Shop, *, k: int, max_per: Any = None, **query: Any) -> list[list[tuple[str, str]]]:
    rules = {"exploration": 0, "max_per": max_per or {}}
    answers = [shop.ask("for_you", user_id=user, k=k, as_of=NOW, rules=[rules], **query) for user in WHO]
    return [[(hit["item_id"], hit["reason"]) for hit in found.hits] for found in answers]


@pytest.mark.parametrize(
    "query",
    [
        {"k": 5},
        {"k": 60},
        {"k": 8, "filters": ["price:between:5,40"]},
        {"k": 8, "filters": ["category:prefix:Food"], "exclude": ["i0", "i1", "i4"]},
        {"k": 6, "max_per": {"category": 2}},
        {"k": 9, "max_per": {"category": 1, "price": 3}},
        {"k": 3, "filters": ["price:ge:1000"]},
        {"k": 3, "filters": ["price:ge:1000"], "max_per": {"category": 2}},
    ],
)
def test_everybody_gets_what_the_engine_answers(query: Any) -> None:
    changed = [changed_item("i2", 99, price=7.0, category="Toys"), changed_item("new", 99, price=9.0, title="Lamp")]
    for config in (Config(), Config.model_validate({"recommendations": {"allow_repurchase": True}})):
        shop = shop_of(drawn_events(), changed=changed, posted=POSTED, config=config)
        found = bulk(shop, **query)
        assert found == one_by_one(shop, **query)
        assert all(len({item for item, _ in listed}) == len(listed) for listed in found)


def test_a_cap_is_met_from_far_behind_what_is_ranked_first() -> None:
    categories = ["Rare" if row in (40, 55) else "Common" for row in range(box_shop.ITEMS)]
    shop = shop_of(drawn_events(), bundle=box_shop.bundle_of(drawn_events(), category=categories))
    found = bulk(shop, k=4, max_per={"category": 2})
    assert found == one_by_one(shop, k=4, max_per={"category": 2})
    assert any({"i40", "i55"} <= {item for item, _ in listed} for listed in found)


def test_a_deleted_user_is_nobody_and_what_was_left_out_does_not_come() -> None:
    shop = shop_of(drawn_events(), posted=POSTED)
    gone = replace(shop, posted=NewEvents(**{**vars(shop.posted), "deleted": {"u7": NOW - 1}}))
    assert bulk(gone, k=5)[7] == bulk(gone, k=5)[-1]
    assert bulk(gone, k=5)[:7] == bulk(shop, k=5)[:7]
    first = bulk(shop, k=5)
    rows = np.array([shop.snapshot.view.row_of(item) for listed in first for item, _ in listed], np.int32)
    later = bulk(shop, k=5, left_out=Ragged(np.arange(0, len(rows) + 1, 5), rows))
    assert all(not set(a) & set(b) for a, b in zip(first, later, strict=True))
    assert [[item for item, _ in x] for x in later] == [
        [item for item, _ in listed][5:10] for listed in bulk(shop, k=10)
    ]


def test_what_is_asked_wrongly_is_refused() -> None:
    shop = shop_of(drawn_events())
    with pytest.raises(RefusedError, match="no such column"):
        bulk(shop, k=5, filters=["prize:gt:3"])
    with pytest.raises(RefusedError, match="max_per: no such column"):
        bulk(shop, k=5, max_per={"colour": 2})
