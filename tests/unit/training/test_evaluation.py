import math
from dataclasses import replace

import numpy as np
import pytest
import tiny
from tiny import CART, PURCHASE, VIEW, events

from recsys.config.settings import Config
from recsys.data.splits import Splits
from recsys.data.targets import Targets, targets_from_ids, targets_of
from recsys.data.vocabulary import Vocabulary
from recsys.training import evaluation
from recsys.training.evaluation import ValidationScore, evaluate, evaluate_targets
from recsys.training.metrics import head_items, ndcg_per_user, ranking_metrics

CUT = 100.0  # day


def configured(*, repeats=False, max_users=100, history_length=500, seed=0):
    return Config.model_validate(
        {
            "recommendations": {"allow_repurchase": repeats},
            "evaluation": {"max_users": max_users},
            "events": {"history_length": history_length},
            "training": {"seed": seed},
        }
    )


def targets(*users):
    counts = [len(items) for items in users]
    return Targets(
        np.arange(len(users), dtype=np.int32),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.array([item for items in users for item in items], np.int32),
    )


def lists(*users):
    rows = np.full((len(users), 20), -1, np.int32)
    for b, items in enumerate(users):
        rows[b, : len(items)] = items
    return rows


def split(rows, *, users, items, validation=CUT - 20):
    """Splits of (user, item, kind, day) with the holdout from day 100 on."""
    found = events(rows, users=users, items=items)
    start, cut = round(validation * tiny.DAY), round(CUT * tiny.DAY)
    return Splits(
        fit=found.before(start),
        validation=found.between(start, cut),
        holdout=found.between(cut, 2**62),
        validation_start=start,
        holdout_start=cut,
    )


def by_user(found):
    return {
        int(user): found.items[found.offsets[b] : found.offsets[b + 1]].tolist() for b, user in enumerate(found.users)
    }


def test_metrics_are_those_worked_out_by_hand():
    # User 0 finds one of two targets at place 3; user 1 its only one at place 1; user 2 none of three.
    figures = ranking_metrics(
        lists([9, 8, 1, 7], [4, 1, 2], [5]),
        targets([1, 3], [4], [1, 2, 3]),
        item_counts=np.array([8] + [1] * 9),
    )
    gain = [1 / math.log2(place + 1) for place in (1, 2, 3)]
    ndcg = (gain[2] / (gain[0] + gain[1]) + 1.0 + 0.0) / 3
    for cut in (5, 10, 20):
        assert figures[f"ndcg@{cut}"] == pytest.approx(ndcg)
        assert figures[f"recall@{cut}"] == pytest.approx((1 / 2 + 1 + 0) / 3)
        assert figures[f"mrr@{cut}"] == pytest.approx((1 / 3 + 1 + 0) / 3)
        assert figures[f"hit_rate@{cut}"] == pytest.approx(2 / 3)
    assert figures["users"] == 3
    assert figures["coverage@20"] == pytest.approx(7 / 10)
    # Item 0 and item 1 are the head: 8 of 17 is less than half.
    assert figures["long_tail@20"] == pytest.approx(6 / 8)


def test_a_hit_beyond_the_cut_does_not_count():
    rows = lists([*range(100, 107), 1])
    figures = ranking_metrics(rows, targets([1]), item_counts=np.ones(200, np.int64))
    assert [figures[f"recall@{cut}"] for cut in (5, 10, 20)] == [0, 1, 1]
    assert [figures[f"mrr@{cut}"] for cut in (5, 10, 20)] == [0, 1 / 8, 1 / 8]
    assert figures["ndcg@10"] == pytest.approx(1 / math.log2(9))


def test_ndcg_is_measured_against_as_many_targets_as_fit_the_list():
    # A perfect list is 1 with more targets than places, and stays below with a hole in it.
    many = targets(range(30))
    assert ndcg_per_user(lists(range(20)), many) == pytest.approx(1)
    assert ranking_metrics(lists(range(20)), many, item_counts=np.ones(30))["ndcg@5"] == pytest.approx(1)
    assert ranking_metrics(lists(range(20)), many, item_counts=np.ones(30))["recall@5"] == pytest.approx(5 / 30)
    gains = [1 / math.log2(place + 1) for place in range(1, 21)]
    assert ndcg_per_user(lists([0]), many) == pytest.approx(gains[0] / sum(gains))
    # Finding 1 of 3 at the first place is not perfect, as it would be if measured against the hits.
    assert ndcg_per_user(lists([0]), targets([0, 1, 2])) == pytest.approx(gains[0] / sum(gains[:3]))


def test_pads_hit_nothing():
    assert ranking_metrics(lists([]), targets([0]), item_counts=np.ones(3))["recall@20"] == 0


