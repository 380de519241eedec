"""What a run learns from: every event that counts, once, and a word about every row that does not."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from shops import DAY, GOOD, MINUTE, NOW, SECONDS, SECTION, Shop, check, events_of, found, load, own_events

from recsys.config.settings import Config, RecommendationSettings
from recsys.errors import RefusedError, SourceError
from recsys.store.database import Store
from recsys.store.events import insert_events
from recsys.store.items import upsert_items
from recsys.store.users import delete_user, upsert_users


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


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
    loaded = load(shop.config({"aliases": {"bought": "purchase"}}), sqlite_store)
    assert events_of(loaded) == [
        ("a", "x", "view", NOW - 7_000_000, None),
        ("a", "y", "view", NOW - 5_000_000, None),
        ("b", "y", "cart", NOW - 9_000_000, 1.0),
        ("b", "x", "purchase", NOW, 2.5),
    ]
    assert loaded.report.kinds["bought"] == {"kind": "purchase", "rows": 1}
    counts = {"rows": 4, "events": 4, "users": 2, "items": 2, "catalog": 2, "visitors": 0, "visitor_events": 0}
    assert loaded.report.counts == counts
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
    insert_events(sqlite_store, own_events([("u1", "i1", "view", NOW), ("u1", "i1", "cart", NOW)]))
    delete_user(sqlite_store, "u2", now=NOW)
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


def test_times_as_text_are_read_in_the_configured_form(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", [("a", "x", "view", "1/12/2019 8:26", 1), ("b", "y", "view", "12/1/2019 08:26", 1)])
    with pytest.raises(RefusedError, match=r"unreadable time: 2 of 2 rows .*time_format"):
        load(shop.config(), sqlite_store)
    first_of_december = NOW - 31 * DAY - 214 * MINUTE
    month_first = load(shop.config(time_format="%m/%d/%Y %H:%M"), sqlite_store)
    assert [event[3] for event in events_of(month_first)] == [first_of_december - 323 * DAY, first_of_december]
    day_first = load(shop.config(time_format="%d/%m/%Y %H:%M"), sqlite_store)
    assert [event[3] for event in events_of(day_first)] == [first_of_december, first_of_december - 323 * DAY]
    shop.add("events", [("c", "x", "view", SECONDS, 1)])  # a number among them stays one
    assert NOW in {event[3] for event in events_of(load(shop.config(time_format="%d/%m/%Y %H:%M"), sqlite_store))}


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
    assert report.counts["catalog"] == 3  # `x` is not in it


def test_a_catalog_that_most_items_are_missing_from_is_a_warning(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", GOOD)  # of 30 items
    shop.add("items", [(f"i{at}", *[None] * 8) for at in range(15)])
    config = shop.config(items="SELECT * FROM items")
    assert found(check(config, sqlite_store), "item without catalog row").severity == "note"
    shop.run("DELETE FROM items WHERE item_id = 'i0'")
    assert found(check(config, sqlite_store), "item without catalog row").severity == "warning"


def test_a_catalog_of_other_ids_is_refused_unless_what_it_lacks_may_be_recommended(
    shop: Shop, sqlite_store: Store
) -> None:
    shop.add("events", GOOD)
    shop.add("items", [(f"SKU-{at}", *[None] * 8) for at in range(30)])
    config = shop.config(items="SELECT * FROM items")
    with pytest.raises(RefusedError, match=r"item without catalog row: 30 of 30 rows .*allow_unlisted"):
        load(config, sqlite_store)
    allowed = RecommendationSettings(allow_unlisted=True)
    assert len(load(config.model_copy(update={"recommendations": allowed}), sqlite_store).catalog) == 60


def test_the_catalog_knows_which_of_its_items_the_shop_lists(shop: Shop, sqlite_store: Store) -> None:
    shop.add("events", GOOD)
    assert load(shop.config(), sqlite_store).catalog.is_listed.all()  # no query of items
    config = shop.config(items="SELECT * FROM items")
    with pytest.raises(RefusedError, match="the query of items must return the ids"):
        load(config, sqlite_store)  # which lists nothing, as after a night that emptied the table
    shop.add("items", [(f"i{at}", *[None] * 8) for at in range(25)])
    catalog = load(config, sqlite_store).catalog
    assert {item for item, listed in zip(catalog.ids, catalog.is_listed, strict=True) if not listed} == {
        "i25",
        "i26",
        "i27",
        "i28",
        "i29",
    }


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
        "u4": False,  # nobody can say what it means, so it is no yes
        "u5": None,
        "guest": True,
    }
    assert len(loaded.users) == 21
    assert loaded.report.counts["users"] == 20
    assert found(loaded.report, "email_consent of users cannot be read").rows == 1
    assert load(shop.config(), sqlite_store).consent is None


def test_the_own_tables_are_the_source_when_there_is_no_query(store: Store) -> None:
    insert_events(store, own_events([("a", "x", "view", NOW), ("b", "Y ", "purchase", NOW - 5)]))
    upsert_items(store, pa.table({"item_id": ["Y ", "z"], "price": [1.5, None], "color": ["red", None]}))
    upsert_users(store, pa.table({"user_id": ["a"], "email_consent": [True]}))
    loaded = load(Config(), store)
    assert events_of(loaded) == [("a", "x", "view", NOW, None), ("b", "Y ", "purchase", NOW - 5, None)]
    assert sorted(loaded.catalog.ids) == ["Y ", "x", "z"]
    row = loaded.catalog.columns.slice(loaded.catalog.ids.row_of("Y "), 1).to_pylist()[0]
    assert (row["price"], row["color"], row["title"]) == (1.5, "red", None)
    assert loaded.consent is not None
    assert loaded.consent.to_pylist() == [True, None]
    insert_events(
        store,
        pa.table({"event_id": ["v"], "visitor_id": ["w"], "item_id": ["x"], "kind": ["view"]})
        .append_column("occurred_at", pa.array([NOW]))
        .append_column("received_at", pa.array([NOW])),
    )
    again = load(Config(), store)
    assert (len(again.events), len(again.visits)) == (2, 1)


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
    ("settings", "message"),
    [
        ({"interactions": "SELECT user_id, item_id FROM events"}, "lacks event, timestamp"),
        ({"interactions": "SELECT * FROM nowhere"}, "nowhere"),
        ({"items": "SELECT title FROM items"}, "the query of items lacks item_id"),
        ({"users": "SELECT city FROM users"}, "the query of users lacks user_id"),
        ({"url": "sqlite:////nowhere/shop.db"}, "no SQLite file"),
    ],
)
def test_what_cannot_be_read_is_an_error_and_a_finding(
    shop: Shop, sqlite_store: Store, settings: dict[str, str], message: str
) -> None:
    shop.add("events", GOOD)
    with pytest.raises(SourceError) as error:
        load(shop.config(**settings), sqlite_store)
    assert message in error.value.in_full
    [finding] = check(shop.config(**settings), sqlite_store).findings
    assert finding.severity == "error"
    assert message in finding.advice


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
    shop.add("items", [("i0", *[None] * 8)])
    before = shop.path.read_bytes()
    load(shop.config(items="SELECT * FROM items", users="SELECT * FROM users"), sqlite_store)
    assert shop.path.read_bytes() == before
