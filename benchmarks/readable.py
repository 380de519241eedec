"""Measure what share of the forms that programs write is read right: `python -m benchmarks.readable`.

Each form of ids, times, prices and words is written as CSV and as a spreadsheet of 50 rows, and imported as a shop
would import it, without any setting. Where pandas is installed, it writes each form as CSV, JSON lines, Parquet and a
spreadsheet, too, and the types that it has itself. A row counts as right when its value is the one that was written.
What is refused is listed with the reason. Needs the tests' requirements; pandas is in none of the lock files:
`pip install --target FOLDER pandas`, and FOLDER in PYTHONPATH.
"""

import importlib
import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import openpyxl
import polars as pl

from recsys.config.settings import Config
from recsys.errors import RecsysError
from recsys.progress import no_progress
from recsys.source.importer import What, understand

ROWS = 50
NOW = 1_795_000_000_000_000
MOMENTS = [datetime(2024, 1, 1, 8, tzinfo=UTC) + timedelta(days=9 * at, minutes=7 * at) for at in range(ROWS)]
DAYS = [moment.replace(hour=0, minute=0) for moment in MOMENTS]
IDS = [17_850 + 13 * at for at in range(ROWS)]
UUIDS = [f"6f9619ff-8b86-d011-b42d-{number:012d}" for number in IDS]
PRICES = [round(0.5 + 37.25 * at, 2) for at in range(ROWS)]
STOCK = {"in_stock": True, "out of stock": False, "instock": True, "outofstock": False, "preorder": True}
STOCK |= {"backorder": True, "discontinued": False, "1": True, "0": False, "true": True}
CONSENT = {"subscribed": True, "unsubscribed": False, "cleaned": False, "bounced": False, "nonsubscribed": False}
CONSENT |= {"pending": False, "yes": True, "no": False, "TRUE": True, "FALSE": False}
BERLIN = timezone(timedelta(hours=1))


@dataclass(frozen=True)
class Form:
    """A way to write a column: `write` gives the cell of each of `values`, `expected` what is to be read."""

    what: What
    column: str
    label: str
    cells: Sequence[Any]
    expected: Sequence[Any]


def _comma(price: float, point: str, thousands: str) -> str:
    return f"{price:,.2f}".replace(",", "_").replace(".", point).replace("_", thousands)


