"""Text files of every common form hold the same rows; a broken row costs itself only, and is told with its line."""

import csv
import gzip
import io
import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import openpyxl
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recsys.errors import SourceError
from recsys.source import delimited
from recsys.source.delimited import SEPARATORS, Table, read_delimited
from recsys.source.files import expand, read_files
from recsys.source.ids import read_ids
from recsys.source.values import read_numbers

KNOWN = ("user_id", "item_id", "title")
ROWS = [("1", "P1", "Größe, 17"), ("2", "P2", "two; lines"), ("3", "P3", 'the "best"')]


def delimited_text(rows: Any = ROWS, separator: str = ",", end: str = "\n", header: Any = KNOWN) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=end)
    writer.writerows([header, *rows] if header else rows)
    return text.getvalue()


def read(content: bytes | str, known: Any = KNOWN, **options: Any) -> Table:
    data = content.encode() if isinstance(content, str) else content
    return read_delimited(io.BytesIO(data), known, **options)


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
@pytest.mark.parametrize("block", [1000, 1 << 24], ids=["many blocks", "one block"])
def test_separator_line_ends_and_encoding_are_recognized(
    monkeypatch: pytest.MonkeyPatch, separator: str, end: str, encoding: str, block: int
) -> None:
    monkeypatch.setattr(delimited, "BLOCK", block)
    found = read(delimited_text(ROWS * 1500, separator, end).encode(encoding))
    assert found.frame().rows() == ROWS * 1500
    assert found.recognized["separator"] == SEPARATORS[separator]
    assert found.recognized["line ends"] == {"\n": "LF", "\r\n": "CRLF", "\r": "CR"}[end]
    family = "Windows-1252" if encoding in ("latin-1", "cp1252") else encoding.upper()[: len("UTF-8")]
    assert found.recognized["encoding"].startswith(family)


def test_a_value_of_several_lines_is_one_value_under_every_line_end() -> None:
    rows = [("1", "P1", "first\nsecond, third"), ("2", "P2", "x")]
    for end in ("\n", "\r\n", "\r"):
        assert read(delimited_text(rows, end=end)).frame().rows() == rows


@pytest.mark.parametrize(
    ("before", "lines"),
    [
        ("", None),
        ("Orders of May\n\nmade 1 June, by the till\n", "3"),
        ("sep=,\n", "1"),
        ("\ufeff", None),
    ],
)
def test_what_stands_before_the_header_is_skipped_and_said(before: str, lines: str | None) -> None:
    found = read(before + delimited_text())
    assert found.frame().rows() == ROWS
    assert found.recognized.get("lines before the header") == lines


def test_a_header_of_unknown_names_below_a_preamble_is_found_by_its_width() -> None:
    found = read("Orders, May\n\nKunde;Artikel;Betrag\n7;P1;0,5\n8;P2;1,5\n", known=())
    assert (found.names, found.frame().rows()) == (
        ["Kunde", "Artikel", "Betrag"],
        [("7", "P1", "0,5"), ("8", "P2", "1,5")],
    )


def test_blank_lines_are_no_rows_and_said() -> None:
    found = read("user_id,item_id,title\n\n1,P1,a\n,,\n   \n2,P2,b\n\n")
    assert (found.frame().height, found.unread, found.recognized["blank lines"]) == (2, 0, "4")


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ('7,P7,"12"" wide"', '12" wide'),
        ('7,P7,"12\\" wide"', '12" wide'),
        ('7,P7,"12\\" wide, 3\\" deep"', '12" wide, 3" deep'),
        ('7,P7,12" wide', '12" wide'),
        ('7,P7,"12" wide"', '12" wide'),
        ('7,P7,"ends with a backslash\\"', "ends with a backslash\\"),
        ("7,P7,wide,,", "wide"),
    ],
)
def test_quotes_are_read_as_each_row_needs_it(line: str, title: str) -> None:
    others = "".join(f"{at},P{at},plain\n" for at in range(30))
    found = read(f"user_id,item_id,title\n{others}{line}\n{others}")
    assert (found.frame().height, found.unread) == (61, 0)
    assert found.frame().row(30) == ("7", "P7", title)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("7,P7", "2 fields, the header has 3: 7,P7"),
        ("7,P7,a,b", "4 fields, the header has 3: 7,P7,a,b"),
        ('7,P7,"never closed', 'a quote is not closed: 7,P7,"never closed'),
    ],
)
@pytest.mark.parametrize("block", [1000, 1 << 24], ids=["many blocks", "one block"])
def test_a_broken_row_costs_itself_only_and_is_told_with_its_line(
    monkeypatch: pytest.MonkeyPatch, line: str, what: str, block: int
) -> None:
    monkeypatch.setattr(delimited, "BLOCK", block)
    others = "".join(f"{at},P{at},plain\n" for at in range(6000))
    found = read(f"user_id,item_id,title\n{others}{line}\n{others}")
    assert found.frame().rows() == [(str(at), f"P{at}", "plain") for at in range(6000)] * 2
    assert (found.unread, found.examples) == (1, [f"line 6002: {what}"])


