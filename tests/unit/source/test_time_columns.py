"""Times of every form become microseconds, and what the numbers of a column count is decided once."""

from datetime import date, datetime
from decimal import Decimal

import polars as pl
import pytest

from recsys.data.times import rfc3339
from recsys.errors import ConfigError
from recsys.source.findings import OFFSET
from recsys.source.times import TimeReader, read_times

NOON = 1_577_880_000_000_000  # 2020-01-01 12:00 UTC, microseconds
HOUR = 3_600_000_000


def times(values: list[object], zone: str | None = None) -> list[int | None]:
    return read_times(pl.Series(values), zone).microseconds.to_list()


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000, 1_000_000_000])
@pytest.mark.parametrize("form", [int, float, str])
def test_the_unit_of_a_number_follows_from_its_size(unit: int, form: type) -> None:
    assert times([form(1_577_880_000 * unit)]) == [NOON]


@pytest.mark.parametrize(
    "text",
    [
        "2020-01-01 12:00:00",
        "2020-01-01T12:00:00",
        "2020-01-01 12:00",
        "2020-01-01T12:00",
        "2020-01-01 12:00:00.000",
        "2020-01-01T12:00:00.000000",
        " 2020-01-01 12:00:00 ",
        "2020-01-01T12:00:00Z",
        "2020-01-01 12:00:00 UTC",
        "2020-01-01T13:00:00+01:00",
        "2020-01-01T13:00:00+0100",
        "2020-01-01 13:00:00+01",
        "2020-01-01T04:00:00.0-08:00",
    ],
)
def test_every_iso_form_is_the_same_moment(text: str) -> None:
    assert times([text, "2020-01-01 12:00:00", None]) == [NOON, NOON, None]


def test_a_date_is_its_midnight() -> None:
    midnight = NOON - 12 * HOUR
    assert times(["2020-01-01", "20200101"]) == [midnight, midnight]
    assert times([date(2020, 1, 1)]) == [midnight]


@pytest.mark.parametrize("form", [int, float, str])
def test_a_date_written_as_a_number_is_that_date(form: type) -> None:
    midnight = NOON - 12 * HOUR
    assert times([form(20200101)]) == [midnight]
    assert times([form(20200101120000)]) == [NOON]
    assert times([form(20200101120000)], "Europe/Berlin") == [NOON - HOUR]
    assert read_times(pl.Series([form(20200101)]), None).naive.to_list() == [True]
    assert times([form(20201301), form(20200101250000)]) == [None, None]  # of no month and of no hour: no time
    assert times([form(18991231), form(21010101)]) == [18991231 * 1_000_000, 21010101 * 1_000_000]


def test_text_of_the_configured_form_is_read_by_that_form_alone() -> None:
    given = pl.Series(["1/12/2020 8:26", "12/1/2020 08:26", "2020-01-12 08:26:00", "13/1/2020 8:26", None])
    found = read_times(given, None, "%m/%d/%Y %H:%M")
    twelfth = NOON + 11 * 24 * HOUR - 3 * HOUR - 34 * HOUR // 60
    assert found.microseconds.to_list() == [twelfth, twelfth + 324 * 24 * HOUR, None, None, None]
    assert found.naive.to_list() == [True, True, False, False, False]
    berlin = read_times(given, "Europe/Berlin", "%m/%d/%Y %H:%M")
    assert berlin.microseconds[0] == twelfth - HOUR
    zoned = read_times(pl.Series(["12.01.2020 10:26 +0200"]), "Asia/Tokyo", "%d.%m.%Y %H:%M %z")
    assert (zoned.microseconds.to_list(), zoned.naive.to_list()) == ([twelfth], [False])
    assert read_times(pl.Series([1_577_880_000]), None, "%d.%m.%Y").microseconds.to_list() == [NOON]
    assert read_times(pl.Series(["x"]), None, "%Q nonsense").microseconds.to_list() == [None]


def test_microseconds_survive() -> None:
    assert times(["2020-01-01 12:00:00.123456"]) == [NOON + 123_456]
    assert times([datetime(2020, 1, 1, 12, 0, 0, 123_456)]) == [NOON + 123_456]
    assert times([NOON + 123_457]) == [NOON + 123_457]


