from dataclasses import replace

import numpy as np
import pytest
import tiny
from tiny import CART, PURCHASE, VIEW, histories

from recsys.data.ragged import Ragged
from recsys.index import flat
from recsys.models.vectors import Constant, Part
from recsys.serving import recommender
from recsys.serving.eligibility import available_items, bought_rows
from recsys.serving.fresh_items import CatalogView
from recsys.serving.recommender import REASONS, recommend, similar

# Two tastes: items 0-3 have the first, 4-7 the second; item 8 has none, item 9 is disliked by both.
TASTES = np.array([[4 - r, 0] for r in range(4)] + [[0, 4 - r] for r in range(4)] + [[0, 0], [-1, -1]], np.float32)
POPULARITY = np.array([1, 2, 3, 4, 5, 6, 7, 8, 10, 9])
POPULAR = [8, 9, 7, 6, 5, 4, 3, 2, 1, 0]


def shop(**columns):
    return tiny.bundle(TASTES, POPULARITY, **columns)


def ask(bundle, asked, k, *, bought=(PURCHASE,), repeats=False, allowed=None, excluded=None):
    view = CatalogView(bundle)
    if not repeats:
        seen = bought_rows(view, asked, bought)
        excluded = seen if excluded is None else excluded.merge(seen)
    return recommend(view, asked, k, allowed=None if allowed is None else [allowed], excluded=excluded)


def like(bundle, rows, k, *, allowed=None):
    return similar(CatalogView(bundle), np.asarray(rows, np.int32), k, allowed=None if allowed is None else [allowed])


def reasons(hits):
    return [[REASONS[code] if code >= 0 else None for code in row] for row in hits.reasons.tolist()]


def test_a_user_gets_what_fits_the_history_best_first():
    hits = ask(shop(), histories([(3, PURCHASE)], [(7, PURCHASE)]), 3)
    assert hits.rows.tolist() == [[0, 1, 2], [4, 5, 6]]
    np.testing.assert_allclose(hits.scores, [[4, 3, 2]] * 2)
    assert reasons(hits) == [["personal"] * 3] * 2


def test_seen_items_are_left_out_unless_repeats_are_wanted():
    asked = histories([(0, PURCHASE), (1, PURCHASE)])
    assert ask(shop(), asked, 2).rows.tolist() == [[2, 3]]
    assert ask(shop(), asked, 2, repeats=True).rows.tolist() == [[0, 1]]


def test_only_events_of_target_kinds_make_an_item_seen():
    asked = histories([(0, VIEW), (1, CART), (2, PURCHASE)])
    assert ask(shop(), asked, 3).rows.tolist() == [[0, 1, 3]]
    assert ask(shop(), asked, 2, bought=[VIEW, CART]).rows.tolist() == [[2, 3]]


def test_a_filter_holds_for_everybody_and_an_exclusion_for_one():
    asked = histories([(3, VIEW)], [(3, VIEW)])
    allowed = np.ones(10, np.bool_)
    allowed[0] = False
    excluded = Ragged(np.array([0, 0, 2]), np.array([1, 8], np.int32))
    hits = ask(shop(), asked, 10, allowed=allowed, excluded=excluded)
    assert hits.rows[0].tolist() == [1, 2, 3, 4, 5, 6, 7, 9, 8, -1]
    assert hits.rows[1].tolist() == [2, 3, 4, 5, 6, 7, 9, -1, -1, -1]


def test_exclusions_join_the_seen_items_of_the_right_user():
    asked = histories([(0, PURCHASE)], [], [(1, PURCHASE), (2, VIEW)])
    excluded = Ragged(np.array([0, 1, 2, 4]), np.array([1, 8, 0, 3], np.int32))
    hits = ask(shop(), asked, 2, excluded=excluded)
    assert hits.rows.tolist() == [[2, 3], [9, 7], [2, 4]]


