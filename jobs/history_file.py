"""The history in a file, for `recsys recommend --history`: JSON lines, a JSON array, or CSV with a head line."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recsys.data.folder import read_utf8
from recsys.data.times import parse_time
from recsys.errors import ConfigError, RefusedError
from recsys.serving.history import InlineEvent
from recsys.store.bulk import check_id

MAX_EVENTS = 1_000  # as many as HTTP takes
COLUMNS = ("item_id", "kind", "occurred_at")


def read_history(path: Path, kinds: Sequence[str]) -> list[InlineEvent]:
    """Read events with item_id, kind and, if wanted, occurred_at (RFC 3339 with a zone; default: now), oldest first.

    kinds: the allowed ones. Raises ConfigError that names the file, the line and what is allowed.
    """
    text = read_utf8(path, "--history", ConfigError)
    events: list[InlineEvent] = []
    for where, row in _rows(path, text):
        if len(events) == MAX_EVENTS:
            raise ConfigError(f"--history {path} has more than {MAX_EVENTS} events, which is the most allowed")
        events.append(_event(f"--history {path}, {where}", row, kinds))
    return events


def _rows(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    """Where each row is in the file, and its values by name. The first character tells the format."""
    begin = text.lstrip()[:1]
    if begin == "[":
        yield from ((f"event {at}", row) for at, row in enumerate(_decoded(f"--history {path}", text), 1))
    elif begin == "{":
        lines = ((f"line {at}", line) for at, line in enumerate(text.splitlines(), 1) if line.strip())
        yield from ((where, _decoded(f"--history {path}, {where}", line)) for where, line in lines)
    elif begin:
        yield from _csv_rows(path, text)


def _decoded(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is no JSON: {error}") from None


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="a cell too many")
    try:
        if not {"item_id", "kind"} <= set(reader.fieldnames or ()):
            found = ", ".join(reader.fieldnames or ())
            raise ConfigError(f"--history {path}, line 1: expected the columns {', '.join(COLUMNS)}; found {found}")
        for row in reader:
            yield f"line {reader.line_num}", {name: value for name, value in row.items() if value != ""}
    except csv.Error as error:
        raise ConfigError(f"--history {path}, line {reader.line_num} is no CSV: {error}") from None


def _event(where: str, row: Any, kinds: Sequence[str]) -> InlineEvent:
    if not isinstance(row, dict):
        raise ConfigError(f'{where}: expected an object as {{"item_id": "85123A", "kind": "cart"}}')
    if unknown := [str(name) for name in row if name not in COLUMNS]:
        raise ConfigError(f"{where}: {', '.join(unknown)} is unknown; allowed are {', '.join(COLUMNS)}")
    item_id, kind, moment = (row.get(name) for name in COLUMNS)
    if not isinstance(item_id, str):
        raise ConfigError(f"{where}: item_id is missing or no text")
    try:
        check_id("item_id", item_id)
    except RefusedError as error:
        raise ConfigError(f"{where}: {error}") from None
    if not isinstance(kind, str) or kind not in kinds:
        raise ConfigError(f"{where}: unknown kind {kind!r}; allowed are {', '.join(kinds)}")
    if moment is None:
        return InlineEvent(item_id, kind)
    try:
        return InlineEvent(item_id, kind, parse_time(moment))
    except (ValueError, OverflowError, TypeError):
        message = "expected a time with its zone, as 2026-11-23T08:00:00Z"
        raise ConfigError(f"{where}: occurred_at {moment!r}: {message}") from None
