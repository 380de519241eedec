"""Prices as numbers: with a currency before or after them, with a decimal point or a decimal comma."""

from dataclasses import dataclass

import polars as pl

_CURRENCY = r"[A-Z]{3}|[A-Za-z]{0,3}[$€£¥₹₽₺₩₪₫฿₴₦]|kr\.?|zł|Kč|Ft|lei|лв\.?|Fr\.?|RM|Rp\.?"
_PRICE = rf"^(-?)\s*({_CURRENCY})?\s*(-?)(\d[\d.,'’ ]*\d|\d|[.,]\d+)\s*(?:,-|\.-)?\s*({_CURRENCY})?$"
_THREE_DECIMALS = ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND")  # 1.234 in others is more than a thousand
_THOUSANDS = r"^\d{1,3}[.,]\d{3}$"  # 1.234 or 1,234: the column has to tell what the separator is


@dataclass(frozen=True)
class Prices:
    """A column of n prices."""

    numbers: pl.Series  # Float64 [n], null where missing or unreadable
    currencies: pl.Series  # String [n]: the code or sign as written, null where there is none


def read_prices(values: pl.Series) -> Prices:
    """Read numbers, or text as `15.00 USD`, `$13.82`, `13,82` and `1.234,50 €`; `(5.00)` is -5.

    A separator before one or two digits is the decimal one. Whether 1,234 is more than a thousand is what the other
    values of the column say; where none says so, a comma separates thousands and a point decimals.
    """
    numbers = values.cast(pl.Float64, strict=False)
    nothing = pl.repeat(None, len(values), dtype=pl.String, eager=True)
    finite = pl.select(pl.when(numbers.is_finite()).then(numbers)).to_series()
    if values.dtype != pl.String:
        return Prices(finite.alias(values.name), nothing)
    if finite.null_count() == values.null_count() and not values.str.contains(r"^\s*\d{1,3}\.\d{3}\s*$").any():
        return Prices(finite.alias(values.name), nothing)
    text = values.str.replace_all("[\u00a0\u202f]", " ").str.strip_chars()
    text = text.str.replace(r"^\((.*)\)$", "-$1")
    found = text.to_frame("text").select(
        body=pl.col("text").str.extract(_PRICE, 4).str.replace_all(r"['’ ]", ""),
        minus=pl.concat_str(pl.col("text").str.extract(_PRICE, 1), pl.col("text").str.extract(_PRICE, 3)) != "",
        currency=pl.coalesce(pl.col("text").str.extract(_PRICE, 2), pl.col("text").str.extract(_PRICE, 5)),
    )
    body = found["body"]
    size = _with_point(body, _decimal_of(body, found["currency"])).cast(pl.Float64, strict=False)
    signed = pl.select(pl.when(found["minus"]).then(-size).otherwise(size)).to_series()
    read = pl.select(pl.coalesce(signed, pl.when(body.is_null()).then(finite))).to_series()
    return Prices(read.alias(values.name), found["currency"])


def _decimal_of(body: pl.Series, currencies: pl.Series) -> str | None:
    """The decimal separator that the column uses: "" none, None both, so one before three digits is unclear."""
    comma = bool(body.str.contains(_decimal(",", r"\.")).any())
    point = bool(body.str.contains(_decimal(r"\.", ",")).any())
    if comma and point:
        return None
    if not (comma or point) and currencies.null_count() < len(currencies):
        return "." if currencies.is_in(_THREE_DECIMALS).any() else ""
    return "," if comma else "."


def _decimal(separator: str, other: str) -> str:
    """A pattern of numbers of which `separator` can only be the decimal one, and `other` the one of thousands."""
    forms = (rf"{separator}\d{{1,2}}$", rf"{separator}\d{{4,}}$", rf"^0?{separator}\d+$")
    return "|".join((*forms, rf"{other}\d{{3}}{separator}\d+$", rf"\d{other}\d{{3}}{other}\d{{3}}"))


def _with_point(body: pl.Series, decimal: str | None) -> pl.Series:
    """Write each number with a decimal point and nothing between thousands."""
    english = body.str.replace_all(",", "", literal=True)
    continental = body.str.replace_all(".", "", literal=True).str.replace_all(",", ".", literal=True)
    comma_last = body.str.contains(_decimal(",", r"\."))
    point_last = body.str.contains(_decimal(r"\.", ","))
    whole = body.str.replace_all("[.,]", "")
    unclear = body.set(body.str.contains(_THOUSANDS), None)
    by_column = {",": continental, ".": english, "": whole, None: unclear}[decimal]
    return pl.select(
        pl.when(comma_last).then(continental).when(point_last).then(english).otherwise(by_column)
    ).to_series()
