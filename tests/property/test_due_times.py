"""When an entry is due next: every day once, on the wall clock of its zone, across every change of that clock."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.schedule.scheduler import Entry, planned
from recsys.config.loading import load_config

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia")
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def entry_of(text: str, zone: str = "UTC") -> Entry:
    environment = {"RECSYS_SCHEDULE__TRAIN": text, "RECSYS_SCHEDULE__ZONE": zone}
    return planned(load_config(None, environment), Path("recsys.toml"), {})[0]


def next_of(entry: Entry, moment: datetime) -> datetime:
    return EPOCH + entry.next_due((moment - EPOCH) // MICROSECOND) * MICROSECOND


@given(
    st.sampled_from(ZONES),
    st.integers(0, 23),
    st.integers(0, 59),
    st.datetimes(datetime(2011, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
)
def test_a_night_is_due_once_on_every_day_of_its_zone(zone, hour, minute, start):
    entry, place = entry_of(f"{minute} {hour} * * *", zone), ZoneInfo(zone)
    moment, seen = start, []
    for _ in range(12):
        following = next_of(entry, moment)
        assert following > moment
        moment = following
        seen.append(moment.astimezone(place))
    for at in seen:
        wanted = datetime(at.year, at.month, at.day, hour, minute, tzinfo=place)
        shift = timedelta(0) if wanted.astimezone(UTC).astimezone(place).hour == hour else timedelta(hours=1)
        assert timedelta(0) <= at.replace(tzinfo=None) - wanted.replace(tzinfo=None) <= shift or at == wanted
    days = [at.date() for at in seen]
    skipped = {date(2011, 12, 30)} if zone == "Pacific/Apia" else set()  # a day that Samoa left out
    every = {days[0] + timedelta(days=n) for n in range((days[-1] - days[0]).days + 1)}
    assert sorted(every - skipped) == days


@pytest.mark.parametrize(
    ("after", "due"),
    [
        ("2026-03-28T12:00", "2026-03-29T01:30"),  # 2:30 does not exist that night; an hour later does
        ("2026-03-29T01:30", "2026-03-30T00:30"),
        ("2026-10-24T12:00", "2026-10-25T00:30"),  # 2:30 comes twice; the first counts
        ("2026-10-25T00:30", "2026-10-26T01:30"),
        ("2026-10-25T00:45", "2026-10-26T01:30"),
    ],
)
def test_the_changes_of_the_clock_neither_lose_a_night_nor_double_it(after, due):
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert next_of(entry_of("30 2 * * *", "Europe/Berlin"), moment) == datetime.fromisoformat(due).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "zone", "after", "due"),
    [  # hours and minutes in UTC
        ("30 1,2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["00:30", "01:30", "23:30", "00:30"]),
        ("30 1,2,3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["00:30", "01:30", "23:30", "00:30"]),
        ("30 1,2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["23:30", "00:30", "00:30", "01:30"]),
        ("0,30 1-3 * * *", "America/New_York", "2026-03-07T12:00", ["06:00", "06:30", "07:00", "07:30", "05:00"]),
    ],
)
def test_an_entry_of_several_hours_loses_none_when_the_clock_changes(text, zone, after, due):
    moment, found = datetime.fromisoformat(after).replace(tzinfo=UTC), []
    for _ in due:
        moment = next_of(entry_of(text, zone), moment)
        found.append(f"{moment:%H:%M}")
    assert found == due


def test_an_entry_for_every_hour_is_due_in_both_hours_of_a_clock_set_back():
    moment, found = datetime(2026, 10, 24, 23, 30, tzinfo=UTC), []
    for _ in range(3):
        moment = next_of(entry_of("0 * * * *", "Europe/Berlin"), moment)
        found.append(moment.hour)
    assert found == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "weekday"), [("0 2 * * 0", 6), ("0 2 * * 7", 6), ("0 2 * * 1", 0), ("0 2 * * sat", 5), ("0 2 * * 3", 2)]
)
def test_weekdays_are_those_of_crontab(text, weekday):
    assert next_of(entry_of(text), datetime(2026, 11, 23, tzinfo=UTC)).weekday() == weekday


def test_a_day_that_comes_every_four_years_is_found():
    assert next_of(entry_of("0 2 29 2 *"), datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2028, 2, 29, 2, tzinfo=UTC)
