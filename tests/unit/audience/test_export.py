import csv

import pytest

from recsys.audience.export import check_place, read_suppression, spellings, write_csv
from recsys.errors import ConfigError, RecsysError, SourceError

IDS = ["plain", "zoë 😀", 'quo"ted', "com,ma", "two\nlines", " blank ", "0017"]
FORMULAS = ["=1+1", "+49 151", "-5", "@SUM(A1)", "\t=1", "\r=1", "＝1+1", "'=1+1", "'"]


def rows_of(ids):
    return [(rank, name, 0.5, "taste", "given") for rank, name in enumerate(ids, 1)]


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


@pytest.mark.parametrize(
    "text",
    [
        "a\nzoë\n😀 b\n",
        "a\r\nzoë\r\n\r\n😀 b",
        "\ufeffa\nzoë\n😀 b\na\n",
        "user_id\na\nzoë\n😀 b\n",
        "\ufeffname;user_id\r\nx;a\r\ny;zoë\r\nz;😀 b\r\n",
        "user_id\treason\na\tx\nzoë\ty\n😀 b\tz\n",
        'rank,user_id,reason\n1,a,"x,\ny"\n2,"zoë",\n3,😀 b,\n4,,\n',
    ],
)
def test_every_form_of_a_suppression_file_gives_its_ids_once(text, tmp_path):
    path = tmp_path / "suppress"
    path.write_bytes(text.encode())
    assert read_suppression(path) == ["a", "zoë", "😀 b"]


def test_an_empty_suppression_file_names_nobody(tmp_path):
    (tmp_path / "none").write_bytes(b"")
    assert read_suppression(tmp_path / "none") == []


def test_an_audience_can_be_suppressed_by_its_own_file(tmp_path):
    ids = [*IDS, *FORMULAS]
    write_csv(tmp_path / "a.csv", rows_of(ids))
    meant = {spelling for name in read_suppression(tmp_path / "a.csv") for spelling in spellings(name)}
    assert set(ids) <= meant


def test_blanks_around_an_id_do_not_save_it(tmp_path):
    (tmp_path / "list").write_text("  a \nb\n")
    assert [spellings(name) for name in read_suppression(tmp_path / "list")] == [{"  a ", "a"}, {"b"}]


def test_a_suppression_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="No such file"):
        read_suppression(tmp_path / "missing")
    (tmp_path / "wide").write_bytes("user_id\nzoë\n".encode("utf-16"))
    with pytest.raises(SourceError, match="UTF-8"):
        read_suppression(tmp_path / "wide")