@pytest.mark.parametrize("text", ["", "soon", "2020-13-01", "2020-02-30 10:00:00", "12:00", "01/02/2020"])
def test_what_is_no_time_is_null(text: str) -> None:
    assert times([text, "2020-01-01 12:00:00"]) == [None, NOON]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e300])
def test_a_number_that_is_no_time_is_null(number: float) -> None:
    assert times([number, 1_577_880_000.0]) == [None, NOON]


def test_only_times_without_a_zone_are_taken_in_the_zone() -> None:
    found = read_times(pl.Series(["2020-07-01 12:00:00", "2020-07-01T12:00:00Z", "1593604800", None]), "Europe/Berlin")
    noon = 1_593_604_800_000_000  # 2020-07-01 12:00 UTC
    assert found.microseconds.to_list() == [noon - 2 * HOUR, noon, noon, None]
    assert found.naive.to_list() == [True, False, False, False]


def test_clock_changes_lose_no_event() -> None:
    skipped, twice = times(["2020-03-29 02:30:00", "2020-10-25 02:30:00"], "Europe/Berlin")
    assert rfc3339(skipped, utc=OFFSET) == "2020-03-29T01:30:00+00:00"
    assert rfc3339(twice, utc=OFFSET) == "2020-10-25T00:30:00+00:00"


def test_an_unknown_zone_is_named() -> None:
    with pytest.raises(ConfigError, match="Europe/Berln"):
        times(["2020-01-01"], "Europe/Berln")


@pytest.mark.parametrize("form", [int, float, str, Decimal])
@pytest.mark.parametrize("unit", [1_000, 1_000_000, 1_000_000_000])
def test_the_unit_of_a_column_holds_for_the_small_numbers_too(form: type, unit: int) -> None:
    """In milliseconds 1972 and 2020 have sizes that, each alone, mean seconds and milliseconds."""
    seconds = [1_577_880_000, 86_400_000, -300_000_000, 1_200_000_000]
    assert times([form(value * unit) for value in seconds]) == [value * 1_000_000 for value in seconds]


def test_milliseconds_whose_digits_could_be_a_date_of_the_middle_ages_are_milliseconds() -> None:
    digits = ["1433022604031", "1433221332117", "1442004589439"]
    assert times(digits) == [int(value) * 1_000 for value in digits]


def test_later_batches_have_the_unit_of_the_first() -> None:
    reader = TimeReader()
    assert reader.read(pl.Series([1_577_880_000_000])).microseconds.to_list() == [NOON]
    assert reader.read(pl.Series([86_400_000])).microseconds.to_list() == [86_400_000_000]
    assert reader.read(pl.Series(["1577880000000"])).microseconds.to_list() == [NOON]


def test_eight_digits_are_a_date_only_in_a_column_of_dates() -> None:
    assert times([*["20200101"] * 19, "99999999"]) == [*[NOON - 12 * HOUR] * 19, None]
    mixed = TimeReader(strict=True).read(pl.Series([1_577_880_000, 1_577_880_001, 20200101]))
    assert mixed.microseconds.to_list() == [NOON, NOON + 1_000_000, None]


@pytest.mark.parametrize("small", [0, 1, 45_292, 1_577_880])
def test_a_number_of_1970_in_a_column_of_later_ones_has_another_unit(small: int) -> None:
    column = pl.Series([1_577_880_000_000, 1_577_880_000_000, small])
    assert TimeReader(strict=True).read(column).microseconds.to_list() == [NOON, NOON, None]
    assert TimeReader().read(column).microseconds.to_list() == [NOON, NOON, small * 1_000]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ([45_292, 45_293.5], "serial dates of a spreadsheet"),
        (["45292.75", "45293"], "serial dates of a spreadsheet"),
        ([1, 711, 30], "counted from a start of their own"),
        ([2019, 2020], "years"),
        ([18_262, 20_500], "days since 1970"),
        ([202_001, 202_112], "months as YYYYMM"),
        ([438_300, 438_400], "hours since 1970"),
        ([737_790, 737_800], "days since the year 0"),
        ([2_458_849, 2_458_850], "Julian days"),
        ([26_298_000, 26_300_000], "minutes since 1970"),
        ([202_001_011_200, 202_112_312_359], "YYYYMMDDhhmm"),
        ([20_200_101_120_000_000, 20_200_101_120_000_123], "YYYYMMDDhhmmss with a fraction"),
    ],
)
def test_numbers_that_count_something_else_are_named(values: list[object], named: str) -> None:
    reader = TimeReader(strict=True)
    reader.read(pl.Series(values, strict=False))
    assert named in str(reader.doubt)


