"""What a run learns from: every event that counts, once, and a word about every row that does not."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recsys import source
from recsys.check import Finding, Report
from recsys.config import Config
from recsys.errors import RefusedError, SourceError
from recsys.source import Loaded
from recsys.store import Store

NOW = 1_577_880_000_000_000  # 2020-01-01 12:00 UTC, microseconds
MINUTE = 60_000_000
DAY = 86_400_000_000
SECONDS = NOW // 1_000_000
GOOD = [(f"u{at % 20}", f"i{at % 30}", "view", SECONDS - 100_000 + at, 1.0) for at in range(600)]
SECTION = "SELECT user_id, item_id, event, timestamp, value FROM events"


def quiet(step: str, share: float) -> None:
    assert 0 <= share <= 1, step


class Shop:
    """A shop in a SQLite file and a configuration that reads it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shop.db"
        self.run(
            "CREATE TABLE events (user_id, item_id, event, timestamp, value)",
            "CREATE TABLE items (item_id, title, category, brand, price, available, image_url, created_at, color)",
            "CREATE TABLE users (user_id, email_consent, city)",
        )

    def run(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    def add(self, table: str, rows: Sequence[Sequence[object]]) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
            connection.commit()

    def config(self, events: dict[str, Any] | None = None, **settings: Any) -> Config:
        values = {"url": f"sqlite:///{self.path}", "interactions": SECTION, **settings}
        return Config.model_validate({"source": values, "events": events or {}})


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def load(config: Config, store: Store) -> Loaded:
    return source.load(config, store, now=NOW, report=quiet)


def check(config: Config, store: Store) -> Report:
    return source.check(config, store, now=NOW, report=quiet)


def found(report: Report, reason: str) -> Finding:
    [finding] = [finding for finding in report.findings if finding.reason == reason]
    return finding


def events_of(loaded: Loaded) -> list[tuple[str, str, str, int, float | None]]:
    """Every event with its ids, in the order in which they lie."""
    events = loaded.events
    users, items = loaded.users.ids_of(events.users), loaded.catalog.ids.ids_of(events.items)
    kinds = [loaded.kinds[code] for code in events.kinds]
    values = [None if np.isnan(value) else float(value) for value in events.values]
    return list(zip(users, items, kinds, events.times.tolist(), values, strict=True))


def own_events(rows: Sequence[tuple[str, str, str, int]]) -> pa.Table:
    users, items, kinds, times = zip(*rows, strict=True)
    return pa.table(
        {
            "event_id": [f"e{at}" for at in range(len(rows))],
            "user_id": users,
            "item_id": items,
            "kind": kinds,
            "occurred_at": times,
            "received_at": [NOW - 1] * len(rows),
        }
    )


def test_events_come_by_user_and_time_with_their_kinds_and_values(shop: Shop, sqlite_store: Store) -> None:
    shop.add(
        "events",
        [
            ("b", "x", "bought", SECONDS, 2.5),
            ("a", "y", "view", SECONDS - 5, None),
            ("b", "y", "cart", SECONDS - 9, 1.0),
            ("a", "x", "view", SECONDS - 7, None),
        ],
    )
    loaded = load(shop.config({"kinds": {"bought": "purchase"}}), sqlite_store)
    assert events_of(loaded) == [
        ("a", "x", "view", NOW - 7_000_000, None),
        ("a", "y", "view", NOW - 5_000_000, None),
        ("b", "y", "cart", NOW - 9_000_000, 1.0),
        ("b", "x", "purchase", NOW, 2.5),
    ]
    assert loaded.report.kinds["bought"] == {"kind": "purchase", "rows": 1}
    assert loaded.report.counts == {"rows": 4, "events": 4, "users": 2, "items": 2, "catalog": 2}
    assert (loaded.report.first, loaded.report.last) == (NOW - 9_000_000, NOW)
    assert loaded.report.mapping["interactions"]["event"] == "kind"


BAD = {
    "no user": (None, "x", "view", SECONDS, 1.0),
    "no item": ("u1", "", "view", SECONDS, 1.0),
    "id is bytes": ("u1", b"\xff", "view", SECONDS, 1.0),
    "id too long or with NUL": ("u" * 256, "x", "view", SECONDS, 1.0),
    "no kind": ("u1", "x", None, SECONDS, 1.0),
    "unknown kind": ("u1", "x", "wish", SECONDS, 1.0),
    "no time": ("u1", "x", "view", None, 1.0),
    "unreadable time": ("u1", "x", "view", "soon", 1.0),
    "time before 1970": ("u1", "x", "view", -5, 1.0),
    "time in the future": ("u1", "x", "view", "3000-01-01", 1.0),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_few_bad_rows_are_left_out_and_counted_by_reason(shop: Shop, sqlite_store: Store, reason: str) -> None:
    shop.add("events", [*GOOD, BAD[reason], BAD[reason]])
    loaded = load(shop.config(), sqlite_store)
    assert len(loaded.events) == len(GOOD)
    finding = found(loaded.report, reason)
    assert (finding.severity, finding.rows, finding.of, finding.left_out) == ("warning", 2, len(GOOD) + 2, True)
    assert len(finding.examples) == 2


@pytest.mark.parametrize("reason", BAD)
def test_many_bad_rows_refuse_the_run(shop: Shop, sqlite_store: Store, reason: str) -> None:
    shop.add("events", [*GOOD, *[BAD[reason]] * 10])
    with pytest.raises(RefusedError, match=f"{reason}: 10 of 610 rows"):
        load(shop.config(), sqlite_store)
    finding = found(check(shop.config(), sqlite_store), reason)
    assert finding.severity == "error"
    assert len(finding.examples) == 3
    assert load(shop.config(max_bad_share=0.05), sqlite_store).report.counts["events"] == len(GOOD)


def test_a_row_is_left_out_for_one_reason_only(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [*GOOD, GOOD[0], (None, None, None, None, None)])
    sqlite_store.insert_events(own_events([("u1", "i1", "view", NOW), ("u1", "i1", "cart", NOW)]))
    sqlite_store.delete_user("u2", now=NOW)
    report = check(shop.config(), sqlite_store)
    reasons = {f.reason for f in report.findings if f.left_out}
    assert reasons == {"no user", "duplicate", "own event of a kind that is not taken", "event of a deleted user"}
    assert report.counts["rows"] == report.counts["events"] + sum(f.rows for f in report.findings if f.left_out)


def test_an_id_with_nul_is_left_out(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [*GOOD, ("a\x00b", "x", "view", SECONDS, 1.0)])
    assert found(check(shop.config(), sqlite_store), "id too long or with NUL").rows == 1


def test_an_event_of_tomorrow_is_no_mistake(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [*GOOD, ("u1", "x", "view", SECONDS + 86_000, 1.0)])
    assert len(load(shop.config(), sqlite_store).events) == len(GOOD) + 1


def test_rows_that_are_equal_in_everything_count_once(shop: Shop, sqlite_store: Store) -> None:
    twins = [("a", "x", "view", SECONDS, 1.0), ("a", "x", "view", SECONDS, 1.0), ("a", "x", "view", SECONDS, 2.0)]
    nulls = [("b", "y", "view", SECONDS, None)] * 3
    shop.add("events", [*twins, *nulls])
    loaded = load(shop.config(), sqlite_store)
    assert events_of(loaded) == [
        ("a", "x", "view", NOW, 1.0),
        ("a", "x", "view", NOW, 2.0),
        ("b", "y", "view", NOW, None),
    ]
    assert found(loaded.report, "duplicate").rows == 3
    assert found(loaded.report, "duplicate").severity == "warning"


def test_ids_of_mixed_type_are_one_id_and_noticed(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [*GOOD, (17850, "x", "view", SECONDS, 1.0), ("17850", "x", "view", SECONDS - 1, 1.0)])
    loaded = load(shop.config(), sqlite_store)
    assert loaded.users.row_of("17850") >= 0
    finding = found(loaded.report, "user_id of mixed type")
    assert (finding.severity, finding.rows) == ("warning", 1)


def test_times_without_a_zone_are_noticed_and_taken_in_the_configured_one(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [("a", "x", "view", "2020-01-01 10:00:00", 1), ("b", "y", "view", "2020-01-01T10:00:00Z", 1)])
    berlin = load(shop.config(timezone="Europe/Berlin"), sqlite_store)
    assert [event[3] for event in events_of(berlin)] == [NOW - 180 * MINUTE, NOW - 120 * MINUTE]
    assert found(berlin.report, "time without a zone").rows == 1
    assert "Europe/Berlin" in found(berlin.report, "time without a zone").advice
    utc = load(shop.config(), sqlite_store)
    assert [event[3] for event in events_of(utc)] == [NOW - 120 * MINUTE] * 2
    assert "UTC" in found(utc.report, "time without a zone").advice


def test_the_catalog_comes_in_its_order_then_items_that_only_events_know(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [("a", "z", "view", SECONDS, 1), ("a", "c", "view", SECONDS, 1), ("b", "x", "view", SECONDS, 1)])
    shop.add(
        "items",
        [
            ("z", "Zebra", "Animals", "Wild", "12.50", "t", "http://z", "2019-01-01", "black"),
            ("never", 5, None, None, "cheap", 0, None, None, None),
            ("c", None, None, None, 3, 1, None, SECONDS, "red"),
            ("z", "Another", None, None, 1, 1, None, None, None),
            (None, "Nobody", None, None, 1, 1, None, None, None),
        ],
    )
    loaded = load(shop.config(items="SELECT * FROM items"), sqlite_store)
    assert list(loaded.catalog.ids) == ["z", "never", "c", "x"]
    assert loaded.catalog.columns.to_pydict() == {
        "title": ["Zebra", "5", None, None],
        "category": ["Animals", None, None, None],
        "brand": ["Wild", None, None, None],
        "price": [12.5, None, 3.0, None],
        "available": [True, False, True, None],
        "image_url": ["http://z", None, None, None],
        "created_at": [NOW - 365 * DAY - DAY // 2, None, NOW, None],
        "color": ["black", None, "red", None],
    }
    report = loaded.report
    assert found(report, "item_id of items comes twice").examples == ("item_id='z'",)
    assert found(report, "items without a usable item_id").rows == 1
    assert found(report, "price of items cannot be read").rows == 1
    missing = found(report, "item without catalog row")
    assert (missing.severity, missing.rows, missing.examples) == ("note", 1, ("item_id='x'",))


def test_a_shop_without_a_query_of_items_has_the_items_of_its_events(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", GOOD)
    loaded = load(shop.config(), sqlite_store)
    assert len(loaded.catalog) == 30
    assert loaded.catalog.columns.num_rows == 30
    assert not [f for f in loaded.report.findings if f.reason == "item without catalog row"]


def test_consent_is_known_for_users_of_the_query_alone(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", GOOD)
    shop.add(
        "users", [("u1", 1, "Rome"), ("u2", "no", None), ("u3", None, None), ("guest", "t", None), ("u4", "?", None)]
    )
    loaded = load(shop.config(users="SELECT * FROM users"), sqlite_store)
    assert loaded.consent is not None
    consent = dict(zip(loaded.users, loaded.consent.to_pylist(), strict=True))
    assert {user: consent[user] for user in ("u1", "u2", "u3", "u4", "u5", "guest")} == {
        "u1": True,
        "u2": False,
        "u3": None,
        "u4": None,
        "u5": None,
        "guest": True,
    }
    assert len(loaded.users) == 21
    assert loaded.report.counts["users"] == 20
    assert found(loaded.report, "email_consent of users cannot be read").rows == 1
    assert load(shop.config(), sqlite_store).consent is None


def test_own_events_of_kinds_that_the_source_lacks_are_added(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [(user, item, "purchase", time, 1.0) for user, item, _, time, _ in GOOD])
    sqlite_store.insert_events(
        own_events([("u1", "i1", "view", NOW - DAY), ("new", "fresh", "cart", NOW), ("u1", "i1", "purchase", NOW)])
    )
    loaded = load(shop.config(), sqlite_store)
    kinds = [event[2] for event in events_of(loaded)]
    assert (kinds.count("purchase"), kinds.count("view"), kinds.count("cart")) == (600, 1, 1)
    assert loaded.users.row_of("new") >= 0
    assert loaded.catalog.ids.row_of("fresh") >= 0
    assert found(loaded.report, "own event of a kind that is not taken").rows == 1


def test_an_event_that_came_by_both_streams_counts_once(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [("a", "x", "view", SECONDS, 1.0), ("b", "y", "view", SECONDS, 1.0)])
    sqlite_store.insert_events(
        own_events(
            [
                ("a", "x", "view", NOW - 9 * MINUTE),  # the same
                ("a", "x", "view", NOW + 10 * MINUTE),  # just the same
                ("a", "x", "view", NOW - 11 * MINUTE),  # too early
                ("a", "y", "view", NOW),  # another item
                ("b", "x", "view", NOW),  # another item
                ("b", "y", "cart", NOW),  # another kind, which is not taken
            ]
        )
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
    all_of_them = load(shop.config({"own_kinds": ["view"], "same_event_minutes": 0}), sqlite_store)
    assert len(all_of_them.events) == 7


def test_own_events_received_after_the_watermark_are_left_to_the_night_after(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [(user, item, "purchase", time, 1.0) for user, item, _, time, _ in GOOD])
    rows = own_events([("u1", "i1", "view", NOW - DAY)])
    late = rows.set_column(rows.column_names.index("received_at"), "received_at", pa.array([2**60]))
    sqlite_store.insert_events(late)
    loaded = load(shop.config(), sqlite_store)
    assert len(loaded.events) == 600
    assert loaded.watermark <= sqlite_store.now()


def test_what_a_deleted_user_did_counts_nowhere(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [*GOOD, ("gone", "i1", "view", SECONDS - DAY, 1.0), ("back", "i1", "view", SECONDS, 1.0)])
    shop.run(f"UPDATE events SET timestamp = {SECONDS - 86_400} WHERE user_id = 'gone'")
    shop.add("events", [("back", "i2", "view", SECONDS - 90_000, 1.0)])
    for user in ("gone", "back"):
        sqlite_store.delete_user(user, now=NOW - DAY)
    loaded = load(shop.config(), sqlite_store)
    assert loaded.users.row_of("gone") == -1
    assert [event for event in events_of(loaded) if event[0] == "back"] == [("back", "i1", "view", NOW, 1.0)]
    assert found(loaded.report, "event of a deleted user").rows == 2


def test_the_own_tables_are_the_source_when_there_is_no_query(store: Store) -> None:
    store.insert_events(own_events([("a", "x", "view", NOW), ("b", "Y ", "purchase", NOW - 5)]))
    store.upsert_items(pa.table({"item_id": ["Y ", "z"], "price": [1.5, None], "color": ["red", None]}))
    store.upsert_users(pa.table({"user_id": ["a"], "email_consent": [True]}))
    loaded = load(Config(), store)
    assert events_of(loaded) == [("a", "x", "view", NOW, None), ("b", "Y ", "purchase", NOW - 5, None)]
    assert sorted(loaded.catalog.ids) == ["Y ", "x", "z"]
    row = loaded.catalog.columns.slice(loaded.catalog.ids.row_of("Y "), 1).to_pylist()[0]
    assert (row["price"], row["color"], row["title"]) == (1.5, "red", None)
    assert loaded.consent is not None
    assert loaded.consent.to_pylist() == [True, None]
    store.insert_events(
        pa.table({"event_id": ["v"], "visitor_id": ["w"], "item_id": ["x"], "kind": ["view"]})
        .append_column("occurred_at", pa.array([NOW]))
        .append_column("received_at", pa.array([NOW]))
    )
    assert len(load(Config(), store).events) == 2  # a visitor is nobody yet


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "no events"),
        ([("a", "x", "view", "soon", 1.0)], "no events"),
        ([("a", "x", "view", SECONDS - at, 1.0) for at in range(9)], "only one user"),
        ([(f"u{at}", "x", "view", SECONDS, 1.0) for at in range(9)], "only one item"),
    ],
)
def test_too_little_to_learn_from_is_refused(
    shop: Shop, sqlite_store: Store, rows: list[tuple[object, ...]], reason: str
) -> None:
    if rows:
        shop.add("events", rows)
    with pytest.raises(RefusedError, match=reason):
        load(shop.config(max_bad_share=1), sqlite_store)
    assert found(check(shop.config(max_bad_share=1), sqlite_store), reason).severity == "error"


def test_an_empty_store_is_refused(sqlite_store: Store) -> None:
    with pytest.raises(RefusedError, match="no events"):
        load(Config(), sqlite_store)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"interactions": "SELECT user_id, item_id FROM events"}, "lacks event, timestamp"),
        ({"interactions": "SELECT * FROM nowhere"}, "nowhere"),
        ({"items": "SELECT title FROM items"}, "the query of items lacks item_id"),
        ({"users": "SELECT city FROM users"}, "the query of users lacks user_id"),
        ({"url": "sqlite:////nowhere/shop.db"}, "no SQLite file"),
    ],
)
def test_what_cannot_be_read_is_an_error_and_a_finding(
    shop: Shop, sqlite_store: Store, settings: dict[str, str], told: str
) -> None:
    shop.add("events", GOOD)
    with pytest.raises(SourceError, match=told):
        load(shop.config(**settings), sqlite_store)
    [finding] = check(shop.config(**settings), sqlite_store).findings
    assert finding.severity == "error"
    assert told in finding.advice


def test_the_report_of_a_check_is_json(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [*GOOD, *BAD.values()])
    report = check(shop.config(items="SELECT * FROM items", users="SELECT * FROM users"), sqlite_store)
    values = json.loads(json.dumps(report.to_dict()))
    assert {finding["reason"] for finding in values["findings"]} >= set(BAD)
    assert values["mapping"]["items"]["price"] == "price"
    assert values["mapping"]["items"]["color"] == "attribute"
    assert values["kinds"]["wish"] == {"kind": None, "rows": 1}


def test_loading_twice_gives_the_same_in_whatever_order_the_rows_come(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", GOOD)
    first = load(shop.config(), sqlite_store)
    second = load(shop.config(interactions=f"{SECTION} ORDER BY timestamp DESC, user_id"), sqlite_store)
    assert events_of(first) == events_of(second)
    assert list(first.users) == list(second.users)
    assert list(first.catalog.ids) == list(second.catalog.ids)


def test_the_shop_is_as_it_was(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", GOOD)
    before = shop.path.read_bytes()
    load(shop.config(items="SELECT * FROM items", users="SELECT * FROM users"), sqlite_store)
    assert shop.path.read_bytes() == before
