"""One stream of events, read in full or only on the days that changed since the last reading."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from recsys.config.settings import Config
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.progress import Progress
from recsys.source.contract import Calendar, Query
from recsys.source.days import EVERYTHING, NO_DAY, Plan, Span, Sums, compare, day_of, find_days, read_sums, to_read
from recsys.source.events import open_events, read_rows, times_of
from recsys.source.findings import FUTURE_TIME
from recsys.source.reader import Reader
from recsys.source.readings import FORMAT, Facts, Part, part_of, restore
from recsys.source.rows import EventStream
from recsys.source.times import TimeReader

READ_AS = {
    "user_id": "user",
    "visitor_id": "visitor",
    "item_id": "item",
    "event": "kind",
    "timestamp": "time",
    "value": "value",
    "order_id": "order",
}
_EXPECTED_ROWS = 2_000_000  # the total is unknown: the bar is at a half after so many
_PER_DAY = {"seconds": 86_400, "milliseconds": 86_400_000, "microseconds": 86_400_000_000, "nanoseconds": 864 * 10**11}
_SAMPLE = 1_000  # times that are looked at to see what numbers count


@dataclass(frozen=True)
class Stream:
    """What to read, and what becomes of its rows."""

    name: str
    query: str
    identity: str  # the query without what differs from night to night
    own: bool  # it reads the own tables
    empty: Callable[[], EventStream]  # a stream for its rows


@dataclass(frozen=True)
class Read:
    """A stream as it was read."""

    rows: EventStream
    facts: Facts
    sums: Sums
    how: dict[str, Any]  # for the ledger
    mapping: dict[str, str]  # what its columns became
    is_new: bool  # something changed since the last reading, or all of it was read

    def part(self) -> Part:
        """What to keep of it for the next night."""
        return part_of(self.rows, self.facts, self.sums)


@dataclass
class _Reading:
    """The reading of one stream under way."""

    reader: Reader
    stream: Stream
    config: Config
    now: int
    progress: Progress
    previous: Part | None
    is_kept: bool
    shop: Query = field(init=False)
    times: TimeReader = field(init=False)
    calendar: Calendar | None = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        source, own = self.config.source, self.stream.own
        self.shop = open_events(self.reader, self.stream.query, self.stream.name)
        self.times = times_of(source.timezone, source.time_format, own=own)
        self.fingerprint = _fingerprint(self.stream, self.shop, self.config)
        if self.previous and self.previous.facts.fingerprint == self.fingerprint:
            self.times.unit, self.times.day = self.previous.facts.unit, self.previous.facts.day
        self.calendar = self.calendar_of("timestamp") if source.incremental and self.is_kept else None

    def calendar_of(self, column: str) -> Calendar | None:
        """How the days of a column are told; None: they are not."""
        form = self.config.source.time_format
        if self.reader.dialect.calendar is None or (form and not form.startswith("%Y-%m-%d") and not self.stream.own):
            return None
        unit = self.times.unit if column == "timestamp" and self.times.unit else self._unit_of(column)
        return self.reader.dialect.calendar(self.shop, column, _PER_DAY.get(str(unit)))

    def _unit_of(self, column: str) -> str | None:
        """What the numbers of a column count, by some of them; None where it has none."""
        sql = f"SELECT shop.{column} FROM {self.shop.table} WHERE shop.{column} IS NOT NULL LIMIT {_SAMPLE}"
        numbers = []
        for (value,) in self.shop.fetch(sql):
            with suppress(TypeError, ValueError):
                numbers.append(float(value))
        found = TimeReader()
        found.read(pl.Series(numbers, dtype=pl.Float64))
        return found.unit

    def why_all(self, asked: bool) -> str | None:
        """Why everything has to be read, before the database is asked what changed; None: it need not."""
        source, previous = self.config.source, self.previous
        if asked or not source.incremental:
            return "a full read was asked for" if asked else "[source] incremental is false"
        if previous is None:
            return "there is no earlier reading"
        facts = previous.facts
        longest = source.full_read_days * MICROSECONDS_PER_DAY
        reasons = (
            ("the query, its columns or the settings of events changed", facts.fingerprint != self.fingerprint),
            (facts.why_not, facts.why_not is not None),
            ("the database cannot tell the days of these times", self.calendar is None),
            (f"the last full read is {source.full_read_days:g} days ago", self.now - facts.full_at >= longest),
        )
        return next((why for why, holds in reasons if holds), None)

    def plan(self, calendar: Calendar, previous: Part) -> Plan:
        """Ask the database what changed since the last reading."""
        source, facts = self.config.source, previous.facts
        # The last days of a shop that stands still are as likely to change as those of one that sells.
        newest = max((day for day in previous.sums if day != NO_DAY), default=0)
        read_at = min(facts.read_at, (newest + 1) * MICROSECONDS_PER_DAY)
        since = day_of(read_at - round(source.overlap_days * MICROSECONDS_PER_DAY))
        nights, night = source.check_nights, day_of(self.now)
        plan = compare(self.shop, calendar, previous.sums, since=since, night=night, nights=nights)
        was_future = previous.counts.filter(pl.col("reason") == FUTURE_TIME, pl.col("day") <= day_of(self.now) + 1)
        days = was_future["day"].to_list()
        if source.updated_at and not self.stream.own:
            days += self._updated(calendar, source.updated_at, since)
        return to_read(plan, days, since=since, margin=0 if calendar.is_utc else 1)

    def _updated(self, calendar: Calendar, column: str, since: int) -> list[int]:
        """The days before `since` of which a row says that it changed since then."""
        updated = self.calendar_of(column) if column in self.shop.columns else None
        return find_days(self.shop, calendar, updated, Span(since)) if updated else []

    def read_days(self, calendar: Calendar, previous: Part, plan: Plan) -> Read:
        """Keep the rows of the last reading but for the days that are read again."""
        rows = self.stream.empty()
        restore(rows, previous, plan.spans)
        before = rows.read
        for span in plan.spans:
            wide = span.widened(0 if calendar.is_utc else 1)
            self._add(rows, calendar.between(wide.first, wide.end), span)
        facts = replace(previous.facts, read_at=self.now if plan.spans else previous.facts.read_at)
        how = {"read": "days", "changed_days": len(plan.changed), "rows": rows.read - before}
        return self._done(rows, facts, plan.sums, how, is_new=bool(plan.spans))

    def read_all(self, why: str, sums: Sums) -> Read:
        """Read everything. sums: what the database said of it before."""
        rows = self.stream.empty()
        self.times = times_of(self.config.source.timezone, self.config.source.time_format, own=self.stream.own)
        self._add(rows, None, EVERYTHING)
        facts = Facts(self.fingerprint, self.now, self.now, why_not=self._why_not(rows, sums))
        is_new = self.previous is None or rows.read > 0 or self.previous.counts.height > 0
        return self._done(rows, facts, sums, {"read": "everything", "why": why, "rows": rows.read}, is_new=is_new)

    def _why_not(self, rows: EventStream, sums: Sums) -> str | None:
        """Why the days of these times cannot be told; None: they can."""
        if self.calendar is None:
            return "the database cannot tell the days of these times"
        unreadable = sum(int(counts.filter(pl.col("day").is_null())["rows"].sum()) for counts in rows.counts)
        without_day = sums.get(NO_DAY, (0, 0))[0]
        per_day = _PER_DAY.get(str(self.times.unit), 1)
        if without_day == unreadable and self.calendar.per_day in (1, per_day):
            return None
        return f"of {without_day:,} rows the database cannot tell the day, and the times of {unreadable:,} are none"

    def _add(self, rows: EventStream, condition: str | None, span: Span) -> None:
        day = pl.col("time").floordiv(MICROSECONDS_PER_DAY)
        inside = pl.lit(True) if span.first is None else day >= span.first
        inside = inside if span.end is None else inside & (day < span.end)
        for batch in read_rows(self.reader, self.shop, self.times, own=self.stream.own, condition=condition):
            rows.add(batch if span == EVERYTHING else replace(batch, frame=batch.frame.filter(inside)))
            self.progress(f"read {self.stream.name}", rows.read / (rows.read + _EXPECTED_ROWS))

    def _done(self, rows: EventStream, facts: Facts, sums: Sums, how: dict[str, Any], *, is_new: bool) -> Read:
        facts = replace(
            facts,
            unit=self.times.unit,
            day=self.times.day,
            doubt=rows.doubt,
            lost_visits=rows.lost_visits,
            complete_after=rows.complete_after,
        )
        mapping = {column: READ_AS.get(column, "not read") for column in self.shop.columns}
        return Read(rows, facts, sums, how, mapping, is_new)


def read_stream(
    reader: Reader,
    stream: Stream,
    config: Config,
    *,
    now: int,
    progress: Progress,
    previous: Part | None = None,
    is_kept: bool = False,
    is_full: bool = False,
) -> Read:
    """Read a stream: only the days that changed since `previous`, if that can be told, else everything.

    is_kept: the reading is to be kept, so the database is asked for its counts and sums. is_full: everything was asked
    for. Counts and sums are read before the rows: what is committed in between makes them differ the next night.
    Raises SourceError when a query fails, lacks a column, or has ids of bytes or of floats that hold no id.
    """
    progress(f"read {stream.name}", 0.0)
    reading = _Reading(reader, stream, config, now, progress, previous, is_kept)
    calendar, why = reading.calendar, reading.why_all(is_full)
    sums: Sums | None = None
    found = None
    if why is None and calendar is not None and previous is not None:
        plan = reading.plan(calendar, previous)
        why, sums = plan.why, plan.sums
        if why is None:
            found = reading.read_days(calendar, previous, plan)
            if _lacks_visits(found.rows):
                found, why = None, "visits that were left out before would count now"
    if found is None:
        if sums is None:
            sums = read_sums(reading.shop, calendar) if calendar is not None else {}
        found = reading.read_all(str(why), sums)
    progress(f"read {stream.name}", 1.0)
    return found


def _lacks_visits(rows: EventStream) -> bool:
    """Whether visits that an earlier reading left out could be among the newest now."""
    if not rows.lost_visits or rows.complete_after is None:
        return False
    held = sum(part.filter(pl.col("time") > rows.complete_after).height for part in rows.visits)
    return held < rows.most_visits


def _fingerprint(stream: Stream, shop: Query, config: Config) -> str:
    """A digest of all that decides which rows a query returns and what becomes of them."""
    source, rows = config.source, stream.empty()
    settings: Sequence[Any] = (
        *(FORMAT, pl.__version__, stream.identity, {name: str(code) for name, code in shop.columns.items()}),
        *(source.dialect, source.timezone, source.time_format),
        *(source.guest_ids, dict(rows.kinds), rows.most_visits),
    )
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
