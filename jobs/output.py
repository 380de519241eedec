"""The output of a command: plain data for `--json`, tables and lines for people, progress on the error stream.

A process that the scheduler started writes all of it into its log. Tables have lines around them at a terminal only.
"""

import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Table as RichTable

from jobs.logs import is_scheduled
from recsys.progress import Progress

_WIDTH = 140  # of what no terminal shows

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """A titled table. Floats are shown with four digits."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Output:
    """The outcome of a command: `data` for `--json`, `parts` for people."""

    data: Any
    parts: Sequence[Table | str] = ()
    code: int = 0  # the exit code


def show(output: Output, *, as_json: bool) -> None:
    """Print the output to standard output."""
    if as_json:
        sys.stdout.write(json.dumps(_plain(output.data), ensure_ascii=False, indent=2) + "\n")
        return
    if is_scheduled():
        written = StringIO()
        _print(output.parts, Console(file=written, width=_WIDTH, markup=False, emoji=False, highlight=False))
        for line in filter(str.strip, written.getvalue().splitlines()):
            _log.info(line.rstrip())
        return
    width = None if sys.stdout.isatty() else _WIDTH
    _print(output.parts, Console(width=width, markup=False, emoji=False, highlight=False))


def _print(parts: Sequence[Table | str], console: Console) -> None:
    for part in parts:
        if isinstance(part, Table):
            console.print(part.title, style="bold", soft_wrap=True)  # a table wraps its own title
            console.print(_rich(part, box.HEAVY_HEAD if console.is_terminal else None))
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


def _rich(table: Table, lines: box.Box | None) -> RichTable:
    drawn = RichTable(box=lines)
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
def progress(*, quiet: bool = False) -> Iterator[Progress]:
    """Show progress on the error stream: a bar for each step or, without a terminal, a line for each finished step."""
    if is_scheduled():
        yield _Lines(_log.info)
        return
    console = Console(stderr=True, quiet=quiet, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        yield _Lines(console.print)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with RichProgress(*columns, console=console, transient=True) as bars:
        yield _Bars(bars)


class _Bars:
    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, share: float) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=1.0)
        self._bars.update(self._tasks[step], completed=share)


class _Lines:
    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._done: set[str] = set()

    def __call__(self, step: str, share: float) -> None:
        if share >= 1 and step not in self._done:
            self._done.add(step)
            self._write(f"done: {step}")
