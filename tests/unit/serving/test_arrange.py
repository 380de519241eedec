import numpy as np
import pytest

from recsys.serving.arrange import NO_GROUP, Cap, Wanted, arrange, boosted_order


def arranged(order, k=5, *, pins=None, kept=None, caps=(), diversity=0.0, vectors=None):
    wanted = Wanted(k, pins or {}, kept or {}, [Cap(np.array(groups), limit) for groups, limit in caps], diversity)
    return arrange(np.asarray(order), wanted, None if vectors is None else np.asarray(vectors, np.float32))


def listed(*args, **options):
    return arranged(*args, **options).positions.tolist()


@pytest.mark.parametrize(
    ("factors", "order"),
    [
        ([1, 1, 1, 1], [0, 1, 2, 3]),
        ([1, 1, 1, 4], [3, 0, 1, 2]),  # as at place 1; a boosted one goes before an equal
        ([1, 1, 1, 2], [0, 3, 1, 2]),
        ([0.5, 1, 1, 1], [1, 0, 2, 3]),  # as at place 2; a buried one goes behind an equal
        ([0, 1, 0, 1], [1, 3, 0, 2]),
        ([100, 1, 1, 1], [0, 1, 2, 3]),
        ([], []),
    ],
)
def test_a_factor_divides_the_place(factors, order):
    assert boosted_order(np.array(factors, np.float32)).tolist() == order


def test_without_rules_the_order_is_the_list():
    assert listed(range(8)) == [0, 1, 2, 3, 4]
    assert listed([2, 0, 1]) == [2, 0, 1]
    assert listed([]) == []


def test_pins_stand_where_they_have_to_and_move_up_where_the_list_is_short():
    assert listed(range(8), pins={1: 7, 4: 0}) == [1, 7, 2, 3, 0]
    assert listed(range(2), pins={3: 5, 2: 4}) == [0, 1, 4, 5]
    assert listed([], k=4, pins={3: 2}) == [2]
    assert listed(range(4), k=2, pins={0: 3, 1: 2}) == [3, 2]


def test_kept_places_go_to_others_unless_a_cap_forbids_it():
    assert listed(range(5), k=4, kept={3: 4}) == [0, 1, 2, 4]
    assert listed(range(5), k=4, kept={3: 4}, caps=[([0, 1, 2, 3, 0], 1)]) == [0, 1, 2, 3]
    assert listed([0], k=4, kept={3: 1}) == [0, 1]
    assert listed([0], k=4, kept={1: 1, 2: 2}, caps=[([0, 0, 1], 1)]) == [0, 2]
    assert listed([0], k=4, pins={3: 1}, kept={2: 2}) == [0, 2, 1]
    # Where a cap leaves too few, kept ones move up and the pin stays at its place.
    assert listed([0, 1, 2], k=4, pins={3: 3}, kept={1: 4, 2: 5}, caps=[([0, 0, 0, 1, 2, 3], 1)]) == [0, 4, 5, 3]
    assert listed([0, 1, 2], k=4, pins={3: 3}, kept={2: 4, 1: 5}, caps=[([0, 0, 0, 1, 1, 3], 1)]) == [0, 5, 3]


def test_caps_count_pins_first_and_leave_out_who_has_no_group():
    brands = [0, 0, 0, 1, 1, 2]
    assert listed(range(6), caps=[(brands, 2)]) == [0, 1, 3, 4, 5]
    assert listed(range(6), caps=[(brands, 1)]) == [0, 3, 5]
    assert listed(range(6), pins={4: 2}, caps=[(brands, 1)]) == [3, 5, 2]
    assert listed(range(6), pins={0: 1, 1: 2}, caps=[(brands, 1)]) == [1, 2, 3, 5]  # pins win over the cap
    assert listed(range(6), caps=[([NO_GROUP] * 6, 1)]) == [0, 1, 2, 3, 4]
    both = [(brands, 1), ([0, 1, 1, 0, 2, 2], 1)]
    assert listed(range(6), caps=both) == [0, 4]
    full = arranged(range(6), caps=both).full
    assert full == ((0, 0), (0, 1), (1, 0), (1, 2))


def test_diversity_prefers_what_is_unlike_the_list_and_the_first_stays():
    east, north = [1, 0], [0, 1]
    vectors = [east, east, east, north, north]
    assert listed(range(5), vectors=vectors) == [0, 1, 2, 3, 4]
    assert listed(range(5), k=2, diversity=0.5, vectors=vectors) == [0, 3]
    assert listed(range(5), k=3, diversity=1.0, vectors=vectors) == [0, 3, 1]
    assert listed(range(5), k=2, diversity=0.05, vectors=vectors) == [0, 1]
    assert listed(range(5), k=2, pins={1: 4}, diversity=0.5, vectors=vectors) == [0, 4]
    assert listed(range(5), k=2, pins={1: 0}, diversity=0.5, vectors=vectors) == [3, 0]  # pins count from the start


def test_it_is_said_what_moved_a_place():
    brands = [0, 0, 1, 2]
    by_cap = arranged(range(4), k=3, caps=[(brands, 1)])
    assert (by_cap.positions.tolist(), by_cap.passed_over.tolist()) == ([0, 2, 3], [False, True, True])
    assert not by_cap.is_diverse.any()
    by_likeness = arranged(range(3), k=2, diversity=0.5, vectors=[[1, 0], [1, 0], [0, 1]])
    assert (by_likeness.positions.tolist(), by_likeness.is_diverse.tolist()) == ([0, 2], [False, True])
