import numpy as np
import pytest

from recsys.audience.eligible import exclude
from recsys.audience.model import Scores
from recsys.audience.strategies import REASONS, STRATEGIES, find_reasons, rank
from recsys.audience.suppression import find_users
from recsys.data.vocabulary import Vocabulary


def scores(**columns):
    """Of as many users as the first column has; what is not given is 0."""
    count = len(next(iter(columns.values())))
    given = {name: np.array(values) for name, values in columns.items()}
    nothing = {name: np.zeros(count) for name in Scores.__dataclass_fields__} | {"best": np.zeros((count, 0), np.int32)}
    return Scores(**nothing | given)


def ranked(found, ids, size=10, strategy="affinity", seed=0):
    users = Vocabulary.from_ids(ids)
    return rank(found, users, np.arange(len(ids)), size, STRATEGIES[strategy], seed)


def ids_of(members):
    return [member.user_id for member in members]


def test_members_come_by_probability_with_ranks_from_one():
    members = ranked(scores(probability=[0.1, 0.9, 0.5]), ["a", "b", "c"], size=2)
    assert [(m.rank, m.user_id, m.probability) for m in members] == [(1, "b", 0.9), (2, "c", 0.5)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_ties_go_by_user_id_wherever_the_list_ends_and_in_whatever_order_the_rows_are(size):
    found = scores(probability=[0.5, 0.5, 0.9, 0.5, 0.1])
    members = ranked(found, ["z", "é", "m", "a", "b"], size)
    assert ids_of(members) == ["m", "a", "z", "é", "b"][:size]


def test_rows_are_the_users_whom_the_scores_are_of():
    users = Vocabulary.from_ids(["a", "b", "c", "d"])
    members = rank(scores(probability=[0.2, 0.3]), users, np.array([1, 3]), 5, STRATEGIES["affinity"], 0)
    assert ids_of(members) == ["d", "b"]


def test_nobody_to_rank_is_an_empty_audience():
    users = Vocabulary.from_ids(["a"])
    assert rank(scores(probability=[]), users, np.array([], np.int64), 5, STRATEGIES["affinity"], 0) == []


def test_past_buyers_come_by_days_then_by_how_recent_then_by_how_active():
    found = scores(
        bought_days=[1.0, 2.0, 1.0, 0.0, 0.0],
        days_since_bought=[30.0, 90.0, 10.0, 3650.0, 3650.0],
        purchases=[9.0, 2.0, 1.0, 3.0, 7.0],
    )
    assert ids_of(ranked(found, list("abcde"), strategy="past_buyers")) == ["b", "c", "a", "e", "d"]


@pytest.mark.parametrize(
    ("strategy", "column"), [("most_active", "purchases"), ("recency_frequency", "at_all"), ("affinity", "probability")]
)
def test_the_plain_strategies_go_by_one_column(strategy, column):
    found = scores(**{name: [5.0, 5.0, 5.0] for name in ("purchases", "at_all", "probability") if name != column})
    found = Scores(**{**vars(found), column: np.array([1.0, 3.0, 2.0])})
    assert ids_of(ranked(found, list("abc"), strategy=strategy)) == ["b", "c", "a"]


def test_a_random_audience_is_the_same_for_the_same_seed_alone():
    found, ids = scores(probability=np.linspace(0, 1, 50)), [f"u{n:02}" for n in range(50)]
    first, second, other = (ids_of(ranked(found, ids, 20, "random", seed)) for seed in (1, 1, 2))
    assert first == second != other
    assert len(set(first)) == 20


def test_every_strategy_tells_the_calibrated_probability():
    found = scores(probability=[0.25, 0.5], purchases=[3.0, 1.0])
    for strategy in STRATEGIES:
        assert {m.user_id: m.probability for m in ranked(found, ["a", "b"], strategy=strategy)} == {"a": 0.25, "b": 0.5}


def test_a_score_is_told_by_strategies_that_measure_one_alone():
    found = scores(probability=[0.1, 0.2, 0.3], measured=[1.5, 7.0, 7.0], best=np.array([[4, 2], [1, 0], [3, 5]]))
    members = ranked(found, list("abc"), strategy="high_value")
    assert [(m.user_id, m.score, m.best) for m in members] == [
        ("c", 7.0, (3, 5)),
        ("b", 7.0, (1, 0)),
        ("a", 1.5, (4, 2)),
    ]
    assert all(np.isnan(m.score) for m in ranked(found, list("abc")))


def test_rfm_adds_up_grades_of_recency_frequency_and_spend():
    found = scores(
        days_since_purchase=[10.0, 20.0, 30.0, 40.0, 50.0],
        purchase_days=[1.0, 2.0, 3.0, 9.0, 5.0],
        measured=[10.0, 99.0, 30.0, 98.0, 1.0],
    )
    # grades: 5+1+2, 4+2+5, 3+3+3, 2+5+4, 1+4+1; of equal sums the larger spend comes first
    assert ids_of(ranked(found, list("abcde"), strategy="rfm")) == ["b", "d", "c", "a", "e"]


def test_the_strongest_fact_is_the_reason():
    found = scores(bought_days=[1.0, 0.0, 0.0, 0.0], looks=[1.0, 0.1, 0.0, 0.0], affinity=[3.0, 3.0, 1.5, 0.9])
    assert [REASONS[reason] for reason in find_reasons(found)] == ["bought", "looked", "taste", "active"]
    assert [m.reason for m in ranked(found, list("abcd"))] == ["bought", "looked", "taste", "active"]


def test_who_is_left_out_counts_for_the_first_reason_only():
    left_out: dict[str, int] = {}
    eligible = exclude(np.ones(4, bool), left_out, "deleted", np.array([True, False, False, False]))
    eligible = exclude(eligible, left_out, "suppressed", np.array([True, True, False, False]))
    assert eligible.tolist() == [False, False, True, True]
    assert left_out == {"deleted": 1, "suppressed": 1}


def test_ids_that_are_no_users_are_ignored():
    assert find_users(Vocabulary.from_ids(["a", "b"]), ["b", "x", "b", "x", "y"]).tolist() == [False, True]
