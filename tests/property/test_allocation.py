"""Allocations of random campaigns keep all limits and bring as much as the linear program allows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from recsys.audience import allocation
from recsys.audience.allocation import Limits, allocate, ranked
from recsys.errors import RefusedError


def best_value(values: np.ndarray, limits: list[Limits], per_user: int) -> float | None:
    """The optimum of the whole linear program, written down plainly; None: there is no allocation."""
    users, campaigns = values.shape
    known = ~np.isnan(values)
    rows, right = [], []
    for user in range(users):
        rows.append([(u == user) for u in range(users) for _ in range(campaigns)])
        right.append(per_user)
    for campaign, limit in enumerate(limits):
        row = np.array([(c == campaign) for _ in range(users) for c in range(campaigns)], float)
        rows.append(row)
        right.append(users if limit.most is None else limit.most)
        rows.append(-row)
        right.append(-limit.least)
    bounds = [(0, 1) if is_known else (0, 0) for is_known in known.ravel()]
    found = linprog(-np.nan_to_num(values).ravel(), A_ub=np.array(rows, float), b_ub=right, bounds=bounds)
    return None if found.status else -found.fun


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, list[Limits], int]:
    users, campaigns = draw(st.integers(1, 9)), draw(st.integers(1, 4))
    seed = draw(st.integers(0, 2**20))
    random = np.random.default_rng(seed)
    values = np.round(random.gamma(0.6, 1.0, (users, campaigns)) - 0.2, draw(st.sampled_from([0, 1, 6])))
    values[random.random(values.shape) < draw(st.sampled_from([0.0, 0.3]))] = np.nan
    limits = []
    for _ in range(campaigns):
        least = draw(st.integers(0, 3))
        limits.append(Limits(least, draw(st.none() | st.integers(least, 6))))
    return values, limits, draw(st.integers(1, 3))


@given(problems())
@settings(max_examples=60, deadline=None)
def test_an_allocation_is_the_best_within_its_limits(problem: tuple[np.ndarray, list[Limits], int]) -> None:
    values, limits, per_user = problem
    best = best_value(values, limits, per_user)
    if best is None:
        with pytest.raises(RefusedError, match="smallest size"):
            allocate(values, limits, per_user)
        return
    found = allocate(values, limits, per_user)
    assert not np.isnan(values[found.chosen]).any()
    assert (found.chosen.sum(axis=1) <= per_user).all()
    for count, limit in zip(found.chosen.sum(axis=0), limits, strict=True):
        assert limit.least <= count <= (len(values) if limit.most is None else limit.most)
    assert found.value == pytest.approx(values[found.chosen].sum())
    assert found.value >= best - 1e-6 * max(1, abs(best))
    assert best - 1e-6 <= found.bound <= best + 1e-4 * max(1, abs(best))
    assert found.value <= found.unconstrained + 1e-9 or any(limit.least for limit in limits)


@pytest.mark.parametrize("per_user", [1, 2])
def test_many_users_are_allocated_from_few_pairs(monkeypatch: pytest.MonkeyPatch, per_user: int) -> None:
    monkeypatch.setattr(allocation, "_TOGETHER", 300)
    random = np.random.default_rng(per_user)
    values = random.beta(0.3, 20, (3_000, 6)) * random.uniform(5, 50, 6)
    limits = [Limits(50, 200), Limits(0, 400), Limits(900, None), Limits(0, 100), Limits(10, 10), Limits()]
    found, again = allocate(values, limits, per_user), allocate(values, limits, per_user)
    assert (found.chosen == again.chosen).all()
    assert found.bound * (1 - 1e-5) <= found.value <= found.bound
    assert 0 < found.loss < 1
    users = ranked(found.chosen, values, 0)
    assert (np.diff(values[users, 0]) <= 0).all()
    assert len(users) <= 200


def test_limits_that_cannot_be_met_are_named() -> None:
    values = np.ones((4, 2))
    for limits, per_user, message in (
        ([Limits(5), Limits()], 1, "campaign 1: the smallest size is 5, but it has 4 members"),
        ([Limits(3), Limits(3)], 1, "add up to 6, but all users together may get 4"),
        ([Limits(3, 2), Limits()], 1, "above the largest"),
    ):
        with pytest.raises(RefusedError, match=message):
            allocate(values, limits, per_user)
