"""The files of a campaign: the audience as CSV, which spreadsheets cannot run, and the list of whom not to mail."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from recsys.data.folder import replace_text
from recsys.errors import ConfigError, SourceError

COLUMNS = ("rank", "user_id", "probability", "reason", "consent")
_KEY = "user_id"
_DELIMITERS = (",", ";", "\t")
# A cell that begins so is a formula to a spreadsheet; one that begins with the apostrophe must stay apart from those
# that get one.
_RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")


def check_place(out: Path) -> None:
    """Raises ConfigError when no file can be written there, before anything is computed."""
    if out.is_dir() or not out.parent.is_dir():
        raise ConfigError(f"--out {out} cannot be written: {'it is' if out.is_dir() else 'its parent is no'} folder")


def write_csv(out: Path, rows: Iterable[Sequence[object]]) -> int:
    """Write rows of COLUMNS, complete or not at all; returns how many ids were given an apostrophe.

    Raises RecsysError when the file cannot be written; what was there before stays.
    """
    text, guarded = io.StringIO(), 0
    writer = csv.writer(text)  # lines end as RFC 4180 has it, so every line break in an id is quoted
    writer.writerow(COLUMNS)
    for rank, user_id, probability, *others in rows:
        is_risky = str(user_id).startswith(_RISKY)
        guarded += is_risky
        writer.writerow([rank, f"'{user_id}" if is_risky else user_id, f"{probability:.6f}", *others])
    replace_text(out, text.getvalue())
    return guarded


def read_suppression(path: Path) -> list[str]:
    """The ids of a file: one a line, or the column user_id of a CSV that has a head line with that name.

    An audience's own file will do: an id behind an apostrophe counts with it and without. Raises SourceError when the
    file cannot be read as UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SourceError(f"the suppression file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"the suppression file {path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    head = text.split("\n", 1)[0].rstrip("\r")
    for delimiter in _DELIMITERS:
        cells = next(csv.reader([head], delimiter=delimiter), [])
        if _KEY in cells:
            rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
            return _distinct(row[_KEY] or "" for row in rows)
    return _distinct(line.strip("\r\n") for line in text.split("\n"))


def spellings(identifier: str) -> set[str]:
    """What an id of a file may mean: itself, without blanks around it, and without the apostrophe of `write_csv`."""
    behind = {identifier[1:]} if identifier.startswith("'") else set()
    return ({identifier, identifier.strip()} | behind) - {""}


def _distinct(ids: Iterable[str]) -> list[str]:
    return [identifier for identifier in dict.fromkeys(ids) if identifier]
