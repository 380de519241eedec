"""kill -9: at each named point of a night, and at any moment."""

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from shop import Row, Shop, left_in_session, lost_between

from recsys.store.runs import list_runs

POINTS = (
    "in readings",
    "before readings",
    "in file",
    "after fit",
    "in save",
    "before publish",
    "after extract",
    "in publish",
    "after publish",
    "before outcome",
)
IN_A_ROW = 4  # kills, before a night may end
MOVED = ("after publish", "before outcome")  # there the new bundle is live, complete


def at_points(shop: Shop, _asked: Any) -> Iterator[Row]:
    for point in POINTS:
        before = shop.good
        night = shop.start("train", "--full", RECSYS_CRASH_AT=point)
        errors = night.communicate(timeout=600)[1]
        assert night.returncode == -signal.SIGKILL, (point, errors)
        assert not left_in_session(night.pid), point
        yield shop.row(f"killed {point}", "SIGKILL", before, moved=point in MOVED)


def at_random(shop: Shop, asked: Any) -> list[Row]:
    """One row: the worst of the losses, and how many kills there were in each step. The error stream counts along.

    Several nights in a row are killed before one may end: the next one begins with what the dead have left.
    """
    steps: Counter[str] = Counter()
    rows, chance, before = [], random.Random(asked.seed), shop.good
    for number in range(1, asked.random + 1):
        kill_somewhere(shop, chance)
        after = shop.state()
        step = step_of(after.steps) if after.running else "after its end"
        steps[step] += 1
        lost, seconds, left = lost_between(before, after, moved=True), 0.0, after
        if number % IN_A_ROW == 0 or number == asked.random:
            left, seconds = shop.good_again()
        rows.append(Row("killed at random", "SIGKILL", before, after, lost, seconds))
        sys.stderr.write(f"{shop.kind}: kill {number} {step}, lost {lost}, again {seconds:.1f} s\n")
        before = left
    if not rows:
        return []
    worst = max(rows, key=lambda row: (row.lost != "nothing", row.seconds))
    where = ", ".join(f"{count} {step}" for step, count in steps.most_common())
    return [replace(worst, fault=f"killed {len(rows)} times at random", note=where)]


def kill_somewhere(shop: Shop, chance: random.Random) -> None:
    """Kill a night at a moment of its run, as long as the last good one took."""
    last, good = list_runs(shop.store, 1)[0], list_runs(shop.store, 1, statuses=("done",))[0]
    shop.forget_leases()  # of the night that was killed before
    night = shop.start("train", "--full")
    while list_runs(shop.store, 1)[0].run_id == last.run_id and night.poll() is None:
        time.sleep(0.05)
    time.sleep(chance.uniform(0, ((good.finished_at or 0) - good.started_at) / 1e6))
    os.kill(night.pid, signal.SIGKILL)
    night.communicate()
    assert not left_in_session(night.pid)


def step_of(ended: list[str]) -> str:
    return f"after {ended[-1]}" if ended else "in the first step"