def _forms() -> list[Form]:
    texts = [str(number) for number in IDS]
    ids: list[tuple[str, Sequence[Any], Sequence[str]]] = [
        ("whole numbers", IDS, texts),
        ("text", [f"C-{number}" for number in IDS], [f"C-{number}" for number in IDS]),
        ("text of floats", [f"{number}.0" for number in IDS], texts),
        ("leading zeros", [f"{number:08d}" for number in IDS], [f"{number:08d}" for number in IDS]),
        (
            "UUIDs",
            [f"6f9619ff-8b86-d011-b42d-{n:012d}" for n in IDS],
            [f"6f9619ff-8b86-d011-b42d-{n:012d}" for n in IDS],
        ),
        ("letters of any script", [f"Größe {number} 😀" for number in IDS], [f"Größe {number} 😀" for number in IDS]),
    ]
    found = [Form("events", "user_id", label, cells, expected) for label, cells, expected in ids]
    micros = [int(moment.timestamp() * 1e6) for moment in MOMENTS]
    days = [int(day.timestamp() * 1e6) for day in DAYS]
    written: dict[str, Callable[[datetime], Any]] = {
        "ISO 8601, Z": lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "ISO 8601, offset": lambda moment: moment.astimezone(BERLIN).isoformat(),
        "ISO 8601, fractions": lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S.%f+00:00"),
        "a database's text": lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S"),
        "BigQuery's text": lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S UTC"),
        "minutes": lambda moment: moment.strftime("%Y-%m-%d %H:%M"),
        "slashes, year first": lambda moment: moment.strftime("%Y/%m/%d %H:%M:%S"),
        "14 digits": lambda moment: moment.strftime("%Y%m%d%H%M%S"),
        "mail": format_datetime,
        "a spreadsheet in Germany": lambda moment: moment.strftime("%d.%m.%Y %H:%M:%S"),
        "a spreadsheet in Britain": lambda moment: moment.strftime("%d/%m/%Y %H:%M"),
        "a spreadsheet in the US": lambda moment: moment.strftime("%m/%d/%Y %I:%M %p"),
        "spreadsheets' days": lambda moment: (moment - datetime(1899, 12, 30, tzinfo=UTC)) / timedelta(days=1),
    }
    for label, write in written.items():
        found.append(Form("events", "timestamp", label, [write(moment) for moment in MOMENTS], micros))
    for label, unit in {"seconds": 10**6, "milliseconds": 10**3, "microseconds": 1}.items():
        found.append(Form("events", "timestamp", label, [micro // unit for micro in micros], micros))
    found.append(Form("events", "timestamp", "seconds as floats", [f"{micro / 1e6:.1f}" for micro in micros], micros))
    found.append(Form("events", "timestamp", "days", [day.strftime("%Y-%m-%d") for day in DAYS], days))
    found.append(Form("events", "timestamp", "8 digits", [day.strftime("%Y%m%d") for day in DAYS], days))
    prices: dict[str, Callable[[float], Any]] = {
        "numbers": lambda price: price,
        "text": lambda price: f"{price:.2f}",
        "code behind": lambda price: f"{price:.2f} USD",
        "sign before": lambda price: f"${price:,.2f}",
        "decimal comma": lambda price: _comma(price, ",", ""),
        "decimal comma, euro": lambda price: _comma(price, ",", ".") + " €",
        "Swiss": lambda price: "CHF " + _comma(price, ".", "'"),
        "French": lambda price: _comma(price, ",", "\u202f") + " €",
    }
    for label, show in prices.items():
        found.append(Form("items", "price", label, [show(price) for price in PRICES], PRICES))
    stock, is_there = list(STOCK) * 5, list(STOCK.values()) * 5
    found.append(Form("items", "available", "words of shops and feeds", stock, is_there))
    consent, may = list(CONSENT) * 5, list(CONSENT.values()) * 5
    found.append(Form("users", "email_consent", "words of mailing systems", consent, may))
    return found


def _frame(form: Form) -> dict[str, Sequence[Any]]:
    """The columns of a file that has the form in one and plain values in the others."""
    plain: dict[str, dict[str, Sequence[Any]]] = {
        "events": {
            "user_id": [f"u{at}" for at in range(ROWS)],
            "item_id": [f"P{at}" for at in range(ROWS)],
            "event": ["purchase"] * ROWS,
            "timestamp": [moment.isoformat() for moment in MOMENTS],
        },
        "items": {"item_id": [f"P{at:02d}" for at in range(ROWS)], "title": ["Lamp"] * ROWS},
        "users": {"user_id": [f"u{at:02d}" for at in range(ROWS)]},
    }
    return plain[form.what] | {form.column: form.cells}


Columns = dict[str, Sequence[Any]]


def _write_csv(columns: Columns, path: Path) -> None:
    pl.DataFrame({name: [str(cell) for cell in cells] for name, cells in columns.items()}).write_csv(path)


def _write_spreadsheet(columns: Columns, path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    for row in [list(columns), *zip(*columns.values(), strict=True)]:
        sheet.append(row)
    book.save(path)


def _pandas_writers() -> dict[str, Callable[[Columns, Path], None]]:
    pandas = importlib.import_module("pandas")  # in no lock file
    return {
        "csv": lambda columns, path: pandas.DataFrame(columns).to_csv(path, index=False),
        "jsonl": lambda columns, path: pandas.DataFrame(columns).to_json(path, orient="records", lines=True),
        "parquet": lambda columns, path: pandas.DataFrame(columns).to_parquet(path),
        "xlsx": lambda columns, path: pandas.DataFrame(columns).to_excel(path, index=False),
    }


WRITERS: dict[str, Callable[[Columns, Path], None]] = {"csv": _write_csv, "xlsx": _write_spreadsheet}


def _typed_forms() -> list[Form]:
    """Columns as pandas holds them: numbers that became floats because one is missing, moments, booleans."""
    micros = [int(moment.timestamp() * 1e6) for moment in MOMENTS]
    naive = [moment.replace(tzinfo=None) for moment in MOMENTS]
    gaps = [None if at == 7 else float(number) for at, number in enumerate(IDS)]
    return [
        Form(
            "events", "visitor_id", "whole numbers with a gap", gaps, [None if g is None else str(int(g)) for g in gaps]
        ),
        Form("events", "timestamp", "datetime64", naive, micros),
        Form("events", "timestamp", "datetime64 with a zone", MOMENTS, micros),
        Form("items", "available", "booleans", [True, False] * 25, [True, False] * 25),
        Form("items", "price", "floats with a gap", [None, *PRICES[1:]], [None, *PRICES[1:]]),
    ]


_READ = {"timestamp": "time", "user_id": "owner"}  # what the column is called once it is read


def read_right(folder: Path, form: Form, suffix: str, write: Callable[[Columns, Path], None]) -> tuple[int, str]:
    """How many rows of the form are read right, and why others are not."""
    path = folder / f"rows.{suffix}"
    write(_frame(form), path)
    try:
        found = understand(Config(), [path], what=form.what, preset=None, columns={}, now=NOW, progress=no_progress)
    except RecsysError as error:
        return 0, str(error)
    if found.refusal:
        return 0, found.refusal.splitlines()[-1].strip()
    table = found.table
    column = form.column if form.column in table.columns else _READ[form.column]
    key = next(name for name in ("item_id", "user_id") if name in table.columns and name != form.column)
    got = dict(zip(table[key].to_list(), table[column].to_list(), strict=True))
    wanted = dict(zip((str(cell) for cell in _frame(form)[key]), form.expected, strict=True))
    return sum(got.get(name) == value for name, value in wanted.items()), ""


def main() -> None:
    """Write, read and count every form."""
    _print("CSV and spreadsheets", WRITERS, _forms())
    if importlib.util.find_spec("pandas"):
        _print("pandas", _pandas_writers(), [*_forms(), *_typed_forms()])
    else:
        print("\npandas is not installed: what it writes was not tried")


def _print(title: str, writers: Mapping[str, Callable[[Columns, Path], None]], forms: Sequence[Form]) -> None:
    right = total = 0
    reasons = dict[str, str]()
    print(f"\n{title}\n\n| column | form | {' | '.join(writers)} |\n|---|---|{'---|' * len(writers)}")
    with tempfile.TemporaryDirectory() as folder:
        for form in forms:
            shown = []
            for suffix, write in writers.items():
                try:
                    count, reason = read_right(Path(folder), form, suffix, write)
                except ValueError as error:  # a spreadsheet holds no zones
                    shown.append("not written")
                    reasons[f"{form.column}, {form.label}, {suffix}"] = str(error)
                    continue
                right, total = right + count, total + ROWS
                shown.append(f"{count} of {ROWS}")
                if reason:
                    reasons[f"{form.column}, {form.label}, {suffix}"] = reason
            print(f"| {form.column} | {form.label} | {' | '.join(shown)} |")
    print(f"\n{right:,} of {total:,} rows are read right: {right / total:.1%}")
    for name, reason in reasons.items():
        print(f"refused: {name}: {reason}")


if __name__ == "__main__":
    main()
