"""What a command prints: plain data for `--json`, tables and lines for people, progress on the error stream."""

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

Report = Callable[[str, float], None]  # the step's name and the share of it that is done, 0 to 1


@dataclass(frozen=True)
class Table:
    """A titled table; cells are shown as they are, floats with four digits."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Output:
    """The outcome of a command: `data` is what `--json` prints, `parts` what a person reads."""

    data: Any
    parts: Sequence[Table | str] = ()
    code: int = 0  # the exit code


def show(output: Output, *, as_json: bool) -> None:
    """Print to standard output."""
    if as_json:
        sys.stdout.write(json.dumps(_plain(output.data), ensure_ascii=False, indent=2) + "\n")
        return
    width = None if sys.stdout.isatty() else 140
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    for part in output.parts:
        if isinstance(part, Table):
            console.print(part.title, style="bold", soft_wrap=True)  # of the table, it would be wrapped to its width
            console.print(_rich(part))
        else:
            console.print(part, soft_wrap=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value  # JSON knows no NaN


def _rich(table: Table) -> RichTable:
    drawn = RichTable()
    for at, column in enumerate(table.columns):
        numbers = all(isinstance(row[at], int | float) or row[at] is None for row in table.rows)
        drawn.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(_cell(c) for c in row))
    return drawn


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Report]:
    """Bars for the steps that are reported, on the error stream; without a terminal, a line for each finished step."""
    console = Console(stderr=True, quiet=quiet, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        yield _LineReport(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        yield _BarReport(bars)


class _BarReport:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, share: float) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=1.0)
        self._bars.update(self._tasks[step], completed=share)


class _LineReport:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._done: set[str] = set()

    def __call__(self, step: str, share: float) -> None:
        if share >= 1 and step not in self._done:
            self._done.add(step)
            self._console.print(f"done: {step}")
