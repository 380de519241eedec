"""Simulate nights of a shop that grows and drifts, eighteen faults among them, and count which the guards refuse.

    python -m benchmarks.nights --seeds 1 2 3

A seed is a shop of 300 nights. Each fault comes at least ten times; the other nights are good. A night that is refused
changes nothing; the next is judged by the last good ones. Prints a table of the faults, the good nights that were
refused, and the guards that refused. Nothing is trained: the guards of the data are pure functions of figures.
"""

import argparse
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from benchmarks.night_shop import CLOCK, EIGHT, FAULTS, START, Rows, Shop
from recsys.config.settings import Config
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.guards.bases import judge_beside
from recsys.guards.comparison import Known
from recsys.guards.figures import NightData, measure
from recsys.guards.judge import Night
from recsys.guards.verdicts import Verdict

NIGHTS, FIRST = 300, 64
EACH = 10  # nights of each fault
KEPT = 7


@dataclass
class Tally:
    """What came of the nights, by fault; "good" is none."""

    nights: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    guards: dict[str, Counter[str]] = field(default_factory=dict)
    after_bad: Counter[str] = field(default_factory=Counter)  # good nights right after a refused bad one, and refused

    def add(self, name: str, refusing: list[Verdict]) -> None:
        """Count a night."""
        self.nights[name] += 1
        self.refused[name] += bool(refusing)
        self.guards.setdefault(name, Counter()).update(verdict.guard for verdict in refusing)


class Ledger:
    """The good nights, as the ledger and the extract keep them."""

    def __init__(self) -> None:
        self.nights: list[Night] = []
        self.known: Known | None = None

    def run(self, data: NightData, now: int) -> list[Verdict]:
        """Judge a scheduled night; keep it when it is published. Returns what refuses."""
        figures = measure(data, now=now)
        verdicts, _ = judge_beside(figures, data, self.nights, [], self._known, Config())
        refusing = [verdict for verdict in verdicts if verdict.outcome == "refuse"]
        if not refusing:
            self.nights.insert(0, Night(figures, {verdict.guard: verdict.figure for verdict in verdicts}))
            self.known = Known(data.users, data.catalog.ids)
            del self.nights[KEPT:]
        return refusing

    def _known(self, night: Night) -> Known | None:
        return self.known if night is self.nights[0] else None


def moment(day: float) -> int:
    """When the night of a day begins: microseconds UTC."""
    return round((START + day + CLOCK) * MICROSECONDS_PER_DAY)


def plan(random: np.random.Generator) -> list[str]:
    """The fault of each night; the first ten are good."""
    faults = [name for name in FAULTS for _ in range(EACH)]
    rest = [*faults, *["good"] * (NIGHTS - 10 - len(faults))]
    return ["good"] * 10 + [rest[at] for at in random.permutation(len(rest))]


def simulate(seed: int, tally: Tally) -> None:
    """Run the nights of one shop."""
    shop, random, ledger = Shop(seed), np.random.default_rng(seed + 10_000), Ledger()
    was_refused = False
    for at, name in enumerate(plan(random)):
        day = FIRST + at
        rows: Rows = shop.night(day)
        if name != "good":
            rows = FAULTS[name](rows, day + CLOCK, random)
        refusing = ledger.run(rows.data(), moment(day))
        tally.add(name, refusing)
        if name == "good" and was_refused:
            tally.after_bad["nights"] += 1
            tally.after_bad["refused"] += bool(refusing)
        if name == "good" and refusing:
            print(f"seed {seed}, good night {at} refused: {'; '.join(map(str, refusing))}")
        was_refused = name != "good" and bool(refusing)


def show(tally: Tally) -> None:
    """Print the table."""
    print(f"\n| night | nights | refused | published | guards |\n|{'---|' * 5}")
    for name in ("good", *FAULTS):
        nights, refused = tally.nights[name], tally.refused[name]
        guards = ", ".join(f"{guard} {count}" for guard, count in tally.guards[name].most_common(3))
        mark = " (of the eight)" if name in EIGHT else ""
        print(f"| {name}{mark} | {nights} | {refused} | {nights - refused} | {guards} |")
    after = tally.after_bad
    print(f"\ngood nights right after a refused bad one: {after['nights']}, of them refused {after['refused']}")


def main() -> None:
    """Simulate, and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="one shop each")
    seeds = arguments.parse_args().seeds
    tally, start = Tally(), time.perf_counter()
    for seed in seeds:
        simulate(seed, tally)
    show(tally)
    print(f"{sum(tally.nights.values())} nights in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
