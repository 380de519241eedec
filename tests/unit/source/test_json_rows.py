"""JSON is read in bounded memory and whole, and compressed files hold no more than is allowed."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from recsys.errors import SourceError
from recsys.source import expansion, json_rows
from recsys.source.files import read_files

KNOWN = ("user_id", "item_id", "title")


def test_json_lines_that_are_broken_are_left_out_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"user_id": 1}\n\n{"user_id": \n[2]\n{"user_id": 3}\n')
    found = read_files([path])
    assert (found.rows["user_id"].to_list(), found.unread) == ([1, 3], 2)
    assert [shown[:7] for shown in found.examples] == ["line 3:", "line 4:"]


def test_a_line_of_json_without_end_costs_itself_only(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"user_id": "1"}\n{"user_id": ' + "[" * 100_000 + '\n{"user_id": "2"}\n')
    found = read_files([tmp_path / "a.jsonl"], KNOWN)
    assert (found.rows["user_id"].to_list(), found.unread) == (["1", "2"], 1)


def test_half_a_letter_costs_its_row_only(tmp_path: Path) -> None:
    rows = ['{"user_id": "1", "title": "\\ud83d\\ude00"}', '{"user_id": "2", "title": "\\uD800"}', '{"user_id": "3"}']
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    (tmp_path / "b.json").write_text(f"[{','.join(rows)}]")
    raw = "\n".join([*rows, '{"note": "äöü"}']).encode().replace(b"\\uD800", b"\xed\xa0\x80")
    (tmp_path / "c.jsonl").write_bytes(raw)
    for name, place in {"a.jsonl": "line 2", "b.json": "element 2", "c.jsonl": "line 2"}.items():
        found = read_files([tmp_path / name], KNOWN)
        assert found.rows.select(KNOWN[::2]).rows()[:2] == [("1", "😀"), ("3", None)]
        assert (found.unread, found.examples) == (1, (f"{place}: half of a letter, \\ud800, which no text can hold",))


@pytest.mark.parametrize("lines", [True, False], ids=["lines", "array"])
def test_a_column_of_json_is_of_one_kind_whatever_comes_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: bool
) -> None:
    monkeypatch.setattr(json_rows, "_ROWS", 2)
    rows: list[dict[str, Any]] = [
        {"id": 2**60 + 1, "n": 1, "tags": [], "late": None},
        {"id": 2**60 + 3, "n": 2, "tags": None},
        {"id": 5, "n": 2.5, "tags": [1, 2], "word": "x"},
        {"id": 1.5, "n": None, "tags": [3], "word": 7},
    ]
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows)
    (tmp_path / "a.json").write_text(text)
    assert read_files([tmp_path / "a.json"]).rows.to_dict(as_series=False) == {
        "id": [str(2**60 + 1), str(2**60 + 3), "5", "1.5"],
        "n": [1.0, 2.0, 2.5, None],
        "tags": [[], None, [1.0, 2.0], [3.0]],
        "late": [None] * 4,
        "word": [None, None, "x", "7"],
    }


@pytest.mark.parametrize("text", ['[{"a": 1} {"a": 2}]', '[{"a": 1},', '[{"a": 1}', "[", "[1", '{"a": [{}'])
def test_a_broken_array_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SourceError, match=r"a\.json cannot be read as json"):
        read_files([tmp_path / "a.json"])


def bomb(path: Path, content: bytes) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content))
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml" if path.suffix == ".xlsx" else "orders.csv", content)
    return path


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz", "a.parquet.gz", "a.zip", "a.xlsx"])
def test_what_expands_beyond_measure_is_refused_with_the_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = bomb(tmp_path / name, b"user_id,item_id\n" + b"1,P1\n" * 1_000_000)
    with pytest.raises(SourceError, match=rf"{name}: it .*holds \d MiB, expanded from 0\.\d; .* allows 2"):
        read_files([path], KNOWN, max_expanded_mib=2)
    monkeypatch.setattr(expansion, "FREE_MIB", 1)
    with pytest.raises(SourceError, match=rf"{name}: it .*holds \d MiB, expanded from 0\.\d; .* at most 200 times"):
        read_files([path], KNOWN)
