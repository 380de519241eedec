import numpy as np
import pyarrow as pa
from tiny import DAY

from recsys.data.catalog import Catalog
from recsys.data.prices import KEPT_DAYS, next_changes
from recsys.data.vocabulary import Vocabulary


def catalog(**prices):
    return Catalog(Vocabulary.from_ids(prices), pa.table({"price": pa.array(list(prices.values()), pa.float64())}))


def told(changes, names):
    columns = (changes.rows.tolist(), changes.times.tolist(), changes.former.tolist(), changes.current.tolist())
    return [(names[row], time / DAY, former, current) for row, time, former, current in zip(*columns, strict=True)]


def test_changes_are_recorded_by_item_through_catalogs_that_grow_and_shrink():
    first = catalog(a=1.0, b=2.0, gone=3.0, unknown=None)
    second = catalog(new=9.0, b=2.5, a=1.0, unknown=4.0)
    third = catalog(a=0.5, b=2.0, unknown=None, new=8.0)
    one = next_changes(None, first, second, 10 * DAY)
    assert told(one, list(second.ids)) == [("b", 10, 2.0, 2.5)]
    two = next_changes(one, second, third, 11 * DAY)
    names = list(third.ids)
    expected = [("a", 11, 1.0, 0.5), ("b", 10, 2.0, 2.5), ("b", 11, 2.5, 2.0), ("new", 11, 9.0, 8.0)]
    assert told(two, names) == expected
    late = next_changes(two, third, third, round((10.5 + KEPT_DAYS) * DAY))
    assert told(late, names) == [change for change in expected if change[1] == 11]
    assert (np.diff(two.rows) >= 0).all()


def test_a_catalog_without_prices_records_nothing():
    bare = Catalog(Vocabulary.from_ids("ab"), pa.table({"title": ["A", "B"]}))
    assert len(next_changes(None, bare, catalog(a=1.0, b=2.0), DAY)) == 0
