import csv

import pytest

from recsys.audience.export import check_place, write_csv
from recsys.errors import ConfigError, RecsysError

IDS = ["plain", "zoë 😀", 'quo"ted', "com,ma", "two\nlines", " blank ", "0017"]
FORMULAS = ["=1+1", "+49 151", "-5", "@SUM(A1)", "\t=1", "\r=1", "＝1+1", "'=1+1", "'"]


def rows_of(ids):
    return [
        (rank, name, 0.5, "taste", "given", 2.5, "=i1", "i2|i3", "2026-01-02", "=form")
        for rank, name in enumerate(ids, 1)
    ]


def written(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_ids_of_all_sorts_come_back_from_the_file(tmp_path):
    assert write_csv(tmp_path / "a.csv", rows_of(IDS)) == 0
    found = written(tmp_path / "a.csv")
    assert [row["user_id"] for row in found] == IDS
    assert found[0] == {
        "rank": "1",
        "user_id": "plain",
        "probability": "0.500000",
        "reason": "taste",
        "consent": "given",
        "score": "2.5",
        "best_item": "'=i1",
        "runners_up": "i2|i3",
        "consent_at": "2026-01-02",
        "consent_source": "'=form",
    }


def test_no_cell_begins_as_a_formula_would_and_one_apostrophe_less_is_the_id(tmp_path):
    assert write_csv(tmp_path / "a.csv", rows_of(FORMULAS)) == len(FORMULAS)
    cells = [row["user_id"] for row in written(tmp_path / "a.csv")]
    assert all(cell.startswith("'") for cell in cells)
    assert [cell[1:] for cell in cells] == FORMULAS


def test_a_file_is_replaced_as_a_whole(tmp_path):
    write_csv(tmp_path / "a.csv", rows_of(IDS))
    write_csv(tmp_path / "a.csv", rows_of(["only"]))
    assert [row["user_id"] for row in written(tmp_path / "a.csv")] == ["only"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_write_that_breaks_off_leaves_the_file_that_was_there(tmp_path):
    write_csv(tmp_path / "a.csv", rows_of(["old"]))

    def broken():
        yield from rows_of(["new"])
        raise RuntimeError("the plug is pulled")

    with pytest.raises(RuntimeError):
        write_csv(tmp_path / "a.csv", broken())
    assert [row["user_id"] for row in written(tmp_path / "a.csv")] == ["old"]


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(RecsysError, match=r"a\.csv"):
        write_csv(tmp_path / "a.csv", rows_of(["x"]))
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_place_where_no_file_can_be_is_refused_before_anything_is_done(tmp_path):
    check_place(tmp_path / "new.csv")
    for wrong in (tmp_path, tmp_path / "nowhere" / "a.csv"):
        with pytest.raises(ConfigError, match="--out"):
            check_place(wrong)
