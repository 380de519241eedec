"""Files as tables: CSV, Parquet and JSON lines, plain or gzip-compressed."""

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl

from recsys.errors import SourceError
from recsys.source.values import frame_of_objects

FORMATS = (".csv", ".parquet", ".jsonl", ".ndjson")


def read_file(path: Path) -> pl.DataFrame:
    """Read all rows of a file. Its suffix, before a final .gz, names the format; columns of CSV are text.

    Raises SourceError when the file is missing or its format is not in FORMATS.
    """
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix not in FORMATS:
        raise SourceError(f"{path.name} is of no known form; allowed are {', '.join(FORMATS)}, each also with .gz")
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        if suffix == ".csv":
            return pl.read_csv(content, infer_schema=False, raise_if_empty=False)
        return pl.read_parquet(content) if suffix == ".parquet" else _read_json_lines(content)
    except FileNotFoundError:
        raise SourceError(f"there is no file {path}") from None
    except (OSError, EOFError, ValueError, pl.exceptions.PolarsError) as error:
        raise SourceError(f"{path.name} cannot be read as {suffix[1:]}: {str(error).splitlines()[0]}") from None


def _read_json_lines(content: bytes) -> pl.DataFrame:
    objects = [_object(number, line) for number, line in enumerate(content.splitlines(), start=1) if line.strip()]
    names = list(dict.fromkeys(name for found in objects for name in found))
    if not names:
        return pl.DataFrame()
    return frame_of_objects(names, objects)


def _object(number: int, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"line {number} is no object")
    return found
