"""Records of text files that need care, line by line: odd quotes, backslashes, line ends in values, broken rows.

A row that no reading fits is left out with its line number, and the next line begins a row again. So a quote that is
never closed costs its own row and not those after it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

_MOST_LINES = 500  # of one record
_PATIENCE, _FEW = 10, 5  # so many quotes that never close, and the lines that a value may have after them
_SHOWN = 80
_NO_LETTER = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of bytes that are no UTF-8
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "0": ""}
# What every line of some rows says when a quote before them was not closed. Shorter runs occur in texts of two columns.
_FEW_COLUMNS, _FEW_LINES = 3, 3


@dataclass(frozen=True)
class Form:
    """The form of a delimited file."""

    separator: str
    width: int  # columns
    escapes: bool = False  # a backslash escapes, as MySQL and psql write it; \\N is no value

    @cached_property
    def quoted(self) -> re.Pattern[str]:
        """A field in which a quote is written twice."""
        return self._field(r'"(?P<quoted>(?:[^"]|"")*+)"', r'(?P<plain>[^{sep}"\n]*+)')

    @cached_property
    def escaped(self) -> re.Pattern[str]:
        """A field in which a backslash stands before a quote, a separator or a line end."""
        return self._field(r'"(?P<quoted>(?:[^"\\]|\\.|"")*+)"', r'(?P<plain>(?!")(?:[^{sep}\n\\]|\\.)*+)')

    @cached_property
    def bare(self) -> re.Pattern[str]:
        """A field in which quotes mean nothing, as programs write that put a backslash before every separator."""
        return self._field(r"(?P<quoted>(?!))", r"(?P<plain>(?:[^{sep}\n\\]|\\.)*+)")

    @cached_property
    def loose(self) -> re.Pattern[str]:
        """A field that may hold quotes: only one before a separator closes it."""
        return self._field(r'"(?P<quoted>(?:[^"\n]|"(?!{sep}|\Z))*+)"', r'(?P<plain>(?!")[^{sep}\n]*+)')

    def _field(self, quoted: str, plain: str) -> re.Pattern[str]:
        text = f"(?:{quoted}|{plain})(?={{sep}}|\\Z)"
        return re.compile(text.replace("{sep}", re.escape(self.separator)), re.DOTALL)


@dataclass
class Records:
    """The records of consecutive lines, and what was left out."""

    rows: list[list[str | None]] = field(default_factory=list)
    unread: list[tuple[int, str]] = field(default_factory=list)  # line, counted from 0, and what is wrong
    blank: int = 0
    escaped: int = 0  # rows that only a backslash explains
    never_closed: int = 0
    used: int = 0  # lines


def read_records(lines: Sequence[str], form: Form, *, is_end: bool) -> Records:
    """Read lines as records of `form.width` fields. An empty field is None, a quoted empty one is an empty text.

    is_end: no lines follow. Otherwise a record that is open at the last line is left to the next call: see `used`.
    """
    found, at = Records(), 0
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            found.blank += 1
            at += 1
            continue
        if not line.isascii() and _NO_LETTER.search(line):
            found.unread.append((at, f"bytes that are no UTF-8: {shorten(line)}"))
            at += 1
            continue
        row = None if goes_on(line, form) else _read_line(line, form, found)
        taken = 1
        if row is None and _is_open(line, form):
            row, taken = _read_lines(lines, at, form, found)
            if row is None and taken == 0 and not is_end:
                break  # the record goes on in the next block
        if row is None:
            found.unread.append((at, _fault(line, form)))
        elif any(value is not None and value.strip() for value in row):
            found.rows.append(row)
        else:
            found.blank += 1
        at += max(taken, 1)
    found.used = at
    return found


def count_fields(line: str, separator: str, *, escapes: bool = False) -> int:
    """Count the fields of a line, leaving out separators within quotes, and those after a backslash that escapes."""
    form = Form(separator, 0)
    if '"' in line or (escapes and "\\" in line):
        for pattern in (form.escaped, form.loose) if escapes else (form.quoted, form.loose):
            if (row := scan(line, pattern)) is not None:
                return len(row)
    return line.count(separator) + 1


def scan(text: str, pattern: re.Pattern[str]) -> list[str | None] | None:
    """Split a text into fields that each match the pattern; None when one does not."""
    fields: list[str | None] = []
    at = 0
    while match := pattern.match(text, at):
        quoted, plain = match.group("quoted", "plain")
        fields.append(plain or None if quoted is None else quoted.replace('""', '"'))
        at = match.end()
        if at == len(text):
            return fields
        at += 1
    return None


def unescape(value: str | None, form: Form) -> str | None:
    """Take the backslashes out of a value. Letters have a meaning in tab-separated files only, as psql writes them."""
    if value is None or "\\" not in value:
        return value
    if value == "\\N":
        return None
    if form.separator == "\t":
        return re.sub(r"\\(.)", lambda found: _LETTERS.get(found[1], found[1]), value, flags=re.DOTALL)
    return re.sub(r'\\(["\\\n' + re.escape(form.separator) + "])", r"\1", value)


def _read_line(line: str, form: Form, found: Records) -> list[str | None] | None:
    if '"' not in line and "\\" not in line:
        return _fit([value or None for value in line.split(form.separator)], form)
    row = _read_strictly(line, form, found)
    if row is None:
        row = _fit(scan(line, form.loose), form)
    if row is None and form.separator == "\t":  # programs that write tabs often quote nothing
        row = _fit(scan(line, form.bare) if form.escapes else [value or None for value in line.split("\t")], form)
    return [unescape(value, form) for value in row] if row is not None and form.escapes else row


def _read_strictly(text: str, form: Form, found: Records) -> list[str | None] | None:
    """Read a text whose quotes are all in order, doubled or after a backslash: the reading that fits the columns."""
    doubled = _fit(scan(text, form.quoted), form)
    if doubled is not None and not (form.escapes and "\\" in text):
        return doubled
    if "\\" in text and (row := _fit(scan(text, form.escaped), form)) is not None:
        found.escaped += 1
        return row if form.escapes else [unescape(value, form) for value in row]
    return doubled


def _fit(row: list[str | None] | None, form: Form) -> list[str | None] | None:
    """Return the row if it has as many fields as there are columns; empty ones at its end may be too many."""
    if row is None or len(row) == form.width:
        return row
    too_many = len(row) > form.width and not any(row[form.width :])
    return row[: form.width] if too_many else None


def _is_open(line: str, form: Form) -> bool:
    """Whether a value of the line may go on in the next: a quote opens one, or a backslash stands at the end."""
    opens = line.startswith('"') or f'{form.separator}"' in line
    return opens or goes_on(line, form)


def goes_on(line: str, form: Form) -> bool:
    """Whether a backslash escapes the end of the line."""
    return form.escapes and (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _read_lines(lines: Sequence[str], start: int, form: Form, found: Records) -> tuple[list[str | None] | None, int]:
    """Read a record of several lines; return it with the number of its lines, 0 when the lines end before it."""
    ending = re.compile(f'"(?:{re.escape(form.separator)}|$)')
    most = _MOST_LINES if found.never_closed < _PATIENCE else _FEW
    for end in range(start + 1, min(start + most, len(lines))):
        part = lines[start : end + 1]
        if len(part) > _FEW_LINES and _are_rows(part[1:-1], form):
            return None, 1
        if not (ending.search(lines[end]) or form.escapes):
            continue
        text = "\n".join(part)
        row = _read_strictly(text, form, found)
        if row is None and form.escapes and not goes_on(lines[end], form):
            row = _fit(scan(text, form.bare), form)
        if row is not None:
            return (None, 1) if _are_rows(part, form) else (row if not form.escapes else _clean(row, form), len(part))
    found.never_closed += 1
    return None, int(len(lines) - start >= most)


def _clean(row: list[str | None], form: Form) -> list[str | None]:
    return [unescape(value, form) for value in row]


def _are_rows(lines: Sequence[str], form: Form) -> bool:
    """Whether lines within one value look like rows: the first, the last and half of all have every column."""
    if form.width < 2 or (form.width <= _FEW_COLUMNS and len(lines) < _FEW_LINES):
        return False
    fit = [line.count(form.separator) + 1 == form.width for line in lines]
    return fit[0] and fit[-1] and 2 * sum(fit) >= len(fit)


def _fault(line: str, form: Form) -> str:
    fields = count_fields(line, form.separator, escapes=form.escapes)
    if '"' in line and (fields == form.width or line.count('"') % 2):
        what = "a quote is not closed"
    else:
        what = f"{fields} fields, the header has {form.width}"
    return f"{what}: {shorten(line)}"


def shorten(text: str) -> str:
    """Cut a text to the length of an example."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