def test_rows_between_two_stray_quotes_are_not_swallowed() -> None:
    swallowed = "".join(f"{at},P{at},plain\n" for at in range(20))
    found = read(f'user_id,item_id,title\na,PA,"Lamp\n{swallowed}b,PB,Shade"\nc,PC,end\n')
    assert found.frame()["user_id"].to_list() == [*map(str, range(20)), "b", "c"]
    assert found.examples == ['line 2: a quote is not closed: a,PA,"Lamp']


def test_bytes_that_are_no_letter_cost_their_row() -> None:
    found = read(b"user_id,item_id,title\n" + "1,P1,é\n".encode() * 9 + b"2,P2,\xe9\n")
    assert (found.frame().height, found.examples[0][:34]) == (9, "line 11: bytes that are no UTF-8: ")


def test_columns_without_a_header_are_numbered_and_two_of_a_name_are_told_apart() -> None:
    assert read("1,P1\n2,P2\n", has_header=False).frame().to_dict(as_series=False) == {
        "1": ["1", "2"],
        "2": ["P1", "P2"],
    }
    assert read("user_id,title,title,\n1,a,b,\n").names == ["user_id", "title", "title (2)"]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.tsv", "a.txt", "a.json", "a.jsonl", "a.parquet", "a.xlsx", "a.zip"])
def test_every_format_holds_the_same_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(path)
    found = read_files([path], KNOWN)
    assert found.rows.rows() == ROWS
    assert found.unread == 0


def write(path: Path) -> None:
    objects = [dict(zip(KNOWN, row, strict=True)) for row in ROWS]
    tabs = delimited_text(separator="\t").encode()
    form = path.suffix
    if form == ".xlsx":
        book = openpyxl.Workbook()
        for row in (("Orders", None, None), (None, None, None), KNOWN, *ROWS):
            book.worksheets[0].append(row)
        book.save(path)
    elif form == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("orders/2020.csv", delimited_text(ROWS[:2]))
            archive.writestr("orders/2021.tsv", delimited_text(ROWS[2:], "\t"))
            archive.writestr("__MACOSX/orders/2020.csv", b"\0")
            archive.writestr("read me.md", b"hello")
    elif form == ".parquet":
        pl.DataFrame(objects).write_parquet(path)
    else:
        lines = "\n".join(json.dumps(row) for row in objects).encode()
        given = {".gz": gzip.compress(delimited_text().encode()), ".tsv": tabs, ".txt": tabs, ".jsonl": lines}
        path.write_bytes(given.get(form) or json.dumps({"orders": objects, "next": None}).encode())


