"""Ids mean the same wherever they are read from, and what a database says of a value stays out of the ledger."""

from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
from queries import EVENTS, execute, fill, read

from jobs import ledger
from recsys.config.settings import Config, SourceSettings
from recsys.errors import SourceError
from recsys.source.catalog import read_items, read_users
from recsys.source.events import normalize_events, read_events
from recsys.source.findings import FLOAT_ID, GUEST
from recsys.source.reader import open_reader
from recsys.source.rows import EventStream, IdEncoder
from recsys.source.times import TimeReader
from recsys.store.database import Store
from recsys.store.runs import list_runs


@pytest.mark.parametrize(
    ("kind", "given", "read_as"),
    [
        ("NUMERIC(10, 0)", ["20", "1234567890", "-3"], ["20", "1234567890", "-3"]),
        ("NUMERIC(12, 2)", ["20", "100.50", "0"], ["20", "100.50", "0"]),
        ("CHAR(8)", ["A1", "a1", "a b"], ["A1", "a1", "a b"]),
        ("DOUBLE PRECISION", ["20", "20.5", "7"], ["20", "20.5", "7"]),
    ],
)
def test_an_id_of_any_type_is_the_same_in_events_items_and_users(
    database: str, kind: str, given: list[str], read_as: list[str]
) -> None:
    if database.startswith("sqlite") and kind != "CHAR(8)":
        pytest.skip("SQLite keeps every value as it comes")
    collation = " COLLATE utf8mb4_bin" if database.startswith("mariadb") and kind.startswith("CHAR") else ""
    execute(
        database,
        f"CREATE TABLE things (id {kind}{collation}, price NUMERIC(10, 2))",
        "INSERT INTO things VALUES (?, 1.5)",
        rows=[(name,) for name in given],
    )
    events = read(database, "SELECT id AS user_id, id AS item_id, 'view' AS event, 1577880000 AS timestamp FROM things")
    with closing(open_reader(database)) as reader:
        items = read_items(
            reader, "SELECT id AS item_id, price FROM things;", "items", SourceSettings(), own=False
        ).frame
        users = read_users(reader, "SELECT id AS user_id FROM things", "users", SourceSettings(), own=False).frame
    ids = [events["user_id"], events["item_id"], items["item_id"], users["user_id"]]
    assert [sorted(column) for column in ids] == [sorted(read_as)] * 4
    assert items["price"].to_list() == [1.5] * 3


def things(database: str, kind: str, *ids: object) -> None:
    execute(
        database, f"CREATE TABLE things (id {kind})", "INSERT INTO things VALUES (?)", rows=[(each,) for each in ids]
    )


AS_EVENTS = "SELECT id AS user_id, id AS item_id, 'view' AS event, 1577880000 AS timestamp FROM things"


def test_a_gap_that_made_numbers_floating_point_changes_no_id(database: str) -> None:
    things(database, "DOUBLE PRECISION", 17850.0, None, 2.0**52, -3.0)
    ids = ["17850", "4503599627370496", "-3"]
    events = read(database, AS_EVENTS)
    assert sorted(events["user_id"].drop_nulls()) == sorted(events["item_id"].drop_nulls()) == sorted(ids)
    with closing(open_reader(database)) as reader:
        items = read_items(reader, "SELECT id AS item_id FROM things", "items", SourceSettings(), own=False).frame
        users = read_users(reader, "SELECT id AS user_id FROM things", "users", SourceSettings(), own=False).frame
    assert sorted(items["item_id"]) == sorted(users["user_id"]) == sorted(ids)


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_floats_that_run_ids_together_are_refused(database: str) -> None:
    things(database, "DOUBLE PRECISION", 1.0, 9007199254740994.0)
    with pytest.raises(SourceError, match=r"user_id of the query of interactions .* above 9,007,199,254,740,992"):
        read(database, AS_EVENTS)
    with closing(open_reader(database)) as reader, pytest.raises(SourceError, match=r"item_id of .* floating point"):
        read_items(reader, "SELECT id AS item_id FROM things", "items", SourceSettings(), own=False)


