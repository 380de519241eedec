"""Lists come back from every format as they were, complete or not at all."""

import csv
from pathlib import Path

import pyarrow as pa
import pytest

from recsys.audience.delivery import read_rows
from recsys.audience.export import COLUMNS
from recsys.audience.files import FORMATS, check_file, places_of, read_file, write_audience, write_blocks, writing
from recsys.errors import ConfigError, RecsysError

ITEM = pa.struct([("item_id", pa.string()), ("title", pa.string()), ("price", pa.float64())])
SCHEMA = pa.schema([("user_id", pa.string()), places_of("picks", ITEM, 2)])
ROWS = [
    {"user_id": "=1+1", "picks": [{"item_id": "a", "title": 'say "x",\nor y', "price": 1.5}]},
    {"user_id": "u2", "picks": [{"item_id": "-7", "title": "@SUM(A1)", "price": None}] * 2},
    {"user_id": "'", "picks": []},
]


def written(out: Path) -> int:
    blocks = [pa.Table.from_pylist(rows, schema=SCHEMA) for rows in (ROWS[:2], ROWS[2:])]
    return write_blocks(out, SCHEMA, blocks)


@pytest.mark.parametrize("ending", FORMATS)
def test_rows_come_back_from_every_format(tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"list{ending}"
    written(out)
    found = list(read_rows(out))
    assert [row["user_id"] for row in found] == [row["user_id"] for row in ROWS]
    for row, expected in zip(found, ROWS, strict=True):
        picks = [{name: value for name, value in pick.items() if value is not None} for pick in row["picks"]]
        wanted = [{name: value for name, value in pick.items() if value is not None} for pick in expected["picks"]]
        assert picks == ([{n: str(v) for n, v in one.items()} for one in wanted] if ending == ".csv" else wanted)
    assert read_file(out).height == 3
    assert [file.name for file in tmp_path.iterdir()] == [out.name]


def test_no_cell_of_a_csv_file_begins_as_a_formula(tmp_path: Path) -> None:
    assert written(tmp_path / "list.csv") == 6
    with (tmp_path / "list.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.reader(file))
    assert table[0] == ["user_id", "item_id_1", "title_1", "price_1", "item_id_2", "title_2", "price_2"]
    assert table[1][0] == "'=1+1"
    assert table[2][1:3] == ["'-7", "'@SUM(A1)"]
    assert table[3] == ["''", "", "", "", "", "", ""]
    assert (tmp_path / "list.csv").read_bytes().count(b"\r\n") == 4


def test_a_list_of_nobody_is_a_file_too(tmp_path: Path) -> None:
    for ending in FORMATS:
        assert write_blocks(tmp_path / f"none{ending}", SCHEMA, []) == 0
        assert list(read_rows(tmp_path / f"none{ending}")) == []
    assert (tmp_path / "none.csv").read_text().startswith("user_id,item_id_1")


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_that_is_not_finished_leaves_the_former_one(tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"list{ending}"
    written(out)
    before = out.read_bytes()
    with pytest.raises(pa.ArrowException), writing(out, SCHEMA) as writer:
        writer.write(pa.Table.from_pylist([{"user_id": 7}], schema=SCHEMA))
    assert out.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [out.name]


def test_places_that_cannot_be_written_and_files_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.csv, \.parquet, \.jsonl"):
        check_file(tmp_path / "list.xlsx")
    with pytest.raises(ConfigError, match="its parent is no folder"):
        check_file(tmp_path / "nowhere" / "list.csv")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "broken.jsonl").write_text("[1]\n")
    (tmp_path / "nobody.csv").write_text("id\n1\n")
    for name in ("broken.parquet", "broken.jsonl", "nobody.csv"):
        with pytest.raises(RecsysError, match=name):
            list(read_rows(tmp_path / name))


@pytest.mark.parametrize("ending", [*FORMATS, ".txt"])
def test_members_are_written_as_the_name_says(tmp_path: Path, ending: str) -> None:
    values = {"rank": 1, "user_id": "-7", "probability": 0.25, "reason": "taste", "consent": "given"}
    row = [values.get(column) for column in COLUMNS]
    assert write_audience(tmp_path / f"a{ending}", [[*row, None]], ["value_30"]) == (ending in (".csv", ".txt"))
    assert write_audience(tmp_path / f"none{ending}", []) == 0
    if ending == ".txt":
        (tmp_path / "a.txt").rename(tmp_path / "a.csv")
    (found,) = read_rows(tmp_path / ("a.csv" if ending == ".txt" else f"a{ending}"))
    assert (found["user_id"], float(found["probability"]), found["value_30"]) == ("-7", 0.25, None)
    assert set(found) == {*COLUMNS, "value_30"}
