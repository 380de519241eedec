"""The file of a campaign: the audience as CSV, safe to open in a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from recsys.data.folder import replace_text
from recsys.errors import ConfigError

COLUMNS = (
    *("rank", "user_id", "probability", "reason", "consent", "score", "best_item", "runners_up"),
    *("consent_at", "consent_source"),
)
# A spreadsheet takes a cell that begins so as a formula. Ids that begin with an apostrophe get another one, so that
# they stay distinct from the guarded ones.
RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")


def check_place(out: Path) -> None:
    """Check that a file can be written there, before anything is computed. Raises ConfigError."""
    if out.is_dir() or not out.parent.is_dir():
        raise ConfigError(f"--out {out} cannot be written: {'it is' if out.is_dir() else 'its parent is no'} folder")


def write_csv(out: Path, rows: Iterable[Sequence[object]], further: Sequence[str] = ()) -> int:
    """Write rows of COLUMNS and of `further` ones, all or none; return how many ids were given an apostrophe.

    Raises RecsysError when the file cannot be written; a former file stays as it was.
    """
    text, guarded = io.StringIO(), 0
    writer = csv.writer(text)  # line ends of RFC 4180, so line breaks within ids are quoted
    writer.writerow([*COLUMNS, *further])
    for rank, user_id, probability, reason, consent, score, best_item, runners_up, since, source, *others in rows:
        name, is_risky = guard_id(str(user_id))
        guarded += is_risky
        items = [guard_id(str(ids or ""))[0] for ids in (best_item, runners_up)]
        consented = ["" if one is None else guard_id(str(one))[0] for one in (since, source)]
        shown = "" if score is None else f"{score:.6g}"
        writer.writerow([rank, name, f"{probability:.6f}", reason, consent, shown, *items, *consented, *others])
    replace_text(out, text.getvalue())
    return guarded


def guard_id(identifier: str) -> tuple[str, bool]:
    """The id as a file holds it, behind an apostrophe where a spreadsheet would take it as a formula; and whether."""
    is_risky = identifier.startswith(RISKY)
    return f"'{identifier}" if is_risky else identifier, is_risky


def spellings(identifier: str) -> set[str]:
    """The ids that an entry of a file may mean: itself, stripped, and without the apostrophe of `write_csv`."""
    behind = {identifier[1:]} if identifier.startswith("'") else set()
    return ({identifier, identifier.strip()} | behind) - {""}
