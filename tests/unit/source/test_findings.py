"""Findings, the report, and how values of every form become times, numbers and booleans."""

import json
from datetime import date, datetime

import polars as pl
import pytest

from recsys.data.times import rfc3339
from recsys.errors import ConfigError
from recsys.source import findings as check
from recsys.source.findings import OFFSET, Finding, SourceReport, left_out
from recsys.source.values import read_booleans, read_numbers, read_texts, read_times

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
    short = pl.Series([1_577_880_000, 20200101], dtype=pl.Int32)
    assert read_times(short, None).microseconds.to_list() == [NOON, midnight]
    if form is not str:
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


def test_booleans_of_every_form() -> None:
    words = ["1", "t", "True", "YES", "on", "0", "f", "false", "No", "off", "perhaps", None]
    assert read_booleans(pl.Series(words)).to_list() == [True] * 5 + [False] * 5 + [None, None]
    assert read_booleans(pl.Series([1, 0, None])).to_list() == [True, False, None]
    assert read_booleans(pl.Series([b"\x01", b"\x00"])).to_list() == [True, False]


def test_numbers_and_texts() -> None:
    assert read_numbers(pl.Series(["1.5", "x", "inf", None])).to_list() == [1.5, None, None, None]
    assert read_texts(pl.Series([17850, None])).to_list() == ["17850", None]
    assert read_texts(pl.Series([b"a"])).to_list() == [None]


@pytest.mark.parametrize(("rows", "severity"), [(1, "warning"), (10, "warning"), (11, "error")])
def test_a_fault_is_an_error_above_the_share_that_is_allowed(rows: int, severity: str) -> None:
    [finding] = left_out({check.NO_USER: rows}, {}, 1_000, 0.01)
    assert (finding.severity, finding.rows, finding.of, finding.left_out) == (severity, rows, 1_000, True)


def test_every_reason_has_advice() -> None:
    findings = left_out(dict.fromkeys(check.LEFT_OUT, 1), {}, 10, 0.5)
    assert [finding.reason for finding in findings] == list(check.LEFT_OUT)
    assert all(finding.advice for finding in findings)


def report() -> SourceReport:
    findings = (
        Finding("error", check.UNKNOWN_KIND, 20, 1_000, ("user_id=anna",), "map it"),
        Finding("note", "time without a zone", 1_000, 1_000),
    )
    kinds = {"view": {"kind": "view", "rows": 980}, "anna@example.com": {"kind": None, "rows": 20}}
    return SourceReport({}, kinds, {"events": 980}, 0, NOON, findings)


def test_a_refusal_names_the_reason_and_how_many_rows_but_nobody() -> None:
    text = report().refusal()
    assert "unknown kind: 20 of 1,000 rows" in text
    assert "time without a zone" not in text
    assert "anna" not in text


def test_what_a_bundle_keeps_names_nobody() -> None:
    assert "anna" not in json.dumps(report().summary())
    assert report().summary()["events"] == 980
    assert (set(report().summary()["kinds"]), report().summary()["unknown_kinds"]) == ({"view"}, 1)


def test_the_report_is_json() -> None:
    values = json.loads(json.dumps(report().to_dict()))
    assert values["first"] == "1970-01-01T00:00:00+00:00"
    assert values["findings"][0]["examples"] == ["user_id=anna"]
    assert rfc3339(None) is None
    assert rfc3339(2**62) == str(2**62)
