"""Which purchase a return takes back."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.config.settings import RETURN
from recsys.data.returns import take_back

VIEW, PURCHASE, GIFT = 0, 2, 3


def left_of(*events: tuple[int, int, int, int]) -> tuple[list[tuple[int, int, int, int]], int]:
    """Events as (user, item, kind, time) that are left, and the number of returns without a purchase."""
    owners, items, kinds, times = (np.array(column) for column in zip(*events, strict=True))
    types = (owners.astype(np.int32), items.astype(np.int32), kinds.astype(np.int8), times.astype(np.int64))
    left = take_back(*types, [PURCHASE, GIFT])
    return [event for event, kept in zip(events, left.kept, strict=True) if kept], left.lone


def test_a_return_takes_back_the_latest_earlier_purchase_of_the_same_user_and_item() -> None:
    first, last, later = (1, 5, PURCHASE, 10), (1, 5, PURCHASE, 20), (1, 5, PURCHASE, 40)
    others = [(1, 6, PURCHASE, 25), (2, 5, PURCHASE, 25), (1, 5, VIEW, 25)]
    assert left_of(later, (1, 5, RETURN, 30), *others, last, first) == ([later, *others, first], 0)


def test_a_second_return_takes_the_purchase_before_and_a_third_none() -> None:
    bought = [(1, 5, PURCHASE, 10), (1, 5, GIFT, 20)]
    assert left_of(*bought, (1, 5, RETURN, 30), (1, 5, RETURN, 31)) == ([], 0)
    assert left_of(*bought, (1, 5, RETURN, 30), (1, 5, RETURN, 31), (1, 5, RETURN, 32)) == ([], 1)


def test_a_purchase_at_the_same_time_is_an_earlier_one_and_a_later_one_is_not() -> None:
    assert left_of((1, 5, RETURN, 10), (1, 5, PURCHASE, 10)) == ([], 0)
    assert left_of((1, 5, RETURN, 10), (1, 5, PURCHASE, 11)) == ([(1, 5, PURCHASE, 11)], 1)


def test_items_that_nobody_knows_are_not_one_item() -> None:
    assert left_of((1, -1, PURCHASE, 10), (1, -1, RETURN, 20)) == ([(1, -1, PURCHASE, 10)], 0)
    assert left_of((1, -1, RETURN, 10)) == ([], 0)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from([VIEW, PURCHASE, RETURN]),
                          st.integers(0, 9)), min_size=1))  # fmt: skip
def test_what_is_left_is_what_was_bought_less_what_was_returned(events: list[tuple[int, int, int, int]]) -> None:
    left, lone = left_of(*events)
    counts = [sum(kind == wanted for *_, kind, _ in events) for wanted in (VIEW, PURCHASE, RETURN)]
    assert sum(kind == VIEW for *_, kind, _ in left) == counts[0]
    assert sum(kind == PURCHASE for *_, kind, _ in left) == counts[1] - (counts[2] - lone)
    assert not any(kind == RETURN for *_, kind, _ in left)
