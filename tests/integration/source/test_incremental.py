"""Only what is new is read, and what comes out is what a full read gives, byte by byte."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from shops import own_events
from tiny import quiet

from recsys.config.settings import Config
from recsys.data import extract
from recsys.source.dataset import Dataset, load, load_news
from recsys.source.readings import note_trained, open_last
from recsys.store.database import Store, database_url
from recsys.store.events import insert_events
from recsys.store.users import delete_user

DAY = 86_400_000_000
START = 19_700  # the day of the first night, since 1970
COLUMNS = "user_id, item_id, event, timestamp, value"
KINDS = ("view", "cart", "purchase")
FORMS = {  # of times, in PostgreSQL, MariaDB and SQLite
    "timestamps": ("TIMESTAMP", "DATETIME(6)", "TEXT"),
    "moments": ("TIMESTAMPTZ", "TIMESTAMP(6) NULL", "TEXT"),
    "text": ("TEXT", "VARCHAR(40)", "TEXT"),
    "seconds": ("BIGINT", "BIGINT", "INTEGER"),
    "real seconds": ("FLOAT8", "DOUBLE", "REAL"),
}


class Shop:
    """A table of events in any database, and the folder of the service that reads it night after night."""

    def __init__(self, url: str, store: Store, folder: Path, form: str = "timestamps") -> None:
        self.url, self.store, self.folder, self.form = url, store, folder, form
        self.engine = sa.create_engine(database_url(url))
        self.random, self.last, self.columns = random.Random(7), 0, COLUMNS
        self.settings: dict[str, Any] = {"check_nights": 1}
        kind = self.engine.dialect.name
        text = "VARCHAR(40)" + (" COLLATE utf8mb4_nopad_bin" if kind == "mysql" else "")
        time = FORMS[form][("postgresql", "mysql", "sqlite").index(kind)]
        self.run(f"CREATE TABLE shop_items (item_id {text}, title {text})")
        self.run(
            f"CREATE TABLE shop_events (id INTEGER PRIMARY KEY, user_id {text}, item_id {text}, event {text}, "
            f"timestamp {time}, value FLOAT)"
        )
        rows = [{"item": f"i{at}", "title": f"lamp {at}"} for at in range(0, 40, 3)]
        self.run("INSERT INTO shop_items (item_id, title) VALUES (:item, :title)", *rows)

    def run(self, statement: str, *rows: dict[str, Any]) -> None:
        with self.engine.begin() as connection:
            if self.engine.dialect.name == "mysql":
                connection.execute(sa.text("SET time_zone = '+00:00'"))
            connection.execute(sa.text(statement), list(rows) or None)

    def time(self, day: float) -> Any:
        seconds = round((START + day) * 86_400)
        if "seconds" in self.form:
            return seconds
        zone = "+00:00" if self.form == "moments" and self.engine.dialect.name == "sqlite" else ""
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}{zone}"

    def add(self, count: int, day: float, spread: float = 1.0) -> None:
        """Events from a day on, of which many have equal times."""
        pick = self.random.choice
        times = [self.time(day + spread * self.random.randrange(20) / 20) for _ in range(count)]
        rows = [(f"u{pick(range(60))}", f"i{pick(range(40))}", pick(KINDS), time) for time in times]
        self.put(*[(*row, pick((None, 1.0, 2.5))) for row in rows])

    def put(self, *rows: tuple[Any, ...]) -> None:
        names = ("id", *COLUMNS.split(", "))
        values = [dict(zip(names, (self.last + at, *row), strict=True)) for at, row in enumerate(rows, 1)]
        self.last += len(rows)
        self.run(f"INSERT INTO shop_events ({', '.join(names)}) VALUES (:{', :'.join(names)})", *values)

    def config(self, **settings: Any) -> Config:
        source = {
            "url": self.url,
            "interactions": f"SELECT {self.columns} FROM shop_events",
            "items": "SELECT * FROM shop_items ORDER BY item_id",
            "timezone": "America/New_York" if self.form == "text" else None,
            "max_bad_share": 0.5,
            **self.settings,
            **settings,
        }
        return Config.model_validate({"source": source, "storage": {"path": str(self.folder)}})

    def night(self, day: float, **options: Any) -> tuple[Dataset | None, dict[str, Any]]:
        """What is read in the night after so many days, and what the ledger says of the shop's events."""
        told: dict[str, Any] = {}
        now, config = round((START + day) * DAY), self.config(**options.pop("settings", {}))
        options |= {"progress": quiet, "note": told.update, "trained": self.config().hash()}
        loaded = load_news(config, self.store, now=now, **options)
        return loaded, told["interactions"]

    def in_full(self, day: float) -> Dataset:
        return load(self.config(), self.store, now=round((START + day) * DAY), progress=quiet)

    def trained(self) -> None:
        last = open_last(self.folder)
        assert last is not None
        note_trained(self.folder, last.name, self.config().hash())


