"""Times of any form as microseconds UTC.

What the numbers of a column count is decided once for the whole column, by the first of them: a single value cannot
tell seconds of 2015 from a date of the year 1433.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl

from recsys.errors import ConfigError

Unit = Literal["seconds", "milliseconds", "microseconds", "nanoseconds", "dates"]

_NAIVE = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_WHOLE_SECONDS = "%Y-%m-%d %H:%M:%S"  # is read in a quarter of the time that a form with fractions takes
_SAMPLE = 100  # rows of a batch that are looked at for fractions
_ZONED = ("%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%d %H:%M%:z", "%a, %d %b %Y %H:%M:%S%:z")
_DAYS = (  # as spreadsheets and programs write them; the column decides which
    *("%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y"),
    *("%d-%B-%Y", "%d-%B-%y", "%d %B %Y", "%B %d %Y"),  # other years of two digits could as well be days
)
_FIRST_YEAR = datetime(1000, 1, 1)
_CLOCKS = (" %H:%M:%S", " %H:%M", "", " %I:%M:%S %p", " %I:%M %p")
_NUMBER = r"^[+-]?\d+(\.\d*)?(e[+-]?\d+|E-?\d+)?$"  # not 1.70514E+12: a spreadsheet has rounded it
_SPELLINGS = (  # other spellings of ISO 8601 and of the form of mail
    (r"^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)", "${1}-${2}-${3} ${4}:${5}:${6}"),  # without signs
    (r"(:\d\d),(\d{1,9})", "${1}.${2}"),  # a comma before the fraction
    (r"([+-]\d\d:?\d\d|Z)\[[^\]]+\]$", "${1}"),  # Java's name of the zone
    (  # JavaScript
        r"^([A-Z][a-z]{2}) ([A-Z][a-z]{2}) (\d\d) (\d{4}) (\S+) GMT([+-]\d{4}).*$",
        "${1}, ${3} ${2} ${4} ${5} ${6}",
    ),
)
_WORDS = ((r"^[A-Z][a-z]+, ", ""), (r"([A-Za-z]{3})\.", "${1}"), (r"(\d),? (\d{4}\b),?", "${1} ${2}"))  # around days
_HOUR = 3_600_000_000
_YEAR = 31_536_000  # seconds
_UNTIL = 4.1e9  # seconds from 1970 to 2099: the least unit that puts most numbers before that is the column's
_FACTORS: dict[Unit, float] = {"seconds": 1, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
_MOST = 0.9  # of a column's numbers have to look like dates for the others to be read as such
_LOOKS = (  # lowest, highest, what numbers look like whose seconds all lie in 1970
    (1_900, 2_100, "years"),
    (1, 9_999, "numbers of days or of rows, counted from a start of their own"),
    (10_000, 29_999, "days since 1970"),
    (30_000, 69_999, "serial dates of a spreadsheet, as Excel's 45292 for 2024-01-01"),
    (190_001, 210_012, "months as YYYYMM"),
    (210_013, 689_999, "hours since 1970"),
    (690_000, 799_999, "days since the year 0"),
    (2_400_000, 2_499_999, "Julian days"),
    (10_000_000, 31_535_999, "minutes since 1970"),
    (1.9e16, 2.2e16, "times as YYYYMMDDhhmmss with a fraction"),
)


@dataclass(frozen=True)
class Times:
    """A column of n times."""

    microseconds: pl.Series  # Int64 [n], UTC; null where missing or unreadable
    naive: pl.Series  # Boolean [n]: a date or a clock time without a zone


@dataclass
class TimeReader:
    """Reads one column of times, batch by batch: numbers since 1970, dates, timestamps, ISO 8601 text.

    Text may also have the days of spreadsheets, and the form of mail. Whether 01/02 is a day of January or February is
    decided by the other days of the first batch; where they leave it open, such text is unreadable.

    zone: of times that have none (None: UTC). form: of text that is not ISO 8601 (strptime). unit: what numbers count;
    None: the first batch that has numbers decides, 20200101 and 20200101120000 being dates if most numbers are.
    strict: a number of 1970 in a column of later ones is unreadable, because its unit is another one.
    """

    zone: str | None = None
    form: str | None = None
    unit: Unit | None = None
    strict: bool = False
    day: str | None = None  # the one of _DAYS that the column has
    doubt: str | None = None  # what the numbers look like, where they can hardly count time since 1970

    def read(self, values: pl.Series) -> Times:
        """Read the next rows of the column. Raises ConfigError when the zone is unknown."""
        kind = values.dtype
        if isinstance(kind, pl.Datetime):
            moments = values.cast(pl.Datetime("us", kind.time_zone))
            if kind.time_zone is not None:
                return Times(_microseconds(moments), _nowhere(values))
            return Times(_localize(moments, self.zone), values.is_not_null())
        if kind == pl.Date:
            return Times(_localize(values.cast(pl.Datetime("us"), strict=False), self.zone), values.is_not_null())
        if kind.is_numeric():
            return self._read_numbers(values, len(values) - values.null_count())
        text = values.cast(pl.String)
        return self._read_text(text) if self.form is None else _read_form(text, self.zone, self.form)

    def _read_numbers(self, values: pl.Series, of: int) -> Times:
        """of: how many values the batch has, with those that are no numbers."""
        if isinstance(values.dtype, pl.Decimal):
            values = values.cast(pl.Float64)
        if self.unit is None:
            self._decide(values, of)
        if self.unit == "dates":
            return _read_dates(values, self.zone)
        us = _scale(values, self.unit or "seconds")
        if self.strict and self.doubt is None:
            us = us.set(us.is_between(0, _YEAR * 1_000_000 - 1), None)
        return Times(us, _nowhere(values))

    def _decide(self, values: pl.Series, of: int) -> None:
        sizes = values.cast(pl.Float64, strict=False).abs()
        sizes = sizes.filter(sizes.is_between(0, 2**63, closed="none"))
        middle = sizes.median()
        if not isinstance(middle, float):
            return
        if _share(_looks_like_date(sizes)) >= _MOST:
            self.unit = "dates"
            return
        unit: Unit = next((unit for unit, factor in _FACTORS.items() if middle < _UNTIL * factor), "nanoseconds")
        if 2 * len(sizes) > of:
            self.doubt = _doubt(sizes, middle, middle / _FACTORS[unit])
        self.unit = unit

    def _read_text(self, text: pl.Series) -> Times:
        usual = _NAIVE[0] if text.head(_SAMPLE).str.contains(".", literal=True).any() else _WHOLE_SECONDS
        us = _localize(text.str.to_datetime(usual, time_unit="us", strict=False), self.zone)
        naive = us.is_not_null()
        rest = (us.is_null() & text.is_not_null()).arg_true()
        if len(rest) == 0:
            return Times(us, naive)
        # A form other than the usual one; only those rows are read again.
        others = text.gather(rest).str.strip_chars()
        is_number = others.str.contains(_NUMBER)
        for rows, read in ((is_number, self._read_digits), (~is_number, self._read_rare)):
            at = rows.arg_true()
            if len(at):
                found = read(others.gather(at), len(text) - text.null_count())
                us = us.scatter(rest.gather(at), found.microseconds)
                naive = naive.scatter(rest.gather(at), found.naive)
        return Times(us, naive)

    def _read_digits(self, text: pl.Series, of: int) -> Times:
        whole = text.cast(pl.Int64, strict=False)
        return self._read_numbers(whole if whole.null_count() == 0 else text.cast(pl.Float64, strict=False), of)

    def _read_rare(self, text: pl.Series, _of: int) -> Times:
        naive, zoned = _read_iso(text)
        rest = text.set(naive.is_not_null() | zoned.is_not_null(), None)
        if rest.null_count() < len(rest):
            found = _read_iso(_respell(rest, _SPELLINGS))
            naive = pl.select(pl.coalesce(naive, found[0])).to_series()
            zoned = pl.select(pl.coalesce(zoned, found[1])).to_series()
            rest = rest.set(naive.is_not_null() | zoned.is_not_null(), None)
        if rest.null_count() < len(rest):
            naive = pl.select(pl.coalesce(naive, self._read_days(_respell(rest, _WORDS)))).to_series()
        return Times(pl.select(pl.coalesce(_localize(naive, self.zone), zoned)).to_series(), naive.is_not_null())

    def _read_days(self, text: pl.Series) -> pl.Series:
        """Clock times whose days are as spreadsheets write them; null where their order is open."""
        if self.day is None:
            read = {day: int(_with_days(text, day).is_not_null().sum()) for day in _DAYS}
            most = max(read.values())
            best = [day for day, count in read.items() if count == most >= _MOST * (len(text) - text.null_count())]
            self.day = best[0] if len(best) == 1 else None
        return _with_days(text, self.day) if self.day else _first(text, (), None)


def _with_days(text: pl.Series, day: str) -> pl.Series:
    found = _first(text, tuple(day + clock for clock in _CLOCKS), None)
    return found.set((found < _FIRST_YEAR).fill_null(False), None)  # %Y takes the 24 of 13.01.24 for a year


def _respell(text: pl.Series, spellings: Sequence[tuple[str, str]]) -> pl.Series:
    for form, other in spellings:
        text = text.str.replace(form, other)
    return text


def _read_iso(text: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Read ISO 8601 and the form of mail: clock times without a zone, and microseconds UTC of those with one."""
    plain = text.str.replace(r"(\d)T(\d)", "${1} ${2}")
    naive = _first(plain, _NAIVE, None)
    rest = plain.set(naive.is_not_null(), None)
    offset = rest.str.replace(r"\s?(Z|z|UTC|GMT)$", "+00:00").str.replace(r"\s?([+-]\d\d):?(\d\d)$", "${1}:$2")
    offset = offset.str.replace(r"(:\d\d(?:\.\d+)?)\s?([+-]\d\d)$", "${1}${2}:00")
    return naive, _microseconds(_first(offset, _ZONED, "UTC"))