def test_an_empty_history_gets_popular_items():
    hits = ask(shop(), histories([], [(3, VIEW)], []), 3)
    assert hits.rows.tolist() == [[8, 9, 7], [0, 1, 2], [8, 9, 7]]
    assert hits.scores[0].tolist() == [10, 9, 8]
    assert reasons(hits) == [["popular"] * 3, ["personal"] * 3, ["popular"] * 3]


def test_a_history_that_says_nothing_gets_popular_items_without_what_it_holds():
    hits = ask(shop(), histories([(8, PURCHASE)]), 3)
    assert hits.rows.tolist() == [[9, 7, 6]]
    assert reasons(hits) == [["popular"] * 3]


def test_items_without_a_vector_never_stand_before_disliked_ones_by_score():
    hits = ask(shop(), histories([(0, VIEW)]), 10)
    # Item 8 scores 0 and item 9 less, but 0 is no opinion: item 8 comes last, as a popular item.
    assert hits.rows.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 9, 8]]
    assert reasons(hits)[0] == ["personal"] * 9 + ["popular"]


def test_short_lists_are_filled_with_popular_items_under_the_same_rules():
    allowed = np.ones(10, np.bool_)
    allowed[[4, 9]] = False
    bundle = tiny.bundle(np.where(np.arange(10)[:, None] < 2, TASTES, 0), POPULARITY)
    excluded = Ragged(np.array([0, 1]), np.array([7], np.int32))
    hits = ask(bundle, histories([(0, VIEW), (6, PURCHASE)]), 5, allowed=allowed, excluded=excluded)
    assert hits.rows.tolist() == [[0, 1, 8, 5, 3]]
    assert hits.scores[0, 2:].tolist() == [10, 6, 4]
    assert reasons(hits)[0] == ["personal"] * 2 + ["popular"] * 3


def test_fewer_come_only_when_fewer_are_eligible():
    allowed = np.zeros(10, np.bool_)
    allowed[[1, 5, 8]] = True
    for asked in (histories([(0, VIEW)]), histories([])):
        hits = ask(shop(), asked, 5, allowed=allowed)
        assert sorted(hits.rows[0, :3].tolist()) == [1, 5, 8]
        assert hits.rows[0, 3:].tolist() == [-1, -1]
        assert np.isneginf(hits.scores[0, 3:]).all()
        assert hits.reasons[0, 3:].tolist() == [-1, -1]
    assert (ask(shop(), histories([]), 5, allowed=np.zeros(10, np.bool_)).rows == -1).all()


def test_popular_ties_come_in_the_order_of_rows():
    bundle = tiny.bundle(TASTES, np.ones(10))
    assert ask(bundle, histories([]), 10).rows.tolist() == [list(range(10))]


def test_nobody_asked_gives_no_answer():
    hits = ask(shop(), histories(), 3)
    assert hits.rows.shape == hits.scores.shape == hits.reasons.shape == (0, 3)


def test_exclusions_for_another_number_of_users_are_refused():
    with pytest.raises(ValueError, match="for 2 users, but 1 came"):
        ask(shop(), histories([]), 3, excluded=Ragged(np.array([0, 0, 0]), np.zeros(0, np.int32)), repeats=True)


def test_a_shop_of_one_item_answers():
    bundle = tiny.bundle([[1.0]])
    assert ask(bundle, histories([], [(0, VIEW)], [(0, PURCHASE)]), 2).rows.tolist() == [[0, -1], [0, -1], [-1, -1]]


