"""Files of lists for mailings: CSV, Parquet and JSON lines, chosen by the name of the file, complete or absent.

`FORMATS` lists them; adding one is a class and a line. Rows come in blocks: a file of any length takes little memory.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.audience.export import COLUMNS, RISKY, write_csv
from recsys.data.folder import replacing
from recsys.errors import ConfigError, RecsysError

_PLACES = b"places"  # of a field's metadata: how long its lists are at most
_GUARDED = "^[" + "".join(re.escape(one) for one in RISKY) + "]"


class Writer(Protocol):
    """Writes blocks of rows that have the same columns."""

    guarded: int  # cells that were given an apostrophe, since a spreadsheet would take them as formulas

    def write(self, block: pa.Table) -> None:
        """Append rows."""
        ...

    def close(self) -> None:
        """Write what ends the file."""
        ...


class Csv:
    """UTF-8 with commas, a header line and the line ends of RFC 4180. A list becomes columns, as item_id_1, title_1."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        """schema: of the rows; see `places_of` for lists."""
        self._file, self._is_first, self.guarded = file, True, 0
        self._schema = schema

    def write(self, block: pa.Table) -> None:
        """See Writer."""
        frame = _widened(block)
        texts = [name for name, kind in frame.schema.items() if kind == pl.String]
        risky = pl.concat([frame[name].str.contains(_GUARDED) for name in texts]) if texts else pl.Series([False])
        self.guarded += int(risky.sum() or 0)
        guard = [
            pl.when(pl.col(name).str.contains(_GUARDED)).then("'" + pl.col(name)).otherwise(pl.col(name)).alias(name)
            for name in texts
        ]
        frame.with_columns(guard).write_csv(self._file, include_header=self._is_first, line_terminator="\r\n")
        self._is_first = False

    def close(self) -> None:
        """See Writer; a list of nobody has a header all the same."""
        if self._is_first:
            self.write(self._schema.empty_table())


class Parquet:
    """Columns with their types; a list stays a list."""

    guarded = 0

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        """schema: of the rows."""
        self._writer = pq.ParquetWriter(file, schema, compression="zstd")

    def write(self, block: pa.Table) -> None:
        """See Writer."""
        self._writer.write_table(block)

    def close(self) -> None:
        """See Writer."""
        self._writer.close()


class JsonLines:
    """A JSON object on each line; a list stays a list."""

    guarded = 0

    def __init__(self, file: BinaryIO, _schema: pa.Schema) -> None:
        """A file of nobody is empty."""
        self._file = file

    def write(self, block: pa.Table) -> None:
        """See Writer."""
        _frame(block).write_ndjson(self._file)

    def close(self) -> None:
        """See Writer."""


FORMATS: dict[str, type[Csv] | type[Parquet] | type[JsonLines]] = {
    ".csv": Csv,
    ".parquet": Parquet,
    ".jsonl": JsonLines,
}


def check_file(out: Path) -> None:
    """Check that a list can be written there, before anything is computed. Raises ConfigError."""
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"--out {out}: the name has to end with one of {', '.join(FORMATS)}, which says the format")
    if out.is_dir() or not out.parent.is_dir():
        raise ConfigError(f"--out {out} cannot be written: {'it is' if out.is_dir() else 'its parent is no'} folder")


@contextmanager
def writing(out: Path, schema: pa.Schema) -> Iterator[Writer]:
    """Yield a writer of blocks with this schema. The file is there when all went well; else a former one stays.

    Raises RecsysError when it cannot be written.
    """
    with replacing(out) as aside, aside.open("wb") as file:
        writer = FORMATS[out.suffix.lower()](file, schema)
        try:
            yield writer
        finally:
            writer.close()  # also where the file is given up: a Parquet writer must not outlive it


def write_blocks(out: Path, schema: pa.Schema, blocks: Iterable[pa.Table]) -> int:
    """Write all blocks; return how many cells were given an apostrophe."""
    with writing(out, schema) as writer:
        for block in blocks:
            writer.write(block)
    return writer.guarded


def write_audience(out: Path, rows: Sequence[Sequence[object]], further: Sequence[str] = ()) -> int:
    """Write the members of an audience as the name of the file says; another name than those of FORMATS is CSV.

    rows: of COLUMNS and of `further` ones. Returns how many ids were given an apostrophe: in CSV alone.
    """
    if out.suffix.lower() not in (".parquet", ".jsonl"):
        return write_csv(out, rows, further)
    names = [*COLUMNS, *further]
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    arrays = [pa.array(values) for values in map(list, columns)]
    arrays = [values.cast(pa.string()) if pa.types.is_null(values.type) else values for values in arrays]
    table = pa.table(arrays, names=names)
    return write_blocks(out, table.schema, [table])


def read_file(path: Path) -> pl.DataFrame:
    """Read a list that was written here, as its format holds it. Raises RecsysError when it cannot be read."""
    read: dict[str, Callable[[], pl.DataFrame]] = {
        ".csv": lambda: pl.read_csv(path, infer_schema=False),
        ".parquet": lambda: pl.read_parquet(path),
        ".jsonl": lambda: pl.read_ndjson(path, infer_schema_length=None),
    }
    if path.suffix.lower() not in read:
        raise ConfigError(f"{path}: the name has to end with one of {', '.join(FORMATS)}")
    try:
        return read[path.suffix.lower()]()
    except (OSError, pl.exceptions.PolarsError, pa.ArrowException) as error:
        raise RecsysError(f"{path} cannot be read: {error}") from None


def _frame(block: pa.Table) -> pl.DataFrame:
    found = pl.from_arrow(block)
    assert isinstance(found, pl.DataFrame)
    return found


def places_of(name: str, fields: pa.StructType, places: int) -> pa.Field:
    """A column of lists of structs, of `places` at most: a CSV file has so many columns for each field."""
    return pa.field(name, pa.list_(fields), metadata={_PLACES: str(places).encode()})


def _widened(block: pa.Table) -> pl.DataFrame:
    """The same rows with a column for each place and field of a list of structs: item_id_1, title_1, …, item_id_2."""
    columns: dict[str, pl.Series] = {}
    for column in block.schema:
        values = block.column(column.name).combine_chunks()
        if _PLACES not in (column.metadata or {}):
            columns[column.name] = _frame(block.select([column.name]))[column.name]
            continue
        starts, lengths = values.offsets[:-1], values.value_lengths()
        for place in range(int(column.metadata[_PLACES])):
            # No position where a list is shorter, and so no value.
            at = pc.if_else(pc.greater(lengths, place), pc.add(starts, place), None)
            for field in column.type.value_type:
                own = pc.struct_field(values.values, field.name).take(at)
                columns[f"{field.name}_{place + 1}"] = _frame(pa.table({"own": own}))["own"]
    return pl.DataFrame(columns)
