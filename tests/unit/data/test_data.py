import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CART, DAY, PURCHASE, VIEW, events

from recsys.data.features import item_tokens
from recsys.data.interactions import codes_in, merge
from recsys.data.splits import split_by_time
from recsys.data.vocabulary import Vocabulary, hash_id

ROWS = [
    (1, 3, PURCHASE, 5.0),
    (0, 2, VIEW, 9.0),
    (1, 1, VIEW, 2.0),
    (0, 2, CART, 1.0),
    (1, 3, CART, 5.0),
    (1, 0, PURCHASE, 7.0),
]


def of_user(found, user):
    """(item, kind, age or time) of one user, as they lie."""
    own = slice(found.offsets[user], found.offsets[user + 1])
    times = found.times / DAY if hasattr(found, "times") else found.ages_days
    return list(zip(found.items[own].tolist(), found.kinds[own].tolist(), times[own].tolist(), strict=True))


def all_events(found):
    return [of_user(found, user) for user in range(len(found.offsets) - 1)]


def test_the_hash_of_an_id_is_the_same_everywhere():
    assert hash_id("85123A") == 3141760557156334012


@given(ids=st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=5), unique=True, max_size=40))
@settings(max_examples=50, deadline=None)
def test_ids_become_rows_in_their_order_and_back(ids):
    vocabulary = Vocabulary.from_ids(ids)
    assert len(vocabulary) == len(ids)
    assert list(vocabulary) == ids
    assert vocabulary.rows_of(ids).tolist() == list(range(len(ids)))
    assert vocabulary.rows_of([*ids, *(f"unknown {row}" for row in range(40))]).tolist() == [
        *range(len(ids)),
        *[-1] * 40,
    ]
    assert vocabulary.ids_of(range(len(ids))) == ids
    assert vocabulary.row_of("none of them, being too long") == -1


def test_ids_that_look_alike_stay_apart():
    ids = ["a", "A", "a ", " a", "a\u0301", "á", "", "a/b", "🛒"]
    assert Vocabulary.from_ids(ids).rows_of([*ids, "B"]).tolist() == [*range(9), -1]


def test_an_id_that_comes_twice_is_named():
    with pytest.raises(ValueError, match="'b' comes twice"):
        Vocabulary.from_ids(["a", "b", "c", "b"])


def test_equal_hashes_are_told_apart_by_the_id():
    found = Vocabulary.from_ids(["a", "b"])
    same = Vocabulary(found.blob, found.ends, np.full(2, hash_id("b"), np.uint64), np.array([0, 1], np.int32))
    assert same.row_of("b") == 1
    assert same.row_of("c") == -1
    other = Vocabulary(found.blob, found.ends, np.full(2, hash_id("c"), np.uint64), np.array([0, 1], np.int32))
    assert other.row_of("c") == -1
    assert same.rows_of(["b", "a", "c"] * 20).tolist() == [1, -1, -1] * 20
    assert other.rows_of(["c"] * 40).tolist() == [-1] * 40


def test_events_are_sorted_by_user_and_time_and_keep_the_order_of_one_moment():
    found = events(ROWS, users=3, items=4)
    assert all_events(found) == [
        [(2, CART, 1), (2, VIEW, 9)],
        [(1, VIEW, 2), (3, PURCHASE, 5), (3, CART, 5), (0, PURCHASE, 7)],
        [],
    ]
    assert found.users.tolist() == [0, 0, 1, 1, 1, 1]
    assert (len(found), found.user_count, found.item_count) == (6, 3, 4)


def test_selections_keep_users_and_rows():
    found = events(ROWS, users=3, items=4)
    assert all_events(found.before(5 * DAY)) == [[(2, CART, 1)], [(1, VIEW, 2)], []]
    assert all_events(found.between(2 * DAY, 7 * DAY)) == [[], [(1, VIEW, 2), (3, PURCHASE, 5), (3, CART, 5)], []]
    assert all_events(found.of_kinds([PURCHASE])) == [[], [(3, PURCHASE, 5), (0, PURCHASE, 7)], []]
    assert len(found.of_kinds([])) == 0


def test_a_history_holds_the_newest_events_before_a_moment_oldest_first():
    found = events(ROWS, users=3, items=4)
    histories = found.histories(np.array([2, 1, 0, 1]), 7 * DAY, 2)
    assert all_events(histories) == [
        [],
        [(3, PURCHASE, 2), (3, CART, 2)],
        [(2, CART, 6)],
        [(3, PURCHASE, 2), (3, CART, 2)],
    ]
    assert histories.ages_days.dtype == np.float32
    assert all_events(found.histories(np.array([1]), 100 * DAY, 10))[0][0] == (1, VIEW, 98)
    assert len(found.histories(np.zeros(0, np.int64), 7 * DAY, 2)) == 0


