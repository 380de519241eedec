import numpy as np
import tiny
from related_shop import nothing
from tiny import CART, PURCHASE, VIEW

from recsys.related import baskets as rooms
from recsys.related.baskets import find_baskets

MINUTE = 1 / 1440


def found(rows, *, users=3, items=6, orders=None, codes=(PURCHASE,)):
    events = tiny.events(rows, users=users, items=items)
    if orders is not None:
        events = type(events)(*(getattr(events, f) for f in ("offsets", "items", "kinds", "times", "values")), items)
        object.__setattr__(events, "orders", np.array(orders, np.int64))
    baskets = find_baskets(events, codes, gap_minutes=30)
    return [
        (int(user), baskets.items[start:stop].tolist())
        for user, start, stop in zip(baskets.users, baskets.offsets[:-1], baskets.offsets[1:], strict=True)
    ]


def test_a_pause_ends_a_basket_and_a_basket_has_two_items_at_least():
    rows = [(0, 1, PURCHASE, 0), (0, 2, PURCHASE, 20 * MINUTE), (0, 3, PURCHASE, 45 * MINUTE)]
    rows += [(0, 4, PURCHASE, 1), (1, 1, PURCHASE, 2), (1, 1, PURCHASE, 2 + MINUTE)]
    assert found(rows) == [(0, [1, 2, 3])]


def test_two_users_at_one_moment_have_two_baskets_in_order_of_time():
    rows = [(0, 1, PURCHASE, 5), (0, 2, PURCHASE, 5), (1, 3, PURCHASE, 4), (1, 4, PURCHASE, 4)]
    assert found(rows) == [(1, [3, 4]), (0, [1, 2])]


def test_only_the_kinds_asked_for_count():
    rows = [(0, 1, VIEW, 0), (0, 2, CART, 0), (0, 3, PURCHASE, 0), (0, 4, PURCHASE, 0)]
    assert found(rows) == [(0, [3, 4])]
    assert found(rows, codes=(VIEW, CART)) == [(0, [1, 2])]


def test_an_order_is_a_basket_whatever_the_time_says():
    rows = [(0, 1, PURCHASE, 0), (0, 2, PURCHASE, 0), (0, 3, PURCHASE, MINUTE), (0, 4, PURCHASE, 3)]
    assert found(rows, orders=[7, 8, 7, 8]) == [(0, [1, 3]), (0, [2, 4])]
    assert found(rows, orders=[7, -1, 7, -1]) == [(0, [1, 3])]


def test_one_number_for_the_orders_of_two_users_is_two_orders():
    rows = [(0, 1, PURCHASE, 0), (0, 2, PURCHASE, 3), (1, 3, PURCHASE, 0), (1, 4, PURCHASE, 0)]
    assert found(rows, orders=[0, 0, 0, 0]) == [(0, [1, 2]), (1, [3, 4])]


def test_large_baskets_count_with_fewer_items_and_the_work_is_bounded(monkeypatch):
    rows = [(0, item, PURCHASE, 0) for item in range(600)] + [(1, 1, PURCHASE, 1), (1, 2, PURCHASE, 1)]
    sizes = [len(items) for _, items in found(rows, items=600)]
    assert sizes == [rooms.LARGEST, 2]
    monkeypatch.setattr(rooms, "MAX_PAIRS", 1000)
    sizes = [len(items) for _, items in found(rows, items=600)]
    assert sum(size**2 for size in sizes) <= 1000
    assert sizes[-1] == 2
    assert found(rows, items=600) == found(rows, items=600)


def test_nothing_makes_no_basket():
    assert len(nothing().baskets) == 0


def test_a_basket_contains_its_own_items_alone():
    rows = [(0, 1, PURCHASE, 0), (0, 4, PURCHASE, 0), (1, 2, PURCHASE, 1), (1, 4, PURCHASE, 1)]
    baskets = find_baskets(tiny.events(rows, users=2, items=6), (PURCHASE,), gap_minutes=30)
    owners, items = np.repeat([0, 1], 6), np.tile(np.arange(6, dtype=np.int32), 2)
    assert np.flatnonzero(baskets.contain(owners, items)).tolist() == [1, 4, 8, 10]
    assert not nothing().baskets.contain(np.zeros(2, np.int64), np.zeros(2, np.int32)).any()
