"""Files come into the own tables once, whole or not at all, and every row of them is accounted for."""

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tiny import quiet

from recsys.config.settings import Config
from recsys.errors import ConfigError, RefusedError, SourceError
from recsys.source import dataset as source
from recsys.source.importer import DELETED, DUPLICATE, Imported, import_file
from recsys.source.presets import LONE_RETURN, NO_PRICE, NO_PRODUCT, NO_QUANTITY, NO_USER, RETURN, RETURNED
from recsys.store.database import Store
from recsys.store.tables import own_queries
from recsys.store.users import delete_user

NOON = 1_577_880_000_000_000  # 2020-01-01 12:00 UTC, microseconds
EVENTS = [
    {"user_id": "a", "item_id": "x", "event": "view", "timestamp": "2020-01-01 12:00:00", "value": 1.5},
    {"user_id": "A", "item_id": "x ", "event": "purchase", "timestamp": "2020-01-01T12:00:00Z", "value": None},
    {"user_id": "😀", "item_id": "x/'\"", "event": "buy", "timestamp": "1577880000", "value": 2.0},
]
CONFIG = Config.model_validate({"events": {"aliases": {"buy": "purchase"}}})


def put(
    store: Store, path: Path, *, config: Config = CONFIG, what: Any = "events", preset: str | None = None
) -> Imported:
    done = import_file(config, store, path, what=what, preset=preset, progress=quiet)
    assert done.rows == done.inserted + done.already_there + sum(done.left_out.values())
    return done


def stored(store: Store) -> list[tuple[Any, ...]]:
    with store.reading() as connection:
        return sorted(tuple(row) for row in connection.exec_driver_sql(own_queries(store.tables)[0]))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    frame = pl.DataFrame(rows, infer_schema_length=None)
    form = Path(path.name.removesuffix(".gz")).suffix
    if form == ".parquet":
        frame.write_parquet(path)
        return path
    text = frame.write_csv() if form == ".csv" else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "e.parquet", "e.jsonl", "e.ndjson.gz"])
def test_every_form_of_a_file_means_the_same_events(sqlite_store: Store, tmp_path: Path, name: str) -> None:
    assert put(sqlite_store, write(tmp_path / name, EVENTS)).inserted == 3
    assert stored(sqlite_store) == [
        ("A", "x ", "purchase", NOON, None),
        ("a", "x", "view", NOON, 1.5),
        ("😀", "x/'\"", "purchase", NOON, 2.0),
    ]


def test_importing_again_adds_nothing_and_more_adds_what_is_new(store: Store, tmp_path: Path) -> None:
    first = put(store, write(tmp_path / "e.csv", EVENTS))
    again = put(store, write(tmp_path / "other.jsonl", EVENTS))
    more = put(store, write(tmp_path / "e.csv", [*EVENTS, {**EVENTS[0], "value": 9.0}]))
    assert (first.inserted, again.inserted, again.already_there) == (3, 0, 3)
    assert (more.inserted, more.already_there) == (1, 3)
    assert len(stored(store)) == 4


def test_a_row_that_comes_twice_in_a_file_counts_once(sqlite_store: Store, tmp_path: Path) -> None:
    done = put(sqlite_store, write(tmp_path / "e.csv", [*EVENTS, EVENTS[0]]))
    assert (done.inserted, done.left_out) == (3, {DUPLICATE: 1})


def test_bad_rows_are_left_out_by_reason(sqlite_store: Store, tmp_path: Path) -> None:
    rows = [{**EVENTS[0], "value": float(at)} for at in range(200)]
    rows += [{**EVENTS[0], "user_id": None}, {**EVENTS[0], "timestamp": "soon"}]
    done = put(sqlite_store, write(tmp_path / "e.csv", rows))
    assert done.left_out == {"no user": 1, "unreadable time": 1}
    assert len(done.findings[0].examples) == 1


def test_a_file_of_bad_rows_is_refused_and_nothing_is_written(store: Store, tmp_path: Path) -> None:
    rows = [*EVENTS, {**EVENTS[0], "event": "wish"}]
    with pytest.raises(RefusedError, match="unknown kind: 1 of 4 rows"):
        put(store, write(tmp_path / "e.csv", rows))
    assert stored(store) == []


