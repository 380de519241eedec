"""A small shop whose nights are measured and judged: 80 days of events, and what can go wrong with them."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.config.settings import GuardSettings
from recsys.data.catalog import Catalog
from recsys.data.interactions import Interactions
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary
from recsys.guards.comparison import Known, compare
from recsys.guards.figures import Figures, NightData, measure
from recsys.guards.judge import Night, judge
from recsys.guards.verdicts import Verdict

KINDS = ("view", "cart", "purchase")
FIRST, DAYS = 20_000, 80  # counted from 1970
USERS, ITEMS = 300, 120
SETTINGS = GuardSettings()


@dataclass(frozen=True)
class Rows:
    """Events as columns, and a catalog; a fault is another one of these."""

    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    kinds: npt.NDArray[np.int8]
    times: npt.NDArray[np.int64]
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    catalog: dict[str, list[object]]
    duplicates: int = 0

    def keep(self, which: npt.NDArray[np.bool_]) -> "Rows":
        columns = {name: getattr(self, name)[which] for name in ("users", "items", "kinds", "times")}
        return replace(self, **columns)

    def plus(self, other: "Rows") -> "Rows":
        columns = ("users", "items", "kinds", "times")
        return replace(self, **{n: np.concatenate([getattr(self, n), getattr(other, n)]) for n in columns})

    def until(self, day: float) -> "Rows":
        return self.keep(self.times < (FIRST + day) * MICROSECONDS_PER_DAY)

    def data(self) -> NightData:
        nothing = np.full(len(self.users), np.nan, np.float32)
        counts = {"user_count": len(self.user_ids), "item_count": len(self.item_ids)}
        events = Interactions.from_rows(self.users, self.items, self.kinds, self.times, nothing, **counts)
        listed = len(self.catalog["title"])
        unlisted = [None] * (len(self.item_ids) - listed)
        columns = pa.table({name: [*column, *unlisted] for name, column in self.catalog.items()})
        catalog = Catalog(Vocabulary.from_ids(self.item_ids), columns, listed)
        users = Vocabulary.from_ids(self.user_ids)
        return NightData(events, events.before(0), users, catalog, KINDS, 0, self.duplicates)


@cache
def shop(days: int = DAYS, daily: int = 240, seed: int = 0) -> Rows:
    """Steady days of views, carts and purchases, from 6 to 23 o'clock."""
    random = np.random.default_rng(seed)
    count = days * daily
    day = np.repeat(np.arange(days), daily)
    weight = 1 / np.arange(1, ITEMS + 1) ** 0.7
    return Rows(
        users=random.integers(0, USERS, count).astype(np.int32),
        items=random.choice(ITEMS, count, p=weight / weight.sum()).astype(np.int32),
        kinds=random.choice(3, count, p=[0.6, 0.2, 0.2]).astype(np.int8),
        times=((FIRST + day + random.uniform(6, 23, count) / 24) * MICROSECONDS_PER_DAY).astype(np.int64),
        user_ids=tuple(str(1000 + row) for row in range(USERS)),
        item_ids=tuple(f"P{row:04d}" for row in range(ITEMS)),
        catalog={
            "title": [f"Item {row}" for row in range(ITEMS)],
            "category": [f"Shelf {row % 9}" for row in range(ITEMS)],
            "price": [float(2 + row) for row in range(ITEMS)],
            "available": [row % 10 > 0 for row in range(ITEMS)],
        },
    )


def night_of(rows: Rows, day: float) -> Figures:
    """The figures of the night at two o'clock after so many days."""
    return measure(rows.data(), now=round((FIRST + day + 2 / 24) * MICROSECONDS_PER_DAY))


def nights_before(rows: Rows, day: float, count: int = 3) -> list[Night]:
    """The good nights of the days before `day`, newest first."""
    return [Night(night_of(rows.until(day - back), day - back)) for back in range(1, count + 1)]


@cache
def steady_nights() -> list[Night]:
    """The nights before that of the steady shop."""
    return nights_before(shop(), DAYS)


def judged(
    tonight: Rows,
    day: float = DAYS,
    *,
    settings: GuardSettings = SETTINGS,
    before: Rows | None = None,
    good_until: float | None = None,
    max_data_drop: float = 0.3,
) -> list[Verdict]:
    """The verdicts of a night beside those of `before` (the steady shop) that end at `good_until` (a day earlier)."""
    good = day if good_until is None else good_until
    nights = steady_nights() if before is None and good == DAYS else nights_before(before or shop(), good)
    data, known = tonight.data(), (before or shop()).until(good - 1).data()
    comparison = compare(data, nights[0].figures, Known(known.users, known.catalog.ids))
    return judge(night_of(tonight, day), comparison, nights, settings, max_data_drop=max_data_drop)


def refused(verdicts: list[Verdict]) -> set[str]:
    return {verdict.guard for verdict in verdicts if verdict.outcome == "refuse"}
