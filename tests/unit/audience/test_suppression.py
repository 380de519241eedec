from pathlib import Path

import numpy as np
import polars as pl
import pytest
from test_export import FORMULAS, IDS, rows_of

from recsys.audience.export import spellings, write_csv
from recsys.audience.suppression import Directory, find_suppressed, read_suppression
from recsys.data.vocabulary import Vocabulary
from recsys.errors import RefusedError, SourceError


def names_of(path: Path) -> list[str]:
    return [name for entry in read_suppression(path).entries for name in entry]


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
    assert names_of(path) == ["a", "zoë", "😀 b"]


def test_an_empty_suppression_file_names_nobody(tmp_path):
    (tmp_path / "none").write_bytes(b"")
    assert names_of(tmp_path / "none") == []


def test_an_audience_can_be_suppressed_by_its_own_file(tmp_path):
    ids = [*IDS, *FORMULAS]
    write_csv(tmp_path / "a.csv", rows_of(ids))
    meant = {spelling for name in names_of(tmp_path / "a.csv") for spelling in spellings(name)}
    assert set(ids) <= meant


def test_blanks_around_an_id_do_not_save_it(tmp_path):
    (tmp_path / "list").write_text("  a \nb\n")
    assert [spellings(name) for name in names_of(tmp_path / "list")] == [{"  a ", "a"}, {"b"}]


def test_a_suppression_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="No such file"):
        read_suppression(tmp_path / "missing")
    (tmp_path / "wide").write_bytes("user_id\nzoë\n".encode("utf-16"))
    with pytest.raises(SourceError, match="UTF-8"):
        read_suppression(tmp_path / "wide")


USERS = Vocabulary.from_ids(["1", "2", "3", "4"])
PEOPLE = pl.DataFrame({"user_id": ["1", "2", "5"], "email": ["Ann@Example.com", None, "new@example.com"]})


def suppressed(folder: Path, *texts: str, share: float = 0.5, allow_empty: bool = False) -> tuple[list[int], list[str]]:
    paths = [folder / f"{at}.txt" for at in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    directory, lists = Directory(USERS, PEOPLE), [read_suppression(path) for path in paths]
    found = [find_suppressed(one, USERS, directory, share, allow_empty=allow_empty) for one in lists]
    marked = np.any([named for named, _ in found], axis=0)
    return np.flatnonzero(marked).tolist(), [warning for _, warnings in found for warning in warnings]


def test_every_list_counts_by_id_and_by_address(tmp_path):
    assert suppressed(tmp_path, "2\n", " ann@example.COM\n", "user_id,email\n,x@y\n4,\n") == (
        [0, 1, 3],
        [f"1 of the 2 entries of the suppression file {tmp_path}/2.txt match no user"],
    )


def test_an_address_of_somebody_without_events_is_known(tmp_path):
    assert suppressed(tmp_path, "new@example.com\n5\n") == ([], [])


def test_a_row_with_id_and_address_matches_by_either(tmp_path):
    assert suppressed(tmp_path, "Email Address;user_id\nann@example.com;9\nx@y;3\n") == ([0, 2], [])


def test_a_list_that_matches_too_few_is_refused_and_says_which(tmp_path):
    with pytest.raises(RefusedError, match=r"2 of the 3 entries of the suppression file .*0\.txt match no user"):
        suppressed(tmp_path, "1\nx\ny\n", "1\n2\n")
    assert suppressed(tmp_path, "1\nx\ny\n", share=0.7)[0] == [0]


def test_an_empty_list_is_refused_unless_it_is_said_to_be_right(tmp_path):
    for text in ("", "\n\n", "user_id\n"):
        with pytest.raises(RefusedError, match="--allow-empty-suppression"):
            suppressed(tmp_path, "1\n", text)
    assert suppressed(tmp_path, "1\n", "", allow_empty=True) == ([0], [])
