"""What happens to schedulers: one of two killed at each moment, both stopped over a due time, a clock that moves."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock
from zoneinfo import ZoneInfo

from nights import Nights, receiver
from shop import Row, Shop, lost_between
from test_crash import expire_leases
from test_due_times import entry_of, next_of

RUN_POINTS = ("after claim", "after start", "before settling")
ALERT_POINTS = ("before alert", "after alert")
LIBFAKETIME = "*/faketime/libfaketime.so.1"
CHANGES = (  # of clocks in 2026: the zone, an entry in the hour that is skipped or comes twice, two days before
    ("Europe/Berlin", "30 2 * * *", "2026-03-27"),
    ("Europe/Berlin", "30 2 * * *", "2026-10-23"),
    ("America/New_York", "30 2 * * *", "2026-03-06"),
    ("America/New_York", "30 1 * * *", "2026-10-30"),
)


def killed(shop: Shop, _asked: Any) -> Iterator[Row]:
    """Of two schedulers the one that has the claim dies; the other one makes up for it, once."""
    for point in RUN_POINTS:
        with nights_of(shop) as nights:
            before = shop.good
            seconds, due_at = takes_over(nights, point)
            done = [run.status for run in nights.ended(due_at)]
            assert done == ["done"], nights.runs()
        yield row(shop, f"one of two schedulers killed {point}", "SIGKILL", before, seconds, "one run for the due time")
    for point in ALERT_POINTS:
        with receiver() as (url, posted), nights_of(shop, f"[alerts]\nwebhook_url = '{url}'\n") as nights:
            before = shop.good
            nights.mode("fail")
            seconds, _ = takes_over(nights, point)
            start = time.monotonic()
            while len(posted) < 1 + (point == "after alert"):
                expire_leases(nights.store)
                assert time.monotonic() < start + 60, nights.log.read_text()
                time.sleep(0.1)
        note = f"told {len(posted)} times"
        yield row(shop, f"scheduler killed {point}", "SIGKILL", before, seconds + time.monotonic() - start, note)
    yield both_stopped(shop)


def takes_over(nights: Nights, point: str) -> tuple[float, int]:
    """Seconds from the death of the first scheduler to the next due time, with the second one; and the due time."""
    with mock.patch.dict(os.environ, {"RECSYS_CRASH_AT": point}):
        first = nights.start()
    nights.planned()
    second = nights.start()
    second.send_signal(signal.SIGSTOP)  # so that the first one gets the claim
    due_at = nights.miss()
    nights.wait(lambda: first.poll() is not None)
    assert first.returncode == -signal.SIGKILL
    start = time.monotonic()
    second.send_signal(signal.SIGCONT)
    nights.wait(nights.moved_on(due_at))
    return time.monotonic() - start, due_at


def both_stopped(shop: Shop) -> Row:
    with nights_of(shop) as nights:
        before = shop.good
        schedulers = [nights.start(), nights.start()]
        nights.planned()
        for scheduler in schedulers:
            nights.stop(scheduler)
        missed, start = nights.miss(3), time.monotonic()
        nights.start()
        nights.start()
        nights.wait(nights.moved_on(missed))
        seconds = time.monotonic() - start
        assert [run.status for run in nights.ended(missed)] == ["done"]
    return row(shop, "both schedulers stopped over three due times", "SIGTERM", before, seconds, "one run makes up")


def clock_moves(shop: Shop, _asked: Any) -> Iterator[Row]:
    """The clock of the scheduler's machine, and on SQLite that of the store, moves by an hour and back."""
    library = next(map(str, Path("/usr/lib").glob(LIBFAKETIME)), None)
    before = shop.good
    if library is None:
        yield Row("clock moved", "not tried", before, before, "nothing", 0, "faketime is not installed")
        return
    for shift in ("+1h", "-1h"):
        before = shop.good
        with nights_of(shop) as nights:
            due_at, start = run_with_clock(nights, library, shift), time.monotonic()
            following = nights.due().due_at
            nights.start()
            time.sleep(2)  # some twenty looks with the right clock
            assert [run.status for run in nights.ended(due_at)] == ["done"], nights.runs()
            assert nights.due().due_at == following
            assert abs(following - nights.store.now() - 43_200_000_000) < 43_200_000_000 + 3_600_000_000
        note = f"one run; next due {datetime.fromtimestamp(following / 1e6, UTC):%Y-%m-%d %H:%M} UTC"
        yield row(
            shop, f"clock {shift} during a night, then right again", shift, before, time.monotonic() - start, note
        )


def run_with_clock(nights: Nights, library: str, shift: str) -> int:
    """A night under a clock that is wrong by so much; returns its due time."""
    faked = {"LD_PRELOAD": library, "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    with mock.patch.dict(os.environ, faked):
        wrong = nights.start()
    nights.planned()
    due_at = nights.miss()
    nights.wait(nights.moved_on(due_at))
    nights.stop(wrong)
    return due_at


def summer_time(shop: Shop, _asked: Any) -> Iterator[Row]:
    """The nights on which clocks change: what is planned, by the schedule's own function; nothing runs."""
    if shop.kind != "sqlite":
        return
    state = shop.good
    for zone, text, day in CHANGES:
        moment, entry = datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC), entry_of(text, zone)
        planned = []
        for _ in range(4):
            moment = next_of(entry, moment)
            planned.append(moment.astimezone(ZoneInfo(zone)))
        days = [at.date() for at in planned]
        assert days == [days[0] + timedelta(days=n) for n in range(4)], planned
        note = ", ".join(f"{at:%d %H:%M %Z}" for at in planned)
        yield Row(f"clocks change in {zone}, {text!r}", "none", state, state, "nothing", 0, note)


@contextmanager
def nights_of(shop: Shop, settings: str | None = None) -> Iterator[Nights]:
    """Schedulers on the shop's own tables, with the tests' job in place of training; with settings on new tables.

    A failure right after another one is the same incident, and gets no second alert.
    """
    folder = shop.folder / "nights"
    folder.mkdir()
    url = shop.url if settings is None else f"sqlite:///{folder / 'own.db'}"
    nights = Nights(folder, url, settings or "")
    try:
        yield nights
    finally:
        nights.close()
        shutil.rmtree(folder)


def row(shop: Shop, fault: str, done: str, before: Any, seconds: float, note: str) -> Row:
    shop.forget_leases()
    shop.good = after = shop.state()
    return Row(fault, done, before, after, lost_between(before, after), seconds, note)