def test_nobody_to_judge_gives_zeros_that_json_can_hold():
    figures = ranking_metrics(lists(), targets(), item_counts=np.ones(3))
    assert set(figures.values()) == {0}


def test_lists_for_other_users_are_refused():
    with pytest.raises(ValueError, match=r"2 users have targets"):
        ranking_metrics(lists([1]), targets([1], [2]), item_counts=np.ones(3))


def test_the_head_is_the_fewest_items_with_half_of_the_events():
    assert head_items(np.array([1, 5, 2, 2])).tolist() == [False, True, False, False]
    assert head_items(np.array([3, 3, 3])).tolist() == [True, True, False]
    assert head_items(np.array([0, 0])).tolist() == [False, False]


def test_targets_are_distinct_items_of_target_kinds_of_known_users_and_items():
    known = events([(0, 0, VIEW, 1), (0, 1, PURCHASE, 1), (1, 2, PURCHASE, 2), (1, 3, VIEW, 2)], users=3, items=5)
    holdout = events(
        [
            (0, 0, PURCHASE, 101),
            (0, 0, PURCHASE, 102),
            (0, 1, PURCHASE, 103),
            (0, 4, PURCHASE, 103),  # unknown item
            (1, 3, VIEW, 101),  # no target kind
            (1, 3, PURCHASE, 101),
            (1, 0, PURCHASE, 101),
            (2, 0, PURCHASE, 101),  # unknown user
        ],
        users=3,
        items=5,
    )
    assert by_user(targets_of(holdout, known, target_codes=[PURCHASE], bought_codes=[])) == {0: [0, 1], 1: [0, 3]}
    assert by_user(targets_of(holdout, known, target_codes=[PURCHASE], bought_codes=[PURCHASE])) == {0: [0], 1: [0, 3]}
    assert by_user(targets_of(holdout, known, target_codes=[VIEW], bought_codes=[VIEW])) == {}


def test_a_sample_is_drawn_by_the_seed_and_keeps_each_users_targets():
    many = targets(*([user, user + 1] for user in range(50)))
    some = many.sample(10, seed=3)
    assert len(some) == 10
    assert by_user(some) == {user: [user, user + 1] for user in some.users}
    np.testing.assert_array_equal(some.users, many.sample(10, seed=3).users)
    assert some.users.tolist() != many.sample(10, seed=4).users.tolist()
    assert many.sample(50, seed=3) is many


# Item r's vector is the r-th axis, its history vector points at item (r + 1) % 6: who bought r will buy r + 1.
NEXT = tiny.bundle(np.eye(6), np.array([6, 5, 4, 3, 2, 1]), np.roll(np.eye(6), 1, axis=1))


def test_judging_ranks_with_histories_up_to_the_holdout():
    rows = [
        (0, 0, PURCHASE, 50),
        (1, 1, PURCHASE, 50),
        (1, 2, VIEW, 60),
        *((2, item, VIEW, 10) for item in range(6)),
        (0, 1, PURCHASE, 110),
        (1, 2, PURCHASE, 120),
    ]
    judged = evaluate(NEXT, split(rows, users=3, items=6), configured())
    # User 0 bought 0, so 1 comes first. User 1 gets 3, for the view is newer, and then 2.
    assert judged.rows["all"]["users"] == 2
    np.testing.assert_allclose(judged.ndcg_per_user, [1, 1 / math.log2(3)], rtol=1e-6)
    assert judged.rows["all"]["ndcg@20"] == pytest.approx((1 + 1 / math.log2(3)) / 2)
    assert judged.rows["all"]["mrr@5"] == pytest.approx(3 / 4)


def test_what_was_bought_before_is_neither_listed_nor_a_target_without_repeats():
    rows = [(0, 1, PURCHASE, 50), (0, 0, PURCHASE, 50), (0, 2, VIEW, 50), (0, 1, PURCHASE, 110), (0, 2, PURCHASE, 110)]
    splits = split(rows, users=1, items=6)
    without = evaluate(NEXT, splits, configured(repeats=False))
    # 1, 2 and 3 tie for the first place; 1 is seen, so 2 is first and the only target.
    np.testing.assert_allclose(without.ndcg_per_user, [1])
    assert without.rows["all"]["coverage@20"] == pytest.approx(4 / 6)
    assert evaluate(NEXT, splits, configured(repeats=True)).rows["all"]["coverage@20"] == 1


