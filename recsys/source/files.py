"""Files as tables: delimited text, JSON, Parquet and spreadsheets, plain, in .gz or in .zip, one or several."""

import gzip
import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from recsys.config.settings import MAX_EXPANDED_MIB
from recsys.errors import SourceError
from recsys.imports import resolve
from recsys.source.delimited import Table, find_header, read_delimited, unique_names
from recsys.source.expansion import LimitedStream, check_archive
from recsys.source.json_rows import read_json

DELIMITED = (".csv", ".tsv", ".txt")
SPREADSHEETS = (".xlsx",)
JSON_LINES = (".jsonl", ".ndjson")
FORMATS = (*DELIMITED, *JSON_LINES, ".json", ".parquet", *SPREADSHEETS)

_ALLOWED = f"allowed are {', '.join(FORMATS)}, each also with .gz or in a .zip"
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
# What readers raise at files that are damaged, cut off, encrypted, or nested without end.
_BROKEN = (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile, pl.exceptions.PolarsError)
_EXAMPLES = 3
_TOP = 50  # lines of a sheet in which its header lies


@dataclass(frozen=True)
class FileRows:
    """The rows of one or more files, and what reading them found."""

    rows: pl.DataFrame
    unread: int = 0  # rows that could not be parsed
    examples: tuple[str, ...] = ()  # the first of them, with file and line
    recognized: dict[str, dict[str, str]] = field(default_factory=dict)  # file -> what -> found

    def recognizing(self, name: str, more: Mapping[str, str]) -> "FileRows":
        """The same rows with what else was recognized of file `name`; empty texts say nothing."""
        found = {what: value for what, value in more.items() if value}
        if not found:
            return self
        return replace(self, recognized=self.recognized | {name: self.recognized.get(name, {}) | found})


def expand(patterns: Sequence[Path]) -> list[Path]:
    """List the files that paths and patterns such as `orders-*.csv` name, each once.

    Raises SourceError when one names no file.
    """
    found: list[Path] = []
    for pattern in patterns:
        matching = [pattern] if pattern.exists() else _matching(pattern)
        if not matching:
            raise SourceError(f"there is no file {pattern}")
        found += [path for path in matching if path not in found]
    return found


def _matching(pattern: Path) -> list[Path]:
    root = Path(pattern.anchor)
    return sorted(path for path in root.glob(str(pattern.relative_to(pattern.anchor))) if path.is_file())


def read_files(
    paths: Sequence[Path],
    known: Collection[str] = (),
    *,
    has_header: bool = True,
    max_expanded_mib: int = MAX_EXPANDED_MIB,
) -> FileRows:
    """Read all rows of files. A suffix, before a final .gz, names the format; columns of text files are text.

    known: names that a header may have; has_header: whether delimited text and spreadsheets have one (else 1, 2, …);
    max_expanded_mib: what a compressed file may hold. `recognized` and examples call a file by its name, or by its path
    where several have that name.
    Raises SourceError when a file is missing, its format is not in FORMATS, or it cannot be read as its format.
    """
    frames, unread, examples, recognized = [], 0, list[str](), {}
    for label, path in zip(labels(paths), paths, strict=True):
        for member, table in _tables(path, label, known, has_header, max_expanded_mib):
            name = f"{label}:{member}" if member else label
            frames.append(table.frame())
            unread += table.unread
            examples += [f"{name} {example}" if len(paths) > 1 or member else example for example in table.examples]
            recognized[name] = table.recognized
            if table.unread and not any(part.height for part in table.parts):
                raise SourceError(f"{name}: no row can be parsed, as {' | '.join(table.examples)}")
    rows = pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()
    return FileRows(rows, unread, tuple(examples[:_EXAMPLES]), recognized)


def labels(paths: Sequence[Path]) -> list[str]:
    """What messages call each file: its name, or its path where several have that name."""
    counts = Counter(path.name for path in paths)
    return [path.name if counts[path.name] == 1 else str(path) for path in paths]


def _tables(
    path: Path, label: str, known: Collection[str], has_header: bool, max_mib: int
) -> Iterator[tuple[str, Table]]:
    """Read each table of a file; with the name that it has in an archive."""
    try:
        with path.open("rb") as stream:
            for member, name, content in _contents(path, stream, max_mib):
                yield member, _read(name, content, known, has_header, max_mib)
    except FileNotFoundError:
        raise SourceError(f"there is no file {path}") from None
    except SourceError as error:
        raise SourceError(f"{label}: {error}") from None
    except _BROKEN as error:
        form = Path(path.name.removesuffix(".gz")).suffix[1:].lower()
        raise SourceError(f"{label} cannot be read as {form}: {str(error).splitlines()[0]}") from None


def _contents(path: Path, stream: BinaryIO, max_mib: int) -> Iterator[tuple[str, str, BinaryIO]]:
    """Open what a file holds: itself, what .gz compresses, or each file of a .zip.

    Yields the name in an archive, if it is one, and the name whose suffix tells the format.
    """
    start = stream.read(4)
    stream.seek(0)
    suffix = path.suffix.lower()
    if start.startswith(_GZIP):
        with gzip.open(stream) as content:
            limited = LimitedStream(content, stream, max_mib)  # type: ignore[arg-type]
            yield "", path.name.removesuffix(path.suffix) if suffix == ".gz" else path.name, limited  # type: ignore[misc]
    elif start.startswith(_ZIP) and suffix not in SPREADSHEETS:
        with zipfile.ZipFile(stream) as archive:
            for member in _members(archive, path.stat().st_size, max_mib):
                with archive.open(member) as content:
                    yield member, member, content  # type: ignore[misc]
    elif suffix in (".gz", ".zip"):
        raise SourceError(f"it does not begin as a {suffix} file does")
    else:
        yield "", path.name, stream


