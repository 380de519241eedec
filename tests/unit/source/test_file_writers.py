"""Tables as programs write them come back: every row is there or told of, and its ids are those that were written."""

import io
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import openpyxl
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recsys.source.delimited import read_delimited
from recsys.source.files import read_files

NAMES = ("user_id", "item_id", "title", "price")
Table = list[tuple[str, str, str | None, str | None]]

# Titles as they are in shops: quotes, separators, tabs, line ends, backslashes, nothing, and any letters.
WORDS = st.sampled_from(
    ["Lamp", '12"', '"best"', "a, b", "1;2", "one\ntwo", "tab\there", "C:\\new", "\\", "ü €", "x|y", "'s", ""]
)
TITLES = st.lists(WORDS, max_size=4).map(" ".join).map(lambda text: text or None)
IDS = st.from_regex(r"[A-Za-z0-9_.:-]{1,12}", fullmatch=True)
PRICES = st.one_of(st.none(), st.decimals(0, 9999, places=2).map(str))
TABLES = st.lists(st.tuples(IDS, IDS, TITLES, PRICES), min_size=1, max_size=12)


def quoted(value: str | None) -> str:
    return "" if value is None else '"' + value.replace('"', '""') + '"'


def spreadsheet(table: Table, separator: str = ";", end: str = "\r\n") -> bytes:
    """Only values that need it are in quotes, as spreadsheets, pandas and psql's CSV write them."""

    def cell(value: str | None) -> str:
        text = value or ""
        return quoted(text) if any(sign in text for sign in ('"', "\n", "\r", separator)) else text

    rows = [NAMES, *table]
    return "".join(separator.join(map(cell, row)) + end for row in rows).encode()


def fputcsv(table: Table) -> bytes:
    """PHP's: a quote after a backslash is not doubled, blanks and backslashes ask for quotes, the backslash stays."""

    def cell(value: str | None) -> str:
        text = value or ""
        if not any(sign in text for sign in ('"', ",", "\\", "\n", "\r", "\t", " ")):
            return text
        written, escaped = "", False
        for sign in text:
            if sign == "\\":
                escaped = True
            elif not escaped and sign == '"':
                written += '"'
            else:
                escaped = False
            written += sign
        return f'"{written}"'

    return "".join(",".join(map(cell, row)) + "\n" for row in [NAMES, *table]).encode()


def outfile(table: Table, separator: str = "\t", quote: str = "") -> bytes:
    """SELECT … INTO OUTFILE, below the header that people put before it."""

    def cell(value: str | None) -> str:
        if value is None:
            return "\\N"
        for sign in ("\\", "\n", quote or separator):
            value = value.replace(sign, f"\\{sign}")
        return f"{quote}{value}{quote}"

    return "".join(separator.join(map(cell, row)) + "\n" for row in [NAMES, *table]).encode()


def copy(table: Table) -> bytes:
    """psql's \\copy as text."""

    def cell(value: str | None) -> str:
        if value is None:
            return "\\N"
        return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")

    return "".join("\t".join(map(cell, row)) + "\n" for row in [NAMES, *table]).encode()


def polars_csv(table: Table, **options: Any) -> bytes:
    return pl.DataFrame(table, schema=dict.fromkeys(NAMES, pl.String), orient="row").write_csv(**options).encode()


WRITERS: dict[str, Callable[[Table], bytes]] = {
    "a spreadsheet in Europe": spreadsheet,
    "a spreadsheet elsewhere": lambda table: spreadsheet(table, ","),
    "psql's CSV": lambda table: spreadsheet(table, ",", "\n"),
    "a spreadsheet of a Mac": lambda table: spreadsheet(table, ",", "\r"),
    "Unicode text of a spreadsheet": lambda table: spreadsheet(table, "\t").decode().encode("utf-16"),
    "polars": polars_csv,
    "polars, all in quotes": lambda table: polars_csv(table, quote_style="always"),
    "polars, with a BOM": lambda table: polars_csv(table, include_bom=True, separator="|"),
    "PHP": fputcsv,
    "MySQL": outfile,
    "MySQL, with commas and quotes": lambda table: outfile(table, ",", '"'),
    "psql's text": copy,
}


def known(value: str | None) -> str | None:
    return value or None


@pytest.mark.parametrize("writer", WRITERS)
@settings(max_examples=30, deadline=None)  # of each of a dozen writers
@given(table=TABLES)
@example(table=[("u1", "P1", '12" wide, "best"', "1.50"), ("u2", "P2", "one\ntwo, three\n\nfour", None)])
@example(table=[("u1", "P1", "ends with \\", "1.50"), ("u2", "P2", None, "2.00"), ("u3", "P3", '"all"', "3.00")])
def test_every_row_that_a_program_writes_is_read_with_its_ids(writer: str, table: Table) -> None:
    found = read_delimited(io.BytesIO(WRITERS[writer](table)), NAMES)
    rows = found.frame()
    assert rows.columns == list(NAMES)
    assert rows.height + found.unread == len(table)
    written = [(user, item, known(price)) for user, item, _, price in table]
    read = [(row[0], row[1], known(row[3])) for row in rows.rows()]
    assert found.unread or read == written
    assert set(read) <= set(written)
    plain = [row for row in table if row[2] is None or not {"\\", '"'} & set(row[2])]
    # A backslash may be a part of the title: it stays, unless other rows show that it escapes.
    signs = {"\\\n": "\n", "\\n": "\n", "\\t": "\t"}
    titles = {
        reduce(lambda text, sign: text.replace(*sign), signs.items(), title) for title in rows["title"].drop_nulls()
    }
    assert {row[2] for row in plain if row[2]} <= titles or found.unread


def test_nearly_every_row_is_read() -> None:
    """Of every program at least 95 of a hundred rows, those with the oddest titles among them."""
    titles = [
        '12"',
        '"best" of all',
        'a, "b"',
        "one\ntwo",
        "tab\there",
        "C:\\new",
        "\\",
        'x\\"y',
        None,
        "plain",
        "é; |",
    ]
    table: Table = [(f"u{at}", f"P{at}", titles[at % len(titles)], "1.50") for at in range(440)]
    for writer, write in WRITERS.items():
        found = read_delimited(io.BytesIO(write(table)), NAMES)
        right = sum(one[:2] == other[:2] for one, other in zip(found.frame().rows(), table, strict=False))
        assert right >= 0.95 * len(table), writer


# The reader of spreadsheets keeps nine places after the point.
@settings(max_examples=30, deadline=None)
@given(table=st.lists(st.tuples(IDS, IDS, TITLES, st.floats(0, 9999)), min_size=1, max_size=5))
def test_what_openpyxl_writes_is_read(tmp_path_factory: pytest.TempPathFactory, table: list[tuple[Any, ...]]) -> None:
    path = Path(tmp_path_factory.mktemp("sheets")) / "a.xlsx"
    book = openpyxl.Workbook()
    for row in [NAMES, *table]:
        book.worksheets[0].append(row)
    for cell in (cell for row in book.worksheets[0].iter_rows() for cell in row if isinstance(cell.value, str)):
        cell.data_type = "s"
    book.save(path)
    found = read_files([path], NAMES).rows
    assert found.select("user_id", "item_id").rows() == [row[:2] for row in table]
    assert [float(price) for price in found["price"]] == pytest.approx([row[3] for row in table], abs=1e-9)
