"""Ids as text: a whole number is its decimals, whatever type carries it."""

import polars as pl

from recsys.data.nobody import NO_ID
from recsys.errors import SourceError
from recsys.source.contract import EXACT, bytes_error, float_error

# Numbers as spreadsheets show them (1.23457E+15) and as programs write floats (1.2345678901234567e+16, 1.2345678E7).
_ROUNDED = r"^-?\d(\.\d+)?E\+\d{2,3}$|^-?\d\.\d{3,}[eE]\+?\d{1,3}$"

_EXACT_SHORT = 2**24  # of a float of 32 bits


def read_ids(values: pl.Series, origin: str, *, exact: bool = False) -> pl.Series:
    """Convert a column of ids to text; null where there is no id.

    exact: text is taken as it stands; else `17850.0`, which a column of floats left in a file, is 17850.
    Raises SourceError, which calls the column's origin `origin`, for bytes and for floats that do not hold an id.
    """
    if values.dtype == pl.Binary:
        raise bytes_error(values.name, origin)
    if values.dtype.is_float():
        return _read_floats(values, origin)
    texts = values.cast(pl.String, strict=False)
    if not (exact or values.dtype.is_integer()) and _has_zero_decimals(texts):
        texts = texts.str.replace(r"^(-?\d+)\.0+$", "$1")
    missing = texts.is_in(NO_ID)
    return texts.set(missing, None) if missing.any() else texts


def refuse_rounded(ids: pl.Series, origin: str) -> None:
    """Raise SourceError when ids of a text file are numbers that lost their last digits before they were written."""
    rounded = ids.filter(ids.str.contains(_ROUNDED).fill_null(False)) if ids.dtype == pl.String else ids.clear()
    if len(rounded):
        raise SourceError(
            f"{ids.name} of {origin} holds {rounded[0]!r} (in all {len(rounded):,} such), which a spreadsheet or a "
            "program has rounded, so that different ids are the same; export the column as text"
        )


def _has_zero_decimals(texts: pl.Series) -> bool:
    # Looking at the last letter first takes a fifth of the time.
    return bool(texts.filter(texts.str.ends_with("0")).str.contains(".0", literal=True).any())


def _read_floats(values: pl.Series, origin: str) -> pl.Series:
    values = values.set(~values.is_finite(), None)
    limit = _EXACT_SHORT if values.dtype == pl.Float32 else EXACT
    largest = values.abs().max()
    if isinstance(largest, float) and largest > limit:
        raise float_error(values.name, origin, largest)
    is_whole = values == values.floor()
    texts = (
        pl.when(is_whole).then(values.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(values.cast(pl.String))
    )
    return pl.select(texts).to_series().alias(values.name)
