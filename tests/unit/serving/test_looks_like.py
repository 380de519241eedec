"""What looks alike: the nearest pictures, and similar items where there is no picture."""

from dataclasses import replace

import numpy as np
import pytest
from box_shop import Shop, bundle_of, changed_item, drawn_events, ids, reasons, shop_of

from recsys.config.settings import Config
from recsys.content.looks import shorten

EVENTS = drawn_events()
KEEP = Config.model_validate({"recommendations": {"allow_repurchase": True, "exclude_sold_out": False}})


@pytest.fixture(scope="module")
def shop() -> Shop:
    return shop_of(EVENTS, config=KEEP, changed=[changed_item("new1", 90.0)])


def of_box(found):
    return [item for item, reason in zip(ids(found), reasons(found), strict=True) if reason == "looks_like"]


def test_the_nearest_pictures_come_first(shop: Shop) -> None:
    looks = shop.snapshot.bundle.looks
    cosines = looks @ looks[1]
    nearest = [f"i{row}" for row in np.argsort(-cosines, kind="stable") if row != 1 and cosines[row] > 0]
    assert of_box(shop.ask("looks_like", items=["i1"], k=10)) == nearest[:10]
    assert of_box(shop.ask("looks_like", items=["i1"], k=60)) == nearest
    assert of_box(shop.ask("looks_like", items=["i1"], exclude=nearest[:1], k=1)) == nearest[1:2]


def test_an_item_without_a_picture_gets_similar_ones(shop: Shop) -> None:
    for item in ("i9", "new1"):  # one whose row is zeros, one that came after the training
        found = shop.ask("looks_like", items=[item], k=5)
        assert len(found.hits) == 5
        assert of_box(found) == []
    without = shop_of(EVENTS, bundle=replace(bundle_of(EVENTS), looks=None), config=KEEP)
    assert of_box(without.ask("looks_like", items=["i1"], k=5)) == []


def test_shortened_pictures_keep_who_is_near() -> None:
    draw = np.random.default_rng(0)
    centers = draw.normal(size=(10, 300))
    vectors = (centers[np.arange(400) % 10] + 0.3 * draw.normal(size=(400, 300)) + 5).astype(np.float32)
    vectors[7] = 0
    short = shorten(vectors)
    assert short.shape == (400, 128)
    assert not short[7].any()
    alike = short @ short.T
    np.fill_diagonal(alike, -1)
    right = (alike.argmax(axis=1) % 10 == np.arange(400) % 10)[np.arange(400) != 7]
    assert right.mean() > 0.99
    assert shorten(np.zeros((3, 0), np.float32)).shape == (3, 0)
