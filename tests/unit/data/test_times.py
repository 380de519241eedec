"""Times: microseconds inside, text outside."""

import pytest

from recsys.data.times import from_datetime, parse_time, readable, rfc3339, to_datetime

MOMENT = 1_795_420_800_250_000


def test_times_are_printed_for_programs_and_for_people():
    assert rfc3339(MOMENT) == "2026-11-23T08:00:00.250000Z"
    assert rfc3339(MOMENT, whole_seconds=True) == "2026-11-23T08:00:00Z"
    assert rfc3339(MOMENT, whole_seconds=True, utc="+00:00") == "2026-11-23T08:00:00+00:00"
    assert readable(MOMENT) == "2026-11-23 08:00:00"
    assert rfc3339(-1, whole_seconds=True) == "1969-12-31T23:59:59Z"
    assert rfc3339(None) is None
    assert readable(None) is None


def test_a_number_beyond_the_calendar_stays_a_number():
    assert rfc3339(2**62) == readable(2**62) == str(2**62)


@pytest.mark.parametrize("time", [0, 1, MOMENT, -1, 253_402_300_799_999_999])
def test_what_is_printed_is_read_again(time):
    assert parse_time(rfc3339(time)) == parse_time(rfc3339(time, utc="+00:00")) == time
    assert from_datetime(to_datetime(time)) == time


def test_a_zone_is_needed_unless_utc_is_the_default():
    assert parse_time("2026-11-23T09:00:00.25+01:00") == MOMENT
    with pytest.raises(ValueError, match="without a zone"):
        parse_time("2026-11-23T08:00:00")
    assert parse_time("2026-11-23T08:00:00.25", default_utc=True) == MOMENT
    assert parse_time("2026-11-23", default_utc=True) == MOMENT - 8 * 3_600_000_000 - 250_000
    with pytest.raises(ValueError, match="Invalid isoformat"):
        parse_time("yesterday", default_utc=True)
