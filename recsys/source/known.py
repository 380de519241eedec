"""The known columns of items and users in their types, and what of them could not be read."""

import json
from dataclasses import dataclass

import polars as pl

from recsys.config.settings import SourceSettings
from recsys.data.nobody import NO_ID
from recsys.source.findings import EXAMPLES, Finding, Severity
from recsys.source.languages import choose_language
from recsys.source.prices import read_prices
from recsys.source.times import TimeReader
from recsys.source.values import read_lists, read_texts
from recsys.source.words import read_available, read_consent
from recsys.store.tables import UNREADABLE

TEXTS = ("title", "category", "brand", "image_url")
KNOWN = (*TEXTS, "price", "available", "created_at")

_UNKNOWN = "the value counts as unknown"
_DAY = 86_400_000_000
_SEPARATORS = {"category": " > "}
_ADVICE = {
    "available": f"{_UNKNOWN}, and the item as available; [source] available_words takes the shop's words",
    "email_consent": "it counts as no consent; [source] consent_words takes the shop's words",
}


@dataclass(frozen=True)
class Column:
    """A column of n values in its type."""

    values: pl.Series
    given: pl.Series  # as it came; null where there is no value
    unread: pl.Series  # Boolean [n]: there is a value, but it cannot be read
    advice: str = _UNKNOWN
    below_zero: pl.Series | None = None  # Boolean [n]: prices that are none
    currencies: pl.Series | None = None  # String [n], named `currency`; None: no price has one

    def findings(self, name: str, rows: int, limit: float) -> list[Finding]:
        """Tell what could not be read. limit: the share of prices below 0 that is allowed."""
        found, column = [], self.values.name
        is_below = self.unread & False if self.below_zero is None else self.below_zero
        below, lost = self.given.filter(is_below), self.given.filter(self.unread & ~is_below)
        if len(lost):
            nothing_read = column in (*KNOWN, "email_consent") and self.unread.sum() == self.given.count()
            severity: Severity = "error" if nothing_read else "warning"
            found.append(_finding(severity, f"{column} of {name} cannot be read", lost, rows, self.advice))
        if len(below):
            severity = "error" if len(below) > limit * rows else "warning"
            found.append(_finding(severity, f"{column} of {name} is below 0", below, rows, _UNKNOWN))
        currencies = [] if self.currencies is None else self.currencies.drop_nulls().unique().sort().to_list()
        if len(currencies) > 1:
            advice = f"prices are compared as numbers; found {', '.join(currencies)}"
            found.append(Finding("warning", f"{column} of {name} in several currencies", rows, rows, (), advice))
        return found


def convert(given: pl.Series, settings: SourceSettings, *, own: bool) -> Column:
    """Convert a column by its name; a column that is not known stays as it is, or becomes text.

    own: the values were stored by this service, so times are microseconds UTC.
    """
    name = given.name
    if name in ("price", "available", "email_consent", "created_at"):
        given = _without_words_for_nothing(given)
    if name == "price":
        return _convert_price(given)
    if name == "available":
        return _column(given, read_available(given, settings.available_words), _ADVICE[name])
    if name == "email_consent":
        read = _column(given, read_consent(given, settings.consent_words), _ADVICE[name])
        return Column(read.values.set(read.unread, False), given, read.unread, read.advice)
    if name == "created_at":
        return _convert_time(given, settings, own)
    if name in TEXTS:
        return _convert_text(given, settings)
    keeps = given.dtype.is_numeric() or given.dtype == pl.Boolean or _is_plain_list(given.dtype)
    return _column(given, given if keeps else read_lists(read_texts(given)))


def marked(rows: pl.DataFrame, name: str) -> list[Finding]:
    """Tell again what an import could not read. rows: of the own tables, with the attribute UNREADABLE."""
    if UNREADABLE not in rows.columns:
        return []
    lost: dict[str, list[str]] = {}
    for text in rows[UNREADABLE].drop_nulls().to_list():
        for column, value in json.loads(text).items():
            lost.setdefault(column, []).append(value)
    advice = "told by the import; the value before it, if there was one, still counts"
    return [
        _finding(
            "warning",
            f"{column} of {name} cannot be read",
            pl.Series(column, values),
            rows.height,
            _ADVICE.get(column, advice),
        )
        for column, values in lost.items()
    ]


def _is_plain_list(kind: pl.DataType) -> bool:
    return isinstance(kind, pl.List) and not kind.inner.is_nested()


def _finding(severity: Severity, reason: str, lost: pl.Series, of: int, advice: str) -> Finding:
    examples = tuple(f"{lost.name}={value!r}" for value in lost.head(EXAMPLES).to_list())
    return Finding(severity, reason, len(lost), of, examples, advice)


def _column(given: pl.Series, values: pl.Series, advice: str = _UNKNOWN) -> Column:
    return Column(values.alias(given.name), given, given.is_not_null() & values.is_null(), advice)


def _without_words_for_nothing(given: pl.Series) -> pl.Series:
    if given.dtype.is_float():
        return given.set(given.is_nan(), None)
    if given.dtype != pl.String:
        return given
    return given.set(given.str.strip_chars().is_in(NO_ID), None)


def _convert_price(given: pl.Series) -> Column:
    read = read_prices(given)
    below = (read.numbers < 0).fill_null(False)
    prices = read.numbers.set(below, None)
    has_currency = read.currencies.null_count() < len(given)
    return Column(
        prices,
        given,
        given.is_not_null() & prices.is_null(),
        below_zero=below if below.any() else None,
        currencies=read.currencies.alias("currency") if has_currency else None,
    )


def _convert_time(given: pl.Series, settings: SourceSettings, own: bool) -> Column:
    forms = (settings.time_format, None) if settings.time_format and not own else (None,)
    readers = [TimeReader(settings.timezone, form, "microseconds" if own else None) for form in forms]
    read = pl.select(pl.coalesce([reader.read(given).microseconds for reader in readers])).to_series()
    doubt = next((reader.doubt for reader in readers if reader.doubt), None)
    latest = read.abs().max()
    if doubt and isinstance(latest, int) and latest < _DAY:  # a record of 1970 may well be from that year
        return _column(given, pl.repeat(None, len(given), dtype=pl.Int64, eager=True), f"{_UNKNOWN}: {doubt}")
    return _column(given, read)


def _convert_text(given: pl.Series, settings: SourceSettings) -> Column:
    texts = read_texts(given)
    read = choose_language(texts, settings.language, _SEPARATORS.get(given.name, ", "))
    advice = f"in the languages {', '.join(read.languages)}; [source] language chooses one" if read.languages else ""
    return _column(given, read.texts, advice or _UNKNOWN)
