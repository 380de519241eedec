"""A database that the engine does not know is read through the dialect that docs/extending.md shows."""

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from documented import code_in
from shops import NOW, check, events_of, load

from recsys.config.settings import Config
from recsys.errors import ConfigError, SourceError
from recsys.source.contract import SOURCES, Dialect
from recsys.source.events import read_events
from recsys.source.reader import open_reader
from recsys.store.database import Store

DUCKDB = "duckdb_source:DUCKDB"
EVENTS = "SELECT customer AS user_id, sku AS item_id, kind AS event, placed AS timestamp, amount AS value FROM orders"


@pytest.fixture(autouse=True)
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module of the document, where Python finds it."""
    (tmp_path / "duckdb_source.py").write_text(code_in("extending.md", "## A database"))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("duckdb_source", None)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A shop of two customers and two products, with decimal ids and times with a zone."""
    path = tmp_path / "shop.duckdb"
    run(
        path,
        "CREATE TABLE orders "
        "(customer DECIMAL(10, 2), sku VARCHAR, kind VARCHAR, placed TIMESTAMPTZ, amount DECIMAL(9, 2))",
        "INSERT INTO orders VALUES (20.00, 'A', 'buy', '2020-01-01 11:00+00', 3.5), (21, 'a ', 'view', "
        "'2020-01-01 12:00+02', NULL), (20, 'A', 'view', '2019-12-31 12:00+00', NULL)",
        "CREATE TABLE products AS SELECT 'A' AS sku, 'Lantern' AS title, 19.90 AS price, true AS available",
        "CREATE TABLE customers AS SELECT 21 AS id, true AS email_consent UNION ALL SELECT 22, NULL ORDER BY id",
    )
    return f"duckdb:///{path}"


def run(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)


def config(url: str, **source: str) -> Config:
    queries = {
        "url": url,
        "interactions": f"{EVENTS};",
        "items": "SELECT sku AS item_id, title, price, available FROM products",
        "users": "SELECT id AS user_id, email_consent FROM customers",
    }
    return Config.model_validate({"source": {**queries, **source}, "events": {"aliases": {"buy": "purchase"}}})


def expect_the_shop(settings: Config, store: Store) -> None:
    dataset = load(settings, store)
    hour = 3_600_000_000
    assert events_of(dataset) == [
        ("20", "A", "view", NOW - 24 * hour, None),
        ("20", "A", "purchase", NOW - hour, 3.5),
        ("21", "a ", "view", NOW - 2 * hour, None),
    ]
    assert list(dataset.catalog.ids) == ["A", "a "]
    assert dataset.catalog.columns.slice(0, 1).to_pylist() == [{"title": "Lantern", "price": 19.9, "available": True}]
    assert list(dataset.users) == ["20", "21", "22"]
    assert dataset.consent is not None
    assert dataset.consent.to_pylist() == [None, True, None]
    assert [finding.reason for finding in check(settings, store).findings] == [
        "few users to judge by",
        "nobody to choose settings by",
        "item without catalog row",
    ]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_dotted_name_in_the_configuration_reads_a_duckdb_shop(url: str, store: Store) -> None:
    expect_the_shop(config(url, dialect=DUCKDB), store)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_line_in_sources_reads_it_by_its_url(url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"'duckdb'; allowed are sqlite, .*dialect"):
        load(config(url), store)
    monkeypatch.setitem(SOURCES, "duckdb", DUCKDB)
    expect_the_shop(config(url), store)


def test_a_duckdb_shop_cannot_be_written_to(url: str) -> None:
    with closing(open_reader(url, DUCKDB)) as reader, pytest.raises(SourceError) as error:
        reader.query(EVENTS, "interactions").fetch("DELETE FROM orders")
    assert "read-only" in error.value.in_full


def test_what_the_fast_driver_refuses_is_read_by_the_other(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(open_reader(url, DUCKDB)) as reader:
        query = f"{EVENTS} WHERE placed IS NOT NULL"
        [fast] = read_events(reader, query.replace("placed AS", "CAST(placed AS TIMESTAMP) AS"), "interactions", None)
        monkeypatch.delattr(duckdb.DuckDBPyConnection, "sql")
        [slow] = read_events(reader, query.replace("placed AS", "CAST(placed AS TIMESTAMP) AS"), "interactions", None)
    assert slow.frame.equals(fast.frame)
    assert (slow.frame.height, slow.naive) == (3, 3)


def test_ids_of_bytes_are_refused_before_a_row_is_read(url: str) -> None:
    query = "SELECT 'a'::BLOB AS user_id, sku AS item_id, kind AS event, placed AS timestamp FROM orders"
    with closing(open_reader(url, DUCKDB)) as reader, pytest.raises(SourceError, match=r"user_id .* holds bytes"):
        list(read_events(reader, query, "interactions", None))


def test_what_is_no_dialect_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"'duckdb_source:IDS' is no recsys.source.contract.Dialect"):
        open_reader(url, "duckdb_source:IDS")


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_is_a_dialect(name: str) -> None:
    module, _, attribute = SOURCES[name].partition(":")
    assert module.startswith("recsys.source.dialects.")
    assert isinstance(getattr(__import__(module, fromlist=[attribute]), attribute), Dialect)