def test_what_counts_as_bought_may_differ_from_what_has_to_be_foreseen():
    rows = [(0, 1, PURCHASE, 50), (0, 0, PURCHASE, 50), (0, 2, CART, 50), (0, 1, PURCHASE, 110), (0, 2, PURCHASE, 110)]
    splits, config = split(rows, users=1, items=6), configured()
    by_cart = config.model_copy(update={"events": config.events.model_copy(update={"bought": ("cart",)})})
    # With a cart as a purchase, 2 is seen and 1 is the only target; else it is the other way round.
    found = evaluate(NEXT, splits, by_cart)
    assert found.rows["all"]["coverage@20"] == pytest.approx(5 / 6)
    np.testing.assert_allclose(found.ndcg_per_user, [1])
    assert evaluate(NEXT, splits, config).rows["all"]["coverage@20"] == pytest.approx(4 / 6)


def test_the_history_has_the_configured_length():
    # The older event points at 4, the newer at 1; both are wanted.
    rows = [(0, 3, VIEW, 40), (0, 0, VIEW, 50), (0, 1, PURCHASE, 110), (0, 4, PURCHASE, 110)]
    rows += [(1, item, VIEW, 3) for item in range(6)]
    splits = split(rows, users=2, items=6)
    assert evaluate(NEXT, splits, configured(history_length=2)).ndcg_per_user == pytest.approx(1)
    assert evaluate(NEXT, splits, configured(history_length=1)).ndcg_per_user < 0.99


def test_new_users_are_judged_by_what_follows_their_first_basket():
    rows = [
        *((0, item, PURCHASE, 10) for item in range(6)),
        (1, 0, PURCHASE, 101.0),  # the basket: 24 hours from the first event
        (1, 3, VIEW, 101.9),
        (1, 4, PURCHASE, 102.0),
        (1, 0, PURCHASE, 103.0),  # a repeat
        (2, 2, PURCHASE, 101.0),  # never comes back: no target
    ]
    splits = split(rows, users=3, items=6)
    found = evaluate(NEXT, splits, configured()).rows["new_users"]
    assert found["users"] == 1
    assert found["recall@20"] == 1
    assert found["mrr@5"] == 1
    again = evaluate(NEXT, splits, configured(repeats=True)).rows["new_users"]
    assert again["users"] == 1
    assert again["ndcg@5"] == pytest.approx((1 + 1 / math.log2(4)) / (1 + 1 / math.log2(3)))


def test_ages_in_the_first_basket_count_from_its_last_event():
    # With a half-life of .3 days the newest event weighs 1, whenever the basket was; the older one .1.
    part = replace(NEXT.vectors.parts[0], encoder=replace(NEXT.vectors.parts[0].encoder, half_life_days=0.3))
    quick = replace(NEXT, vectors=replace(NEXT.vectors, parts=(part,)))
    rows = [
        *((0, item, PURCHASE, 10) for item in range(6)),
        (1, 0, VIEW, 150.0),
        (1, 3, VIEW, 150.9),
        (1, 4, PURCHASE, 190.0),
    ]
    assert evaluate(quick, split(rows, users=2, items=6), configured()).rows["new_users"]["mrr@20"] == 1


def test_cold_items_are_judged_apart_by_recall():
    rows = [
        (0, 0, PURCHASE, 50),
        (0, 2, VIEW, 50),
        (0, 1, PURCHASE, 110),  # no event before the cut
        (0, 2, PURCHASE, 110),
        (0, 4, PURCHASE, 110),  # neither
        (1, 5, PURCHASE, 110),  # of a new user
    ]
    judged = evaluate(NEXT, split(rows, users=2, items=6), configured())
    assert judged.rows["cold_items"] == {"users": 1, "recall@5": 1, "recall@10": 1, "recall@20": 1}
    assert judged.rows["all"]["recall@20"] == 1
    assert len(judged.ndcg_per_user) == 1


def test_a_cold_item_that_no_list_holds_is_missed():
    item_vectors = np.eye(30)
    item_vectors[29] = 0  # no vector, and the least popular
    bundle = tiny.bundle(item_vectors, None, np.roll(np.eye(30), 1, axis=1))
    rows = [(0, 0, PURCHASE, 50), (0, 1, PURCHASE, 110), (0, 29, PURCHASE, 110)]
    judged = evaluate(bundle, split(rows, users=1, items=30), configured())
    assert judged.rows["cold_items"] == {"users": 1, "recall@5": 0.5, "recall@10": 0.5, "recall@20": 0.5}


