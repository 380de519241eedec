"""What looks alike: the nearest pictures, and similar items where there is no picture."""

from dataclasses import replace

import numpy as np
from box_shop import shop

from recsys.content.looks import shorten


def of_box(answer):
    return [hit["item_id"] for hit in answer.hits if hit["reason"] == "looks_like"]


def test_the_nearest_pictures_come_first():
    found = shop()
    looks = found.snapshot.bundle.looks
    listed = of_box(found.ask("looks_like", items=["i1"], k=10))
    scores = [float(looks[int(item[1:])] @ looks[1]) for item in listed]
    assert len(listed) > 5
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0
    others = [row for row in range(len(looks)) if row % 7 != 3 and row != 1 and f"i{row}" not in listed]
    assert max(float(looks[row] @ looks[1]) for row in others) <= scores[-1] + 1e-6 or len(listed) < 10


def test_an_item_without_a_picture_gets_similar_ones():
    found = shop()
    assert of_box(found.ask("looks_like", items=["i9"], k=5)) == []  # its row is zeros
    assert {hit["reason"] for hit in found.ask("looks_like", items=["i9"], k=5).hits} <= {"similar", "popular"}
    assert of_box(found.ask("looks_like", items=["new1"], k=5)) == []
    view = found.snapshot.view
    found.snapshot = replace(found.snapshot, view=replace(view, main=replace(view.main, looks=None)))
    assert of_box(found.ask("looks_like", items=["i1"], k=5)) == []


def test_shortened_pictures_keep_who_is_near():
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
