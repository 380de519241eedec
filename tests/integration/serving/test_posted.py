"""What was posted since training, read from each kind of database."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import tiny
from box_shop import changed_item

from recsys.serving import posted as module
from recsys.serving.fresh_items import CatalogView, extend
from recsys.serving.posted import catch_up, no_events
from recsys.store.events import insert_events
from recsys.store.users import delete_user, delete_visitor
from recsys.store.visitors import link_visitor

SINCE = 1_000


@pytest.fixture
def view():
    return CatalogView(tiny.bundle(np.ones((3, 2)), np.ones(3)))


def post(store, *rows, received_at=SINCE + 1):
    """Rows (event, user, visitor, item, kind)."""
    ids, users, visitors, items, kinds = zip(*rows, strict=True)
    columns = {"event_id": ids, "user_id": users, "visitor_id": visitors, "item_id": items, "kind": kinds}
    table = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    times = {name: [received_at] * len(rows) for name in ("occurred_at", "received_at")}
    insert_events(store, pa.table(table | times))


def counted(posted):
    return sorted(zip(posted.rows.tolist(), posted.kinds.tolist(), strict=True))


def test_events_are_read_once_in_batches_and_again_when_some_were_deleted(store, view, monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    post(store, ("old", "u1", None, "i0", "view"), received_at=SINCE)
    post(store, *((f"e{at}", "u1", None, "i1", "purchase") for at in range(5)))
    post(store, ("v1", None, "v1", "i2", "view"), ("w", "u2", None, "i0", "wish"), received_at=SINCE + 2)
    first = catch_up(no_events(SINCE), view, lambda use: use(store))
    assert counted(first) == [(0, -1), *[(1, 2)] * 5, (2, 0)]
    assert (first.read, first.until) == (7, SINCE + 3)
    assert catch_up(first, view, lambda use: use(store)) is first
    post(store, ("later", "u2", None, "i0", "cart"), received_at=SINCE + 2)  # its id is before the last one's
    post(store, ("z", "u2", None, "i2", "cart"), received_at=SINCE + 3)
    second = catch_up(first, view, lambda use: use(store))
    assert second.read == 8  # what was committed late is found by number, as what was deleted
    delete_user(store, "u1", now=SINCE + 10)
    link_visitor(store, "u9", "v1", now=SINCE + 10)
    monkeypatch.setattr(module, "CHECK_SECONDS", 0)
    third = catch_up(second, view, lambda use: use(store))
    assert counted(third) == [(0, -1), (0, 1), (2, 0), (2, 1)]
    delete_visitor(store, "v1", now=SINCE + 11)
    assert counted(catch_up(third, view, lambda use: use(store))) == [(0, -1), (0, 1), (2, 1)]


def test_what_was_received_just_now_waits_until_others_have_been_committed(sqlite_store, view):
    post(sqlite_store, ("e1", "u1", None, "i1", "view"), received_at=sqlite_store.now())
    assert catch_up(no_events(SINCE), view, lambda use: use(sqlite_store)).read == 0


def test_an_item_that_is_made_known_later_counts_from_then_on(sqlite_store, view, monkeypatch):
    monkeypatch.setattr(module, "_MOST_UNKNOWN", 2)
    post(sqlite_store, *((f"e{at}", "u1", None, f"new{at}", "view") for at in range(3)))
    found = catch_up(no_events(SINCE), view, lambda use: use(sqlite_store))
    assert found.rows.tolist() == [-1, -1, -1]
    items = [changed_item(f"new{at}", 1) for at in (2, 1, 0)]
    grown = replace(view, fresh=extend(view.main, None, items))
    assert found.under(grown).rows.tolist() == [5, 4, -1]
    monkeypatch.setattr(module, "_MOST", 2)
    post(sqlite_store, ("e3", "u1", None, "i1", "view"), received_at=SINCE + 2)
    newest = catch_up(found, view, lambda use: use(sqlite_store))
    assert (newest.read, newest.under(grown).rows.tolist()) == (4, [-1, 1])
