"""Which days of a stream of events have changed since they were read, as the database itself counts them.

For every day the database is asked how many rows there are and for the sum of their checksums. Late, deleted and
corrected rows change one or the other. Checksums are a look at every row, so days take turns, and old ones are counted.
"""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.source.contract import Calendar, Query

Sums = dict[int, tuple[int, int]]
"""Day since 1970 -> its number of rows and the sum of their checksums; NO_DAY: rows of which no day can be told."""

NO_DAY = -(2**31)
RECENT = 28  # days before those that are compared each night; most of what changes is of them
_COUNTED = 32  # parts of days that are counted where the number of all of them differs
_MOST = 0.5  # of all rows: from there on everything is read, in one query without conditions
_EPOCH = datetime.date(1970, 1, 1).toordinal()
_FARTHEST = 4_000_000  # days; what lies beyond is no day


@dataclass(frozen=True)
class Span:
    """The days from `first` on and before `end`; None: there is no such limit."""

    first: int | None = None
    end: int | None = None

    def __contains__(self, day: int) -> bool:
        if day == NO_DAY:
            return self == EVERYTHING
        return (self.first is None or day >= self.first) and (self.end is None or day < self.end)

    def widened(self, days: int) -> "Span":
        """The same with so many more days on both sides."""
        first = None if self.first is None else self.first - days
        return Span(first, None if self.end is None else self.end + days)


EVERYTHING = Span()


@dataclass(frozen=True)
class Plan:
    """What to read again of a stream whose last reading is kept. why: of everything, where nothing is kept."""

    spans: tuple[Span, ...]  # none: nothing has changed
    sums: Sums  # of all days, as the database has them now
    changed: tuple[int, ...] = ()  # the days whose rows differ
    why: str | None = None


def day_of(microseconds: int) -> int:
    """The day of a moment in UTC, counted from 1970."""
    return microseconds // MICROSECONDS_PER_DAY


def read_sums(query: Query, calendar: Calendar, span: Span = EVERYTHING) -> Sums:
    """Ask the database for the rows and checksums of each day. Raises SourceError as a query does."""
    columns = f"{calendar.day}, COUNT(*), SUM({calendar.checksum})"
    condition = "" if span == EVERYTHING else f" WHERE {calendar.between(span.first, span.end)}"
    found: Sums = {}
    for value, rows, total in query.fetch(f"SELECT {columns} FROM {query.table}{condition} GROUP BY 1"):
        day = _read_day(value)
        before, summed = found.get(day, (0, 0))
        found[day] = before + int(rows), summed + int(total or 0)
    return {day: value for day, value in found.items() if day in span}


def count_rows(query: Query, calendar: Calendar, span: Span) -> int:
    """Ask the database how many rows the days have."""
    condition = calendar.between(span.first, span.end)
    return int(query.fetch(f"SELECT COUNT(*) FROM {query.table} WHERE {condition}")[0][0])


def read_total(query: Query, calendar: Calendar, span: Span) -> tuple[int, int]:
    """Ask the database for the rows and checksums of the days together, in half the time that each of them takes."""
    condition = calendar.between(span.first, span.end)
    [(rows, total)] = query.fetch(f"SELECT COUNT(*), SUM({calendar.checksum}) FROM {query.table} WHERE {condition}")
    return int(rows), int(total or 0)


def find_days(query: Query, calendar: Calendar, of: Calendar, span: Span) -> list[int]:
    """Ask the database for the days that have rows whose other column of times, `of`, is within a span."""
    condition = of.between(span.first, span.end)
    rows = query.fetch(f"SELECT DISTINCT {calendar.day} FROM {query.table} WHERE {condition}")
    return [day for day in (_read_day(row[0]) for row in rows) if day != NO_DAY]


