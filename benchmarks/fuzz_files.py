"""Fuzz the reading of files: `python -m benchmarks.fuzz_files --seconds 600`.

hypothesis makes CSV, JSON lines and Parquet files of cells that shops write, whole and damaged, and each is read as
events, items or users. A file may be refused by name. Exits with 1 when anything else is raised, or when the rows of a
file are not those that are kept and those that are left out; the file is kept beside the message. Needs the tests'
requirements.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from recsys.config.loading import load_config
from recsys.errors import RecsysError
from recsys.progress import no_progress
from recsys.source.importer import What, understand

NOW = 1_795_000_000_000_000
COLUMNS: dict[What, tuple[str, ...]] = {
    "events": ("user_id", "item_id", "event", "timestamp", "value", "visitor_id"),
    "items": ("item_id", "title", "category", "price", "available", "created_at"),
    "users": ("user_id", "email_consent", "city"),
}
WORDS: tuple[str, ...] = (
    "view",
    "purchase",
    "in_stock",
    "out of stock",
    "subscribed",
    "unsubscribed",
    "yes",
    "no",
    "guest",
    "0",
    "NaN",
)
WORDS += ("\\N", "None", "", "17850.0", "9007199254740993", "13,82", "$13.82", "1.234,50 €", "-5", "45992", "20260131")
WORDS += ("2026-01-31 12:00", "2026-01-31T12:00:00Z", "31.01.2026", "1433022604031", '{"de": "Tee", "en": "tea"}')
CELLS = st.sampled_from(WORDS) | st.text(max_size=12) | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.none()
ROWS = st.lists(st.lists(CELLS, min_size=6, max_size=6), min_size=0, max_size=30)


@st.composite
def files(draw: st.DrawFn) -> tuple[What, str, bytes]:
    """What a file is read as, its name, and its bytes."""
    what = draw(st.sampled_from(sorted(COLUMNS)))
    header = list(draw(st.permutations(COLUMNS[what])))
    rows = draw(ROWS)
    form = draw(st.sampled_from(["csv", "jsonl", "parquet"]))
    content = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}[form](draw, header, rows)
    if form != "parquet" and draw(st.integers(0, 3)) == 0:
        content = _damaged(draw, content)
    return what, f"rows.{form}", content


def _csv(draw: st.DrawFn, header: list[str], rows: list[list[Any]]) -> bytes:
    separator, end = draw(st.sampled_from([",", ";", "\t", "|"])), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    quoting = draw(st.sampled_from(["all", "needed", "never", "backslash"]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))

    def cell(value: Any) -> str:
        text = "" if value is None else str(value)
        if quoting == "never" or (
            quoting == "needed" and not any(sign in text for sign in (separator, '"', "\n", "\r"))
        ):
            return text
        return '"' + text.replace('"', '\\"' if quoting == "backslash" else '""') + '"'

    lines = [separator.join(header), *(separator.join(map(cell, row[: len(header)])) for row in rows)]
    return (end.join(lines) + end).encode(encoding, errors="replace")


def _jsonl(_draw: st.DrawFn, header: list[str], rows: list[list[Any]]) -> bytes:
    return "".join(json.dumps(dict(zip(header, row, strict=False))) + "\n" for row in rows).encode()


def _parquet(draw: st.DrawFn, header: list[str], rows: list[list[Any]]) -> bytes:
    types = {name: draw(st.sampled_from([pl.String, pl.Float64, pl.Int64, pl.Binary])) for name in header}
    columns = {}
    for at, (name, kind) in enumerate(types.items()):
        texts = pl.Series([None if row[at] is None else str(row[at]) for row in rows], dtype=pl.String)
        columns[name] = texts.cast(kind, strict=False)
    with tempfile.TemporaryFile() as file:
        pl.DataFrame(columns).write_parquet(file)
        file.seek(0)
        return file.read()


def _damaged(draw: st.DrawFn, content: bytes) -> bytes:
    at = draw(st.integers(0, len(content)))
    return content[:at] + draw(st.sampled_from([b'"', b"\x00", b"\xff", b"\n", b"\\", b"{", b""])) + content[at + 1 :]


def read(folder: Path, what: What, name: str, content: bytes) -> str:
    """Read one file; return what came of it. Raises AssertionError when rows are lost."""
    path = folder / name
    path.write_bytes(content)
    config = load_config(folder / "recsys.toml", {"RECSYS_SOURCE__MAX_BAD_SHARE": "1"})
    try:
        found = understand(config, [path], what=what, preset=None, columns={}, now=NOW, progress=no_progress)
    except RecsysError:
        return f"{name}: refused"
    kept, left_out = found.table.height, sum(found.left_out.values())
    assert found.rows == kept + left_out, f"{found.rows} rows are not {kept} kept and {found.left_out}"
    return f"{name}: read" if found.refusal is None else f"{name}: refused, as too many rows are unusable"


def main() -> None:
    """Make and read files until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder, counts = Path(tempfile.mkdtemp(prefix="recsys-fuzz-")), Counter[str]()
    (folder / "recsys.toml").touch()
    end, number = time.monotonic() + arguments.seconds, arguments.seed
    while time.monotonic() < end:
        _round(folder, counts, number)
        number += 1
    print(f"{sum(counts.values()):,} files, seeds {arguments.seed} to {number - 1}")
    for outcome, count in sorted(counts.items()):
        print(f"{count:>8,}  {outcome}")


def _round(folder: Path, counts: Counter[str], number: int) -> None:
    @seed(number)
    @settings(
        max_examples=200,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(files())
    def one(file: tuple[What, str, bytes]) -> None:
        counts[read(folder, *file)] += 1

    try:
        one()
    except Exception as error:
        print(f"seed {number}: {type(error).__name__}: {error}; the file is in {folder}", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
