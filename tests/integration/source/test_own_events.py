"""Two streams, counted once: the shop's database, and what was posted to the service."""

from pathlib import Path

import pyarrow as pa
import pytest
from shops import DAY, GOOD, MINUTE, NOW, SECONDS, Shop, events_of, found, load, own_events

from recsys.store.database import Store
from recsys.store.events import insert_events
from recsys.store.users import delete_user


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_own_events_of_kinds_that_the_source_lacks_are_added(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [(user, item, "purchase", time, 1.0) for user, item, _, time, _ in GOOD])
    insert_events(
        sqlite_store,
        own_events([("u1", "i1", "view", NOW - DAY), ("new", "fresh", "cart", NOW), ("u1", "i1", "purchase", NOW)]),
    )
    loaded = load(shop.config(), sqlite_store)
    kinds = [event[2] for event in events_of(loaded)]
    assert (kinds.count("purchase"), kinds.count("view"), kinds.count("cart")) == (600, 1, 1)
    assert loaded.users.row_of("new") >= 0
    assert loaded.catalog.ids.row_of("fresh") >= 0
    assert found(loaded.report, "own event of a kind that is not taken").rows == 1


def test_an_event_that_came_by_both_streams_counts_once(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [("a", "x", "view", SECONDS, 1.0), ("b", "y", "view", SECONDS, 1.0)])
    insert_events(
        sqlite_store,
        own_events(
            [
                ("a", "x", "view", NOW - 9 * MINUTE),  # the same
                ("a", "x", "view", NOW + 10 * MINUTE),  # just the same
                ("a", "x", "view", NOW - 11 * MINUTE),  # too early
                ("a", "y", "view", NOW),  # another item
                ("b", "x", "view", NOW),  # another item
                ("b", "y", "cart", NOW),  # another kind, which is not taken
            ]
        ),
    )
    loaded = load(shop.config({"own_kinds": ["view"]}), sqlite_store)
    assert [event[:4] for event in events_of(loaded)] == [
        ("a", "x", "view", NOW - 11 * MINUTE),
        ("a", "x", "view", NOW),
        ("a", "y", "view", NOW),
        ("b", "x", "view", NOW),
        ("b", "y", "view", NOW),
    ]
    assert found(loaded.report, "event in both streams").rows == 2
    none = load(shop.config({"own_kinds": []}), sqlite_store)
    assert len(none.events) == 2
    all_of_them = load(shop.config({"own_kinds": ["view"], "dedup_window_minutes": 0}), sqlite_store)
    assert len(all_of_them.events) == 7


def test_own_events_received_after_the_watermark_are_left_to_the_night_after(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [(user, item, "purchase", time, 1.0) for user, item, _, time, _ in GOOD])
    rows = own_events([("u1", "i1", "view", NOW - DAY)])
    late = rows.set_column(rows.column_names.index("received_at"), "received_at", pa.array([2**60]))
    insert_events(sqlite_store, late)
    loaded = load(shop.config(), sqlite_store)
    assert len(loaded.events) == 600
    assert loaded.watermark <= sqlite_store.now()


def test_what_a_deleted_user_did_counts_nowhere(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [*GOOD, ("gone", "i1", "view", SECONDS - DAY, 1.0), ("back", "i1", "view", SECONDS, 1.0)])
    shop.run(f"UPDATE events SET timestamp = {SECONDS - 86_400} WHERE user_id = 'gone'")
    shop.add("events", [("back", "i2", "view", SECONDS - 90_000, 1.0)])
    for user in ("gone", "back"):
        delete_user(sqlite_store, user, now=NOW - DAY)
    loaded = load(shop.config(), sqlite_store)
    assert loaded.users.row_of("gone") == -1
    assert [event for event in events_of(loaded) if event[0] == "back"] == [("back", "i1", "view", NOW, 1.0)]
    assert found(loaded.report, "event of a deleted user").rows == 2