def _members(archive: zipfile.ZipFile, size: int, max_mib: int) -> list[str]:
    names = [member for member in archive.namelist() if _is_data(member)]
    if not names:
        raise SourceError(f"it holds no file of a known form; {_ALLOWED}")
    check_archive(archive, names, size, max_mib)
    return names


def _is_data(member: str) -> bool:
    """Whether a file of an archive is one to read, and not what macOS and others add."""
    path = Path(member)
    return path.suffix.lower() in FORMATS and not path.name.startswith(".") and path.parts[0] != "__MACOSX"


def _read(name: str, content: BinaryIO, known: Collection[str], has_header: bool, max_mib: int) -> Table:
    suffix = Path(name).suffix.lower()
    if suffix in DELIMITED:
        return read_delimited(content, known, has_header=has_header)
    if suffix in SPREADSHEETS:
        return _read_spreadsheet(content.read(), known, has_header, max_mib)
    if suffix in JSON_LINES or suffix == ".json":
        return read_json(content, is_lines=suffix != ".json")
    if suffix == ".parquet":
        return _whole(_with_texts(pl.read_parquet(content.read())), "Parquet")
    raise SourceError(f"it is of no known form; {_ALLOWED}")


def _whole(frame: pl.DataFrame, form: str) -> Table:
    return Table(frame.columns, [frame], recognized={"format": form})


def _with_texts(frame: pl.DataFrame) -> pl.DataFrame:
    """Make text of columns of bytes that are UTF-8: some writers do not say that their bytes are text."""
    found = dict[str, pl.Series]()
    for name, kind in frame.schema.items():
        if kind == pl.Binary:
            with suppress(pl.exceptions.ComputeError):
                found[name] = frame[name].cast(pl.String)
    return frame.with_columns(**found)


def _read_spreadsheet(content: bytes, known: Collection[str], has_header: bool, max_mib: int) -> Table:
    """Read the first sheet that has rows, and those after it with the same columns."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        check_archive(archive, archive.namelist(), len(content), max_mib)
    try:
        return _read_sheets(resolve("fastexcel:read_excel")(content), known, has_header)
    except resolve("fastexcel:FastExcelError") as error:
        raise ValueError(f"{error}") from None


def _read_sheets(book: Any, known: Collection[str], has_header: bool) -> Table:
    table, read, others = Table([]), list[str](), list[str]()
    for name in book.sheet_names:
        cells = book.load_sheet(name, header_row=None, dtypes="string").to_polars()
        if cells.is_empty():
            continue
        names, rows, before = _below_header(cells, known, has_header)
        if read and names != table.names:
            others.append(name)
            continue
        read.append(name)
        table.names = names
        rows = _with_long_numbers(book, name, rows, cells.height - rows.height)
        filled = rows.filter(~pl.all_horizontal(pl.all().is_null()))
        table.blank += rows.height - filled.height
        table.parts.append(filled)
        table.recognized |= {"lines before the header": str(before)} if before else {}
    table.recognized |= {"format": "spreadsheet", "sheets": ", ".join(read)}
    table.recognized |= {"blank lines": str(table.blank)} if table.blank else {}
    table.recognized |= {"sheets not read, of other columns": ", ".join(others)} if others else {}
    table.drop_nameless()
    return table


def _with_long_numbers(book: Any, sheet: str, rows: pl.DataFrame, above: int) -> pl.DataFrame:
    """Let columns of numbers be numbers where one has 16 digits or more: a number of a spreadsheet has 15 exact ones.

    Whoever reads ids then refuses them, as of any float, while cells of text keep all their digits. above: the lines
    before the rows.
    """
    long = [name for name, kind in rows.schema.items() if kind == pl.String and _has_long(rows[name])]
    if not long:
        return rows
    typed = book.load_sheet(sheet, header_row=None, skip_rows=above, schema_sample_rows=None).to_polars()
    columns = zip(rows.columns, typed.iter_columns(), strict=False)
    numbers = {name: column for name, column in columns if name in long and column.dtype.is_numeric()}
    return rows.with_columns(**{name: column.cast(pl.Float64) for name, column in numbers.items()})


def _has_long(texts: pl.Series) -> bool:
    return bool(texts.str.contains(r"^\d{16,}$").any())


def _below_header(cells: pl.DataFrame, known: Collection[str], has_header: bool) -> tuple[list[str], pl.DataFrame, int]:
    """Split the cells of a sheet into names and rows; return the number of lines before the names, too."""
    if not has_header:
        names = [str(at + 1) for at in range(cells.width)]
        return names, cells.rename(dict(zip(cells.columns, names, strict=True))), 0
    top = cells.head(_TOP).rows()
    width = max(sum(cell is not None for cell in row) for row in top)
    at = find_header(top, known, width)
    names = unique_names(top[at])
    rows = cells.slice(at + 1)
    return names, rows.rename(dict(zip(cells.columns, names, strict=True))), at