def read_times(values: pl.Series, zone: str | None, form: str | None = None) -> Times:
    """Read a whole column of times, as `TimeReader` does."""
    return TimeReader(zone, form).read(values)


def _scale(values: pl.Series, unit: Unit) -> pl.Series:
    """Convert numbers since 1970 to microseconds (Int64); null where they do not fit."""
    size = values.cast(pl.Float64, strict=False).abs()
    exact = values.cast(pl.Int64 if values.dtype.is_integer() else pl.Float64, strict=False)
    factor = 1_000_000 // round(_FACTORS[unit]) if unit != "nanoseconds" else 1
    scaled = exact // 1_000 if unit == "nanoseconds" else exact * factor
    return pl.select(pl.when(size < 9e18 / factor).then(scaled)).to_series().cast(pl.Int64, strict=False)


def _looks_like_date(numbers: pl.Series) -> pl.Series:
    """Whether each number (Float64) is YYYYMMDD or YYYYMMDDhhmmss of the years 1900 to 2100."""
    return numbers.is_between(19_000_101, 21_001_231) | numbers.is_between(19_000_101_000_000, 21_001_231_235_959)


def _doubt(sizes: pl.Series, middle: float, seconds: float) -> str | None:
    """Name what numbers look like that can hardly count time; None: they can. middle: their median, as seconds too."""
    if seconds < _YEAR:
        names = [name for lowest, highest, name in _LOOKS if lowest <= middle <= highest]
        return f"numbers around {middle:g}, which look like {names[0] if names else 'no time since 1970'}"
    minutes = sizes.filter(sizes.is_between(190_001_010_000, 210_012_312_359)).cast(pl.Int64)
    is_clock = (minutes // 1_000_000 % 100).is_between(1, 12) & (minutes // 10_000 % 100).is_between(1, 31)
    is_clock &= (minutes // 100 % 100 < 24) & (minutes % 100 < 60)
    if int(is_clock.sum()) >= _MOST * len(sizes):
        return f"numbers around {middle:.0f}, which look like times as YYYYMMDDhhmm"
    return None


def _share(rows: pl.Series) -> float:
    return int(rows.sum()) / len(rows)


def _nowhere(values: pl.Series) -> pl.Series:
    return pl.repeat(False, len(values), dtype=pl.Boolean, eager=True)


def _read_dates(values: pl.Series, zone: str | None) -> Times:
    whole = values.cast(pl.Int64, strict=False)
    digits = whole.set(~_looks_like_date(whole.cast(pl.Float64)).fill_null(False), None).cast(pl.String)
    length = digits.str.len_bytes()
    days = digits.set(length != 8, None).str.to_datetime("%Y%m%d", time_unit="us", strict=False)
    clocks = digits.set(length != 14, None).str.to_datetime("%Y%m%d%H%M%S", time_unit="us", strict=False)
    found = pl.select(pl.coalesce(days, clocks)).to_series()
    return Times(_localize(found, zone), found.is_not_null())


def _read_form(text: pl.Series, zone: str | None, form: str) -> Times:
    moments = text.str.strip_chars().str.to_datetime(form, time_unit="us", strict=False)
    if moments.dtype == pl.Datetime("us", "UTC"):  # the form has a zone
        return Times(_microseconds(moments), _nowhere(text))
    return Times(_localize(moments, zone), moments.is_not_null())


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