def test_sheets_of_the_same_columns_are_read_and_others_named(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for title, rows in {"2020": [KNOWN, *ROWS], "Notes": [("a", "b"), ("1", "2")], "2021": [KNOWN, *ROWS]}.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(tmp_path / "a.xlsx")
    found = read_files([tmp_path / "a.xlsx"], KNOWN)
    assert found.rows.rows() == [*ROWS, *ROWS]
    assert found.recognized["a.xlsx"]["sheets"] == "2020, 2021"
    assert found.recognized["a.xlsx"]["sheets not read, of other columns"] == "Notes"


def test_several_files_and_patterns_are_read_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in (1, 2):
        (tmp_path / f"orders-{at}.csv").write_text(f"user_id,item_id\n{at},P{at}\n{at}\n")
    monkeypatch.chdir(tmp_path)
    paths = expand([Path("orders-*.csv"), Path("orders-1.csv")])
    assert [path.name for path in paths] == ["orders-1.csv", "orders-2.csv"]
    assert expand([tmp_path / "orders-*.csv"]) == [tmp_path / path for path in paths]
    found = read_files(paths, KNOWN)
    assert (found.rows["user_id"].to_list(), found.unread) == (["1", "2"], 2)
    assert found.examples[1] == "orders-2.csv line 3: 1 fields, the header has 2: 2"
    with pytest.raises(SourceError, match=r"there is no file orders-x\*"):
        expand([Path("orders-x*")])


TEXTS = st.text(st.characters(codec="cp1252", exclude_characters="\r\x00", exclude_categories=["Cs"]), max_size=12)
CELLS = st.one_of(st.sampled_from(['"', ",", ";", "\n", 'a"b', '"",', "\\", '\\"', "a\nb,c"]), TEXTS)


@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=8), separator=st.sampled_from(list(SEPARATORS))
)
@example(rows=[('"', "\n", ",")], separator=",")
@example(rows=[*[('"', '"', '"')] * 3, ('"', "\\", "\\"), ("a\nb,c", '"', "\n")], separator=",")
def test_what_a_spreadsheet_writes_is_read_back(rows: list[tuple[str, str, str]], separator: str) -> None:
    """Values in quotes that are written twice: as pandas, polars, psql and spreadsheets write them."""
    rows = [("u1", *row) for row in rows]
    found = read(delimited_text(rows, separator, header=("user_id", "item_id", "title", "price")), (*KNOWN, "price"))
    given = [tuple(value or None for value in row) for row in rows]
    kept = [tuple(value or None for value in row) for row in found.frame().rows()]
    assert len(kept) + found.unread == len(given)
    if not found.unread and "\\" not in str(rows).replace("\\n", ""):
        assert kept == given


@given(content=st.binary(max_size=300))
@example(content=b'user_id,item_id\n"a\n')
def test_no_bytes_make_a_traceback(content: bytes) -> None:
    for start in (b"", b"user_id,item_id,title\n"):
        with suppress(SourceError):  # it is no text
            read(start + content)


def test_a_file_full_of_open_quotes_is_told_of_row_by_row() -> None:
    rows = "".join(f'{at},P{at},"Lamp, {at},1\n' for at in range(3000))
    found = read("user_id,item_id,title\n" + rows)
    assert (found.frame().height, found.unread) == (0, 3000)


def test_text_that_a_parquet_file_calls_bytes_is_text_and_other_bytes_hold_no_number(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"user_id": ["Größe".encode(), None], "value": [b"2.5", b"\xff\xfe"]}).write_parquet(path)
    rows = read_files([path]).rows
    assert rows["user_id"].to_list() == ["Größe", None]
    assert rows["value"].dtype == pl.Binary
    assert read_numbers(rows["value"]).to_list() == [None, None]


def test_damaged_encrypted_and_endless_files_are_refused_by_name(tmp_path: Path) -> None:
    text = "user_id,item_id\n" + "".join(f"u{at},i{at * 7 % 913}\n" for at in range(3000))
    compressed = bytearray(gzip.compress(text.encode()))
    compressed[200:230] = bytes(30)
    (tmp_path / "damaged.csv.gz").write_bytes(compressed)
    with zipfile.ZipFile(tmp_path / "locked.zip", "w") as archive:
        archive.writestr("orders.csv", text)
    locked = bytearray((tmp_path / "locked.zip").read_bytes())
    for at in (6, locked.rfind(b"PK\x01\x02") + 8):
        locked[at] |= 1  # the mark of a file that a password protects
    (tmp_path / "locked.zip").write_bytes(locked)
    (tmp_path / "endless.json").write_text("[" * 100_000)
    for name in ("damaged.csv.gz", "locked.zip", "endless.json"):
        with pytest.raises(SourceError, match=name):
            read_files([tmp_path / name], KNOWN)