def test_events_of_deleted_users_stay_deleted(store: Store, tmp_path: Path) -> None:
    delete_user(store, "a", now=NOON)
    done = put(store, write(tmp_path / "e.csv", EVENTS))
    assert (done.inserted, done.left_out) == (2, {DELETED: 1})


@pytest.mark.parametrize("what", ["events", "items", "users"])
def test_a_misspelled_column_is_named_with_those_found_and_needed(
    sqlite_store: Store, tmp_path: Path, what: str
) -> None:
    path = write(tmp_path / "e.csv", [{"user": "a", "itemid": "x", "event": "view", "timestamp": 1}])
    with pytest.raises(SourceError, match=r"e\.csv lacks .*_id.*; found: user, itemid, event, timestamp; needed: "):
        put(sqlite_store, path, what=what)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.xlsx", b"", r"allowed are \.csv"),
        ("e.csv", b"", "lacks user_id"),
        ("e.csv.gz", b"user_id,item_id", "cannot be read as csv"),
        ("e.parquet", b"user_id", "cannot be read as parquet"),
        ("e.jsonl", b'{"user_id": "a"}\n{"user_id": ', "line 2"),
        ("e.jsonl", b"[1, 2]\n", "line 1 is no object"),
        ("e.csv", b"user_id,item_id,event,timestamp\n\xff\xfe,x,view,1\n", "cannot be read as csv"),
    ],
)
def test_a_file_of_no_known_form_is_a_clear_error(
    sqlite_store: Store, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        put(sqlite_store, tmp_path / name)


def test_a_file_that_is_not_there_and_a_preset_that_is_not_known(sqlite_store: Store, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file"):
        put(sqlite_store, tmp_path / "e.csv")
    with pytest.raises(ConfigError, match="online-retail, retailrocket"):
        put(sqlite_store, tmp_path / "e.csv", preset="amazon")
    with pytest.raises(ConfigError, match="for items"):
        put(sqlite_store, tmp_path / "e.csv", what="items", preset="online-retail")


def test_json_lines_with_ids_of_mixed_type(sqlite_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(
        '{"user_id": 17850, "item_id": "1", "event": "view", "timestamp": 1577880000}\n'
        '{"user_id": "17850", "item_id": 1, "event": "view", "timestamp": "2020-01-01T12:00:01Z", "more": [1]}\n'
    )
    assert put(sqlite_store, path).inserted == 2
    assert [row[:2] for row in stored(sqlite_store)] == [("17850", "1"), ("17850", "1")]


def test_items_and_users(store: Store, tmp_path: Path) -> None:
    items = [
        {"item_id": "x", "title": "X", "price": "1.5", "available": "t", "created_at": "2020-01-01", "color": "red"}
    ]
    users = [
        {"user_id": "a", "email_consent": "yes", "city": "Rome"},
        {"user_id": "b", "email_consent": "", "city": ""},
    ]
    assert put(store, write(tmp_path / "i.csv", items), what="items").inserted == 1
    again = put(store, write(tmp_path / "i.csv", [*items, items[0], {**items[0], "item_id": ""}]), what="items")
    assert (again.inserted, again.already_there, sum(again.left_out.values())) == (0, 1, 2)
    assert put(store, write(tmp_path / "u.csv", users), what="users").inserted == 2
    put(store, write(tmp_path / "e.csv", EVENTS))
    loaded = source.load(Config(), store, now=NOON, progress=quiet)
    row = loaded.catalog.columns.slice(loaded.catalog.ids.row_of("x"), 1).to_pylist()[0]
    assert (row["title"], row["price"], row["available"], row["color"]) == ("X", 1.5, True, "red")
    assert row["created_at"] == NOON - 43_200_000_000
    assert loaded.consent is not None
    assert loaded.consent[loaded.users.row_of("a")].as_py() is True
    assert loaded.consent[loaded.users.row_of("b")].as_py() is None


RETAIL = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"


def retail(path: Path, *lines: str) -> Path:
    path.write_text(RETAIL + "".join(f"{line},United Kingdom\n" for line in lines))
    return path


def test_online_retail_accounts_for_every_row(store: Store, tmp_path: Path) -> None:
    path = retail(
        tmp_path / "r.csv",
        "1,85123A,HEART HOLDER,6,2011-12-01 08:26:00,2.55,17850.0",
        "2,85123A,HEART HOLDER,4,2011-12-02 08:26:00,2.55,17850.0",
        "3,85123A,heart?,2,2011-12-03 08:26:00,2.95,13047.0",
        "3,85123A,heart?,2,2011-12-03 08:26:00,2.95,13047.0",
        "4,71053,LANTERN,1,2011-12-03 09:00:00,3.39,13047.0",
        "5,71053,LANTERN,2,2011-12-03 09:00:00,3.39,",
        "6,POST,POSTAGE,1,2011-12-03 09:00:00,18.0,13047.0",
        "7,22222,damaged,5,2011-12-03 09:00:00,0.0,13047.0",
        "8,22222,nothing,0,2011-12-03 09:00:00,1.0,13047.0",
        "C9,85123A,HEART HOLDER,-5,2011-12-04 08:26:00,2.55,17850.0",
        "C10,71053,LANTERN,-1,2011-12-05 09:00:00,3.39,13047.0",
        "C11,84029G,BOTTLE,-1,2011-12-05 09:00:00,3.39,13047.0",
    )
    done = put(store, path, preset="online-retail")
    assert done.left_out == {
        NO_USER: 1,
        NO_PRODUCT: 1,
        NO_QUANTITY: 1,
        NO_PRICE: 1,
        RETURN: 2,
        LONE_RETURN: 1,
        RETURNED: 2,
        DUPLICATE: 1,
    }
    # 6 and 4 were bought and 5 went back: of the later purchase nothing is left, of the earlier one 5.
    day = 86_400_000_000
    first = 1_322_727_960_000_000  # 2011-12-01 08:26 UTC
    kept = [(*row[:4], round(row[4], 2)) for row in stored(store)]
    assert kept == [
        ("13047", "85123A", "purchase", first + 2 * day, 5.9),
        ("17850", "85123A", "purchase", first, 12.75),
    ]
    assert put(store, path, preset="online-retail").inserted == 0
    assert len(stored(store)) == 2


MONTHS = [
    "1,11111,A,3,2011-01-03 08:00:00,1,7",
    "2,11111,A,2,2011-01-04 08:00:00,1,7",
    "3,22222,B,1,2011-01-05 08:00:00,1,7",
    "C4,11111,A,-4,2011-02-01 08:00:00,1,7",
    "5,22222,B,1,2011-02-02 08:00:00,1,8",
]


def test_a_return_in_a_longer_file_corrects_what_a_shorter_one_imported(store: Store, tmp_path: Path) -> None:
    assert put(store, retail(tmp_path / "january.csv", *MONTHS[:3]), preset="online-retail").inserted == 3
    both = retail(tmp_path / "both.csv", *MONTHS)
    done = put(store, both, preset="online-retail")
    assert (done.inserted, done.already_there, done.corrected) == (1, 2, 2)
    left = [(*row[:2], row[4]) for row in stored(store)]
    assert left == [("7", "11111", 1.0), ("7", "22222", 1.0), ("8", "22222", 1.0)]
    again = put(store, both, preset="online-retail")
    assert (again.inserted, again.already_there, again.corrected) == (0, 3, 0)
    assert [(*row[:2], row[4]) for row in stored(store)] == left


def test_of_twins_of_which_one_went_back_the_other_stays(sqlite_store: Store, tmp_path: Path) -> None:
    lines = [MONTHS[0], MONTHS[0], "C4,11111,A,-3,2011-02-01 08:00:00,1,7"]
    put(sqlite_store, retail(tmp_path / "r.csv", MONTHS[0]), preset="online-retail")
    assert put(sqlite_store, retail(tmp_path / "r.csv", *lines), preset="online-retail").corrected == 0
    assert [row[4] for row in stored(sqlite_store)] == [3.0]


def test_online_retail_with_the_month_first_is_the_same_file(sqlite_store: Store, tmp_path: Path) -> None:
    """Sorted as text, the return of 10 January would come before the purchase of 9 January."""
    iso = retail(
        tmp_path / "iso.csv",
        "1,11111,A,3,2011-01-09 08:05:00,1,7",
        "2,11111,A,5,2010-12-01 08:26:00,1,7",
        "C3,11111,A,-3,2011-01-10 10:00:00,1,7",
    )
    american = retail(
        tmp_path / "american.csv",
        "1,11111,A,3,1/9/2011 8:05,1,7",
        "2,11111,A,5,12/1/2010 8:26,1,7",
        "C3,11111,A,-3,1/10/2011 10:00,1,7",
    )
    config = Config.model_validate({"source": {"time_format": "%d.%m.%Y"}})  # of the other files: presets know theirs
    assert put(sqlite_store, american, preset="online-retail", config=config).inserted == 1
    assert stored(sqlite_store) == [("7", "11111", "purchase", 1_291_191_960_000_000, 5.0)]
    again = put(sqlite_store, iso, preset="online-retail")
    assert (again.inserted, again.already_there) == (0, 1)


@pytest.mark.parametrize(
    "lines", [[], ["C1,11111,A,-1,2011-01-09 08:00:00,1,7"], ["1,POST,A,1,2011-01-09 08:00:00,1,7"]]
)
def test_online_retail_without_a_sale_is_an_empty_import(sqlite_store: Store, tmp_path: Path, lines: list[str]) -> None:
    done = put(sqlite_store, retail(tmp_path / "r.csv", *lines), preset="online-retail")
    assert (done.inserted, done.items) == (0, 0)


def test_a_sale_of_no_readable_time_still_has_a_price(sqlite_store: Store, tmp_path: Path) -> None:
    lines = [f"{at},11111,A,1,{'soon' if at == 0 else f'2011-01-09 08:00:{at:02}'},2,7" for at in range(50)]
    config = Config.model_validate({"source": {"max_bad_share": 0.5}})
    done = put(sqlite_store, retail(tmp_path / "r.csv", *lines), preset="online-retail", config=config)
    assert (done.inserted, done.items, done.left_out) == (49, 1, {"unreadable time": 1})
    assert "soon" in done.findings[0].examples[0]


def test_times_of_the_configured_form(sqlite_store: Store, tmp_path: Path) -> None:
    config = Config.model_validate({"source": {"time_format": "%d.%m.%Y %H:%M", "timezone": "Europe/Berlin"}})
    path = write(tmp_path / "e.csv", [{**EVENTS[0], "timestamp": "1.1.2020 13:00"}])
    assert put(sqlite_store, path, config=config).inserted == 1
    assert stored(sqlite_store)[0][3] == NOON
    with pytest.raises(RefusedError, match=r"unreadable time: 1 of 1 rows.*time_format"):
        put(sqlite_store, write(tmp_path / "e.csv", [EVENTS[0]]), config=config)
    items = [{"item_id": "x", "created_at": "1.1.2020 13:00"}, {"item_id": "y", "created_at": "2020-01-01 13:00"}]
    put(sqlite_store, write(tmp_path / "i.csv", items), what="items", config=config)
    with sqlite_store.reading() as connection:
        found = connection.exec_driver_sql("SELECT created_at FROM recsys_items").scalars().all()
    assert found == [NOON, NOON]


def test_online_retail_names_and_prices_its_products(sqlite_store: Store, tmp_path: Path) -> None:
    path = retail(
        tmp_path / "r.csv",
        "1,85123A,OLD NAME,1,2011-01-01 08:00:00,9.00,1.0",
        "2,85123A,HEART,1,2011-11-01 08:00:00,2.00,1.0",
        "3,85123A,HEART,1,2011-12-01 08:00:00,3.00,2.0",
        "4,85123A,WRONG,1,2011-12-01 09:00:00,7.00,",
        "5,71053,LANTERN,1,2011-01-01 08:00:00,4.00,2.0",
        "6,71053,,1,2011-01-02 08:00:00,5.00,2.0",
        "7,22222,SMASHED,-5,2011-12-01 08:00:00,0.00,",
    )
    assert put(sqlite_store, path, preset="online-retail").items == 2
    loaded = source.load(Config(), sqlite_store, now=NOON, progress=quiet)
    rows = dict(zip(loaded.catalog.ids, loaded.catalog.columns.select(["title", "price"]).to_pylist(), strict=True))
    assert rows == {"85123A": {"title": "HEART", "price": 3.0}, "71053": {"title": "LANTERN", "price": 4.5}}


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        (["1,11111,A,3,2011-01-01 08:00:00,1,7", "C2,11111,A,-3,2011-01-01 08:00:00,1,7"], []),
        (["C2,11111,A,-3,2011-01-01 07:00:00,1,7", "1,11111,A,3,2011-01-01 08:00:00,1,7"], [3.0]),
        (["1,11111,A,3,2011-01-01 08:00:00,1,7", "C2,11111,A,-3,2011-01-02 08:00:00,1,8"], [3.0]),
        (["1,11111,A,3,2011-01-01 08:00:00,1,7", "C2,22222,A,-3,2011-01-02 08:00:00,1,7"], [3.0]),
        (["1,11111,A,3,2011-01-01 08:00:00,1,7", "C2,11111,A,-2,2011-01-02 08:00:00,1,7"], [1.0]),
        (["1,11111,A,3,2011-01-01 08:00:00,1,7", "C2,11111,A,-9,2011-01-02 08:00:00,1,7"], []),
        (["1,11111,A,3,2011-01-01 08:00:00,1,7", "C2,11111,A,2,2011-01-02 08:00:00,1,7"], [1.0]),
        (
            [
                "1,11111,A,3,2011-01-01 08:00:00,1,7",
                "C2,11111,A,-3,2011-01-02 08:00:00,1,7",
                "3,11111,A,2,2011-01-03 08:00:00,1,7",
            ],
            [2.0],
        ),
    ],
    ids=[
        "same moment",
        "return first",
        "other customer",
        "other product",
        "a part",
        "too much",
        "no sign",
        "bought again",
    ],
)
def test_a_return_takes_off_earlier_purchases_of_that_customer(
    sqlite_store: Store, tmp_path: Path, lines: list[str], left: list[float]
) -> None:
    put(sqlite_store, retail(tmp_path / "r.csv", *lines), preset="online-retail")
    assert [row[4] for row in stored(sqlite_store)] == left


@pytest.mark.parametrize(
    "header", ["user_id,item_id,event,timestamp", "timestamp,visitorid,event,itemid,transactionid"]
)
@pytest.mark.parametrize("scale", [1, 1000])
def test_retailrocket_in_both_its_forms(sqlite_store: Store, tmp_path: Path, header: str, scale: int) -> None:
    rows = [
        {"visitorid": "7", "itemid": "9", "event": event, "timestamp": str((1_430_623_510 + at) * scale)}
        for at, event in enumerate(("view", "addtocart", "cart", "transaction", "buy"))
    ]
    names = header.split(",")
    renamed = {"user_id": "visitorid", "item_id": "itemid"}
    lines = [",".join(row.get(renamed.get(name, name), "") for name in names) for row in rows]
    path = tmp_path / "events.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    assert put(sqlite_store, path, preset="retailrocket", config=Config()).inserted == 5
    found = sorted(stored(sqlite_store), key=lambda row: row[3])
    assert [row[2] for row in found] == ["view", "cart", "cart", "purchase", "purchase"]
    assert [row[3] for row in found] == [(1_430_623_510 + at) * 1_000_000 for at in range(5)]


DYING = """
import os, signal, sys
from pathlib import Path
from recsys.config.settings import Config
from recsys.source.importer import import_file
from recsys.store.migrate import open_store

def report(step, share):
    if step.startswith("write") and share > 0.2:
        os.kill(os.getpid(), signal.SIGKILL)

import_file(Config(), open_store(sys.argv[1]), Path(sys.argv[2]), what="events", preset=None, progress=report)
"""


def test_an_import_that_dies_leaves_nothing_half_written(store: Store, database: str, tmp_path: Path) -> None:
    rows = [{**EVENTS[0], "value": float(at)} for at in range(60_000)]
    path = write(tmp_path / "e.csv", rows)
    died = subprocess.run([sys.executable, "-c", DYING, database, str(path)], check=False, env={**os.environ})
    assert died.returncode == -signal.SIGKILL
    assert stored(store) == []
    assert put(store, path).inserted == 60_000