def test_at_most_so_many_users_are_judged_and_every_bundle_gets_the_same():
    rows = [(user, user % 6, PURCHASE, 50) for user in range(150)]
    rows += [(user, (user + 1) % 6, PURCHASE, 110) for user in range(150)]
    splits = split(rows, users=150, items=6)
    judged = evaluate(NEXT, splits, configured(max_users=100, seed=1))
    assert judged.rows["all"]["users"] == len(judged.ndcg_per_user) == 100
    assert evaluate(NEXT, splits, configured(max_users=1000)).rows["all"]["users"] == 150
    other = tiny.bundle(np.eye(6))
    differs = evaluate(other, splits, configured(max_users=100, seed=1)).ndcg_per_user
    again = evaluate(other, splits, configured(max_users=100, seed=1)).ndcg_per_user
    np.testing.assert_array_equal(differs, again)


def test_a_bundle_of_other_items_is_refused():
    with pytest.raises(ValueError, match="the bundle has 6 items, the events have 7"):
        evaluate(NEXT, split([(0, 0, PURCHASE, 1)], users=1, items=7), configured())


def test_the_validation_score_prefers_vectors_that_foresee_validation_and_never_sees_the_holdout():
    rows = [(user, user % 6, PURCHASE, 50) for user in range(30)]
    rows += [(user, (user + 1) % 6, PURCHASE, 90) for user in range(30)]
    splits = split(rows, users=30, items=6)
    score = ValidationScore(NEXT.catalog, splits, configured())
    assert score(NEXT.vectors) == pytest.approx(1)
    worse = tiny.vectors(np.eye(6), np.roll(np.eye(6), 2, axis=1))
    assert score(worse) < 0.7
    with_holdout = split([*rows, *((user, (user + 2) % 6, PURCHASE, 110) for user in range(30))], users=30, items=6)
    assert ValidationScore(NEXT.catalog, with_holdout, configured())(NEXT.vectors) == pytest.approx(1)


@pytest.mark.parametrize(
    ("items", "max_users", "asked"),
    [(50, 1000, [50, 200]), (78, 1000, [50, 130]), (900, 1000, [50, 50]), (50, 100, [50, 100])],
)
def test_more_users_choose_weights_than_settings_where_items_are_not_too_many(items, max_users, asked, monkeypatch):
    monkeypatch.setattr(evaluation, "_VALIDATION_USERS", 50)
    monkeypatch.setattr(evaluation, "_WEIGHING_USERS", 200)
    monkeypatch.setattr(evaluation, "_WEIGHING_SCORES", 78 * 130)
    rank, seen = evaluation.rank, []
    monkeypatch.setattr(evaluation, "rank", lambda bundle, of, config: seen.append(len(of)) or rank(bundle, of, config))
    rows = [(user, (user + step) % 6, PURCHASE, (50, 90)[step]) for step in range(2) for user in range(300)]
    catalog = tiny.catalog(items)
    score = ValidationScore(catalog, split(rows, users=300, items=items), configured(max_users=max_users))
    vectors = tiny.vectors(np.eye(items), np.roll(np.eye(items), 1, axis=1))
    score(vectors)
    assert len(score.per_user(vectors)) == asked[1]
    assert seen == asked


def test_the_validation_score_of_nobody_is_zero():
    splits = split([(0, 0, VIEW, 1)], users=1, items=6)
    assert ValidationScore(NEXT.catalog, splits, configured())(NEXT.vectors) == 0


def test_targets_of_a_file_keep_unknown_users_and_items():
    found = targets_from_ids(
        ["b", "a", "x", "b", "b", "y", "b"],
        ["i1", "i0", "i1", "i1", "new", "i0", "newer"],
        users=Vocabulary.from_ids(["a", "b"]),
        items=Vocabulary.from_ids(["i0", "i1"]),
    )
    assert found.users.tolist() == [-1, -1, 0, 1]
    assert found.offsets.tolist() == [0, 1, 2, 3, 6]
    assert found.items.tolist() == [1, 0, 0, 1, 2, 3]
    assert len(targets_from_ids([], [], users=Vocabulary.from_ids([]), items=Vocabulary.from_ids([]))) == 0


def test_targets_of_a_file_are_judged_with_all_of_them_in_the_denominator():
    known = events([(0, 0, PURCHASE, 1), (1, 3, CART, 1), (1, 4, VIEW, 2)], users=2, items=6)
    given = Targets(np.array([-1, 0], np.int32), np.array([0, 1, 4]), np.array([0, 0, 1, 6], np.int32))
    figures = {}
    for repeats in (True, False):
        figures[repeats] = evaluate_targets(
            NEXT, known, given, configured(), as_of=round(CUT * tiny.DAY), repeats=repeats
        )
        assert figures[repeats]["users"] == 2
    # The unknown user gets the most popular item 0 first. User 0 has three targets, one in no catalog.
    assert figures[True]["recall@20"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures[False]["recall@20"] == pytest.approx((1 + 1 / 3) / 2)
    assert figures[True]["mrr@20"] == 1
