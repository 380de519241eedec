"""Visitors: merged with a user once and for good, kept for a time, and deleted with whom they are."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from test_store import events, stored

from recsys.errors import RefusedError
from recsys.store import bulk
from recsys.store import events as events_module
from recsys.store import visitors as visitors_module
from recsys.store.changes import read_changes
from recsys.store.events import insert_events, settle
from recsys.store.users import Deleted, delete_user, delete_visitor, read_deletions, upsert_users
from recsys.store.visitors import (
    ALWAYS,
    Merge,
    Visitors,
    link,
    lock_users,
    merge_visitor,
    prune_visitors,
    read_visitors,
)

OWNERS = [
    *({"user_id": f"u{n}", "visitor_id": None} for n in range(2)),
    *({"user_id": None, "visitor_id": f"v{n}"} for n in range(3)),
    *({"user_id": f"u{n % 2}", "visitor_id": f"v{n}"} for n in range(3)),
]
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("event_id", "user_id", "visitor_id", "kind", "item_id"), pa.string()),
        **dict.fromkeys(("received_at", "occurred_at"), pa.int64()),
    }
)


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


@pytest.mark.parametrize(("delete", "name"), [(delete_user, "u"), (delete_visitor, "v")])
def test_a_deletion_waits_for_a_merge_that_is_under_way_and_deletes_both(store, delete, name):
    put(store, "mine", visitor="v")
    with ThreadPoolExecutor() as pool:
        with store.writing() as connection:
            link(connection, store.tables, {"v": Merge("u", ALWAYS)}, 300)
            deletion = pool.submit(delete, store, name, now=310)
            time.sleep(0.3)
            assert not deletion.done()
        assert deletion.result(timeout=60) == Deleted("u", ["v"], 1, known=True)
    assert owners(store) == {}
    assert read_deletions(store) == {"u": 310}
    assert read_visitors(store) == Visitors({}, {"v": 310})


def test_a_merge_waits_for_the_deletion_of_the_user_and_brings_nothing_from_before_it(store):
    put(store, "old", visitor="v", at=100)
    put(store, "new", visitor="v", at=320)
    with ThreadPoolExecutor() as pool:
        with store.writing() as connection:
            lock_users(connection, store.tables, ["u"])
            connection.execute(store.tables.deletions.insert().values(user_id="u", deleted_at=310))
            merge = pool.submit(merge_visitor, store, "u", "v", now=300)
            login = pool.submit(put, store, "login", user="u", visitor="w", at=305)
            time.sleep(0.3)
            assert not merge.done()
            assert not login.done()
        assert merge.result(timeout=60) == 2
        assert login.result(timeout=60) == 0
    assert owners(store) == {"new": "u"}
    assert read_visitors(store) == Visitors({"v": "u"}, {})
    assert read_deletions(store) == {"u": 310}


def test_a_lock_leaves_no_tombstone(store):
    merge_visitor(store, "u", "v", now=1)
    assert read_deletions(store) == {}


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)  # in SQLite one writes at a time
@pytest.mark.parametrize(
    ("owner", "decide", "names", "left"),
    [
        ({"user": "u"}, delete_user, ("u",), {"first": None}),
        ({"visitor": "v"}, delete_visitor, ("v",), {}),
        ({"visitor": "v"}, merge_visitor, ("u", "v"), {"first": "u", "second": "u"}),
    ],
    ids=["user deleted", "visitor deleted", "merged"],
)
def test_what_is_decided_while_an_event_is_stored_counts_for_it(store, monkeypatch, owner, decide, names, left):
    """A row that nobody else sees yet is claimed or removed by who stores it."""
    put(store, "first", visitor="v")
    insert = events_module.bulk_insert

    def decide_first(connection, table, rows, **options):
        with ThreadPoolExecutor() as pool:
            pool.submit(decide, store, *names, now=150).result(timeout=60)
        return insert(connection, table, rows, **options)

    monkeypatch.setattr(events_module, "bulk_insert", decide_first)
    assert put(store, "second", **owner) == 1
    assert owners(store) == left


def test_older_rows_do_not_bring_a_merge_back_after_a_deletion(store):
    """A file that is imported again names both ids; only what happened since the deletion counts."""
    put(store, "1", user="u", visitor="v", at=100)
    delete_visitor(store, "v", now=150)
    assert put(store, "1", user="u", visitor="v", at=100) == 0
    assert put(store, "2", user="other", visitor="v", at=149) == 1  # the event is the other's, who was not deleted
    delete_visitor(store, "w", now=150)
    put(store, "3", user="other", visitor="w", at=150)
    assert read_visitors(store) == Visitors({}, {"v": 150, "w": 150})
    assert put(store, "4", visitor="v", at=151) == 1
    assert owners(store) == {"2": "other", "3": "other", "4": None}
    put(store, "5", user="u", visitor="v", at=152)
    assert read_visitors(store).merged == {"v": "u"}
    assert put(store, "6", visitor="v", at=140) == 0
    assert owners(store)["4"] == "u"


def test_a_visitor_of_a_deleted_user_who_comes_back_brings_nothing_from_before(store):
    put(store, "visit", visitor="v", at=100)
    delete_user(store, "u", now=150)
    put(store, "login", user="u", visitor="v", at=160)
    assert put(store, "late", visitor="v", at=149) == 0
    assert owners(store) == {"login": "u"}


def test_no_answer_counts_what_a_tombstone_covers(store):
    """Rows that are about to be removed: a visitor's own, and those of the user with whom the visitor was merged."""
    put(store, "1", visitor="v", at=100)
    put(store, "2", user="u", visitor="w", at=100)
    put(store, "3", user="u", visitor="w", at=200)
    with store.writing() as connection:
        tables = store.tables
        connection.execute(tables.visitors.insert().values(visitor_id="v", deleted_at=150))
        connection.execute(tables.deletions.insert().values(user_id="u", deleted_at=150))
    found = read_changes(store, [], ["v", "w"], occurred_before=999).events
    assert (found.owners, found.times) == (["w"], [200])
    assert read_changes(store, [], ["v"], occurred_before=999, length=5).events.times == []
    assert read_changes(store, [], ["w"], occurred_before=999, length=5).events.times == [200]
    settle(store)
    assert owners(store) == {"3": "u"}