@contextmanager
def opened(url: str, store: Store, folder: Path, form: str = "timestamps") -> Iterator[Shop]:
    shop = Shop(url, store, folder / "data", form)
    yield shop
    shop.engine.dispose()


@pytest.fixture
def shop(database: str, store: Store, tmp_path: Path) -> Iterator[Shop]:
    with opened(database, store, tmp_path) as made:
        yield made


@pytest.fixture
def sqlite_shop(sqlite_store: Store, tmp_path: Path) -> Iterator[Shop]:
    with opened(f"sqlite:///{tmp_path / 'shop.db'}", sqlite_store, tmp_path) as made:
        yield made


def files_of(folder: Path, loaded: Dataset) -> dict[str, bytes]:
    """The files of the extract that is written of it, but for the manifest with the moment of reading."""
    name = extract.write(folder, loaded)
    return {path.name: path.read_bytes() for path in (folder / "extract" / name).glob("*.npy")}


def same(shop: Shop, loaded: Dataset | None, day: float) -> bool:
    """Whether the extract, and all else that is trained from, is what a full read gives."""
    full = shop.in_full(day)
    assert loaded is not None
    found, wanted = (files_of(shop.folder / name, each) for name, each in (("one", loaded), ("other", full)))
    assert {name for name in wanted if found[name] != wanted[name]} == set()
    assert (loaded.report.counts, loaded.report.kinds) == (full.report.counts, full.report.kinds)
    assert loaded.report.counted() == full.report.counted()
    assert loaded.catalog.columns.equals(full.catalog.columns)
    assert (loaded.visits.times.tolist(), loaded.visits.items.tolist()) == (
        full.visits.times.tolist(),
        full.visits.items.tolist(),
    )
    assert len(loaded.events) > 0
    return True


def change(shop: Shop, day: int) -> None:
    """What happens in a shop in a day: sales, late rows, corrections, deletions, faults, new columns."""
    shop.add(60, day - 1)
    before, some = shop.random.randrange(day + 20) - 20, shop.random.randrange(1, shop.last)
    deeds = (
        lambda: shop.add(3, before),  # late rows
        lambda: shop.run(f"UPDATE shop_events SET value = 9.75, event = 'cart' WHERE id = {some}"),
        lambda: shop.run(f"DELETE FROM shop_events WHERE id = {some}"),
        lambda: shop.run(f"UPDATE shop_events SET item_id = 'i7', user_id = 'u7' WHERE id = {some}"),
        lambda: shop.run(
            f"UPDATE shop_events SET timestamp = :time WHERE id = {some}", {"time": shop.time(before + 0.3)}
        ),
        lambda: shop.put(("u1", "i1", "wish", shop.time(before), 1.0), (None, "i1", "view", shop.time(before), 1.0)),
        lambda: shop.put(("u1", "i1", "view", shop.time(day + 2.5), 1.0)),  # counts two nights later
        lambda: shop.run("INSERT INTO shop_items (item_id, title) VALUES (:item, 'new')", {"item": f"i{day}"}),
        lambda: shop.put(("u2", "i2", "return", shop.time(day - 0.5), 1.0)),
        lambda: shop.run(f"UPDATE shop_events SET user_id = 'u{day}x' WHERE id = {some}"),
    )
    deeds[day % len(deeds)]()
    if day == 12:
        shop.run("ALTER TABLE shop_items ADD COLUMN color VARCHAR(20)")
    if day == 17:
        shop.run("ALTER TABLE shop_events ADD COLUMN order_id VARCHAR(20)")
        shop.columns += ", order_id"


