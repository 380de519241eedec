"""What cannot be read refuses, or is told at every check and takes the place of nothing that is known."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from tiny import quiet

from recsys.config.settings import Config, SourceSettings
from recsys.errors import RefusedError
from recsys.source.catalog import read_items
from recsys.source.dataset import check, load
from recsys.source.findings import Finding
from recsys.source.importer import Imported, import_files
from recsys.source.people import consent_of, read_people
from recsys.source.reader import open_reader
from recsys.store.database import Store
from recsys.store.items import add_stored_attributes, upsert_items
from recsys.store.tables import own_queries

NOW = 1_577_880_000_000_000


def put(store: Store, folder: Path, what: Any, *rows: dict[str, Any], **source: Any) -> Imported:
    path = folder / f"{what}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = Config.model_validate({"source": source})
    return import_files(config, store, [path], what=what, progress=quiet)


def stored(store: Store, of: int = 1) -> dict[str, dict[str, Any]]:
    with store.reading() as connection:
        rows = [dict(row) for row in connection.exec_driver_sql(own_queries(store.tables)[of]).mappings()]
    return {row["item_id" if of == 1 else "user_id"]: row for row in rows}


def told(store: Store, reason: str) -> list[Finding]:
    report = check(Config(), store, now=NOW, progress=quiet)
    return [finding for finding in report.findings if finding.reason == reason]


def test_what_cannot_be_read_leaves_the_good_value_and_every_check_tells_it(store: Store, tmp_path: Path) -> None:
    put(store, tmp_path, "items", {"item_id": "a", "price": "9.50 EUR", "available": "in stock", "color": "red"})
    done = put(
        store,
        tmp_path,
        "items",
        {"item_id": "a", "price": "ask us", "available": "soon"},
        {"item_id": "b", "price": "3", "available": "no"},
    )
    assert {finding.reason: finding.rows for finding in done.findings} == {
        "price of items.jsonl cannot be read": 1,
        "available of items.jsonl cannot be read": 1,
    }
    row = stored(store)["a"]
    assert (row["price"], bool(row["available"])) == (9.5, True)
    for _ in range(2):
        [price] = told(store, "price of items cannot be read")
        assert (price.severity, price.rows, price.examples) == ("warning", 1, ("price='ask us'",))
        assert [finding.rows for finding in told(store, "available of items cannot be read")] == [1]
    assert json.loads(row["attributes"])["color"] == "red"

    put(store, tmp_path, "items", {"item_id": "a", "price": 8.5})
    assert stored(store)["a"]["price"] == 8.5
    assert told(store, "price of items cannot be read") == []
    assert [finding.rows for finding in told(store, "available of items cannot be read")] == [1]
    assert json.loads(stored(store)["a"]["attributes"])["currency"] == "EUR"


def test_a_value_that_is_posted_takes_the_mark_off_and_no_other_does(store: Store, tmp_path: Path) -> None:
    put(store, tmp_path, "items", {"item_id": "a", "price": 9, "color": ["red"]}, {"item_id": "b", "price": 1})
    unreadable = {"item_id": "a", "price": "ask us", "available": "soon", "color": ["red"]}
    put(store, tmp_path, "items", unreadable, {"item_id": "b", "price": 1, "available": "no"})
    unread = json.loads(stored(store)["a"]["attributes"])

    def post(*items: dict[str, Any]) -> dict[str, Any]:
        for item in add_stored_attributes(store, items):
            upsert_items(store, pa.table({name: [value] for name, value in item.items()}))
        return dict(json.loads(stored(store)["a"]["attributes"] or "{}"))

    assert post({"item_id": "a", "title": "Lamp"}, {"item_id": "b", "price": 2.0}) == unread
    assert post({"item_id": "a", "size": "L"}) == unread | {"size": "L"}
    both = {"color": ["red"], "size": "L"}
    assert post({"item_id": "a", "price": 8.5}) == both | {"own_unreadable": {"available": "soon"}}
    assert (stored(store)["a"]["price"], told(store, "price of items cannot be read")) == (8.5, [])
    assert post({"item_id": "a", "price": 8.0}, {"item_id": "a", "available": False}) == both
    assert told(store, "available of items cannot be read") == []


def test_a_new_item_has_no_value_where_none_can_be_read(sqlite_store: Store, tmp_path: Path) -> None:
    put(sqlite_store, tmp_path, "items", {"item_id": "a", "price": "?"}, {"item_id": "b", "price": 1, "size": "L"})
    assert {name: row["price"] for name, row in stored(sqlite_store).items()} == {"a": None, "b": 1.0}
    assert json.loads(stored(sqlite_store)["b"]["attributes"]) == {"size": "L"}


def test_a_consent_that_cannot_be_read_is_a_no_and_stays_one(store: Store, tmp_path: Path) -> None:
    put(store, tmp_path, "users", *({"user_id": name, "email_consent": "yes"} for name in "abc"))
    said = {"a": "abgemeldet", "b": "UNSUBSCRIBED", "c": "subscribed", "d": "abgemeldet", "e": None}
    put(store, tmp_path, "users", *({"user_id": name, "email_consent": word} for name, word in said.items()))
    consent = consent_of(read_people(Config(), store), pl.Series(list("abcdef")))
    assert consent.to_pylist() == [False, False, True, False, None, None]
    [finding] = told(store, "email_consent of users cannot be read")
    assert (finding.rows, finding.severity) == (2, "warning")
    words = {"abgemeldet": True}
    put(store, tmp_path, "users", {"user_id": "a", "email_consent": "abgemeldet"}, consent_words=words)
    assert bool(stored(store, 2)["a"]["email_consent"]) is True
    assert [finding.rows for finding in told(store, "email_consent of users cannot be read")] == [1]


@pytest.mark.parametrize(
    ("what", "column", "value"),
    [
        ("items", "price", "ask"),
        ("items", "price", "-3"),
        ("items", "available", "vielleicht"),
        ("items", "created_at", "yesterday"),
        ("items", "created_at", 45_292),
        ("items", "title", '{"de": "Uhr", "en": "Clock"}'),
        ("users", "email_consent", "vielleicht"),
    ],
)
def test_a_column_of_which_nothing_can_be_read_is_refused(
    sqlite_store: Store, tmp_path: Path, what: str, column: str, value: object
) -> None:
    key = f"{what[:-1]}_id"
    with pytest.raises(RefusedError, match=f"{column} of {what}.jsonl (cannot be read|is below 0): 2 of 3 rows"):
        put(sqlite_store, tmp_path, what, *({key: name, column: value} for name in "ab"), {key: "c", column: None})
    assert stored(sqlite_store, 1 if what == "items" else 2) == {}


def test_the_configured_words_and_language_are_read(sqlite_store: Store, tmp_path: Path) -> None:
    row = {"item_id": "a", "available": "vielleicht", "title": {"de": "Uhr", "en": "Clock"}, "category": ["x", "y"]}
    put(sqlite_store, tmp_path, "items", row, available_words={"Vielleicht": False}, language="de")
    kept = stored(sqlite_store)["a"]
    assert (bool(kept["available"]), kept["title"], kept["category"]) == (False, "Uhr", "x > y")


def test_lists_stay_lists(store: Store, tmp_path: Path) -> None:
    sizes = {"a": ["S", "M"], "b": [], "c": None}
    put(
        store,
        tmp_path,
        "items",
        *({"item_id": name, "sizes": size, "deep": {"x": [1]}} for name, size in sizes.items()),
    )
    events = [
        {"user_id": user, "item_id": item, "event": "view", "timestamp": f"2020-01-0{at}"}
        for at, (user, item) in enumerate([("u", "a"), ("v", "b")], start=1)
    ]
    put(store, tmp_path, "events", *events)
    catalog = load(Config(), store, now=NOW + 10**13, progress=quiet).catalog
    found = dict(zip(catalog.ids, catalog.columns["sizes"].to_pylist(), strict=True))
    assert found == sizes
    assert set(catalog.columns["deep"].to_pylist()) == {'{"x": [1]}'}


def test_prices_in_several_currencies_and_below_zero_are_told(sqlite_store: Store, tmp_path: Path) -> None:
    prices = ["1 EUR", "2 USD", *["3 EUR"] * 200, "-1 EUR"]
    done = put(
        sqlite_store, tmp_path, "items", *({"item_id": f"i{at}", "price": price} for at, price in enumerate(prices))
    )
    assert [(finding.severity, finding.reason, finding.rows) for finding in done.findings] == [
        ("warning", "price of items.jsonl is below 0", 1),
        ("warning", "price of items.jsonl in several currencies", 203),
    ]
    assert (stored(sqlite_store)["i202"]["price"], stored(sqlite_store)["i1"]["price"]) == (None, 2.0)


def test_created_at_of_any_year_comes_back_from_the_own_tables(store: Store, tmp_path: Path) -> None:
    days = ["1960-01-01", "1970-01-01", "1970-06-01", "1970-08-20", "1972-06-01", "1973-03-04", "2020-01-01"]
    put(store, tmp_path, "items", *({"item_id": day, "created_at": day} for day in days))
    reader = open_reader(store.engine.url, own_file=store.file)
    items = read_items(reader, own_queries(store.tables)[1], "items", SourceSettings(), own=True)
    reader.close()
    assert items.findings == ()
    times = dict(items.frame.select("item_id", "created_at").iter_rows())
    assert times == {row["item_id"]: row["created_at"] for row in stored(store).values()}
    assert times["1960-01-01"] == -315_619_200_000_000
    assert times["1970-08-20"] == 19_958_400_000_000


def test_who_refused_in_one_of_two_rows_is_not_mailed(store: Store, tmp_path: Path) -> None:
    rows = [("a", "yes"), ("a", "unsubscribed"), ("b", "no"), ("b", "yes"), ("c", "yes"), ("c", "who knows"), ("d", 1)]
    done = put(store, tmp_path, "users", *({"user_id": user, "email_consent": said} for user, said in rows))
    assert done.left_out == {"user_id of users.jsonl comes twice": 3}
    consent = consent_of(read_people(Config(), store), pl.Series(["a", "b", "c", "d"]))
    assert consent.to_pylist() == [False, False, False, True]
