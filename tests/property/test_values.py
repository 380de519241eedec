"""Whatever writes a table of ids, times, words and prices, the same values come out, and every row is accounted for."""

import json
import tempfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import quiet

from recsys.config.settings import Config
from recsys.errors import SourceError
from recsys.source.events import normalize_events
from recsys.source.files import read_files
from recsys.source.ids import read_ids
from recsys.source.importer import understand
from recsys.source.prices import read_prices
from recsys.source.times import TimeReader
from recsys.source.words import AVAILABLE, CONSENT, read_available, read_consent

FIRST, LAST = 946_684_800, 1_924_991_999  # seconds: 2000 to 2030
NOW = (LAST + 1) * 1_000_000
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}


def through_a_file(column: pl.Series, form: str) -> pl.Series:
    """What is read of a column that polars has written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table.{form}"
        frame = pl.DataFrame({"row": range(len(column)), "it": column})
        write = {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}
        write[form](path)
        return read_files([path]).rows["it"]


CARRIERS = {
    "whole numbers": lambda ids: pl.Series(ids, dtype=pl.Int64),
    "floats, for there is a gap": lambda ids: pl.Series(ids, dtype=pl.Float64),
    "decimals of a database": lambda ids: pl.Series([None if i is None else Decimal(i) for i in ids]).cast(
        pl.Decimal(38, 2)
    ),
    "text": lambda ids: pl.Series([None if i is None else str(i) for i in ids], dtype=pl.String),
    "text of floats": lambda ids: pl.Series(["nan" if i is None else f"{i}.0" for i in ids], dtype=pl.String),
    "text of a dump": lambda ids: pl.Series(["\\N" if i is None else str(i) for i in ids], dtype=pl.String),
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "none"])
@given(ids=st.lists(st.none() | st.integers(-(10**15) + 1, 10**15 - 1), min_size=1, max_size=8))
@settings(max_examples=15, deadline=None)
def test_whole_numbers_are_their_decimals_whatever_carries_them(carrier, form, ids):
    written = CARRIERS[carrier](ids)
    given_back = written if form == "none" else through_a_file(written, form)
    assert read_ids(given_back, "a table").to_list() == [None if i is None else str(i) for i in ids]


@given(ids=st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_two_ids_never_become_one(ids):
    """A column of floats is read exactly, or refused."""
    try:
        read = read_ids(pl.Series([float(i) for i in ids]), "a table").to_list()
    except SourceError:
        assert max(map(abs, ids)) > 2**53
    else:
        assert read == [str(i) for i in ids]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("form", [int, float, str, Decimal, "csv", "jsonl", "parquet"])
@given(seconds=st.lists(st.none() | st.integers(FIRST, LAST), min_size=1, max_size=8))
@settings(max_examples=15, deadline=None)
def test_numbers_of_every_unit_are_the_same_moments(unit, form, seconds):
    numbers = [None if second is None else second * UNITS[unit] for second in seconds]
    if isinstance(form, str):
        column = through_a_file(pl.Series(numbers, dtype=pl.Int64), form)
    else:
        column = pl.Series([None if number is None else form(number) for number in numbers], strict=False)
    reader = TimeReader(strict=True)
    assert reader.read(column).microseconds.to_list() == [None if s is None else s * 1_000_000 for s in seconds]
    assert reader.doubt is None


FORMS = (
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%d %H:%M:%S.000",
    "%Y-%m-%d %H:%M:%S+00:00",
    "%Y-%m-%dT%H:%M:%S.000000+0000",
    "%Y-%m-%d %H:%M:%S UTC",
    "%Y%m%d%H%M%S",
)


@pytest.mark.parametrize("form", FORMS)
@given(seconds=st.lists(st.integers(FIRST, LAST), min_size=1, max_size=8))
@settings(max_examples=15, deadline=None)
def test_text_of_every_form_is_the_same_moments(form, seconds):
    texts = [datetime.fromtimestamp(second, UTC).strftime(form) for second in seconds]
    assert TimeReader(strict=True).read(pl.Series(texts)).microseconds.to_list() == [s * 1_000_000 for s in seconds]


@given(
    days=st.lists(
        st.one_of(st.integers(1, 800), st.integers(10_957, 25_000), st.integers(36_526, 55_000)),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=60, deadline=None)
def test_numbers_of_days_are_doubted(days):
    reader = TimeReader(strict=True)
    reader.read(pl.Series(days))
    assert reader.doubt


SIGNS = ("", "$", "€", "£", "USD ", "EUR", "CHF ", "R$ ")
GROUPS = {
    (",", "."): "1,234.50",
    (".", ","): "1.234,50",
    ("'", "."): "1'234.50",
    (" ", ","): "1 234,50",
    ("", ","): "1",
}


@pytest.mark.parametrize(("group", "point"), GROUPS)
@given(
    cents=st.lists(st.integers(0, 10**9), min_size=1, max_size=8), sign=st.sampled_from(SIGNS), is_after=st.booleans()
)
@settings(max_examples=40, deadline=None)
def test_prices_of_every_country_are_the_same_numbers(group, point, cents, sign, is_after):
    texts = [f"{cent / 100:,.2f}".replace(",", "~").replace(".", point).replace("~", group) for cent in cents]
    texts = [f"{text} {sign.strip()}".strip() if is_after else f"{sign}{text}" for text in texts]
    read = read_prices(pl.Series(texts))
    assert read.numbers.to_list() == [cent / 100 for cent in cents]
    assert set(read.currencies) == {sign.strip() or None}


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_words_are_read_however_they_are_spelled(data):
    for known, read in ((AVAILABLE, read_available), (CONSENT, read_consent)):
        word = data.draw(st.sampled_from([word for word in known if word.isalpha()]))
        at = data.draw(st.integers(1, len(word)))
        spelled = f" {word[:at]}{data.draw(st.sampled_from(['', ' ', '_', '-']))}{word[at:]}".title()
        assert read(pl.Series([spelled]), {}).to_list() == [known[word]]


ANY = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(width=64) | st.text(max_size=12)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": ANY,
            "item_id": ANY,
            "event": st.sampled_from(["view", "purchase", "wish", None]),
            "timestamp": ANY,
        },
        optional={"value": ANY},
    ),
    min_size=1,
    max_size=8,
)


@given(rows=ROWS)
@settings(max_examples=80, deadline=None)
def test_every_row_of_any_file_is_kept_or_left_out_for_a_reason(rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        try:
            found = understand(Config(), [path], what=None, preset=None, columns={}, now=NOW, progress=quiet)
        except SourceError:  # floats that hold no id
            assert any(type(row[column]) is float for row in rows for column in ("user_id", "item_id"))
            return
    assert found.rows == len(rows) == found.table.height + sum(found.left_out.values())


@given(rows=ROWS)
@settings(max_examples=80, deadline=None)
def test_own_rows_come_back_as_they_were_stored(rows):
    """Nothing that the service stored is guessed at again."""
    times = [row["timestamp"] if type(row["timestamp"]) is int and 0 <= row["timestamp"] < 2**62 else 0 for row in rows]
    names = [str(row["user_id"]) for row in rows]
    frame = pl.DataFrame({"user_id": names, "item_id": names, "event": "view", "timestamp": times})
    read = normalize_events(frame, TimeReader(unit="microseconds"), "own events", own=True).frame
    assert read["time"].to_list() == times
    assert [name for name in read["user_id"] if name is not None] == [
        n for n in names if read_ids(pl.Series([n]), "", exact=True)[0]
    ]