def test_many_users_get_what_each_would_get_alone(monkeypatch):
    monkeypatch.setattr(recommender, "_BLOCK_USERS", 7)
    random = np.random.default_rng(1)
    items = random.normal(size=(60, 5)).astype(np.float32)
    items[random.random(60) < 0.3] = 0
    bundle = tiny.bundle(items, random.integers(0, 9, 60))
    lengths = random.integers(0, 70, 40)
    users = [
        list(zip(random.integers(0, 60, n).tolist(), random.integers(0, 3, n).tolist(), strict=True)) for n in lengths
    ]
    allowed = random.random(60) < 0.8
    counts = random.integers(0, 9, 40)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    rows = random.integers(0, 60, counts.sum()).astype(np.int32)
    together = ask(bundle, histories(*users), 30, allowed=allowed, excluded=Ragged(offsets, rows))
    for b, user in enumerate(users):
        own = Ragged.of_one(rows[offsets[b] : offsets[b + 1]])
        alone = ask(bundle, histories(user), 30, allowed=allowed, excluded=own)
        np.testing.assert_array_equal(alone.rows[0], together.rows[b])
        np.testing.assert_array_equal(alone.reasons[0], together.reasons[b])
        np.testing.assert_allclose(alone.scores[0], together.scores[b], rtol=1e-6)
        seen = {item for item, kind in user if kind == PURCHASE}
        eligible = set(np.flatnonzero(allowed).tolist()) - seen - set(own.values.tolist())
        listed = [row for row in together.rows[b].tolist() if row >= 0]
        assert len(listed) == len(set(listed)) == min(30, len(eligible))
        assert set(listed) <= eligible


def test_similar_items_share_a_direction_however_long_their_vectors_are():
    items = np.array([[1, 0.1], [9, 9], [0.01, 0], [0, 5], [0, 0]])
    hits = like(tiny.bundle(items), [0, 3], 3)
    assert hits.rows.tolist() == [[2, 1, 3], [1, 0, 2]]
    np.testing.assert_allclose(hits.scores[0], [0.995037, 0.773957, 0.099504], rtol=1e-5)
    assert reasons(hits) == [["similar"] * 3] * 2


def test_an_item_is_never_similar_to_itself_and_a_filter_holds():
    allowed = np.ones(10, np.bool_)
    allowed[1] = False
    hits = like(shop(), np.arange(10), 10, allowed=allowed)
    for row, found in enumerate(hits.rows.tolist()):
        assert row not in found
        assert 1 not in found
        assert sorted(found)[10 - (8 if row != 1 else 9) :] == sorted(set(range(10)) - {row, 1})


def test_what_has_no_vector_is_similar_to_popular_items():
    hits = like(shop(), [8], 3)
    assert hits.rows.tolist() == [[9, 7, 6]]
    assert reasons(hits) == [["popular"] * 3]


def test_items_without_a_vector_are_similar_to_nothing():
    hits = like(shop(), [0], 9)
    assert hits.rows[0, -1] == 8
    assert reasons(hits)[0] == ["similar"] * 8 + ["popular"]


def test_sold_out_is_what_the_catalog_says_is_not_available():
    assert available_items(tiny.catalog(3, available=[True, None, False])).tolist() == [True, True, False]
    assert available_items(tiny.catalog(2)).tolist() == [True, True]
    assert available_items(tiny.catalog(2, available=[None, None])).tolist() == [True, True]


def with_demand():
    """The same tastes beside one more part that is the same for everybody, in which item 9 has most."""
    demand = np.zeros((10, 1), np.float32)
    demand[9] = 0.5
    plain = tiny.vectors(TASTES)
    parts = (*plain.parts, Part(np.zeros((10, 1), np.float32), Constant()))
    blend = replace(plain, item_vectors=np.concatenate([TASTES, demand], axis=1), parts=parts)
    return replace(
        shop(), vectors=blend, index=flat.build(blend.item_vectors), with_vector=blend.item_vectors.any(axis=1)
    )


def test_a_part_that_is_the_same_for_everybody_makes_no_empty_history_personal():
    hits = ask(with_demand(), histories([], [(0, PURCHASE)]), 3)
    assert reasons(hits)[0] == ["popular"] * 3
    assert reasons(hits)[1] == ["personal"] * 3


def test_similar_items_share_a_taste_and_not_a_demand():
    found, plain = like(with_demand(), [0, 4, 9], 9), like(shop(), [0, 4, 9], 9)
    np.testing.assert_array_equal(found.rows, plain.rows)
    np.testing.assert_allclose(found.scores, plain.scores, atol=1e-6)