@pytest.mark.parametrize("values", [[1_577_880_000, 1], [NOON], ["2020-01-01", "7"], [20200101], [199_152_000_000]])
def test_times_raise_no_doubt(values: list[object]) -> None:
    reader = TimeReader(strict=True)
    reader.read(pl.Series(values))
    assert reader.doubt is None


def test_a_given_unit_is_never_guessed_again() -> None:
    stored = [19_958_400_000_000, 75_513_600_000_000, -315_619_200_000_000, 0, 20200101, None]
    reader = TimeReader(unit="microseconds")
    assert reader.read(pl.Series(stored)).microseconds.to_list() == stored
    assert reader.doubt is None


def test_numbers_too_large_for_microseconds_are_null() -> None:
    assert times([1_577_880_000, 1_577_880_001, 2**62]) == [NOON, NOON + 1_000_000, None]


@pytest.mark.parametrize(
    "texts",
    [
        ["31.01.2024 08:30:00", "01.02.2024 09:00:00"],
        ["31/01/2024 08:30", "01/02/2024 09:00"],
        ["01/31/2024 08:30 AM", "2/1/2024 9:00 AM"],
        ["2024/01/31 08:30", "2024/02/01 09:00:00"],
        ["Wed, 31 Jan 2024 08:30:00 +0000", "Thu, 01 Feb 2024 09:00:00 GMT"],
        ["Wed Jan 31 2024 09:30:00 GMT+0100 (Central European Standard Time)", "Thu Feb 01 2024 09:00:00 GMT+0000"],
        ["31-01-2024 08:30", "01-02-2024 09:00"],
        ["31-Jan-2024 08:30:00", "01-FEB-2024 09:00"],
        ["31-JAN-24 08:30", "01-FEB-24 09:00"],
        ["Jan 31, 2024, 8:30 AM", "Feb. 1, 2024 9:00 AM"],
        ["Wednesday, January 31, 2024 8:30 AM", "February 1, 2024 9:00 AM"],
        ["20240131T083000Z", "20240201T090000"],
        ["2024-01-31T09:30:00+01:00[Europe/Berlin]", "2024-02-01T09:00:00Z[UTC]"],
        ["2024-01-31 08:30:00,000", "2024-02-01 09:00:00,0"],
    ],
)
def test_days_as_spreadsheets_and_mail_write_them(texts):
    found = read_times(pl.Series(texts), None).microseconds
    assert [str(moment) for moment in found.cast(pl.Datetime("us"))] == ["2024-01-31 08:30:00", "2024-02-01 09:00:00"]


@pytest.mark.parametrize(
    "texts", [["13.01.24", "28.02.24"], ["24/01/13", "24/02/28"], ["2024-01-13T08:30:00[Asia/Tokyo]"]]
)
def test_years_of_two_digits_and_zones_without_an_offset_are_unreadable(texts: list[str]) -> None:
    assert read_times(pl.Series(texts), None).microseconds.null_count() == len(texts)


def test_numbers_that_a_spreadsheet_has_rounded_are_no_times() -> None:
    assert times(["1.57788E+12", "1.57789E+12"]) == [None, None]
    assert times(["1.57788e+18", "1.57788E18"]) == [NOON, NOON]


def test_days_whose_order_nothing_tells_are_unreadable_and_the_other_rows_tell_it():
    reader = TimeReader()
    assert reader.read(pl.Series(["03/04/2024", "05/06/2024"])).microseconds.to_list() == [None, None]
    assert str(reader.read(pl.Series(["03/04/2024", "25/06/2024"])).microseconds.cast(pl.Datetime("us"))[0]) == (
        "2024-04-03 00:00:00"
    )
    assert str(reader.read(pl.Series(["05/06/2024"])).microseconds.cast(pl.Datetime("us"))[0]) == "2024-06-05 00:00:00"
