"""Which days are compared and read: no database, the numbers alone."""

import pytest

from recsys.source.contract import Calendar, Query
from recsys.source.days import EVERYTHING, NO_DAY, RECENT, Plan, Span, Sums, compare, join, to_read

CALENDAR = Calendar("shop.time", "shop.time / 10", "number", "1", per_day=10)


def asked(sums: Sums, log: list[str]) -> Query:
    """A database with these days, that understands what `compare` asks."""

    def fetch(sql: str) -> list[tuple[object, ...]]:
        log.append(sql)
        words = sql.split()
        limits = {word: int(words[at + 1]) // 10 for at, word in enumerate(words) if word in (">=", "<")}
        span = Span(limits.get(">="), limits.get("<"))
        days = [day for day in sums if day in span]
        if "GROUP BY" in sql:
            return [(None if day == NO_DAY else day, *sums[day]) for day in days]
        counted, summed = (sum(sums[day][at] for day in days) for at in (0, 1))
        return [(counted, summed) if "SUM" in sql else (counted,)]

    return Query("SELECT 1", "interactions", {}, fetch)


def test_each_night_compares_a_part_and_all_nights_every_recent_day_once() -> None:
    known = {day: (10 + day % 7, day) for day in range(100)}
    compared = list[int]()
    for night in range(5):
        now = {day: (rows, total + 1) for day, (rows, total) in known.items()}  # all of them changed
        plan = compare(asked(now, []), CALENDAR, known, since=90, night=night, nights=5)
        old = [day for day in plan.changed if day < 90]
        assert 4 <= len(old) <= 7
        assert set(plan.changed) >= set(range(90, 100))
        compared += old
    assert sorted(compared) == list(range(90 - RECENT, 90))


@pytest.mark.parametrize("now", [{3: (9, 1)}, {-7: (1, 1)}, {7: (1, 1), 300: (13, 0)}])
def test_rows_of_old_days_are_counted_once_within_some_nights(now: Sums) -> None:
    known = {day: (10, day) for day in range(510)}
    nights = [compare(asked(known | now, []), CALENDAR, known, since=505, night=night, nights=5) for night in range(5)]
    found = {day for plan in nights for day in plan.changed}
    assert found == set(now)
    assert min(len(plan.changed) for plan in nights) == 0
    assert {plan.changed for plan in nights} == {(), tuple(sorted(now))}  # one that differs: all are counted


@pytest.mark.parametrize("now", [{480: (9, 1)}, {490: (12, 6), 500: (3, 3)}, {499: (9, 0), 506: (1, 1)}])
def test_where_rows_are_more_or_fewer_their_days_are_compared_at_once(now: Sums) -> None:
    known = {day: (10, day) for day in range(510)}
    log: list[str] = []
    plan = compare(asked(known | now, log), CALENDAR, known, since=505, night=4, nights=5)
    assert set(plan.changed) >= {day for day in now if now[day][0] != known.get(day, (0, 0))[0]}
    assert plan.sums == known | now
    assert sum("GROUP BY" in sql for sql in log) <= 4
    same = compare(asked(known, log), CALENDAR, known, since=505, night=4, nights=5)
    assert same == Plan((), known)


def test_the_parts_of_a_few_days_have_no_gap() -> None:
    for days in ([], [5], [5, 6], list(range(5, 9))):
        known = dict.fromkeys(days, (10, 1))
        late = known | {1: (1, 1), 8: (2, 2)}
        for night in range(3):
            plan = compare(asked(late, []), CALENDAR, known, since=10, night=night, nights=3)
            assert plan.changed == (1, 8)


def test_a_day_that_is_gone_has_changed() -> None:
    plan = compare(asked({1: (5, 5)}, []), CALENDAR, {1: (5, 5), 2: (5, 5)}, since=9, night=0, nights=1)
    assert plan.changed == (2,)


def test_changed_days_are_read_with_their_neighbors_and_the_newest_days() -> None:
    sums = dict.fromkeys(range(100), (10, 0))
    plan = Plan((), sums, (3, 4, 50))
    assert to_read(plan, [], since=98, margin=0).spans == (Span(3, 5), Span(50, 51), Span(98))
    assert to_read(plan, [97], since=98, margin=1).spans == (Span(2, 6), Span(49, 52), Span(96))
    assert to_read(Plan((), sums), [], since=98, margin=1).spans == ()


@pytest.mark.parametrize(("changed", "why"), [((NO_DAY,), "readable time"), (tuple(range(60)), "600 of 1,000")])
def test_everything_is_read_where_days_do_not_help(changed: tuple[int, ...], why: str) -> None:
    plan = to_read(Plan((), dict.fromkeys(range(100), (10, 0)), changed), [], since=100, margin=0)
    assert plan.spans == (EVERYTHING,)
    assert why in str(plan.why)


def test_spans_that_touch_become_one() -> None:
    assert join([Span(1, 2), Span(2, 3), Span(5, 9), Span(6, 7), Span(12)]) == [Span(1, 3), Span(5, 9), Span(12)]


def test_days_beyond_the_calendar_are_compared_with_its_ends() -> None:
    dates = Calendar("time", "", "date", "")
    assert dates.between(19_723, None) == "time >= '2024-01-01'"
    assert dates.between(None, 10**9) == "time < '9999-12-31'"
    assert dates.between(None, None) == "1 = 1"