@pytest.mark.parametrize(
    ("form", "nights"),
    [
        *((form, 20 if form == "timestamps" else 6) for form in FORMS),
        pytest.param("timestamps", 30, marks=pytest.mark.slow),
    ],
)
def test_thirty_days_of_changes_give_what_a_full_read_gives(
    database: str, store: Store, tmp_path: Path, form: str, nights: int
) -> None:
    with opened(database, store, tmp_path, form) as shop:
        shop.add(1_000, -40, spread=40)
        hows = []
        for day in range(1, nights + 1):
            change(shop, day)
            loaded, how = shop.night(day)
            hows.append(how)
            assert day % 5 or same(shop, loaded, day)
        assert [how["why"] for how in hows if how["read"] == "everything"] == [
            "there is no earlier reading",
            *(["the query, its columns or the settings of events changed"] if nights > 17 else []),
        ]
        assert all(0 < how["rows"] < 500 for how in hows if how["read"] == "days")


def test_events_posted_to_the_service_are_read_on_the_days_that_changed(sqlite_shop: Shop) -> None:
    shop, store = sqlite_shop, sqlite_shop.store
    shop.columns = COLUMNS + ", NULL AS visitor_id"
    shop.add(300, -20, spread=20)
    shop.run("DELETE FROM shop_events WHERE event = 'view'")
    shop.night(1)
    at = (START - 3) * DAY
    events = own_events([("u1", "i1", "view", at), ("u2", "i2", "view", at + 5), ("v9", "i3", "view", at + 9)])
    insert_events(store, events)
    loaded, how = shop.night(2)
    assert how["read"] == "days"
    assert (how["rows"], how["changed_days"]) == (0, 0)
    assert same(shop, loaded, 2)
    delete_user(store, "u1", now=store.now())
    loaded, _ = shop.night(3)
    assert same(shop, loaded, 3)
    assert loaded is not None
    assert loaded.users.row_of("u1") < 0
    last = open_last(shop.folder)
    assert last is not None
    kept = {last.users[row] for part in last.parts.values() for row in part.rows["user"]}
    assert "u2" in kept
    assert "u1" not in kept


def test_a_night_without_anything_new_says_so_once_a_bundle_was_made(shop: Shop) -> None:
    shop.add(200, -9, spread=9)
    assert shop.night(1)[0] is not None
    assert shop.night(1)[0] is not None  # nothing is new, but no bundle was made of it
    shop.trained()
    loaded, how = shop.night(2)
    assert loaded is None
    assert how == {"read": "days", "changed_days": 0, "rows": 0}
    shop.run("INSERT INTO shop_items (item_id, title) VALUES ('i1', 'a lamp')")
    assert shop.night(2)[0] is not None


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"incremental": False}, "incremental is false"),
        ({"full_read_days": 0.5}, "last full read"),
        ({"guest_ids": ["u0"]}, "settings of events changed"),
        ({"interactions": f"SELECT {COLUMNS} FROM shop_events WHERE value > 0"}, "the query"),
    ],
)
def test_everything_is_read_for_a_reason_that_is_told(sqlite_shop: Shop, settings: dict[str, Any], why: str) -> None:
    sqlite_shop.add(200, -9, spread=9)
    sqlite_shop.night(0)
    loaded, how = sqlite_shop.night(1, settings=settings)
    assert how["read"] == "everything"
    assert why in how["why"]
    assert loaded is not None


def test_everything_is_read_on_request_and_where_half_of_it_changed(sqlite_shop: Shop) -> None:
    sqlite_shop.add(200, -9, spread=9)
    sqlite_shop.night(0)
    assert sqlite_shop.night(0, is_full=True)[1]["why"] == "a full read was asked for"
    sqlite_shop.run("UPDATE shop_events SET value = 3")
    assert "of 200 rows would be read again" in sqlite_shop.night(0)[1]["why"]


@pytest.mark.parametrize("times", [["05/13/2023 10:00"], ["2023-12-09 10:00:00", "1702116000"]])
def test_where_the_database_cannot_tell_the_days_everything_is_read(sqlite_shop: Shop, times: list[str]) -> None:
    sqlite_shop.put(*[(f"u{at}", f"i{at}", "view", time, 1.0) for at in range(3) for time in times])
    for day in (0, 1):
        loaded, how = sqlite_shop.night(day)
        assert how["read"] == "everything"
        assert same(sqlite_shop, loaded, day)
    assert "cannot tell the day" in how["why"]


