"""The own tables are made from whatever is there, by one process at a time."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from threading import Barrier
from unittest import mock

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from test_store import events, stored

import migrations
from recsys.errors import RecsysError
from recsys.store.database import Store, count_rows
from recsys.store.events import insert_events
from recsys.store.migrate import migrate, newest_migration, open_store, read_revisions
from recsys.store.users import delete_user, delete_visitor, read_deletions
from recsys.store.visitors import read_visitors

NAMES = {"items", "users", "events", "deletions", "runs", "leases", "due", "keys", "counters", "migrations"}
NAMES |= {"audiences", "audience_members", "visitors", "requests", "placements", "reviews"}
NAMES |= {"campaigns", "campaign_changes", "exports"}


def shapes(store: Store):
    """Every table with its columns and indexes, as the database itself describes them."""
    inspector = sa.inspect(store.engine)
    return {
        name: (
            [(c["name"], repr(c["type"]), c["nullable"]) for c in inspector.get_columns(name)],
            sorted(str(i["name"]) for i in inspector.get_indexes(name)),
        )
        for name in inspector.get_table_names()
    }


def test_an_empty_database_gets_all_tables(empty_database):
    with closing(open_store(empty_database)) as store:
        assert set(shapes(store)) == {f"recsys_{name}" for name in NAMES}


def test_migrating_twice_changes_nothing(empty_database):
    first = open_store(empty_database)
    insert_events(first, events(["e1"]))
    before = shapes(first)
    migrate(first)
    with closing(open_store(empty_database)) as second:
        assert shapes(second) == before
        assert stored(second, "events", "event_id") == [("e1",)]
    first.close()


def test_two_prefixes_live_side_by_side(empty_database):
    with closing(open_store(empty_database, "a_")) as one, closing(open_store(empty_database, "b_")) as other:
        insert_events(one, events(["e1", "e2"]))
        insert_events(other, events(["e1"]))
        assert delete_user(one, "u1", now=1).events == 2
        assert count_rows(one)["events"] == 0
        assert count_rows(other)["events"] == 1
        assert read_deletions(other) == {}
        assert set(shapes(one)) == {prefix + name for prefix in ("a_", "b_") for name in NAMES}


def test_the_migrations_make_the_tables_that_the_code_expects(store):
    with store.engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"version_table": "recsys_migrations", "compare_type": True, "compare_server_default": True},
        )
        assert compare_metadata(context, store.tables.items.metadata) == []


def test_a_migration_that_was_killed_halfway_is_finished_by_the_next(empty_database):
    with closing(open_store(empty_database)) as store:
        wanted = shapes(store)
        with store.writing() as connection:  # MariaDB leaves the tables made so far and no version
            for name in ("recsys_migrations", "recsys_runs", "recsys_leases"):
                connection.execute(sa.text(f"DROP TABLE {name}"))
    with closing(open_store(empty_database)) as store:
        assert shapes(store) == wanted


def test_events_of_before_that_name_both_ids_have_merged_them(empty_database):
    with closing(open_store(empty_database)) as store:
        rows = [("a", "late", "v", 3), ("b", "u", "v", 2), ("c", None, "v", 1), ("d", "u", None, 1), ("e", "u", "w", 9)]
        with store.writing() as connection:
            for event, user, visitor, at in rows:
                row = {"event_id": event, "user_id": user, "visitor_id": visitor, "kind": "view", "item_id": "i"}
                connection.execute(store.tables.events.insert().values(**row, occurred_at=at, received_at=at))
            connection.execute(sa.text("DROP TABLE recsys_visitors"))
            connection.execute(sa.text("UPDATE recsys_migrations SET version_num = '0004'"))
    with closing(open_store(empty_database)) as store:
        assert read_visitors(store).merged == {"v": "u", "w": "u"}
        assert delete_visitor(store, "w", now=10).visitor_ids == ["v", "w"]
        assert stored(store, "events", "event_id") == [("a",)]


def open_at_once(url: str, barrier: Barrier) -> int:
    """Open the store once all have seen that its tables are not there yet."""
    looked = read_revisions

    def wait_for_the_others(store: Store) -> tuple[str | None, str | None]:
        found = looked(store)
        barrier.wait(timeout=60)
        return found

    with mock.patch("recsys.store.migrate.read_revisions", wait_for_the_others), closing(open_store(url)) as store:
        return len(shapes(store))


def test_several_processes_may_create_the_tables_at_once(empty_database):
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(3, mp_context=context) as pool:
        barrier = manager.Barrier(3)
        made = [pool.submit(open_at_once, empty_database, barrier) for _ in range(3)]
        assert [one.result() for one in made] == [len(NAMES)] * 3


@pytest.mark.parametrize("empty_database", ["mariadb"], indirect=True)  # whose lock does not end with the transaction
def test_the_lock_of_the_migrations_is_given_up_after_they_are_there_for_everybody(empty_database):
    seen = []

    def look(_connection, _cursor, statement, *_):
        if "RELEASE_LOCK" in statement:
            seen.append(read_revisions(other))

    store, other = open_store(empty_database, migrated=False), open_store(empty_database, migrated=False)
    sa.event.listen(store.engine, "before_cursor_execute", look)
    migrate(store)
    newest = read_revisions(other)[1]
    store.close()
    other.close()
    assert seen == [(newest, newest)]


def test_tables_of_a_newer_version_are_refused(empty_database):
    with closing(open_store(empty_database)) as store, store.writing() as connection:
        connection.execute(sa.text("UPDATE recsys_migrations SET version_num = '9999'"))
    with pytest.raises(RecsysError, match="recsys_"):
        open_store(empty_database)


def test_the_names_of_files_say_what_the_newest_migration_is():
    assert newest_migration() == ScriptDirectory(migrations.__path__[0]).get_current_head()