def test_single_floats_of_sqlite_that_run_ids_together_are_left_out(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'shop.db'}"
    things(database, "REAL", 1, 9007199254740996.0)
    stream = EventStream(IdEncoder(), IdEncoder(), {"view": 0}, 2 * 1_577_880_000_000_000)
    with closing(open_reader(database)) as reader:
        for batch in read_events(reader, AS_EVENTS, "interactions", None):
            stream.add(batch)
        assert read_users(reader, "SELECT id AS user_id FROM things", "users", SourceSettings(), own=False).frame[
            "user_id"
        ].to_list() == ["1"]
    assert (dict(stream.reasons), stream.take().height) == ({FLOAT_ID: 1}, 1)


def test_a_guest_with_a_visitor_is_a_visit_and_without_one_is_left_out() -> None:
    frame = pl.DataFrame(
        {
            "user_id": ["0", "0", "guest", "anna"],
            "visitor_id": ["v1", None, None, "v2"],
            "item_id": ["x"] * 4,
            "event": ["view"] * 4,
            "timestamp": [1_577_880_000] * 4,
        }
    )
    stream = EventStream(IdEncoder(), IdEncoder(), {"view": 0}, 2 * 1_577_880_000_000_000, guests=("0", "guest"))
    kept = stream.validate_rows(normalize_events(frame, TimeReader(), "events"))
    assert kept.select("user_id", "visitor_id").rows() == [(None, "v1"), ("anna", "v2")]
    [finding] = stream.findings(4, 0.0)
    assert (finding.severity, finding.reason, finding.rows, finding.left_out) == ("note", GUEST, 2, True)


@pytest.mark.parametrize("word", ["NULL", "\\N", "NaN", "nan", "None", "null", ""])
def test_the_words_of_exports_for_nothing_are_no_ids(database: str, word: str) -> None:
    things(database, "VARCHAR(20)", word, "Nadine")
    assert sorted(read(database, AS_EVENTS)["user_id"], key=str) == ["Nadine", None]
    with closing(open_reader(database)) as reader:
        items = read_items(reader, "SELECT id AS item_id FROM things", "items", SourceSettings(), own=False)
    assert (items.frame["item_id"].to_list(), items.findings[0].rows) == (["Nadine"], 1)


def test_ids_of_bytes_are_refused_with_the_way_to_make_text_of_them(database: str) -> None:
    things(database, "BYTEA" if database.startswith("postgresql") else "VARBINARY(16)", b"\xff\x00", b"\xfe\x00")
    with closing(open_reader(database)) as reader, pytest.raises(SourceError, match=r"HEX\(item_id\).*encode\(item_id"):
        read_items(reader, "SELECT id AS item_id FROM things", "items", SourceSettings(), own=False)
    if not database.startswith("sqlite"):  # which has no type for a whole column
        with pytest.raises(SourceError, match=r"HEX\(user_id\).*encode\(user_id"):
            read(database, AS_EVENTS)


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_the_words_of_a_database_stay_out_of_the_message_and_the_ledger(database: str, sqlite_store: Store) -> None:
    """They repeat what the rows hold."""
    wrong, kind = "CAST(user_id AS INT) = 1", "InvalidTextRepresentation 22P02"
    if database.startswith("mariadb"):
        wrong, kind = "extractvalue('<a/>', concat('~', 'anna@example.com')) = ''", "OperationalError 1105"
    fill(database, [("anna@example.com", "b", "view", 1_577_880_000, None)])
    with pytest.raises(SourceError, match=kind) as error, ledger.run(sqlite_store, "train", Config()):
        read(database, f"{EVENTS} WHERE {wrong}")
    [run] = list_runs(sqlite_store)
    assert "anna" in str(error.value.detail)
    assert "anna" not in str(run.error)
    assert "the query of interactions failed" in str(run.error)
