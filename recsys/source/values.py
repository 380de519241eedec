"""Conversion of a shop's values: ids to text, times to microseconds UTC, numbers and booleans.

An unreadable value becomes null. Callers compare with the original column to count such values.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from typing import Any

import polars as pl

from recsys.errors import ConfigError

_NAIVE = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y%m%d", "%Y%m%d%H%M%S")
_ZONED = ("%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%d %H:%M%:z")
_HOUR = 3_600_000_000
_TRUE = ("1", "\x01", "1.0", "t", "true", "y", "yes", "on")
_FALSE = ("0", "\x00", "0.0", "f", "false", "n", "no", "off")


@dataclass(frozen=True)
class Times:
    """A column of n times."""

    microseconds: pl.Series  # Int64 [n], UTC; null where missing or unreadable
    naive: pl.Series  # Boolean [n]: a date or a clock time without a zone


def read_times(values: pl.Series, zone: str | None, form: str | None = None) -> Times:
    """Read times of any common form: numbers since 1970, dates, timestamps, ISO 8601 text.

    The size of a number tells seconds, milli-, micro- and nanoseconds apart; 20200101 and 20200101120000 are dates.
    zone: of times that have none (None: UTC). form: of text that is not ISO 8601 (strptime).
    Raises ConfigError when the zone is unknown.
    """
    kind = values.dtype
    nothing = pl.repeat(False, len(values), dtype=pl.Boolean, eager=True)
    if isinstance(kind, pl.Datetime):
        moments = values.cast(pl.Datetime("us", kind.time_zone))
        if kind.time_zone is not None:
            return Times(_microseconds(moments), nothing)
        return Times(_localize(moments, zone), values.is_not_null())
    if kind == pl.Date:
        return Times(_localize(values.cast(pl.Datetime("us"), strict=False), zone), values.is_not_null())
    if kind.is_numeric():
        return _read_numbers(values, zone)
    text = values.cast(pl.String)
    return _read_text(text, zone) if form is None else _read_form(text, zone, form)


def read_unix_times(values: pl.Series) -> pl.Series:
    """Convert numbers since 1970 to microseconds (Int64). The size tells the unit: below 1e11, seconds.

    Null where the digits are a date from 1900 to 2100; as seconds these would all lie in August 1970.
    """
    whole = values.dtype.is_integer()
    size = values.cast(pl.Float64, strict=False).abs()
    exact = values.cast(pl.Int64 if whole else pl.Float64, strict=False)
    scaled = (
        pl.when(size < 1e11)
        .then(exact * 1_000_000)
        .when(size < 1e14)
        .then(exact * 1_000)
        .when(size < 1e17)
        .then(exact)
        .otherwise(exact // 1_000)
    )
    scaled = pl.when(~_looks_like_date(size)).then(scaled)
    return pl.select(scaled).to_series().cast(pl.Int64, strict=False)


def _looks_like_date(numbers: pl.Series) -> pl.Series:
    """Whether each number (Float64) is YYYYMMDD or YYYYMMDDhhmmss of the years 1900 to 2100."""
    return numbers.is_between(19_000_101, 21_001_231) | numbers.is_between(19_000_101_000_000, 21_001_231_235_959)


def _read_numbers(values: pl.Series, zone: str | None) -> Times:
    us, naive = read_unix_times(values), pl.repeat(False, len(values), dtype=pl.Boolean, eager=True)
    at = _looks_like_date(values.cast(pl.Float64)).fill_null(False).arg_true()
    if len(at):
        dates = _read_text(values.gather(at).cast(pl.Int64).cast(pl.String), zone)
        us, naive = us.scatter(at, dates.microseconds), naive.scatter(at, dates.naive)
    return Times(us, naive)


def _read_form(text: pl.Series, zone: str | None, form: str) -> Times:
    moments = text.str.strip_chars().str.to_datetime(form, time_unit="us", strict=False)
    if moments.dtype == pl.Datetime("us", "UTC"):  # the form has a zone
        return Times(_microseconds(moments), pl.repeat(False, len(text), dtype=pl.Boolean, eager=True))
    return Times(_localize(moments, zone), moments.is_not_null())


def _read_text(text: pl.Series, zone: str | None) -> Times:
    frame = pl.DataFrame({"text": text})
    us = _localize(text.str.to_datetime(_NAIVE[0], time_unit="us", strict=False), zone)
    naive = us.is_not_null()
    rest = frame.with_row_index("at").filter(us.is_null() & text.is_not_null())
    if rest.height:  # a form other than the usual one; only those rows are read again
        found, without_zone = _read_rare(rest["text"].str.strip_chars(), zone)
        us = us.scatter(rest["at"], found)
        naive = naive.scatter(rest["at"], without_zone)
    return Times(us, naive)


def _read_rare(text: pl.Series, zone: str | None) -> tuple[pl.Series, pl.Series]:
    plain = text.str.replace(r"(\d)T(\d)", "${1} ${2}")
    naive = _first(plain, _NAIVE, None)
    rest = plain.set(naive.is_not_null(), None)
    offset = rest.str.replace(r"\s?(Z|z|UTC)$", "+00:00").str.replace(r"\s?([+-]\d\d):?(\d\d)$", "${1}:$2")
    offset = offset.str.replace(r"(:\d\d(?:\.\d+)?)\s?([+-]\d\d)$", "${1}${2}:00")
    zoned = _microseconds(_first(offset, _ZONED, "UTC"))
    numbers = read_unix_times(rest.cast(pl.Float64, strict=False))
    best = pl.select(pl.coalesce(_localize(naive, zone), zoned, numbers)).to_series()
    return best, naive.is_not_null()


def _first(text: pl.Series, formats: tuple[str, ...], zone: str | None) -> pl.Series:
    """Parse each text with the first format that fits. A format sees only what earlier ones could not parse."""
    found = pl.repeat(None, len(text), dtype=pl.Datetime("us", zone), eager=True)
    for form in formats:
        open_rows = (found.is_null() & text.is_not_null()).arg_true()
        if len(open_rows) == 0:
            break
        read = text.gather(open_rows).str.to_datetime(form, time_unit="us", strict=False)
        found = found.scatter(open_rows, read)
    return found


def _microseconds(moments: pl.Series) -> pl.Series:
    return moments.to_physical().cast(pl.Int64)


def _localize(moments: pl.Series, zone: str | None) -> pl.Series:
    """Convert clock times in a zone to microseconds UTC: a repeated hour is the first, a skipped one the next."""
    if zone is None:
        return _microseconds(moments)
    try:
        local = moments.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    except pl.exceptions.ComputeError:
        raise ConfigError(
            f'[source] timezone {zone!r} is not known; allowed are names such as "Europe/Berlin"'
        ) from None
    us = _microseconds(local)
    if us.null_count() == moments.null_count():
        return us
    earlier = moments.dt.offset_by("-1h")
    shifted = _microseconds(earlier.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")) + _HOUR
    return pl.select(pl.coalesce(us, shifted)).to_series()


def read_texts(values: pl.Series) -> pl.Series:
    """Convert any column to text: whole numbers as digits, the decimal 20.00 as 20, bytes as null."""
    if values.dtype == pl.Binary:
        return pl.repeat(None, len(values), dtype=pl.String, eager=True).alias(values.name)
    texts = values.cast(pl.String, strict=False)
    return texts.str.replace(r"\.0+$", "") if isinstance(values.dtype, pl.Decimal) else texts


def read_numbers(values: pl.Series) -> pl.Series:
    """Convert any column to Float64; other text and values that are not finite become null."""
    numbers = values.cast(pl.Float64, strict=False)
    return pl.select(pl.when(numbers.is_finite()).then(numbers)).to_series().alias(values.name)


def read_booleans(values: pl.Series) -> pl.Series:
    """Convert any column to Boolean: numbers by not being 0, text by being t, true, yes, on, 1 or the opposite."""
    if values.dtype == pl.Boolean:
        return values
    if values.dtype.is_numeric():
        return values != 0
    text = values.cast(pl.String, strict=False).str.strip_chars(" \t\r\n").str.to_lowercase()
    read = pl.when(text.is_in(_TRUE)).then(True).when(text.is_in(_FALSE)).then(False)
    return pl.select(read).to_series().alias(values.name)


def frame_of(names: Sequence[str], rows: Sequence[Sequence[Any]], types: Mapping[str, Any]) -> pl.DataFrame:
    """Convert Python rows to columns, each of the given type or of one inferred from its values.

    Dates and times become ISO 8601 text, decimals Float64; a column of several types becomes text.
    """
    columns = zip(names, zip(*rows, strict=True), strict=True)
    return pl.DataFrame([_series(name, values, types.get(name)) for name, values in columns])


def frame_of_objects(names: Sequence[str], objects: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Convert JSON objects to columns; nested objects and lists become JSON text."""
    return frame_of(names, [[_flatten(found.get(name)) for name in names] for found in objects], {})


def _flatten(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _series(name: str, values: Sequence[Any], kind: Any) -> pl.Series:
    if kind is not None:
        given = [_text(value) for value in values] if kind == pl.String else values
        return pl.Series(name, given, dtype=kind, strict=False)
    found = {type(value) for value in values} - {type(None)}
    if found <= {bool}:
        return pl.Series(name, values, dtype=pl.Boolean if found else pl.Null)
    if found <= {bytes, bytearray, memoryview}:
        return pl.Series(name, [None if value is None else bytes(value) for value in values], dtype=pl.Binary)
    if found <= {int}:
        kind = pl.Int64 if all(value is None or abs(value) < 2**63 for value in values) else pl.String
    elif found <= {int, float, Decimal}:
        kind = pl.Float64
    if kind == pl.Float64:
        return pl.Series(name, [None if value is None else float(value) for value in values], dtype=kind)
    if kind == pl.Int64:
        return pl.Series(name, values, dtype=kind)
    return pl.Series(name, [_text(value) for value in values], dtype=pl.String)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, bytes | bytearray | memoryview):
        return None
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, Decimal):  # 20.00 is 20, and never 2E+1
        return f"{value.to_integral_value() if value == value.to_integral_value() else value:f}"
    return str(value)
