"""Cursors hold what was answered, bounded, and nothing else is taken for one."""

import pytest

from recsys.errors import RefusedError
from recsys.serving.cursor import MAX_PAGED, mark_of, read_cursor, write_cursor


def test_a_cursor_comes_back_as_it_was_and_fits_an_address():
    marks = [mark_of(f"item {at}") for at in range(MAX_PAGED - 1)]
    cursor = write_cursor(marks)
    assert cursor is not None
    assert read_cursor(cursor) == marks
    assert len(cursor) < 8_000
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert write_cursor([*marks, mark_of("one more")]) is None


@pytest.mark.parametrize("wrong", ["", "x", "é", "AQ", "AgAAAAAA", "AQAAAAAAAA", "A" * 7_999])
def test_what_is_no_cursor_is_refused(wrong):
    with pytest.raises(RefusedError, match="next_cursor of an earlier answer"):
        read_cursor(wrong)
