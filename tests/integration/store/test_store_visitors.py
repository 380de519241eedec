"""Visitors: merged with a user once and for good, kept for a time, and deleted with whom they are."""

import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from test_store import events, stored

from recsys.errors import RefusedError
from recsys.store.changes import read_changes
from recsys.store.events import insert_events
from recsys.store.users import Deleted, delete_user, delete_visitor, read_deletions, upsert_users
from recsys.store.visitors import Visitors, claim, link, merge_visitor, prune_visitors, read_visitors


def put(store, event_id, *, user=None, visitor=None, at=100, received=200):
    row = {"event_id": event_id, "user_id": user, "visitor_id": visitor, "kind": "view", "item_id": "i"}
    return insert_events(store, pa.Table.from_pylist([{**row, "occurred_at": at, "received_at": received}]))


def owners(store):
    return dict(stored(store, "events", "event_id", "user_id"))


def test_an_event_with_both_ids_makes_what_the_visitor_did_the_user_s(store):
    put(store, "before", visitor="v")
    put(store, "another's", visitor="w")
    put(store, "login", user="u", visitor="v", received=300)
    put(store, "after", visitor="v", received=400)
    assert owners(store) == {"before": "u", "another's": None, "login": "u", "after": "u"}
    # Who has read the user's events up to 250 has not seen the one from before.
    assert sorted(read_changes(store, ["u"], received_after=250, occurred_before=999).events.times) == [100] * 3


def test_one_request_may_hold_the_visit_and_the_login_in_any_order(store):
    rows = [("a", None, "v", 3), ("b", "u", "v", 2), ("c", "late", "v", 9), ("d", None, "v", 1), ("e", "x", None, 5)]
    names = ("event_id", "user_id", "visitor_id", "occurred_at")
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
    constant = [pa.array([text] * len(rows)) for text in ("view", "i")]
    table = table.append_column("kind", constant[0]).append_column("item_id", constant[1])
    insert_events(store, table.append_column("received_at", pa.array([200] * len(rows))))
    assert owners(store) == {"a": "u", "b": "u", "c": "late", "d": "u", "e": "x"}


def test_the_first_merge_stays(store):
    put(store, "mine", visitor="v")
    assert merge_visitor(store, "u", "v", now=300) == 1
    assert merge_visitor(store, "u", "v", now=301) == 0
    put(store, "theirs", user="other", visitor="v")
    with pytest.raises(RefusedError, match="another user before"):
        merge_visitor(store, "other", "v", now=302)
    put(store, "later", visitor="v")
    assert owners(store) == {"mine": "u", "theirs": "other", "later": "u"}
    assert read_visitors(store) == Visitors({"v": "u"}, {})


@pytest.mark.parametrize("ids", [("", "v"), ("u", ""), ("u" * 256, "v"), ("u", "v\x00")])
def test_an_id_that_cannot_be_stored_is_not_merged(store, ids):
    with pytest.raises(RefusedError, match="allowed are 1 to 255"):
        merge_visitor(store, *ids, now=1)
    assert read_visitors(store) == Visitors({}, {})


@pytest.mark.parametrize(("delete", "name"), [(delete_user, "u"), (delete_visitor, "v"), (delete_visitor, "w")])
def test_joined_ids_are_deleted_together_by_whichever_is_named(store, delete, name):
    put(store, "1", user="u", visitor="v")
    put(store, "2", user="u", visitor="w")
    put(store, "3", visitor="w")
    put(store, "4", user="stays", visitor="other")
    upsert_users(store, pa.table({"user_id": ["u"]}))
    assert delete(store, name, now=150) == Deleted("u", ["v", "w"], 3, known=True)
    assert owners(store) == {"4": "stays"}
    assert stored(store, "users", "user_id") == []
    assert read_deletions(store) == {"u": 150}
    assert read_visitors(store) == Visitors({"other": "stays"}, {"v": 150, "w": 150})
    assert put(store, "late", visitor="v", at=149) == 0
    assert put(store, "new", visitor="v", at=151) == 1
    assert owners(store)["new"] is None  # whoever comes back is a stranger
    assert delete_visitor(store, "v", now=150).events == 1


def test_a_deletion_waits_for_a_merge_that_is_under_way_and_deletes_the_user_too(store):
    put(store, "mine", visitor="v")
    with ThreadPoolExecutor() as pool:
        with store.writing() as connection:
            link(connection, store.tables, {"v": "u"}, 300)
            claim(connection, store.tables, ["v"], 300)
            deletion = pool.submit(delete_visitor, store, "v", now=310)
            time.sleep(0.5)
            assert not deletion.done()
        assert deletion.result(timeout=60) == Deleted("u", ["v"], 1, known=True)
    assert owners(store) == {}
    assert read_deletions(store) == {"u": 310}


def test_a_visitor_who_was_deleted_can_be_merged_again(store):
    put(store, "1", visitor="v")
    assert delete_visitor(store, "v", now=150) == Deleted(None, ["v"], 1, known=True)
    put(store, "2", visitor="v", at=200)
    put(store, "3", user="u", visitor="v", at=201)
    assert owners(store) == {"2": "u", "3": "u"}
    assert read_visitors(store) == Visitors({"v": "u"}, {"v": 150})


def test_an_event_of_a_user_and_a_deleted_visitor_is_the_user_s(store):
    delete_visitor(store, "v", now=150)
    assert put(store, "1", user="u", visitor="v", at=100) == 1


def test_deleting_whom_nobody_knows_says_so(store):
    assert delete_user(store, "u", now=1) == Deleted("u", [], 0, known=False)
    assert delete_visitor(store, "v", now=1) == Deleted(None, ["v"], 0, known=False)
    upsert_users(store, pa.table({"user_id": ["listed"]}))
    assert delete_user(store, "listed", now=1).known
    merge_visitor(store, "merged", "w", now=1)
    assert delete_user(store, "merged", now=2).known


def test_visits_are_kept_for_a_time_and_what_users_did_for_good(store):
    put(store, "old", visitor="v", received=99)
    put(store, "new", visitor="v", received=100)
    put(store, "user's", user="u", received=1)
    put(store, "merged", visitor="w", received=1)
    merge_visitor(store, "u", "w", now=2)
    assert prune_visitors(store, received_before=100) == 1
    assert sorted(owners(store)) == ["merged", "new", "user's"]


def test_thousands_of_visitors_log_in_at_once(store):
    count = 2_500
    visits = events([f"e{n}" for n in range(count)]).drop_columns("user_id")
    insert_events(store, visits.append_column("visitor_id", [[f"v{n}" for n in range(count)]]))
    logins = events([f"l{n}" for n in range(count)]).drop_columns("user_id")
    logins = logins.append_column("visitor_id", [[f"v{n}" for n in range(count)]])
    insert_events(store, logins.append_column("user_id", [[f"u{n}" for n in range(count)]]))
    assert all(owners(store)[f"e{n}"] == f"u{n}" for n in range(0, count, 100))