def test_long_ids_of_a_spreadsheet_are_exact_as_text_and_refused_as_numbers(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["an export of", None])
    book.active.append(["user_id", "item_id"])
    book.active.append([12345678901234567, "12345678901234567"])
    book.active.append([7, "P1"])
    book.save(tmp_path / "a.xlsx")
    rows = read_files([tmp_path / "a.xlsx"], KNOWN).rows
    assert read_ids(rows["item_id"], "a file").to_list() == ["12345678901234567", "P1"]
    with pytest.raises(SourceError, match="user_id"):
        read_ids(rows["user_id"], "a file")


@pytest.mark.parametrize("block", [1000, 1 << 24], ids=["many blocks", "one block"])
def test_a_header_that_comes_again_is_no_row_and_is_told(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(delimited, "BLOCK", block)
    one, header = "".join(f"{at},P{at},plain\n" for at in range(300)), "user_id,item_id,title\n"
    found = read(f"\ufeff{header}{one}\ufeff{header}{one}{header}")
    assert found.frame().rows() == [(str(at), f"P{at}", "plain") for at in range(300)] * 2
    assert (found.recognized["repeated headers"], found.unread) == ("2", 0)


def test_a_header_that_comes_again_is_found_with_a_separator_at_its_end_and_alone() -> None:
    assert read("user_id;title;\n1;a;\nuser_id;title;\n2;b;\n").frame().rows() == [("1", "a"), ("2", "b")]
    assert read("\ufeffuser_id\n1\n\ufeffuser_id\n2\n").frame().rows() == [("1",), ("2",)]


def test_a_second_header_in_another_order_is_refused_and_a_row_of_such_words_is_none() -> None:
    with pytest.raises(SourceError, match="in another order: title, user_id, item_id"):
        read("user_id,item_id,title\n1,P1,a\ntitle,user_id,item_id\na,1,P1\n")
    assert read("user_id,item_id,title\n1,title,title\n").frame().height == 1


def test_files_of_one_name_in_two_folders_are_both_told(tmp_path: Path) -> None:
    paths = [tmp_path / year / "orders.csv" for year in ("2020", "2021")]
    for path, separator in zip(paths, ",;", strict=True):
        path.parent.mkdir()
        path.write_text(delimited_text(separator=separator))
    assert [found["separator"] for found in read_files(paths, KNOWN).recognized.values()] == ["comma", "semicolon"]


@pytest.mark.parametrize("alphabet", ["Лампа настольная", "Λάμπα γραφείου", "台灯台灯"])
def test_old_encodings_of_other_alphabets_are_refused(alphabet: str) -> None:
    encoding = {"Л": "cp1251", "Λ": "cp1253", "台": "gbk"}[alphabet[0]]
    with pytest.raises(SourceError, match="save it as UTF-8"):
        read(f"user_id,item_id,title\n1,P1,{alphabet}\n".encode(encoding))
    assert read("user_id,item_id,title\n1,P1,Größe ÄÖ déjà\n".encode("cp1252")).frame().height == 1


@pytest.mark.parametrize(
    ("row", "within"),
    [
        ('="007",="008",Lamp', '="…"'),
        ('"=""007""","=""008""",Lamp', '="…"'),
        ("'007','008',Lamp", "'…'"),
        ("“007”,“008”,Lamp", "“…”"),
    ],
)
def test_what_stands_around_all_values_of_a_column_is_taken_off(row: str, within: str) -> None:
    found = read(f"user_id,item_id,title\n{row}\n")
    assert found.frame().rows() == [("007", "008", "Lamp")]
    assert found.recognized["values within"] == within


def test_quotes_around_one_column_are_its_values() -> None:
    assert read("user_id,item_id,title\n1,2,'tis'\n").frame().rows() == [("1", "2", "'tis'")]


def test_the_line_under_a_header_is_no_row() -> None:
    found = read("user_id,item_id,title\n-------,-------,-----\n1,P1,a\n")
    assert (found.frame().rows(), found.recognized["lines under the header"]) == ([("1", "P1", "a")], "1")
