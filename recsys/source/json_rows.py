"""JSON as a table: one object a line, an array of objects, or an object with one list of objects.

Objects are turned into columns some thousands at a time, because as Python objects they take ten times the memory.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import chain, islice
from typing import Any, BinaryIO

import polars as pl

from recsys.source.delimited import BLOCK, Table
from recsys.source.text import Text, open_text
from recsys.source.values import Kinds, frame_of_columns

_ROWS = 20_000  # objects that are held at a time
_HALF = re.compile(rb"\\u[dD][89a-fA-F]|\xed")  # may begin half of a letter, which no text can hold
_BLANK = re.compile(r"[ \t\r\n]*")

Rows = Iterator[tuple[int, Any]]  # numbers from 1, and values: objects, or what was given instead
_DECODER = json.JSONDecoder(parse_float=Decimal)  # numbers as they are written: a long id does not fit into a float


def read_json(stream: BinaryIO, *, is_lines: bool) -> Table:
    """Read the rows of a JSON text. is_lines: the name of the file says one object a line.

    Raises ValueError or RecursionError when the text is no JSON; of lines, those that are none are left out.
    """
    text = open_text(stream, BLOCK)
    blocks = iter(text)
    first = next(blocks, b"")
    if not (_starts_with_object_line(first) or (is_lines and not first.lstrip().startswith(b"["))):
        content = first + b"".join(blocks)
        try:
            if (values := _values_of(content)) is not None:
                return _read(lambda table: _objects(values(table), table, "element"), text, "a JSON array")
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":
                raise
    return _read(lambda table: _objects(_parsed_lines(stream, table), table, "line"), text, "JSON lines")


def _read(objects: Callable[[Table], Iterator[dict[str, Any]]], text: Text, form: str) -> Table:
    """Turn objects into columns; a second time, when what comes later shows that a column is of another kind."""
    table, kinds, parts = Table([]), dict[str, Kinds](), list[pl.DataFrame]()
    for chunk in _chunks(objects(table)):
        names = list(dict.fromkeys(name for values in chunk for name in values))
        columns = [[values.get(name) for values in chunk] for name in names]
        for name, column in zip(names, columns, strict=True):
            kinds.setdefault(name, Kinds()).add(column)
        parts.append(frame_of_columns(names, columns, {}))
    types = {name: found.kind for name, found in kinds.items()}
    if not all(_fits(part, types) for part in parts):
        parts = [
            frame_of_columns(list(types), [[values.get(name) for values in chunk] for name in types], types)
            for chunk in _chunks(objects(Table([])))
        ]
    if types:
        table.names = list(types)
        table.parts = [pl.concat([_cast(part, types) for part in parts], how="diagonal").select(table.names)]
    table.recognized = {"format": form, "encoding": text.encoding_name}
    return table


def _chunks(objects: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while chunk := list(islice(objects, _ROWS)):
        yield chunk


def _fits(part: pl.DataFrame, types: Mapping[str, Any]) -> bool:
    """Whether the columns can become what the whole columns are, with nothing lost."""
    return all(
        kind == types[name]
        or kind == pl.Null
        or (kind == pl.Int64 and types[name] == pl.Float64)
        or (isinstance(kind, pl.List) and isinstance(types[name], pl.List) and not part[name].list.len().any())
        for name, kind in part.schema.items()
    )


def _cast(part: pl.DataFrame, types: Mapping[str, Any]) -> pl.DataFrame:
    return part.cast({name: types[name] for name in part.columns})


def _starts_with_object_line(first: bytes) -> bool:
    """Whether the first line is an object, and more follow."""
    line, _, rest = first.lstrip().partition(b"\n")
    if not (line.startswith(b"{") and rest.strip()):
        return False
    try:
        return isinstance(_loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _values_of(content: bytes) -> Callable[[Table], Rows] | None:
    """What yields the values of an array, or of the only list of an object; None: the text may be JSON lines."""
    text = content.decode("utf-8", "surrogatepass").strip(" \t\r\n")
    rows: list[Any] | None = None
    if not text.startswith("["):
        found = _DECODER.decode(text)
        lists = [value for value in found.values() if _is_rows(value)] if isinstance(found, dict) else []
        if len(lists) != 1:
            return None
        rows = lists[0]
    number = _without_halves if _HALF.search(content) else _numbered
    return lambda table: number(_elements(text) if rows is None else rows, table)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _numbered(values: Iterable[Any], _table: Table) -> Rows:
    return enumerate(values, start=1)


def _without_halves(values: Iterable[Any], table: Table) -> Rows:
    for number, value in enumerate(values, start=1):
        try:
            yield number, _whole(value)
        except ValueError as error:
            table.leave_out(number, str(error), "element")


def _elements(text: str) -> Iterator[Any]:
    """Parse an array value by value."""
    at = _after_blanks(text, 1)
    while text[at : at + 1] != "]":
        value, at = _DECODER.raw_decode(text, at)
        yield value
        at = _after_blanks(text, at)
        if text[at : at + 1] == ",":
            at = _after_blanks(text, at + 1)
        elif text[at : at + 1] != "]":
            raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
    if at + 1 < len(text):
        raise json.JSONDecodeError("Extra data", text, at + 1)


def _after_blanks(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _parsed_lines(stream: BinaryIO, table: Table) -> Rows:
    """The values of the lines that are JSON; the others are left out."""
    stream.seek(0)
    rest, before = b"", 0
    for block in chain(open_text(stream, BLOCK), [b"\n"]):
        *lines, rest = (rest + block).split(b"\n")
        for number, line in enumerate(lines, start=before + 1):
            if not line.strip():
                continue
            try:
                yield number, _loads(line)
            except (ValueError, RecursionError) as error:
                table.leave_out(number, str(error))
        before += len(lines)


def _loads(content: bytes) -> Any:
    found = json.loads(content, parse_float=Decimal)
    return _whole(found) if _HALF.search(content) else found


def _whole(value: Any) -> Any:
    """Return the value. Raises ValueError when a text within it has half of a letter."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise ValueError(f"half of a letter, \\u{ord(half):04x}, which no text can hold") from None
    return value


def _objects(values: Rows, table: Table, place: str) -> Iterator[dict[str, Any]]:
    """The objects among what was given; what is none is left out."""
    for number, value in values:
        if isinstance(value, dict):
            yield value
        else:
            table.leave_out(number, "is no object", place)
