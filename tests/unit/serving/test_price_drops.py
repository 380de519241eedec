"""Price drops on prices with a known answer."""

from dataclasses import replace

import numpy as np
import pytest
from box_shop import bundle_of, changed_item, codes, drawn_events, ids, shop_of
from tiny import DAY

from recsys.data.prices import PriceChanges

# (row, day, former, current): 1 fell twice, 2 rose and fell back, 4 fell long ago, 5 rose, 6 by a rounding.
CHANGES = [
    (1, 80, 10.0, 8.0),
    (1, 95, 8.0, 5.0),
    (2, 85, 10.0, 20.0),
    (2, 90, 20.0, 10.0),
    (4, 30, 50.0, 5.0),
    (5, 92, 4.0, 8.0),
    (6, 96, 10.0, 9.95),
    (7, 97, 10.0, 9.0),
]


def shop(*changed):
    rows, days, former, current = (np.array(column) for column in zip(*CHANGES, strict=True))
    prices = PriceChanges(rows.astype(np.int32), (days * DAY).astype(np.int64), former, current)
    trained = [20.0] * 60
    for row, _, _, price in CHANGES:
        trained[row] = price
    events = drawn_events()
    bundle = replace(bundle_of(events, price=trained, available=[True] * 60), prices=prices)
    return shop_of(events, bundle=bundle, changed=changed)


def told(found):
    return [(hit["item_id"], hit["price_drop"]["former_price"], hit["price_drop"]["price"]) for hit in found.hits]


def test_the_largest_drop_comes_first_with_its_former_price_and_when_it_was():
    found = shop().ask("price_drops")
    assert told(found) == [("i1", 10.0, 5.0), ("i7", 10.0, 9.0)]
    assert found.hits[0]["price_drop"]["changed_at"] == "1970-04-06T00:00:00Z"
    np.testing.assert_allclose([hit["score"] for hit in found.hits], [0.5, 0.1], rtol=1e-6)
    assert (found.eligible, codes(found)) == (2, ["fewer_than_k"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"window_days": 90}, [("i4", 50.0, 5.0), ("i1", 10.0, 5.0), ("i7", 10.0, 9.0)]),
        ({"window_days": 8}, [("i1", 8.0, 5.0), ("i7", 10.0, 9.0)]),
        ({"window_days": 5, "as_of": 91 * DAY}, [("i2", 20.0, 10.0)]),
        ({"window_days": 8, "as_of": 91 * DAY}, []),  # it costs what it cost
        ({"as_of": 85 * DAY}, [("i1", 10.0, 8.0)]),
        ({"items": ["i1"]}, [("i7", 10.0, 9.0)]),
    ],
)
def test_windows_and_moments_move_what_was_dearer_before(query, expected):
    assert told(shop().ask("price_drops", **query)) == expected


def test_a_posted_price_counts_at_once_and_goes_on_from_the_record():
    posted = shop(
        changed_item("i1", 99, price=4.0),
        changed_item("i7", 99, price=11.0),
        changed_item("i20", 99, price=15.0),
        changed_item("i21", 99, title="Renamed"),
        changed_item("new", 99, price=1.0),
    )
    assert told(posted.ask("price_drops")) == [("i1", 10.0, 4.0), ("i20", 20.0, 15.0)]
    assert posted.ask("price_drops").hits[1]["price_drop"]["changed_at"] == "1970-04-10T00:00:00Z"
    assert told(posted.ask("price_drops", as_of=98 * DAY)) == [("i1", 10.0, 5.0), ("i7", 10.0, 9.0)]


def test_without_a_record_the_box_is_empty_and_shows_nothing_else():
    bundle = replace(bundle_of(drawn_events()), prices=None)
    found = shop_of(drawn_events(), bundle=bundle).ask("price_drops")
    assert (ids(found), found.eligible) == ([], 0)