def test_a_part_of_the_histories_is_that_part():
    found = events(ROWS, users=3, items=4).histories(np.arange(3), 10 * DAY, 10)
    assert all_events(found.slice(1, 3)) == all_events(found)[1:]
    assert all_events(found.slice(0, 0)) == []
    kept = found.select(found.kinds == PURCHASE)
    assert all_events(kept) == [[], [(3, PURCHASE, 5), (0, PURCHASE, 3)], []]


def test_kinds_have_other_codes_elsewhere_and_minus_one_where_they_are_gone():
    assert codes_in(["view", "cart", "purchase"], ["purchase", "click", "view"]).tolist() == [2, -1, 0]


def test_older_events_of_some_kinds_may_belong_to_a_history_whatever_its_length():
    found = events(ROWS, users=3, items=4)
    assert all_events(found.histories(np.array([1]), 10 * DAY, 1)) == [[(0, PURCHASE, 3)]]
    longer = found.histories(np.array([1, 0]), 10 * DAY, 1, always=[CART])
    assert all_events(longer) == [[(3, CART, 5), (0, PURCHASE, 3)], [(2, CART, 9), (2, VIEW, 1)]]


def test_a_holdout_may_begin_later_and_loses_nothing():
    found = events([(0, 0, VIEW, day) for day in range(201)], users=1, items=1)
    splits = split_by_time(found, validation_days=20, holdout_days=10)
    later = splits.shortened(splits.holdout_start + 4 * DAY)
    assert [len(part) for part in (later.fit, later.validation, later.holdout)] == [171, 24, 6]
    assert later.holdout.times.min() >= later.holdout_start > later.known.times.max()
    assert splits.shortened(splits.holdout_start - DAY) is splits
    assert len(splits.shortened(10**18).holdout) == 0


def test_merged_events_are_sorted_again():
    found = events(ROWS, users=3, items=4)
    merged = merge(found.between(4 * DAY, 100 * DAY), found.before(4 * DAY))
    assert all_events(merged) == all_events(found)


def test_splits_lie_one_after_the_other_and_lose_nothing():
    found = events([(0, 0, VIEW, day) for day in range(201)], users=1, items=1)
    splits = split_by_time(found, validation_days=20, holdout_days=10)
    assert [len(part) for part in (splits.fit, splits.validation, splits.holdout)] == [171, 20, 10]
    assert splits.fit.times.max() < splits.validation_start <= splits.validation.times.min()
    assert splits.validation.times.max() < splits.holdout_start <= splits.holdout.times.min()
    assert all_events(splits.known) == all_events(found.before(splits.holdout_start))


def test_a_young_shop_gives_a_fifth_of_its_time_to_each():
    found = events([(0, 0, VIEW, day) for day in range(11)], users=1, items=1)
    splits = split_by_time(found, validation_days=28, holdout_days=28)
    assert [len(part) for part in (splits.fit, splits.validation, splits.holdout)] == [7, 2, 2]


def test_one_event_is_a_holdout_and_none_is_refused():
    one = split_by_time(events([(0, 0, VIEW, 3)], users=1, items=1), validation_days=1, holdout_days=1)
    assert len(one.fit) + len(one.validation) + len(one.holdout) == 1
    with pytest.raises(ValueError, match="no events"):
        split_by_time(events([], users=1, items=1), validation_days=1, holdout_days=1)


def names(**columns):
    """Which of the tokens one would expect each row has, as texts."""
    tokens = item_tokens(pa.table(columns))
    known = {hash_id(text): text for text in EXPECTED}
    return [
        sorted(known.get(int(h), f"? {h}") for h in tokens.hashes[tokens.offsets[row] : tokens.offsets[row + 1]])
        for row in range(len(tokens))
    ]


EXPECTED = (
    *("category=home", "category=kitchen", "brand=acme", "title=red", "title=mug", "title=größe"),
    *("price=0", "price=1", "price=6", "price=-3"),
)


def test_tokens_are_levels_brand_words_and_price_bucket():
    assert names(
        category=["Home > Kitchen", "home/KITCHEN", "Home|Home", None],
        brand=[" Acme ", "", None, "acme"],
        title=["Red mug, red!", "Größe", "", None],
        price=[8.0, 1.0, None, 1.5],
    ) == [
        ["brand=acme", "category=home", "category=kitchen", "price=6", "title=mug", "title=red"],
        ["category=home", "category=kitchen", "price=0", "title=größe"],
        ["category=home"],
        ["brand=acme", "price=1"],
    ]


def test_prices_that_say_nothing_give_no_token():
    assert names(price=[0.0, -1.0, float("inf"), float("nan"), 0.4]) == [[], [], [], [], ["price=-3"]]


def test_unknown_columns_and_no_columns_give_no_token():
    assert names(color=["red", "blue"]) == [[], []]