def compare(query: Query, calendar: Calendar, known: Sums, *, since: int, night: int, nights: int) -> Plan:
    """Compare what is known of each day with the database; `spans` is empty where nothing has changed.

    Days from `since` on are compared each night. The RECENT days before are compared once in so many `nights`, which
    `night` counts, and the number of their rows each night. Of days before, the number of rows is compared once in
    `nights`; where it differs, that of all of them.
    """
    checked = [EVERYTHING]
    if nights > 1:
        recent, old = Span(since - RECENT, since), Span(end=since - RECENT)
        checked, summed = [Span(since)], _turn(known, recent, night, nights)
        if read_total(query, calendar, summed) != _total(known, summed):
            checked.append(summed)
        for span, counted in ((recent, recent), (old, _turn(known, old, night, nights))):
            if count_rows(query, calendar, counted) != _total(known, counted)[0]:
                parts = _parts(known, span, _COUNTED)
                checked += [part for part in parts if count_rows(query, calendar, part) != _total(known, part)[0]]
    sums = {day: value for day, value in known.items() if not any(day in span for span in checked)}
    for span in checked:
        sums |= read_sums(query, calendar, span)
    changed = tuple(sorted(day for day in known.keys() | sums.keys() if known.get(day) != sums.get(day)))
    return Plan((), sums, changed)


def to_read(plan: Plan, days: Iterable[int], *, since: int, margin: int) -> Plan:
    """Add what has to be read: the days that changed, `days`, and where there are any, those from `since` on.

    margin: by how many days the database's days and those in UTC may differ.
    """
    changed = sorted({*plan.changed, *days})
    if not changed:
        return plan
    if NO_DAY in changed:
        return Plan((EVERYTHING,), plan.sums, tuple(changed), "rows without a readable time changed")
    spans = join([Span(day - margin, day + 1 + margin) for day in changed if day < since] + [Span(since - margin)])
    rows = {day: count for day, (count, _) in plan.sums.items()}
    again, every = sum(rows[day] for day in rows if any(day in span for span in spans)), sum(rows.values())
    if again > _MOST * every:
        why = f"{len(changed):,} days changed, and with them {again:,} of {every:,} rows would be read again"
        return Plan((EVERYTHING,), plan.sums, tuple(changed), why)
    return Plan(tuple(spans), plan.sums, tuple(changed))


def join(spans: Sequence[Span]) -> list[Span]:
    """Put spans together that touch or overlap. All have a first day, and are sorted by it."""
    joined: list[Span] = []
    for span in spans:
        last = joined[-1] if joined else None
        if last is None or (last.end is not None and span.first is not None and span.first > last.end):
            joined.append(span)
        else:
            ends = (last.end, span.end)
            joined[-1] = Span(last.first, None if None in ends else max(end for end in ends if end is not None))
    return joined


def _total(sums: Sums, span: Span) -> tuple[int, int]:
    """The rows and checksums of the days of a span that has an end."""
    found = [value for day, value in sums.items() if day in span]
    return sum(rows for rows, _ in found), sum(total for _, total in found)


def _turn(known: Sums, span: Span, night: int, nights: int) -> Span:
    """The part of a span whose turn it is."""
    return _parts(known, span, nights)[night % nights]


def _parts(known: Sums, span: Span, parts: int) -> list[Span]:
    """So many parts of a span that has an end, with about as many rows each; together they have no gap."""
    assert span.end is not None
    days = sorted(day for day in known if day in span)
    every, rows, starts = sum(known[day][0] for day in days), 0, [days[0]] if days else [span.end]
    for day in days:
        if rows * parts >= every * len(starts):
            starts.append(day)
        rows += known[day][0]
    ends = [*starts[1:], *[span.end] * (parts + 1 - len(starts))]
    return [Span(first, end) for first, end in zip([span.first, *ends[:-1]], ends, strict=True)]


def _read_day(value: Any) -> int:
    """A day as a database writes it: a number, or text."""
    try:
        if isinstance(value, str):
            return datetime.date.fromisoformat(value).toordinal() - _EPOCH
        day = int(value)
    except (TypeError, ValueError, OverflowError):
        return NO_DAY
    return day if abs(day) < _FARTHEST else NO_DAY
