"""Vectors that are broken or all the same, and lists that are everybody's or have nothing of before, are refused."""

import numpy as np
import pytest

from recsys.config.settings import GuardSettings
from recsys.data.vocabulary import Vocabulary
from recsys.guards.lists import judge_lists, judge_vectors, movers, sample_users

RANDOM = np.random.default_rng(0)
ALL = np.arange(50)
OWN = np.array([[*RANDOM.permutation(40)[:10]] for _ in range(30)], np.int32)  # each user another list


def outcomes(verdicts) -> dict[str, str]:
    return {verdict.guard: verdict.outcome for verdict in verdicts}


def test_vectors_of_their_own_are_fine():
    vectors = RANDOM.normal(size=(50, 8)).astype(np.float32)
    assert set(outcomes(judge_vectors(vectors, ALL)).values()) == {"ok"}


def test_a_vector_that_is_not_finite_is_refused_whoever_starts_the_run():
    vectors = np.ones((50, 8), np.float32)
    vectors[7, 3] = np.nan
    finite = judge_vectors(vectors, ALL)[0]
    assert (finite.outcome, finite.figure, finite.compares) == ("refuse", 1, False)


def test_vectors_that_have_collapsed_are_refused():
    assert outcomes(judge_vectors(np.ones((50, 8), np.float32), ALL))["distinct vectors"] == "refuse"
    assert "distinct vectors" not in outcomes(judge_vectors(np.ones((50, 1), np.float32), ALL))  # popularity has one


def test_one_item_in_everybodys_list_is_refused_and_the_bound_decides():
    lists = OWN.copy()
    lists[:, 0] = 49
    assert outcomes(judge_lists(lists, None, GuardSettings(), is_popularity=False)) == {"same item": "refuse"}
    assert outcomes(judge_lists(lists, None, GuardSettings(max_same_item=1), is_popularity=False)) == {
        "same item": "ok"
    }
    assert outcomes(judge_lists(OWN, None, GuardSettings(), is_popularity=False)) == {"same item": "ok"}
    assert judge_lists(lists, None, GuardSettings(), is_popularity=True) == []


def test_lists_that_have_nothing_in_common_with_the_live_ones_are_refused():
    other = OWN + 50
    assert outcomes(judge_lists(other, OWN, GuardSettings(), is_popularity=False))["overlap"] == "refuse"
    allowed = GuardSettings(min_overlap=0)
    assert outcomes(judge_lists(other, OWN, allowed, is_popularity=False))["overlap"] == "ok"
    same = judge_lists(OWN, OWN[:, ::-1], GuardSettings(), is_popularity=False)
    assert next(verdict.figure for verdict in same if verdict.guard == "overlap") == 1


def test_movers_are_the_items_whose_share_of_the_lists_changed_most():
    before, now = np.array([[0, 1], [0, 2]], np.int32), np.array([[3, 1], [3, -1]], np.int32)
    found = movers(now, before, 5)
    assert [(mover.row, mover.before, mover.now) for mover in found] == [(0, 1.0, 0.0), (3, 0.0, 1.0), (2, 0.5, 0.0)]


@pytest.mark.parametrize("order", [1, -1])
def test_the_sample_has_the_same_users_whatever_their_rows(order):
    ids = [f"u{number}" for number in range(2000)][::order]
    users = Vocabulary.from_ids(ids)
    has = np.array([int(name[1:]) % 2 for name in ids])
    found = set(users.ids_of(sample_users(users, has)))
    assert len(found) == 500
    again = Vocabulary.from_ids(sorted(ids))
    assert found == set(again.ids_of(sample_users(again, np.array([int(name[1:]) % 2 for name in sorted(ids)]))))
