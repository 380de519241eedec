import numpy as np
import pytest
import tiny
from tiny import CART, DAY, PURCHASE, VIEW

from recsys.data.demand import count_events

EVENTS = tiny.events(
    [
        (0, 2, PURCHASE, 10.2),
        (1, 2, PURCHASE, 10.9),
        (0, 2, VIEW, 10.1),
        (1, 0, VIEW, 12.0),
        (0, 3, CART, 13.5),
        (2, 0, PURCHASE, 14.25),
    ],
    users=3,
    items=5,
)


def demand():
    return count_events(EVENTS, kind_count=3, half_life_days=2.0)


def test_events_are_counted_by_day_kind_and_item():
    found = demand()
    assert (found.first_day, found.end_day, found.until) == (10, 15, round(14.25 * DAY) + 1)
    assert found.between(10, 15, (0, 0, 1), 5).tolist() == [1, 0, 2, 0, 0]
    assert found.between(10, 12, (1, 0, 0), 5).tolist() == [0, 0, 1, 0, 0]
    assert found.between(12, 14, (1, 0.5, 7), 5).tolist() == [1, 0, 0, 0.5, 0]
    assert found.between(-90, 11, (1, 1, 1), 5).tolist() == [0, 0, 3, 0, 0]
    assert found.between(15, 90, (1, 1, 1), 5).tolist() == found.between(12, 12, (1, 1, 1), 5).tolist() == [0] * 5


def test_a_decayed_sum_halves_with_every_half_life():
    found = demand().decayed(15, (0, 0, 1), 5)
    np.testing.assert_allclose(found, [2 ** (-0.5 / 2), 0, 2 * 2 ** (-4.5 / 2), 0, 0])
    np.testing.assert_allclose(demand().decayed(11, (1, 0, 0), 5, half_life_days=1)[2], 2**-0.5)


@pytest.mark.parametrize(
    ("moment", "day"), [(9.5, 9), (10.99, 10), (11, 11), (14.2, 14), (14.25, 14), (14.2501, 15), (99, 15)]
)
def test_a_day_counts_when_all_of_its_events_have_happened(moment, day):
    assert demand().days_before(round(moment * DAY)) == day


def test_the_first_day_of_an_item_is_that_of_its_first_event_of_any_kind():
    assert demand().first_days(5).tolist() == [12, -1, 10, 13, -1]


def test_returns_and_nothing_are_no_demand():
    returned = tiny.events([(0, 1, 127, 3), (0, 1, PURCHASE, 2)], users=1, items=2)
    found = count_events(returned, kind_count=3, half_life_days=7)
    assert (found.counts.tolist(), found.end_day) == ([1], 3)
    assert count_events(EVENTS.before(0), kind_count=3, half_life_days=7) is None
