"""Delimited text: its encoding, line ends, separator, quoting and preamble are recognized, then it is read in blocks.

A block whose quotes and fields are all in order is read by polars. Any other goes through `records`, line by line.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
import polars as pl

from recsys.errors import SourceError
from recsys.source.records import Form, Records, count_fields, goes_on, read_records, scan, unescape
from recsys.source.text import Text, open_text

BLOCK = 1 << 24  # bytes: enough for columns, few enough beside them
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}

_SAMPLE_LINES, _SAMPLE_BYTES = 200, 1 << 18
_MOST_PREAMBLE = 50  # lines
_HEADER_LINES = 5  # of one header whose names have line ends
_EXAMPLES = 3
_NEWLINE, _QUOTE = 10, 34
_WRAPPED = {'="': '^="(.*)"$', "'": "^'(.*)'$", "“": "^“(.*)”$"}
_RULER = r"^-+$"


@dataclass
class Table:
    """Rows of text as they come: names, parts of the columns, what was left out and what was recognized."""

    names: list[str]
    parts: list[pl.DataFrame] = field(default_factory=list)
    unread: int = 0
    examples: list[str] = field(default_factory=list)
    blank: int = 0
    headers: int = 0  # repeated among the rows
    recognized: dict[str, str] = field(default_factory=dict)

    def frame(self) -> pl.DataFrame:
        """All rows: text, in columns of unique names."""
        if self.parts:
            return pl.concat(self.parts)
        return pl.DataFrame(schema=dict.fromkeys(self.names, pl.String))

    def leave_out(self, number: int, what: str, place: str = "line") -> None:
        """Count a row that cannot be read. number: of the place where it begins, from 1."""
        self.unread += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"{place} {number}: {what}")

    def drop_headers(self, given: Sequence[str | None]) -> None:
        """Leave out rows that repeat the header, as files have that were put together. given: the names as written.

        Raises SourceError when a row has the names in another order: the columns mean something else from there on.
        """
        written = [name and name.strip().strip("\ufeff") for name in given]
        named = [at for at, name in enumerate(written) if name]
        if not named:
            return
        spellings = [*filter(None, given), *filter(None, written), f"\ufeff{written[0]}"]
        is_ruler = pl.all_horizontal(pl.all().str.contains(_RULER))
        if self.parts and self.parts[0].head(1).select(is_ruler).to_series().all():
            self.parts[0] = self.parts[0].slice(1)
            self.recognized["lines under the header"] = "1"
        for at, part in enumerate(self.parts):
            if not part.to_series(named[-1]).is_in(spellings).any():
                continue
            cells = part.select(pl.all().str.strip_chars().str.strip_chars_start("\ufeff"))
            pairs = zip(self.names, written, strict=True)
            is_header = cells.select(pl.all_horizontal(pl.col(name).eq_missing(pl.lit(text)) for name, text in pairs))
            mask = is_header.to_series()
            self._refuse_other_order(cells.filter(~mask), written)
            self.headers += int(mask.sum())
            self.parts[at] = part.filter(~mask)
        if self.headers:
            self.recognized["repeated headers"] = str(self.headers)

    def _refuse_other_order(self, cells: pl.DataFrame, written: Sequence[str | None]) -> None:
        if len(written) < 2 or None in written or len(set(written)) < len(written):
            return
        names = pl.all_horizontal(pl.all().is_in(list(written)))
        for row in cells.filter(names).unique().iter_rows():
            if set(row) == set(written):
                raise SourceError(
                    f"the header stands among the rows again, with the columns in another order: {', '.join(row)}; "
                    "give the files one by one"
                )

    def unwrap(self) -> None:
        """Take off what some programs put around values beside quotes: ="007", and 'a' in a whole column."""
        found: dict[str, str] = {}
        for name in self.names:
            first = next((value for part in self.parts for value in part[name].head(_SAMPLE_LINES) if value), "")
            form = next((form for sign, form in _WRAPPED.items() if first.startswith(sign)), None)
            if form and all(part[name].str.contains(form).all() for part in self.parts):
                found[name] = form
        if len(found) < 2 and not any(form.startswith("^=") for form in found.values()):
            return  # one column of quotes may well be values
        for name, form in found.items():
            self.parts = [part.with_columns(pl.col(name).str.replace(form, "$1")) for part in self.parts]
            self.recognized["values within"] = form[1:-1].replace("(.*)", "…")

    def drop_nameless(self) -> None:
        """Leave out columns without name and value: what a separator at the end of every line makes."""
        empty = [
            name
            for at, name in enumerate(self.names, start=1)
            if name == f"({at})" and all(part[name].null_count() == part.height for part in self.parts)
        ]
        self.parts = [part.drop(empty) for part in self.parts]
        self.names = [name for name in self.names if name not in empty]


def read_delimited(stream: BinaryIO, known: Collection[str], *, has_header: bool = True) -> Table:
    """Read delimited text. known: names that a header may have; they tell it from the lines before it.

    Without a header the columns are named 1, 2, …. Raises SourceError when the bytes are no text.
    """
    text = open_text(stream, BLOCK)
    blocks = iter(text)
    first = next(blocks, b"")
    form, names, preamble, skipped = _recognize(first, known, has_header)
    table = Table(unique_names(names))
    start = _offset(first, skipped)
    _read_blocks(_chain(first[start:], blocks), form, skipped + 1, table)
    table.recognized = _describe(text, form, table, preamble) | table.recognized
    if has_header:
        table.drop_headers(names)
    table.unwrap()
    table.drop_nameless()
    return table


def unique_names(given: Sequence[str | None]) -> list[str]:
    """Name every column once: a second `price` is `price (2)`, a column without a name `(3)`, by its place."""
    seen = Counter[str]()
    names = []
    for at, name in enumerate(given, start=1):
        clean = (name or "").strip().strip("\ufeff") or f"({at})"
        seen[clean] += 1
        names.append(clean if seen[clean] == 1 else f"{clean} ({seen[clean]})")
    return names


def find_header(rows: Sequence[Sequence[str | None]], known: Collection[str], width: int) -> int:
    """Find the row of the names: the one with the most known names, else the first with all columns."""
    folded = {name.casefold() for name in known}
    hits = [_hits(row, folded) for row in rows[:_MOST_PREAMBLE]]
    if max(hits, default=0):
        return hits.index(max(hits))
    wide = (at for at, row in enumerate(rows[:_MOST_PREAMBLE]) if sum(cell is not None for cell in row) >= width)
    return next(wide, 0)


def _hits(row: Sequence[str | None], names: set[str]) -> int:
    return len(names & {(cell or "").strip(" \t\ufeff").casefold() for cell in row})


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _offset(block: bytes, lines: int) -> int:
    """The place in the block after so many lines."""
    at = 0
    for _ in range(lines):
        at = block.find(b"\n", at) + 1
        if at == 0:
            return len(block)
    return at


def _recognize(block: bytes, known: Collection[str], has_header: bool) -> tuple[Form, list[str | None], int, int]:
    """Recognize separator, width and escapes; return them with the names, the lines before them and up to the rows."""
    head = block[:_SAMPLE_BYTES]
    lines = head.decode("utf-8", "replace").split("\n")
    if len(head) < len(block) and len(lines) > 1:
        lines.pop()
    lines = lines[:_SAMPLE_LINES]
    given = re.fullmatch(r'"?sep=(.)"?', lines[0].strip("\ufeff \r\n") or "-")  # what spreadsheets write and heed
    separator = given[1] if given else _choose(lines, known)
    rest = lines[1:] if given else lines
    before = len(lines) - len(rest)
    escapes = _has_escapes(rest, separator)
    width = _usual(rest, separator, escapes=escapes)
    if not has_header:
        width = width or 1
        return Form(separator, width, escapes), [str(at + 1) for at in range(width)], before, before
    rows = [_split(line, separator) for line in rest]
    at = find_header(rows, known, width)
    while at < len(rest) - 1 and not rest[at].strip():
        at += 1
    names, used = _header(rest, at, separator)
    return Form(separator, len(names), escapes), names, before + at, before + at + used


def _header(lines: Sequence[str], at: int, separator: str) -> tuple[list[str | None], int]:
    """Read the names, which may have line ends within quotes; return them and their number of lines."""
    for used in range(1, _HEADER_LINES + 1):
        names = scan("\n".join(lines[at : at + used]), Form(separator, 0).quoted)
        if names is not None:
            return names, used
    return _split(lines[at] if at < len(lines) else "", separator), 1


def _split(line: str, separator: str) -> list[str | None]:
    row = scan(line, Form(separator, 0).quoted) or scan(line, Form(separator, 0).loose)
    return row or [value or None for value in line.split(separator)]


def _usual(lines: Sequence[str], separator: str, *, escapes: bool = False) -> int:
    """The most frequent number of fields of a line that is not blank."""
    counts = Counter(count_fields(line, separator, escapes=escapes) for line in lines if line.strip())
    return max(counts, key=lambda fields: (counts[fields], fields), default=0)


def _choose(lines: Sequence[str], known: Collection[str]) -> str:
    """Choose the separator: the one that yields most known names, else the one by which most lines are alike."""
    folded = {name.casefold() for name in known}

    def score(separator: str) -> tuple[int, float, int]:
        usual = _usual(lines, separator)
        counts = [count_fields(line, separator) for line in lines if line.strip()]
        alike = counts.count(usual) / len(counts) if usual > 1 else 0.0
        return max(_hits(_split(line, separator), folded) for line in lines[:_MOST_PREAMBLE]), alike, usual

    return max(SEPARATORS, key=score)


def _has_escapes(lines: Sequence[str], separator: str) -> bool:
    """Whether a backslash escapes: it makes a value that is none, or a row is in order only with it."""
    form, usual = Form(separator, 0, escapes=True), _usual(lines, separator)
    widths = {count_fields(line, separator, escapes=True) for line in lines}
    for at, line in enumerate(lines):
        if "\\" not in line:
            continue
        if "\\N" in line.split(separator):
            return True
        plain = scan(line, form.quoted)
        if '\\"' in line and plain is None and len(scan(line, form.escaped) or ()) == usual:
            return True
        if plain is not None and len(plain) == usual:  # in order as it stands, whatever the next line is
            continue
        end = at + 1
        while end < len(lines) and goes_on(lines[end - 1], form):
            end += 1
        if end > at + 1 and len(scan("\n".join(lines[at:end]), form.bare) or ()) in widths:
            return True
    return False


def _read_blocks(blocks: Iterator[bytes], form: Form, line: int, table: Table) -> None:
    """Read every block into the table. line: number of the first one."""
    rest, block = b"", next(blocks, None)
    while block is not None:
        following = next(blocks, None)
        is_end = following is None
        block = rest + block
        cut = len(block) if is_end else block.rfind(b"\n") + 1
        used = _read_block(block[:cut], form, line, is_end, table)
        line += _count(block[:used], _NEWLINE)
        rest, block = block[used:], following


def _read_block(block: bytes, form: Form, line: int, is_end: bool, table: Table) -> int:
    """Read whole lines; return how many bytes were used. An open record at the end is left for the next block."""
    cut = len(block) if is_end else _last_closed(block)
    frame = _read_fast(block[:cut], form, table.names) if cut else None
    if frame is not None:
        table.parts.append(frame)
        return cut
    lines = block.decode("utf-8", "surrogateescape").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    found = read_records(lines, form, is_end=is_end)
    _add(found, line, table)
    if found.used == len(lines):
        return len(block)
    return _offset(block, found.used)


def _count(block: bytes, byte: int) -> int:
    """How often a byte occurs: where it is frequent, five times as fast as `bytes.count`."""
    return int(np.count_nonzero(np.frombuffer(block, np.uint8) == byte))


def _last_closed(block: bytes) -> int:
    """The place after the last line end that no quote is open at; 0 when there is none."""
    quotes = _count(block, _QUOTE) if b'"' in block else 0
    at = len(block)
    while quotes % 2:
        before = block.rfind(b"\n", 0, at - 1)
        if before < 0:
            return 0
        quotes -= block.count(b'"', before + 1, at)
        at = before + 1
    return at


def _add(found: Records, line: int, table: Table) -> None:
    for at, what in found.unread:
        table.leave_out(line + at, what.encode("utf-8", "replace").decode())
    table.blank += found.blank
    if found.escaped:
        table.recognized["quoting"] = "a backslash before a quote"
    if found.rows:
        columns = zip(table.names, zip(*found.rows, strict=True), strict=True)
        table.parts.append(pl.DataFrame([pl.Series(name, values, dtype=pl.String) for name, values in columns]))


def _read_fast(block: bytes, form: Form, names: Sequence[str]) -> pl.DataFrame | None:
    """Read a block whose lines are all in order; None when one may not be."""
    separator = form.separator.encode()
    has_quotes = b'"' in block
    if b"\n\n" in block or block.startswith(b"\n") or (has_quotes and not _quotes_in_order(block, separator)):
        return None
    if form.escapes and re.search(rb'\\["\n' + re.escape(separator) + b"]", block):
        return None
    try:
        frame = pl.read_csv(
            block,
            has_header=False,
            schema=dict.fromkeys(names, pl.String),
            separator=form.separator,
            quote_char='"' if has_quotes else None,
        )
    except pl.exceptions.PolarsError:
        return None
    if not _accounts_for(frame, block, form, has_quotes=has_quotes):
        return None
    return _without_escapes(frame, form) if form.escapes and b"\\" in block else frame


def _quotes_in_order(block: bytes, separator: bytes) -> bool:
    """Whether every quote opens a field, closes it, or is written twice within it."""
    bare = np.frombuffer(b"\n" + block.replace(b'""', b"") + b"\n", np.uint8)
    quotes = np.flatnonzero(bare == _QUOTE)
    if len(quotes) % 2:
        return False
    around = np.concatenate([bare[quotes[0::2] - 1], bare[quotes[1::2] + 1]])
    return bool(np.isin(around, (_NEWLINE, separator[0])).all())


def _accounts_for(frame: pl.DataFrame, block: bytes, form: Form, *, has_quotes: bool) -> bool:
    """Whether separators and line ends of a block are those between the fields and rows, and those within values.

    Rows with a field too few have too few separators. Line ends within a value are looked at more closely.
    """
    lines = _count(block, _NEWLINE) + (not block.endswith(b"\n"))
    separators = _count(block, ord(form.separator)) - (form.width - 1) * frame.height
    if not has_quotes:
        return lines == frame.height and separators == 0
    within = frame.select(pl.all().str.count_matches(form.separator, literal=True).sum()).row(0)
    ends = frame.select(pl.all().str.count_matches("\n", literal=True).sum()).row(0)
    if lines != frame.height + sum(ends) or separators != sum(within):
        return False
    return not any(ends[at] and _holds_rows(frame.to_series(at), form) for at in range(frame.width))


def _holds_rows(values: pl.Series, form: Form) -> bool:
    """Whether a line within a value has as many separators as a row."""
    lines = values.filter(values.str.contains("\n", literal=True).fill_null(False)).str.split("\n").explode()
    counts = lines.str.count_matches(form.separator, literal=True)
    return bool((counts == form.width - 1).any()) and form.width > 1


def _without_escapes(frame: pl.DataFrame, form: Form) -> pl.DataFrame:
    """Take the backslashes out of the few values that have one."""
    columns = []
    for values in frame.get_columns():
        at = values.str.contains("\\", literal=True).fill_null(False).arg_true()
        plain = {value: unescape(value, form) for value in values.gather(at).unique().to_list()}
        columns.append(values.replace(list(plain), list(plain.values())) if plain else values)
    return pl.DataFrame(columns)


def _describe(text: Text, form: Form, table: Table, preamble: int) -> dict[str, str]:
    """What was recognized, in words, beside what everybody expects of such a file."""
    found = {"encoding": text.encoding_name, "line ends": text.line_end}
    if form.width > 1:
        found["separator"] = SEPARATORS.get(form.separator, repr(form.separator))
    if form.escapes:
        found["quoting"] = "a backslash escapes, \\N is no value"
    if preamble:
        found["lines before the header"] = str(preamble)
    if table.blank:
        found["blank lines"] = str(table.blank)
    return found
