"""Files of every form, header and number come in as the same rows, and a check of them writes nothing."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from importing import CONFIG, EVENTS, NOON, put, stored, write
from tiny import quiet

from jobs.reading import check_files
from recsys.config.settings import Config, StoreSettings
from recsys.errors import RefusedError, SourceError
from recsys.source.importer import import_files
from recsys.store.database import Store
from recsys.store.tables import own_queries


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "e.parquet", "e.jsonl", "e.ndjson.gz"])
def test_every_form_of_a_file_means_the_same_events(sqlite_store: Store, tmp_path: Path, name: str) -> None:
    assert put(sqlite_store, write(tmp_path / name, EVENTS)).inserted == 3
    assert stored(sqlite_store) == [
        ("A", "x ", "purchase", NOON, None),
        ("a", "x", "view", NOON, 1.5),
        ("😀", "x/'\"", "purchase", NOON, 2.0),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.doc", b"", r"of no known form; allowed are \.csv, \.tsv"),
        ("e.xlsx", b"user_id,item_id", "cannot be read as xlsx"),
        ("e.csv", b"", "lacks user_id"),
        ("e.csv.gz", b"user_id,item_id", r"does not begin as a \.gz file"),
        ("e.csv.gz", gzip.compress(b"user_id,item_id", mtime=0)[:20], "cannot be read as csv"),
        ("e.zip", b"PK\x03\x04and no more", "cannot be read as zip"),
        ("e.parquet", b"user_id", "cannot be read as parquet"),
        ("e.jsonl", b'{"user_id": ', "no row can be parsed, as line 1: "),
        ("e.json", b"[1, 2]\n", "element 1: is no object | element 2"),
        ("e.json", b'[{"user_id": 1}', "cannot be read as json"),
        ("e.csv", b"user_id,item_id,event,timestamp\nab\x81,x,view,1\n", "neither UTF-8, UTF-16 nor Windows-1252"),
        ("e.csv", b"user_id,item_id\n\0\0\0\1\n", "holds NUL bytes"),
    ],
)
def test_a_file_of_no_known_form_is_a_clear_error(
    sqlite_store: Store, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        put(sqlite_store, tmp_path / name)


def test_any_header_is_mapped_to_the_columns_that_are_needed(sqlite_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "till.csv"
    path.write_text(
        "Customer;Item ID;EVENT;Time Stamp;Total\n"
        "a;x;view;2020-01-01 12:00:00;1.234,50\nb;y;view;2020-01-01 12:00:00;3\n"
    )
    config = Config.model_validate({"import": {"columns": {"user_id": "Customer", "title": "Name"}}})
    columns = {"timestamp": "Time Stamp", "value": "Total"}
    done = import_files(config, sqlite_store, [path], columns=columns, progress=quiet)
    assert [row[:2] + row[4:] for row in stored(sqlite_store)] == [("a", "x", 1234.5), ("b", "y", 3.0)]
    found = done.recognized["till.csv"]
    assert (
        found["columns"]
        == "Customer is user_id, Time Stamp is timestamp, Total is value, Item ID is item_id, EVENT is event"
    )
    assert (found["separator"], found["decimal comma"]) == ("semicolon", "value")
    with pytest.raises(
        SourceError, match=r"till\.csv has no column 'Sum', which is to be value; found: Customer, Item ID"
    ):
        import_files(config, sqlite_store, [path], columns={"value": "Sum"}, progress=quiet)


def test_columns_of_a_file_without_a_header_are_named_by_their_places(sqlite_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "outfile.txt"
    path.write_text("view\ta\tx\t2020-01-01 12:00:00\t\\N\nview\tb\ty\\\tz\t2020-01-01 12:00:00\t2.5\n")
    columns = {"event": "1", "user_id": "2", "item_id": "3", "timestamp": "4", "value": "5"}
    assert import_files(CONFIG, sqlite_store, [path], columns=columns, progress=quiet).inserted == 2
    assert stored(sqlite_store) == [("a", "x", "view", NOON, None), ("b", "y\tz", "view", NOON, 2.5)]


@pytest.mark.parametrize("what", ["events", "items"])
def test_rows_that_cannot_be_parsed_count_against_the_allowed_share(
    sqlite_store: Store, tmp_path: Path, what: Any
) -> None:
    path = tmp_path / "e.csv"
    rows = "".join(f"u{at},x{at},view,2020-01-01\n" for at in range(99))
    header = "user_id,item_id,event,timestamp\n"
    path.write_text(f"{header}{rows}u,x\n")
    done = put(sqlite_store, path, what=what)
    assert (done.rows, done.left_out) == (100, {"row cannot be parsed": 1})
    assert done.findings[0].examples == ("line 101: 2 fields, the header has 4: u,x",)
    path.write_text(f"{header}{rows}u,x\nu,y\n")
    with pytest.raises(RefusedError, match=r"(?s)row cannot be parsed: 2 of 101 rows, as line 101: .* \| line 102: "):
        put(sqlite_store, path, what=what)


def test_several_files_are_one_import(sqlite_store: Store, tmp_path: Path) -> None:
    for at, row in enumerate(EVENTS):
        write(tmp_path / f"e{at}{'.csv' if at else '.jsonl'}", [row])
    done = import_files(CONFIG, sqlite_store, [tmp_path / "e*"], progress=quiet)
    assert (done.rows, done.inserted) == (3, 3)
    assert sorted(done.recognized) == ["e0.jsonl", "e1.csv", "e2.csv"]


def test_a_check_shows_rows_as_understood_and_writes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "e.csv", EVENTS)
    config = CONFIG.model_copy(update={"store": StoreSettings(url=f"sqlite:///{tmp_path}/own.db")})
    output = check_files(config, paths=[path], what=None, preset=None, columns={}, progress=quiet)
    assert output.code == 0
    assert output.data["first"][2] == {
        "user_id": "😀",
        "item_id": "x/'\"",
        "kind": "purchase",
        "time": "2020-01-01 12:00:00",
        "value": 2.0,
    }
    assert output.data["recognized"]["e.csv"]["separator"] == "comma"
    refused = check_files(Config(), paths=[path], what=None, preset=None, columns={}, progress=quiet)
    assert (refused.code, refused.data["left_out"]) == (3, {"unknown kind": 1})
    items = write(tmp_path / "i.csv", [{"item_id": "x", "price": 1.5, "created_at": "2020-01-01"}])
    seen = check_files(config, paths=[items], what="items", preset=None, columns={}, progress=quiet)
    assert seen.data["first"] == [{"item_id": "x", "price": 1.5, "created_at": "2020-01-01 00:00:00"}]
    assert not (tmp_path / "own.db").exists()


def test_ids_that_a_spreadsheet_has_rounded_are_refused(sqlite_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("user_id,item_id,event,timestamp\n1.23457E+15,x,view,2020-01-01\n")
    with pytest.raises(SourceError, match=r"user_id of e\.csv holds '1\.23457E\+15'"):
        put(sqlite_store, path)
    path.write_text("item_id,title\n1.23457E+15,x\n")
    with pytest.raises(SourceError, match=r"item_id of e\.csv holds"):
        put(sqlite_store, path, what="items")


def test_a_column_that_says_who_must_not_be_mailed_is_no_consent(sqlite_store: Store, tmp_path: Path) -> None:
    def check(values: str) -> dict[Any, Any]:
        (tmp_path / "u.csv").write_text(f"user_id,Unsubscribed from all email\na,{values}\nb,\n")
        columns = {"email_consent": "Unsubscribed from all email"}
        paths = [tmp_path / "u.csv"]
        import_files(CONFIG, sqlite_store, paths, what="users", columns=columns, progress=quiet)
        with sqlite_store.reading() as connection:
            rows = connection.exec_driver_sql(own_queries(sqlite_store.tables)[2])
            return {row.user_id: row.email_consent for row in rows}

    with pytest.raises(SourceError, match="whose name says the opposite"):
        check("true")
    assert check("unsubscribed") == {"a": 0, "b": None}
