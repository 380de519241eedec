"""Words, prices and translated texts of the systems that people use."""

import polars as pl
import pytest

from recsys.source.languages import choose_language
from recsys.source.prices import read_prices
from recsys.source.words import read_available, read_consent


def prices(*values: object) -> list[float | None]:
    return read_prices(pl.Series("price", values, strict=False)).numbers.to_list()


@pytest.mark.parametrize(
    "word",
    [
        *["in_stock", "In stock", "instock", "IN-STOCK", "https://schema.org/InStock", "preorder", "Pre-Order"],
        *["backorder", "onbackorder", "available for order", "LimitedAvailability", "publish"],
        *["schema:InStock", "WAHR", "ja"],
        *[" true ", "1", "1.0", "7", "12.5"],
    ],
)
def test_words_for_what_can_be_bought(word: str) -> None:
    assert read_available(pl.Series([word, None]), {}).to_list() == [True, None]


@pytest.mark.parametrize(
    "word",
    [
        *["out_of_stock", "Out of stock", "outofstock", "http://schema.org/OutOfStock", "SoldOut", "discontinued"],
        *["temporarily out of stock", "sold", "coming soon", "unlisted", "FALSCH", "nein"],
        *["draft", "0", "0.0", "-3", "-1", "no", "Off"],
    ],
)
def test_words_for_what_cannot_be_bought(word: str) -> None:
    assert read_available(pl.Series([word, None]), {}).to_list() == [False, None]


def test_pieces_in_stock_below_zero_are_none() -> None:
    assert read_available(pl.Series([3, 0, -2, None]), {}).to_list() == [True, False, False, None]
    assert read_available(pl.Series([b"\x01", b"\x00"]), {}).to_list() == [True, False]


@pytest.mark.parametrize("word", ["subscribed", "SUBSCRIBED", "opt-in", "yes", "1", "1.0", "true", "\x01"])
def test_words_for_consent(word: str) -> None:
    assert read_consent(pl.Series([word, None]), {}).to_list() == [True, None]


@pytest.mark.parametrize(
    "word",
    [
        *["unsubscribed", "NOT_SUBSCRIBED", "nonsubscribed", "never subscribed", "cleaned", "bounced", "pending"],
        *["Soft bounce", "blocklisted", "do not contact", "spam complaint", "notSet", "FAUX"],
        *["transactional", "archived", "INVALID", "REDACTED", "opted-out", "0", "f", "\x00"],
    ],
)
def test_words_for_no_consent(word: str) -> None:
    assert read_consent(pl.Series([word, None]), {}).to_list() == [False, None]


@pytest.mark.parametrize("value", ["2", "3", "-1", "sometimes", "2026-05-01", "a@b.example"])
def test_what_is_no_word_for_consent(value: str) -> None:
    assert read_consent(pl.Series([value]), {}).to_list() == [None]


def test_numbers_other_than_one_are_no_consent() -> None:
    """Magento's 3 means unsubscribed."""
    assert read_consent(pl.Series([1, 0, 2, 3, None]), {}).to_list() == [True, False, None, None, None]


def test_the_words_of_the_shop_go_before_the_known_ones() -> None:
    words = {"Lieferbar": True, "nicht mehr lieferbar": False, "preorder": False, "3": False, "4": True}
    given = pl.Series(["lieferbar", "Nicht mehr lieferbar", "Preorder", "in stock", "vielleicht"])
    assert read_available(given, words).to_list() == [True, False, False, True, None]
    assert read_consent(pl.Series([3, 4, 1]), words).to_list() == [False, True, True]


