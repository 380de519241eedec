import numpy as np
import pytest
import tiny
from tiny import DAY, PURCHASE

from recsys.related.baskets import find_baskets
from recsys.related.counts import UNWEIGHTED, Counted, Weighting, best_of_each


def counted(*orders, now=10):
    """Orders of (day, items)."""
    rows = [(user, item, PURCHASE, day) for user, (day, items) in enumerate(orders) for item in items]
    events = tiny.events(rows, users=len(orders), items=6)
    return Counted(find_baskets(events, [PURCHASE], gap_minutes=30), now * DAY)


def as_dict(pairs, weighting):
    return {
        (int(pairs.seeds[owner]), int(item)): float(count)
        for owner, item, count in zip(pairs.owners, pairs.items, pairs.counts[weighting], strict=True)
    }


def test_pairs_are_counted_by_age_and_by_the_size_of_their_basket():
    shop = counted((0, [0, 1, 2]), (10, [0, 1]))
    pairs = shop.pairs(np.array([0, 3]), [UNWEIGHTED, Weighting(10.0), Weighting(size_exponent=1.0)])
    assert as_dict(pairs, 0) == {(0, 1): 2, (0, 2): 1}
    assert as_dict(pairs, 1) == {(0, 1): 1.5, (0, 2): 0.5}
    assert as_dict(pairs, 2) == pytest.approx({(0, 1): 1 / 3 + 1 / 2, (0, 2): 1 / 3})


def test_demand_and_trend_tell_what_is_bought_of_late():
    shop = counted(*[(0, [0, 1])] * 20, *[(100, [0, 2])] * 10, now=101)
    assert shop.total[:3].tolist() == [30, 20, 10]
    assert shop.recent[:3].tolist() == [10, 0, 10]
    assert shop.trend[2] > shop.trend[0] > shop.trend[1]
    assert shop.trend[5] == 1


def test_very_old_baskets_count_next_to_nothing_and_stay_pairs():
    shop = counted((0, [0, 1]), (10_000, [2, 3]), now=10_000)
    pairs = shop.pairs(np.arange(6), [UNWEIGHTED, Weighting(1.0)])
    assert pairs.counts.shape == (2, 4)
    assert 0 < as_dict(pairs, 1)[(0, 1)] < 1e-6


def test_blocks_hold_every_seed_once():
    shop = counted((0, [0, 1, 2]), (1, [3, 4]))
    assert np.concatenate(list(shop.blocks(np.arange(6)))).tolist() == list(range(6))


def test_the_best_of_each_come_highest_first_and_ties_by_position():
    offsets, scores = np.array([0, 4, 4, 6]), np.array([1.0, 3.0, 3.0, 2.0, 5.0, 6.0])
    assert best_of_each(offsets, scores, 2).tolist() == [1, 2, 5, 4]
    assert best_of_each(offsets, scores, 9).tolist() == [1, 2, 3, 0, 5, 4]