def test_rows_without_a_time_are_counted_and_read_again_when_they_change(shop: Shop) -> None:
    shop.add(200, -9, spread=9)
    shop.put(("u1", "i1", "view", None, 1.0))
    shop.night(0)
    assert shop.night(0)[1] == {"read": "days", "changed_days": 0, "rows": 0}
    shop.put(("u2", "i1", "view", None, 1.0))
    loaded, how = shop.night(0)
    assert how["why"] == "rows without a readable time changed"
    assert same(shop, loaded, 0)


def test_days_of_the_overlap_are_read_with_those_that_changed(sqlite_shop: Shop) -> None:
    sqlite_shop.add(900, -30, spread=30)
    rows = []
    for days in (0.0, 9.0):
        sqlite_shop.night(0, is_full=True)
        sqlite_shop.add(1, -20.5, spread=0)
        rows.append(sqlite_shop.night(0, settings={"overlap_days": days})[1]["rows"])
    assert rows[0] < 200 < rows[1]


def test_within_some_nights_each_older_day_is_compared_once(shop: Shop) -> None:
    shop.settings["check_nights"] = 4
    shop.put(*[("u5", "i5", "view", shop.time(-20.5), 1.0)] * 2)
    shop.add(600, -60, spread=60)
    shop.night(0)
    shop.run("UPDATE shop_events SET value = 7.5 WHERE id = 1")  # no row more or less
    found = [shop.night(night) for night in range(1, 5)]
    assert [how["changed_days"] for _, how in found].count(1) == 1
    assert same(shop, found[-1][0], 4)
    shop.run("DELETE FROM shop_events WHERE id = 2")  # a row less is found at once
    loaded, how = shop.night(5)
    assert how["changed_days"] == 1
    assert same(shop, loaded, 5)


def test_days_before_the_last_four_weeks_are_counted_once_within_these_nights(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    shop.settings["check_nights"] = 3
    shop.put(*[("u5", "i5", "view", shop.time(-60.5), 1.0)] * 2)
    shop.add(900, -90, spread=90)
    shop.night(0)
    shop.run("DELETE FROM shop_events WHERE id = 2")
    assert sorted(shop.night(night)[1]["changed_days"] for night in range(1, 4)) == [0, 0, 1]
    shop.add(90, -90, spread=30)  # of many days: found at once
    loaded, how = shop.night(4)
    assert how["changed_days"] > 10
    assert same(shop, loaded, 4)


def test_a_column_says_at_once_which_old_rows_changed(shop: Shop) -> None:
    shop.settings |= {"check_nights": 1_000, "updated_at": "updated_at"}
    shop.columns += ", updated_at"
    shop.run("ALTER TABLE shop_events ADD COLUMN updated_at VARCHAR(40)")
    shop.add(600, -60, spread=60)
    shop.night(0)
    shop.run("UPDATE shop_events SET value = 7.5, updated_at = '2023-12-10 08:00:00' WHERE id = 5")
    loaded, how = shop.night(1)
    assert how["read"] == "days"
    assert how["rows"] < 100
    assert same(shop, loaded, 1)


@pytest.mark.parametrize("at", ["in readings", "before readings"])
def test_a_crash_while_a_reading_is_kept_leaves_the_last_one(
    sqlite_shop: Shop, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_shop.add(200, -9, spread=9)
    sqlite_shop.night(0)
    before = open_last(sqlite_shop.folder)
    sqlite_shop.add(50, -1)

    def crash(name: str) -> None:
        if name == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("recsys.source.readings.failpoint", crash)
        with pytest.raises(KeyboardInterrupt):
            sqlite_shop.night(1)
    after = open_last(sqlite_shop.folder)
    assert before is not None
    assert after is not None
    assert (after.name, after.parts["interactions"].sums) == (before.name, before.parts["interactions"].sums)
    loaded, how = sqlite_shop.night(1)
    assert how["read"] == "days"
    assert same(sqlite_shop, loaded, 1)
    assert len(list((sqlite_shop.folder / "readings").glob("[0-9]*"))) == 1


def test_a_damaged_reading_costs_a_full_read(sqlite_shop: Shop) -> None:
    sqlite_shop.add(200, -9, spread=9)
    sqlite_shop.night(0)
    [rows] = (sqlite_shop.folder / "readings").glob("*/interactions_rows.arrow")
    rows.write_bytes(rows.read_bytes()[:-1] + b"x")
    loaded, how = sqlite_shop.night(1)
    assert how["why"] == "there is no earlier reading"
    assert same(sqlite_shop, loaded, 1)
