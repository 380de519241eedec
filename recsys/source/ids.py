"""Ids as text: a whole number is its decimals, whatever type carries it."""

import polars as pl

from recsys.source.contract import EXACT, bytes_error, float_error

# What exports write where there is no id. Case matters: `none` may be somebody's name.
NO_ID = ("", "NULL", "null", "(null)", "\\N", "NaN", "nan", "<NA>", "None", "undefined")

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
