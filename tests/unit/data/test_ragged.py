import numpy as np
import pytest

from recsys.data.ragged import Ragged


def rows(ragged):
    return [ragged.row(b).tolist() for b in range(len(ragged))]


def made(*lists):
    owners = [at for at, values in enumerate(lists) for _ in values]
    values = [value for values in lists for value in values]
    return Ragged.from_pairs(np.array(owners, np.int64), np.array(values, np.int32), len(lists))


def test_pairs_are_grouped_by_owner_in_the_order_in_which_they_came():
    found = Ragged.from_pairs(np.array([2, 0, 2, 0]), np.array([9, 1, 3, 0], np.int32), 4)
    assert rows(found) == [[1, 0], [], [9, 3], []]
    assert found.owners.tolist() == [0, 0, 2, 2]
    assert found.values.dtype == np.int32
    assert found.offsets.dtype == np.int64


def test_no_pairs_make_empty_rows():
    assert rows(made([], [])) == [[], []]
    assert rows(made()) == []


def test_one_row_holds_what_it_is_made_of():
    assert rows(Ragged.of_one(np.array([4, 2], np.int32))) == [[4, 2]]


def test_a_slice_and_a_choice_of_rows_are_ragged_themselves():
    ragged = made([1], [2, 3], [], [4, 5, 6])
    assert rows(ragged.slice(1, 4)) == [[2, 3], [], [4, 5, 6]]
    assert rows(ragged.slice(2, 2)) == []
    assert rows(ragged.take(np.array([True, False, True, True]))) == [[1], [], [4, 5, 6]]


def test_selected_values_stay_in_their_rows():
    ragged = made([1], [2, 3], [4, 5])
    assert rows(ragged.select(np.array([False, True, False, True, True]))) == [[], [2], [4, 5]]


def test_merging_appends_row_by_row():
    assert rows(made([1], [], [2, 3]).merge(made([7, 1], [8], []))) == [[1, 7, 1], [8], [2, 3]]


def test_rows_of_another_number_are_not_merged():
    with pytest.raises(ValueError, match="1 rows cannot be merged into 2"):
        made([1], [2]).merge(made([3]))