def test_what_a_writer_that_died_left_undone_is_done_by_the_next_training(store):
    put(store, "visit", visitor="v", at=100)
    with store.writing() as connection:
        link(connection, store.tables, {"v": Merge("u", ALWAYS)}, 300)
    assert owners(store) == {"visit": None}
    settle(store)
    assert owners(store) == {"visit": "u"}


def test_very_many_events_are_claimed_and_removed_in_short_transactions(store, monkeypatch):
    for module in (bulk, visitors_module):
        monkeypatch.setattr(module, "MANY_ROWS", 7)
    count = 40
    visits = events([f"e{n}" for n in range(count)]).drop_columns("user_id")
    insert_events(store, visits.append_column("visitor_id", [["v"] * count]))
    assert merge_visitor(store, "u", "v", now=300) == count
    put(store, "u's own", user="u")
    assert delete_visitor(store, "v", now=400).events == count + 1
    assert owners(store) == {}


def test_two_merges_of_one_visitor_at_once_make_one(store):
    put(store, "visit", visitor="v")
    with ThreadPoolExecutor(6) as pool:
        merges = [pool.submit(merge_visitor, store, f"u{n}", "v", now=300) for n in range(6)]
        failed = [merge.exception(timeout=60) for merge in merges]
    assert failed.count(None) == 1
    assert all(isinstance(error, RefusedError) for error in failed if error)
    assert read_visitors(store).merged == {"v": f"u{failed.index(None)}"} == {"v": owners(store)["visit"]}


def test_a_user_with_the_id_of_a_visitor_is_another_person(store):
    put(store, "1", visitor="same")
    put(store, "2", user="same")
    assert delete_visitor(store, "same", now=150) == Deleted(None, ["same"], 1, known=True)
    assert owners(store) == {"2": "same"}
    put(store, "3", visitor="same", at=160)
    assert delete_user(store, "same", now=150).visitor_ids == []
    assert owners(store) == {"3": None}
    assert merge_visitor(store, "same", "same", now=200) == 1
    assert delete_user(store, "same", now=300) == Deleted("same", ["same"], 1, known=True)


def test_whoever_writes_at_once_neither_fails_nor_leaves_what_was_deleted(store):
    """Posts, merges and deletions of the same few in threads: nobody is refused for a deadlock."""

    def write(seed):
        chosen = random.Random(seed)
        for at in range(8):
            user, visitor = f"u{chosen.randint(0, 1)}", f"v{chosen.randint(0, 2)}"
            if seed == 0:
                delete_user(store, user, now=150 + at)
            elif seed == 1:
                delete_visitor(store, visitor, now=150 + at)
            else:
                ids = {f"e{chosen.randint(0, 60)}" for _ in range(8)}
                rows = [{"event_id": event_id, **chosen.choice(OWNERS)} for event_id in sorted(ids)]
                constant = {"kind": "view", "item_id": "i", "received_at": 100 + at, "occurred_at": 100 + at}
                insert_events(store, pa.Table.from_pylist([row | constant for row in rows], SCHEMA))

    with ThreadPoolExecutor(5) as pool:
        assert [done.exception(timeout=120) for done in [pool.submit(write, seed) for seed in range(5)]] == [None] * 5
    kept, known = stored(store, "events", "user_id", "visitor_id"), read_visitors(store)
    deleted = read_deletions(store)
    assert not [user for user, _ in kept if user in deleted]  # all happened before the deletions
    assert not [visitor for user, visitor in kept if user is None and visitor in {*known.deleted, *known.merged}]


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
