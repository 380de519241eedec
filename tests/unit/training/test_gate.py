"""The gate publishes what is better than popularity and no worse than the live bundle, and says why not otherwise."""

import numpy as np
import pytest

from recsys.config.settings import GateSettings
from recsys.data.interactions import Histories
from recsys.data.vocabulary import Vocabulary
from recsys.models.vectors import Part, Vectors, WeightedSum
from recsys.training.gate import align, decide

SETTINGS = GateSettings(max_relative_drop=0.05)
GOOD = np.linspace(0.2, 0.4, 200, dtype=np.float32)


def verdict(candidate, popularity=None, live=None, settings=SETTINGS):
    beside = None if live is None else (candidate, live)
    return decide(candidate, popularity, beside, settings=settings, seed=0)


def test_a_better_candidate_is_published():
    assert verdict(GOOD, GOOD * 0.5, GOOD * 0.99).publish


@pytest.mark.parametrize("share", [1.0, 1.2])
def test_a_candidate_that_does_not_beat_popularity_is_refused(share):
    refused = verdict(GOOD, GOOD * np.float32(share))
    assert not refused.publish
    assert "popularity" in refused.reasons[0]
    assert "200 users" in refused.reasons[0]


def test_a_clear_loss_to_the_live_bundle_is_refused():
    refused = verdict(GOOD, GOOD * 0.1, GOOD * np.float32(1.1))
    assert not refused.publish
    assert "live bundle" in refused.reasons[0]


def test_a_loss_within_the_tolerance_is_published():
    assert verdict(GOOD, GOOD * 0.1, GOOD * np.float32(1.04)).publish


def test_a_loss_that_may_be_chance_is_published():
    random = np.random.default_rng(3)
    live = GOOD[:20] * np.float32(1.07) + random.normal(0, 0.3, 20).astype(np.float32)
    live += GOOD[:20].mean() * np.float32(1.07) - live.mean()  # 7 % better on average, but all over the place
    assert verdict(GOOD[:20], None, live).publish


def test_max_drop_decides():
    live = GOOD * np.float32(1.1)
    assert verdict(GOOD, None, live, settings=GateSettings(max_relative_drop=0.2)).publish
    assert not verdict(GOOD, None, live, settings=GateSettings(max_relative_drop=0.01)).publish


def test_a_lead_over_popularity_that_may_be_chance_is_published_with_a_warning():
    few = GOOD[::20]
    noise = np.array([0.3, -0.3] * 5, np.float32)
    found = verdict(few + noise + np.float32(0.01), few)
    assert found.publish
    assert "on 10 users" in found.warnings[0]
    assert found.metrics["above_popularity"][0] < 0 < found.metrics["above_popularity"][1]
    assert verdict(GOOD, GOOD * np.float32(0.5)).warnings == ()
    assert verdict(few + noise - np.float32(0.01), few).reasons


def test_nobody_to_judge_is_refused_and_for_that_reason_alone():
    nobody = np.zeros(0, np.float32)
    assert len(verdict(nobody, nobody, nobody).reasons) == 1
    assert "no user of the holdout" in verdict(nobody, nobody, nobody).reasons[0]


def test_where_live_and_candidate_have_seen_all_of_the_holdout_they_are_not_compared():
    nothing = np.zeros(0, np.float32)
    found = decide(GOOD, GOOD * 0.5, (nothing, nothing), settings=SETTINGS, seed=0)
    assert found.publish
    assert found.metrics["live_users"] == 0


def test_align_moves_rows_by_id_and_leaves_unknown_items_at_zero():
    old, new = Vocabulary.from_ids(["a", "b", "c"]), Vocabulary.from_ids(["c", "x", "a"])
    table = np.array([[1, 1], [2, 2], [3, 3]], np.float32)
    encoder = WeightedSum((1.0,), 90.0)
    moved = align(Vectors("mf", table, (Part(table * 10, encoder),), None, {}), old, new)
    np.testing.assert_array_equal(moved.item_vectors, [[3, 3], [0, 0], [1, 1]])
    np.testing.assert_array_equal(moved.parts[0].history_vectors, [[30, 30], [0, 0], [10, 10]])
    assert moved.parts[0].encoder is encoder


def test_align_leaves_out_events_of_kinds_that_the_vectors_do_not_know():
    ids = Vocabulary.from_ids(["a", "b"])
    table = np.eye(2, dtype=np.float32)
    encoder = WeightedSum((1.0, 0.5), 90.0)
    moved = align(Vectors("mf", table, (Part(table, encoder),), None, {}), ids, ids, np.array([1, -1, 0], np.int8))
    items, ages = np.array([0, 1, 1], np.int32), np.zeros(3, np.float32)
    tonight = Histories(np.array([0, 2, 3]), items, np.array([0, 1, 2], np.int8), ages)
    theirs = Histories(np.array([0, 1, 2]), items[[0, 2]], np.array([1, 0], np.int8), ages[:2])
    np.testing.assert_array_equal(moved.encode(tonight), encoder.encode(table, theirs))
