"""The rankings that are the same for everybody, on events with a known answer."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
from box_shop import DAYS, bundle_of, changed_item, ids, reasons, shop_of
from tiny import CART, DAY, PURCHASE, VIEW

from recsys.models.budget import Budget
from recsys.models.contract import TrainingData
from recsys.models.popularity import PopularityParams, fit
from recsys.serving.popular import CHOSEN
from recsys.serving.posted import Posted, no_events

FREE = {"available": [True] * 60}


def shop(*rows, **columns):
    """A shop of (item, kind, day, how often) by user 0, all else being quiet."""
    events = [(0, item, kind, day + at / 1000) for item, kind, day, count in rows for at in range(count)]
    seen = tiny.events(events, users=25, items=60)
    return shop_of(seen, bundle=bundle_of(seen, **FREE | columns))


def test_bestsellers_are_what_was_bought_most_in_the_window():
    seen = shop(
        (1, PURCHASE, 99, 3), (2, PURCHASE, 96, 4), (3, PURCHASE, 60, 9), (4, VIEW, 99, 20), (5, PURCHASE, 99, 3)
    )
    found = seen.ask("bestsellers", k=4)
    assert (ids(found), reasons(found)) == (["i2", "i1", "i5", "i3"], ["bestsellers"] * 3 + ["popular"])
    assert [hit["score"] for hit in found.hits[:3]] == [4, 3, 3]
    assert ids(seen.ask("bestsellers", k=1, window_days=50)) == ["i3"]
    assert ids(seen.ask("bestsellers", k=2, window_days=2)) == ["i1", "i5"]
    assert ids(seen.ask("bestsellers", k=1, as_of=80 * DAY)) == ["i3"]


def test_trending_is_what_rose_above_its_usual_demand():
    steady = [(1, PURCHASE, day, 10) for day in range(50, 100)]
    seen = shop(*steady, (2, PURCHASE, 97, 8), (3, PURCHASE, 70, 9), (4, VIEW, 98, 5), (5, VIEW, 98, 2))
    found = seen.ask("trending", k=3)
    assert (ids(found), reasons(found)) == (["i2", "i4", "i5"], ["trending"] * 3)
    assert found.hits[0]["score"] == 8
    np.testing.assert_allclose(found.hits[1]["score"], 5 * 0.2)
    past = seen.ask("trending", k=1, as_of=71 * DAY)
    np.testing.assert_allclose(past.hits[0]["score"], 9)
    assert ids(past) == ["i3"]


def test_a_shop_that_has_just_opened_trends_by_what_there_is():
    assert ids(shop((1, CART, 3, 2), (2, PURCHASE, 3.5, 5)).ask("trending", k=2)) == ["i2", "i1"]


def test_new_arrivals_come_newest_first_with_posted_ones_and_those_known_by_their_first_event():
    created = [None] * 60
    created[7], created[8], created[9] = 90 * DAY, 20 * DAY, 200 * DAY
    seen = tiny.events([(0, 3, VIEW, 95.5), (0, 3, PURCHASE, 97), (1, 4, VIEW, 30)], users=25, items=60)
    changed = [
        changed_item("new1", 99),
        changed_item("new2", 99.5, created_at=93 * DAY),
        changed_item("i8", 99.6, price=1.0),
        changed_item("i4", 99.7, created_at=96 * DAY),
    ]
    found_shop = shop_of(seen, bundle=bundle_of(seen, created_at=created, **FREE), changed=changed)
    found = found_shop.ask("new_arrivals")
    assert ids(found) == ["new1", "i4", "i3", "new2", "i7", "i8"]
    assert set(reasons(found)) == {"new_arrivals"}
    np.testing.assert_allclose([hit["score"] for hit in found.hits], [-2, -5, -5, -8, -11, -81], atol=1e-4)
    assert (found.eligible, found.excluded_counts["not_in_box"]) == (6, 61 + 1 - 6)
    assert ids(found_shop.ask("new_arrivals", window_days=8)) == ["new1", "i4", "i3", "new2"]
    assert ids(found_shop.ask("new_arrivals", as_of=95 * DAY, window_days=10)) == ["new2", "i7"]


def test_the_popularity_of_an_earlier_day_is_what_training_would_have_counted_then():
    random = np.random.default_rng(3)
    rows = zip(*(random.integers(n, size=300).tolist() for n in (25, 60, 3)), random.uniform(1, 90, 300), strict=True)
    events, moment = tiny.events(list(rows), users=25, items=60), 50 * DAY
    bundle = bundle_of(events, **FREE)
    found_shop = shop_of(events, bundle=replace(bundle, demand=replace(bundle.demand, half_life_days=1e9)))
    data = TrainingData(events.before(moment), bundle.catalog, moment, (1, 1, 1), (PURCHASE,), (1,))
    counts = fit(data, PopularityParams(half_life_days=1e9), Budget()).item_vectors[:, 0]
    then = found_shop.ask("popular", k=60, as_of=moment)
    assert [counts[int(item[1:])].round() for item in ids(then)] == sorted(counts.round(), reverse=True)
    np.testing.assert_allclose([hit["score"] for hit in then.hits], sorted(counts, reverse=True), rtol=1e-4)
    now = found_shop.ask("popular", k=60, as_of=DAYS * DAY)
    assert ids(now) == [f"i{row}" for row in bundle.most_popular] != ids(then)


@pytest.mark.parametrize("box", ["popular", "bestsellers", "trending"])
def test_an_item_that_was_changed_since_keeps_its_place_and_a_new_one_is_the_last_of_the_popular(box):
    rows = [(0, item, PURCHASE, 99 + item / 100) for item in (1, 1, 1, 2, 2, 3)]
    seen = tiny.events(rows, users=25, items=60)
    changed = [changed_item("new1", 99), changed_item("i2", 99.5, price=3.0)]
    found = shop_of(seen, bundle=bundle_of(seen, **FREE), changed=changed).ask(box, k=100)
    assert ids(found)[:3] == ["i1", "i2", "i3"]
    assert ids(found)[-1] == "new1"
    assert len(found.hits) == 61


def with_posted(seen, rows):
    """The shop after these events (item, kind, day) were posted; the item new1 has the joint row 60."""
    items, kinds, days = (np.array(column) for column in zip(*rows, strict=True))
    times = (days * DAY).round().astype(np.int64)
    held = {"rows": items.astype(np.int32), "kinds": kinds.astype(np.int8), "times": times}
    posted: Posted = replace(no_events(0), **held, until=int(times.max()) + 1)
    return replace(seen, snapshot=replace(seen.snapshot, posted=posted))


def scored(found):
    return {hit["item_id"]: round(hit["score"], 3) for hit in found.hits if hit["reason"] == found.hits[0]["reason"]}


@pytest.mark.parametrize(
    ("box", "way"),
    [("bestsellers", "bestsellers"), ("trending", "trending"), ("trending", "bestsellers"), ("bestsellers", "popular")],
)
@pytest.mark.parametrize("days", [1, 9])
@pytest.mark.parametrize("as_of", [None, 100.5])
def test_what_was_posted_counts_as_if_it_had_been_trained(box, way, days, as_of):
    random = np.random.default_rng(5)
    trained = [(0, int(random.integers(60)), int(random.integers(3)), day) for day in random.uniform(60, 99.5, 600)]
    new = [(0, int(random.geometric(0.2)), int(random.integers(3)), day) for day in random.uniform(97, 101, 80)]
    before = 101 if as_of is None else as_of
    everything = tiny.events([*trained, *(row for row in new if row[3] < before)], users=25, items=60)
    facts = {"manifest": {CHOSEN: {box: {"way": way, "window_days": days}}}}
    shops = [
        shop_of(seen, bundle=replace(bundle_of(seen, **FREE), **facts))
        for seen in (everything, tiny.events(trained, users=25, items=60))
    ]
    counts = with_posted(shops[1], [row[1:] for row in new])
    asked = {"k": 60} if as_of is None else {"k": 60, "as_of": round(as_of * DAY)}
    expected = shops[0].ask(box, **asked)
    found = counts.ask(box, **asked)
    assert scored(found) == scored(expected)
    assert scored(found) != scored(shops[1].ask(box, **asked))
    past = {"k": 60, "as_of": 95 * DAY}
    assert counts.ask(box, **past).hits == shops[1].ask(box, **past).hits


def test_an_item_that_came_after_training_sells_best_as_soon_as_it_is_bought_most():
    rows = [(0, 1, PURCHASE, 99), (0, 1, PURCHASE, 99.1), (0, 2, PURCHASE, 99.2)]
    seen = tiny.events(rows, users=25, items=60)
    quiet = shop_of(seen, bundle=bundle_of(seen, **FREE), changed=[changed_item("new1", 99)])
    bought = with_posted(quiet, [(60, PURCHASE, 100)] * 3 + [(2, PURCHASE, 100), (3, VIEW, 100), (-1, PURCHASE, 100)])
    found = bought.ask("bestsellers", k=4)
    assert (ids(found)[:3], reasons(found)) == (["new1", "i2", "i1"], ["bestsellers"] * 3 + ["popular"])
    assert ids(bought.ask("trending", k=1)) == ["new1"]
    assert ids(quiet.ask("bestsellers", k=2)) == ["i1", "i2"]


def test_events_that_count_nothing_in_a_box_move_no_window():
    seen = shop((1, PURCHASE, 71.5, 3), (2, PURCHASE, 99, 2))
    viewed = with_posted(seen, [(5, VIEW, 100.5)] * 20)
    assert viewed.ask("bestsellers", k=3).hits == seen.ask("bestsellers", k=3).hits
    assert ids(viewed.ask("trending", k=1)) == ["i5"]
