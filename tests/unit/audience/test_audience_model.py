import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from tiny import DAY, PURCHASE, VIEW, events, quiet, vectors

from recsys.audience import model as audience_model
from recsys.audience.model import NEVER_SEEN, Shop, buyers_of, first_seen, learn, learning_window, purchases_of, score
from recsys.data.interactions import Interactions
from recsys.errors import RefusedError

USERS, ITEMS = 600, 30
RATES = np.array([0.002, 0.01, 0.05])  # purchases a day of the seldom, the usual and the frequent buyers
DAYS = 300
SIDES = np.repeat([[1.0, 0.0], [0.0, 1.0]], ITEMS // 2, axis=0) + 0.05 * np.arange(ITEMS)[:, None] / ITEMS


def simulated(seed=0, *, days=DAYS) -> Interactions:
    """Users who buy at three rates, items of their own half of the catalog nine times of ten."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(USERS):
        for day in np.flatnonzero(random.random(days) < RATES[user % 3]):
            half = (user // 3) % 2 if random.random() < 0.9 else 1 - (user // 3) % 2
            item = half * (ITEMS // 2) + int(ITEMS / 2 * random.random() ** 2)
            rows.append((user, item, PURCHASE, day + random.random()))
    return events(rows, users=USERS, items=ITEMS)


def shop(found: Interactions) -> Shop:
    return Shop(
        first_seen=first_seen(found),
        purchases=purchases_of(found, np.arange(ITEMS, dtype=np.int32), ITEMS, [PURCHASE]),
        histories_at=lambda users, as_of: found.histories(users, as_of, 500),
        bought_codes=(PURCHASE,),
        known_until=NEVER_SEEN,
    )


def drawn(found: Interactions, items, as_of=DAYS * DAY, **others):
    window = learning_window(found, as_of, 28)
    model = learn(shop(found), vectors(SIDES), window, seed=0, progress=quiet)
    users = others.pop("users", np.arange(USERS))
    return score(model, shop(found), vectors(SIDES), users, np.array(items, np.int32), as_of, progress=quiet)


@pytest.fixture(scope="module")
def past() -> Interactions:
    return simulated().before(DAYS * DAY)


@pytest.fixture(scope="module")
def several(past):
    return drawn(past, [0, 3, 20])


def test_the_probabilities_promise_as_many_buyers_as_come():
    everything = simulated(seed=1, days=DAYS + 28)
    known, later = everything.before(DAYS * DAY), everything.between(DAYS * DAY, (DAYS + 28) * DAY)
    scores = drawn(known, range(15))
    buyers = np.diff(later.select(later.items < 15).offsets) > 0
    assert 120 < buyers.sum() < 300
    assert scores.probability.sum() == pytest.approx(buyers.sum(), rel=0.25)
    assert scores.at_all.sum() == pytest.approx((np.diff(later.offsets) > 0).sum(), rel=0.2)


def test_the_level_is_that_of_the_newest_window():
    """In the last 28 days, and in the 28 to come, everybody buys three times as often as before."""
    random = np.random.default_rng(5)
    rows = [
        (user, int(random.integers(ITEMS)), PURCHASE, day + random.random())
        for user in range(USERS)
        for day in np.flatnonzero(random.random(DAYS + 28) < np.where(np.arange(DAYS + 28) < DAYS - 28, 0.005, 0.015))
    ]
    everything = events(rows, users=USERS, items=ITEMS)
    scores = drawn(everything.before(DAYS * DAY), [0])
    buyers = np.diff(everything.between(DAYS * DAY, (DAYS + 28) * DAY).offsets) > 0
    assert 180 < buyers.sum() < 240
    assert scores.at_all.sum() == pytest.approx(buyers.sum(), rel=0.15)


def test_a_hundred_thousand_users_are_scored_in_blocks(monkeypatch):
    monkeypatch.setattr(audience_model, "_BLOCK_PAIRS", 2**16)
    count = 100_000
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(count, dtype=np.int32), 3)
    found = Interactions.from_rows(
        users,
        random.integers(0, ITEMS, len(users), np.int32),
        np.full(len(users), PURCHASE, np.int8),
        random.integers(0, DAYS * DAY, len(users)),
        np.full(len(users), np.nan, np.float32),
        user_count=count,
        item_count=ITEMS,
    )
    asked, items = [], np.arange(ITEMS, dtype=np.int32)
    watched = replace(
        shop(found), histories_at=lambda rows, as_of: asked.append(len(rows)) or found.histories(rows, as_of, 500)
    )
    model = learn(watched, vectors(SIDES), learning_window(found, DAYS * DAY, 28), seed=0, progress=quiet)
    assert max(asked) <= 8192
    asked.clear()
    rows = np.arange(count)
    tracemalloc.start()
    scores = score(model, watched, vectors(SIDES), rows, items, DAYS * DAY, progress=quiet)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(scores.probability) == count
    assert max(asked) == 2**16 // ITEMS
    assert peak < 60e6  # one column of all pairs of user and item would take 24 MB, and there are 15 and more


def test_a_past_buyer_is_one_however_long_ago():
    found = events([(0, 3, PURCHASE, 1.0), (1, 4, PURCHASE, 2.0), (2, 3, PURCHASE, 9.0)], users=4, items=ITEMS)
    assert buyers_of(found, np.array([3, 5]), 9 * DAY).tolist() == [True, False, False, False]


def test_who_buys_often_and_of_the_items_kind_comes_first(past):
    scores = drawn(past, [3], users=np.flatnonzero(np.diff(past.offsets) > 0))
    users = np.flatnonzero(np.diff(past.offsets) > 0)
    best = users[np.argsort(-scores.probability)[:50]]
    assert (best % 3 == 2).mean() > 0.9
    assert ((best // 3) % 2 == 0).mean() > 0.9


def test_several_items_are_bought_at_least_as_likely_as_each_and_at_most_as_likely_as_their_sum(past, several):
    each = np.array([drawn(past, [item]).probability for item in (0, 3, 20)])
    assert (several.probability >= each.max(axis=0) - 1e-12).all()
    assert (several.probability <= each.sum(axis=0) + 1e-12).all()
    assert (several.probability <= several.at_all).all()


def test_what_happened_after_the_moment_changes_nothing(past, several):
    longer = simulated(days=DAYS + 50)
    assert len(longer.between(0, DAYS * DAY)) != len(longer)
    kept = longer.before(DAYS * DAY)
    again = drawn(events_before_and_after(kept), [0, 3, 20])
    expected = drawn(kept, [0, 3, 20])
    np.testing.assert_array_equal(again.probability, expected.probability)


def events_before_and_after(known: Interactions) -> Interactions:
    """The same events, and of everybody a purchase of item 0 an hour after the moment that is asked for."""
    count = known.user_count
    return Interactions.from_rows(
        np.concatenate([known.users, np.arange(count, dtype=np.int32)]),
        np.concatenate([known.items, np.zeros(count, np.int32)]),
        np.concatenate([known.kinds, np.full(count, PURCHASE, np.int8)]),
        np.concatenate([known.times, np.full(count, DAYS * DAY + DAY // 24)]),
        np.concatenate([known.values, np.full(count, np.nan, np.float32)]),
        user_count=count,
        item_count=ITEMS,
    )


def test_what_is_foreseen_is_learnt_from_vectors_and_histories_of_before(past):
    asked = []
    watched = replace(
        shop(past), histories_at=lambda users, as_of: asked.append(as_of) or past.histories(users, as_of, 500)
    )
    window = learning_window(past, DAYS * DAY, 28)
    learn(watched, vectors(SIDES), window, seed=0, progress=quiet)
    starts = [window.start - number * window.length for number in range(5)]
    assert sorted(set(asked), reverse=True) == starts


def test_blocks_and_their_size_change_nothing(past, several, monkeypatch):
    monkeypatch.setattr(audience_model, "_BLOCK_USERS", 7)
    monkeypatch.setattr(audience_model, "_BLOCK_PAIRS", 100)
    again = drawn(past, [0, 3, 20])
    np.testing.assert_allclose(again.probability, several.probability, rtol=1e-9)
    np.testing.assert_array_equal(again.bought_days, several.bought_days)


def test_drawing_fewer_users_and_items_to_learn_from_is_repeatable(past, several, monkeypatch):
    for name, value in (("_FIT_USERS", 200), ("_FIT_BUYERS", 60), ("_FIT_ITEMS", 12)):
        monkeypatch.setattr(audience_model, name, value)
    first, second = drawn(past, [0, 3, 20]), drawn(past, [0, 3, 20])
    np.testing.assert_array_equal(first.probability, second.probability)
    assert not np.allclose(first.probability, several.probability, rtol=1e-6)
    assert np.corrcoef(first.probability, several.probability)[0, 1] > 0.9


def test_no_users_get_no_scores(past):
    assert len(drawn(past, [0], users=np.array([], np.int64)).probability) == 0


def test_users_without_a_history_are_told_from_the_others(past):
    alone = past.select(past.users != 5)
    has_history = drawn(alone, [0]).has_history
    assert not has_history[5]
    assert has_history.sum() == (np.diff(alone.offsets) > 0).sum()


def test_looks_count_beside_purchases():
    rows = [(user, 0, PURCHASE, day) for user in range(20) for day in (10.0, 60.0 + user, 95.0)]
    rows += [(user, 1, VIEW, 99.0) for user in range(10)]
    found = events(rows, users=20, items=ITEMS)
    assert (drawn(found, [1], as_of=100 * DAY, users=np.arange(20)).looks > 0).tolist() == [True] * 10 + [False] * 10


def test_the_window_ends_with_the_newest_event_before_the_moment():
    found = events([(0, 0, PURCHASE, 0.0), (1, 0, PURCHASE, 280.0), (1, 0, PURCHASE, 300.0)], users=2, items=1)
    window = learning_window(found, 290 * DAY, 28)
    assert (window.start, window.end) == (280 * DAY + 1 - 28 * DAY, 280 * DAY + 1)


def test_a_young_shop_learns_from_a_fifth_of_its_time():
    found = events([(0, 0, PURCHASE, 0.0), (1, 0, PURCHASE, 50.0)], users=2, items=1)
    assert learning_window(found, 100 * DAY, 28).days == pytest.approx(10)


def test_a_shop_without_events_is_refused():
    found = events([(0, 0, PURCHASE, 5.0)], users=1, items=1)
    with pytest.raises(RefusedError, match="no event"):
        learning_window(found, 5 * DAY, 28)


def test_a_shop_in_which_nobody_comes_back_is_refused():
    found = events([(user, 0, PURCHASE, float(user)) for user in range(100)], users=100, items=1)
    window = learning_window(found, 100 * DAY, 28)
    with pytest.raises(RefusedError, match="of 80 users known before, nobody"):
        learn(
            replace(shop(found), purchases=purchases_of(found, np.array([0], np.int32), 1, [PURCHASE])),
            vectors([[1.0]]),
            window,
            seed=0,
            progress=quiet,
        )


def test_purchases_are_those_of_the_target_kinds_in_the_bundles_rows():
    found = events(
        [(0, 0, PURCHASE, 1.0), (0, 1, PURCHASE, 2.0), (0, 2, VIEW, 3.0), (1, 2, PURCHASE, 4.0)], users=2, items=3
    )
    mapped = purchases_of(found, np.array([7, -1, 0], np.int32), 9, [PURCHASE])
    assert (mapped.items.tolist(), mapped.users.tolist(), mapped.item_count) == ([7, 0], [0, 1], 9)


def test_a_user_is_first_seen_with_the_first_event():
    found = events([(0, 0, VIEW, 3.0), (0, 0, PURCHASE, 1.0), (2, 0, VIEW, 9.0)], users=4, items=1)
    never = audience_model.NEVER_SEEN
    assert first_seen(found).tolist() == [DAY, never, 9 * DAY, never]
