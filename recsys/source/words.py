"""Words for yes and no: whether an item can be bought, and whether a user may be mailed.

Upper and lower case, blanks, `_` and `-` do not matter: `out_of_stock`, `Out of stock` and schema.org's `OutOfStock`
are one word.
"""

from collections.abc import Mapping

import polars as pl

# The second lines are what spreadsheets write in other languages, and the words of people.
YES = (
    *("1", "\x01", "t", "true", "y", "yes", "on"),
    *("wahr", "vrai", "verdadero", "vero", "verdadeiro", "waar", "ja", "oui", "si", "sí", "sì", "sim"),
)
NO = (
    *("0", "\x00", "f", "false", "n", "no", "off"),
    *("falsch", "faux", "falso", "onwaar", "nein", "non", "nee", "nej", "não"),
)
_BUYABLE = (
    "available",
    "instock",
    "lowstock",
    "limitedavailability",
    "instoreonly",
    "onlineonly",
    "preorder",
    "presale",
    "backorder",
    "backordered",
    "onbackorder",
    "madetoorder",
    "availablefororder",
    "active",
    "enabled",
    "published",
    "publish",
)
_SOLD_OUT = (
    "unavailable",
    "notavailable",
    "outofstock",
    "soldout",
    "sold",
    "temporarilyoutofstock",
    "temporarilyunavailable",
    "notinstock",
    "nostock",
    "comingsoon",
    "pending",
    "unlisted",
    "reserved",
    "discontinued",
    "inactive",
    "disabled",
    "draft",
    "archived",
    "hidden",
    "private",
    "trash",
    "deleted",
)
_SUBSCRIBED = ("subscribed", "optin", "optedin", "confirmed", "granted", "consented", "active")
_NOT_SUBSCRIBED = (
    "unsubscribed",
    "nonsubscribed",
    "notsubscribed",
    "neversubscribed",
    "optout",
    "optedout",
    "pending",
    "unconfirmed",
    "cleaned",
    "bounced",
    "softbounced",
    "hardbounced",
    "complained",
    "transactional",
    "bounce",
    "softbounce",
    "hardbounce",
    "spam",
    "spamcomplaint",
    "blacklisted",
    "blocklisted",
    "donotcontact",
    "donotemail",
    "notset",
    "suppressed",
    "blocked",
    "denied",
    "revoked",
    "withdrawn",
    "invalid",
    "redacted",
    "archived",
    "inactive",
    "deleted",
)
AVAILABLE: dict[str, bool] = dict.fromkeys((*YES, *_BUYABLE), True) | dict.fromkeys((*NO, *_SOLD_OUT), False)
CONSENT: dict[str, bool] = dict.fromkeys((*YES, *_SUBSCRIBED), True) | dict.fromkeys((*NO, *_NOT_SUBSCRIBED), False)


def read_available(values: pl.Series, own: Mapping[str, bool]) -> pl.Series:
    """Convert to Boolean: words, and numbers of pieces in stock; null where neither.

    own: the shop's words, which go first.
    """
    if values.dtype == pl.Boolean:
        return values
    numbers = _numbers(values)
    in_stock = pl.when(numbers.is_finite()).then(numbers > 0)
    return pl.select(pl.coalesce(_look_up(values, AVAILABLE, own), in_stock)).to_series().alias(values.name)


def read_consent(values: pl.Series, own: Mapping[str, bool]) -> pl.Series:
    """Convert to Boolean: words, 1 and 0; null where neither. own: the shop's words, which go first."""
    if values.dtype == pl.Boolean:
        return values
    numbers = _numbers(values)
    one_or_zero = pl.when(numbers.is_in([0.0, 1.0])).then(numbers == 1)
    return pl.select(pl.coalesce(_look_up(values, CONSENT, own), one_or_zero)).to_series().alias(values.name)


def _numbers(values: pl.Series) -> pl.Series:
    return (values.cast(pl.String) if values.dtype == pl.Binary else values).cast(pl.Float64, strict=False)


def _look_up(values: pl.Series, known: Mapping[str, bool], own: Mapping[str, bool]) -> pl.Series:
    words = {**known, **{_plain(pl.Series([word]))[0]: meaning for word, meaning in own.items()}}
    plain = _plain(values.cast(pl.String, strict=False))
    return plain.replace_strict(list(words), list(words.values()), default=None, return_dtype=pl.Boolean)


def _plain(words: pl.Series) -> pl.Series:
    plain = words.str.strip_chars(" \t\r\n").str.to_lowercase().str.replace(r"^(https?://schema\.org/|schema:)", "")
    return plain.str.replace_all(r"([^\W\d])[\s_-]+", "$1")  # the sign of a number stays
