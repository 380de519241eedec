"""Ids mean the same wherever they are read from, and what a database says of a value stays out of the ledger."""

from contextlib import closing

import pytest
from queries import EVENTS, execute, fill, read

from jobs import ledger
from recsys.config.settings import Config
from recsys.errors import SourceError
from recsys.source.catalog import read_items, read_users
from recsys.source.reader import open_reader
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
        items = read_items(reader, "SELECT id AS item_id, price FROM things;", "items", None, own=False).frame
        users = read_users(reader, "SELECT id AS user_id FROM things", "users").frame
    ids = [events["user_id"], events["item_id"], items["item_id"], users["user_id"]]
    assert [sorted(column) for column in ids] == [sorted(read_as)] * 4
    assert items["price"].to_list() == [1.5] * 3


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