@pytest.mark.parametrize(
    ("given", "number", "currency"),
    [
        ("15.00 USD", 15.0, "USD"),
        ("USD15", 15.0, "USD"),
        ("13,82", 13.82, None),
        ("$13.82", 13.82, "$"),
        ("1.234,50 €", 1234.5, "€"),
        ("€ 1.234,50", 1234.5, "€"),
        ("1,234.50 USD", 1234.5, "USD"),
        ("1\u202f234,56\u00a0€", 1234.56, "€"),
        ("CHF 1'234.50", 1234.5, "CHF"),
        ("1,234,567", 1234567.0, None),
        ("1.234.567 kr", 1234567.0, "kr"),
        ("5,- €", 5.0, "€"),
        ("R$ 5,00", 5.0, "R$"),
        ("0,999", 0.999, None),
        (".5", 0.5, None),
        ("1e3", 1000.0, None),
        ("-$5.00", -5.0, "$"),
        ("($5.00)", -5.0, "$"),
        ("$-5.00", -5.0, "$"),
    ],
)
def test_a_price_of_any_form(given: str, number: float, currency: str | None) -> None:
    found = read_prices(pl.Series([given]))
    assert (found.numbers.to_list(), found.currencies.to_list()) == ([number], [currency])


@pytest.mark.parametrize("given", ["free", "10 EUR/kg", "12.5 - 15.0", "from 5", "12.5.1", "inf", "EUR", "1,23,4"])
def test_what_is_no_price(given: str) -> None:
    assert prices(given, "1.5") == [None, 1.5]


def test_what_a_point_before_three_digits_means_is_said_by_the_others() -> None:
    assert prices("1.234", "13,82") == [1234.0, 13.82]
    assert prices("1,234", "13.82") == [1234.0, 13.82]
    assert prices("1,234", "13,8") == [1.234, 13.8]
    assert prices("1.234", "5") == [1.234, 5.0]
    assert prices("1,234", "5") == [1234.0, 5.0]
    assert prices("1.234", "13,82", "13.82") == [None, 13.82, 13.82]  # both kinds: nobody can tell


def test_a_separator_before_three_digits_of_money_is_one_of_thousands() -> None:
    assert prices("1.234 €", "13.456 €", "5 €") == [1234.0, 13456.0, 5.0]
    assert prices("$1,234", "$13,456") == [1234.0, 13456.0]
    assert prices("1.234 KWD", "0.500 KWD") == [1.234, 0.5]


def test_numbers_stay_numbers() -> None:
    assert prices(12.5, None, float("nan"), float("inf")) == [12.5, None, None, None]
    assert prices(3, -1) == [3.0, -1.0]
    assert prices("12.50", "1234.5", None) == [12.5, 1234.5, None]


GERMAN = '{"en_US": "Lamp", "de_DE": "Leuchte"}'


@pytest.mark.parametrize(
    ("language", "text"),
    [("de_DE", "Leuchte"), ("de-de", "Leuchte"), ("de", "Leuchte"), ("en_GB", None), ("en", "Lamp")],
)
def test_the_text_of_a_language(language: str, text: str | None) -> None:
    read = choose_language(pl.Series([GERMAN, "plain", None]), language, ", ")
    assert read.texts.to_list() == [text, "plain", None]
    assert (read.languages == ()) == (text is not None)


def test_several_languages_without_a_choice_are_told() -> None:
    read = choose_language(pl.Series([GERMAN, '{"fr": "Lampe"}', '{"de_DE": "Uhr", "fr": ""}']), None, ", ")
    assert (read.texts.to_list(), read.languages) == ([None, "Lampe", "Uhr"], ("en_US", "de_DE"))


def test_a_short_name_and_its_longer_ones_mean_each_other() -> None:
    texts = ['{"de": "kurz"}', '{"de_AT": "lang"}', '{"de": "kurz", "de_AT": "lang"}']
    assert choose_language(pl.Series(texts), "de-AT", ", ").texts.to_list() == ["kurz", "lang", "lang"]


def test_lists_become_their_texts_and_other_json_is_no_text() -> None:
    texts = ['["Garden", "Tools"]', "[]", '{"a": {"b": 1}}', "{curly", "[sic]", '{"a" is no JSON']
    read = choose_language(pl.Series(texts), "de", " > ")
    assert read.texts.to_list() == ["Garden > Tools", None, None, "{curly", "[sic]", '{"a" is no JSON']
