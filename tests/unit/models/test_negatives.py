"""Items drawn stand for all: each counts, on average, as if it had been there once."""

import numpy as np
import pytest

from recsys.models.negatives import Negatives, draw_by

WEIGHTS = np.array([4.0, 0.0, 1.0, 100.0, 25.0, 0.0])  # of which two have no events


@pytest.mark.parametrize("count", [1, 3, 4, 50])
def test_each_item_with_events_counts_once_on_average_whatever_it_is_drawn_by(count):
    negatives, generator, counted = Negatives(draw_by(WEIGHTS, WEIGHTS > 0)), np.random.default_rng(0), np.zeros(6)
    for _ in range(20_000):
        rows, log_expected = negatives.take(count, generator)
        assert len(rows) == min(count, 4)
        np.add.at(counted, rows, np.exp(-log_expected) / 20_000)
    np.testing.assert_allclose(counted, WEIGHTS > 0, atol=0.05)


def test_a_popular_item_is_drawn_more_often_but_less_than_its_events_say():
    drawn = draw_by(WEIGHTS, WEIGHTS > 0)
    assert drawn[3] / drawn[2] == pytest.approx(10)


def test_few_items_are_all_taken_each_once():
    rows, log_expected = Negatives(draw_by(WEIGHTS, WEIGHTS > 0)).take(4, np.random.default_rng(0))
    np.testing.assert_array_equal(rows, [0, 2, 3, 4])
    np.testing.assert_array_equal(log_expected, 0)
