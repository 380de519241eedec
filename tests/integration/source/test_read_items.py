"""Items of any database: translated titles, lists, prices with a currency, words for what can be bought."""

from contextlib import closing

import pytest
from queries import execute, fill, read

from recsys.config.settings import SourceSettings
from recsys.source.catalog import Entries, read_items
from recsys.source.events import read_events
from recsys.source.reader import open_reader

TITLES = ['{"en_US": "Lamp", "de_DE": "Leuchte"}', '{"en_US": "Clock"}', None]


def items(database: str, query: str = "SELECT * FROM items ORDER BY item_id", **settings: object) -> Entries:
    with closing(open_reader(database)) as reader:
        return read_items(reader, query, "items", SourceSettings.model_validate(settings), own=False)


@pytest.fixture
def translated(database: str) -> str:
    kind = "JSONB" if database.startswith("postgresql") else "JSON" if database.startswith("mariadb") else "TEXT"
    execute(
        database,
        f"CREATE TABLE items (item_id INTEGER, title {kind}, price VARCHAR(20), available VARCHAR(20))",
        "INSERT INTO items VALUES (?, ?, ?, ?)",
        rows=[
            (1, TITLES[0], "1.234,50 €", "in_stock"),
            (2, TITLES[1], "13,82 €", "outofstock"),
            (3, TITLES[2], None, None),
        ],
    )
    return database


def test_the_configured_language_words_and_prices(translated: str) -> None:
    found = items(translated, language="de_DE")
    assert found.frame.rows() == [
        ("1", "Leuchte", 1234.5, "€", True),
        ("2", None, 13.82, "€", False),
        ("3", None, None, None, None),
    ]
    [finding] = found.findings
    assert (finding.severity, finding.reason, finding.rows) == ("warning", "title of items cannot be read", 1)
    assert "in the languages en_US; [source] language" in finding.advice


def test_several_languages_are_never_shown_as_they_are_stored(translated: str) -> None:
    found = items(translated)
    assert found.frame["title"].to_list() == [None, "Clock", None]
    assert "en_US" in found.findings[0].advice
    assert "de_DE" in found.findings[0].advice


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_money_and_lists_of_postgresql(database: str) -> None:
    execute(
        database,
        "CREATE TABLE items (item_id INTEGER, price MONEY, category TEXT[], sizes TEXT[], deep JSONB)",
        """INSERT INTO items VALUES (1, 1234.5, '{Garden,Tools}', '{S,M}', '{"a": [1]}'), (2, 2, NULL, NULL, NULL)""",
    )
    assert items(database).frame.drop("currency").rows() == [
        ("1", 1234.5, "Garden > Tools", ["S", "M"], '{"a": [1]}'),
        ("2", 2.0, None, None, None),
    ]


def test_the_value_of_an_event_with_a_currency_or_a_decimal_comma(database: str) -> None:
    execute(
        database,
        "CREATE TABLE totals (total VARCHAR(20))",
        "INSERT INTO totals VALUES (?)",
        rows=[("13,82",), ("1.234,50 €",), ("-5",), ("?",), (None,)],
    )
    query = (
        "SELECT 'u' AS user_id, 'i' AS item_id, 'view' AS event, 1577880000 AS timestamp, total AS value FROM totals"
    )
    assert sorted(read(database, query)["value"], key=str) == [-5.0, 1234.5, 13.82, None, None]


def test_day_numbers_are_doubted_in_every_database(database: str) -> None:
    fill(database, [("a", "b", "view", day, None) for day in range(1, 180)])
    with closing(open_reader(database)) as reader:
        query = "SELECT user_id, item_id, event, timestamp FROM events"
        doubts = [batch.doubt for batch in read_events(reader, query, "interactions", None)]
    assert "counted from a start of their own" in str(doubts[-1])
