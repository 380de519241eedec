"""The moments of the past that are learned from and judged on, and what was known and bought around each of them.

A cut is the begin of a day; its window are the days from it on. All cuts lie on one grid, whose step divides the
window, so that features are computed once for each. Shapes: B customers known at a cut, F features.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from recsys.data.arrays import Int64
from recsys.propensity.days import BuyingDays
from recsys.propensity.features import Usual, compute, usual_before
from recsys.propensity.networks import Examples

PAST_CUTS = 8  # that models are judged on
_OLDER_CUTS = 4  # beside them, from which corrections are learned, where the history is long enough
_LEARNED_CUTS = 8  # newest ones before a cut, at most
_STEPS = 6  # of the grid in a window, where the history is long enough
_LEAST_HISTORY = 0.5  # windows of history before the first cut that is learned from
_MOST_CUSTOMERS = 25_000  # sampled to learn from and to judge on
_MOST_EXAMPLES = 40_000  # sampled for each training; more of the same customers, at cuts close by, say little more


@dataclass(frozen=True)
class Cut:
    """What was known of B customers at a cut, and what they bought in the window after it."""

    day: int
    users: Int64  # [B]
    examples: Examples


@dataclass
class Past:
    """The cuts of a shop for one window. Each is computed when it is first asked for."""

    days: BuyingDays
    window: int
    item_count: int
    category_count: int
    seed: int
    _cuts: dict[int, Cut] = field(default_factory=dict)
    _usual: dict[int, Usual] = field(default_factory=dict)

    @property
    def history(self) -> int:
        """Days from the first purchase to now."""
        return -self.days.first_day

    @property
    def least(self) -> int:
        """Days of history before the first cut that is learned from."""
        return math.ceil(self.window * _LEAST_HISTORY)

    @property
    def steps(self) -> int:
        """Steps of the grid in a window: so many that PAST_CUTS fit."""
        room = self.history - 2 * self.window - self.least
        step = min(self.window / _STEPS, room / (PAST_CUTS - 1))
        return math.ceil(self.window / step) if step >= 1 else self.window

    def day_of(self, number: int) -> int:
        """The day of the cut that lies so many steps of the grid back from now."""
        return -round(number * self.window / self.steps)

    def past(self) -> list[int]:
        """The numbers of the cuts to judge on, the newest first."""
        last = (self.history - self.window - self.least) * self.steps // self.window
        return list(range(self.steps, last + 1))[: PAST_CUTS + _OLDER_CUTS]

    def learned_at(self, number: int) -> list[int]:
        """The numbers of the cuts whose windows had ended by a cut, the newest first."""
        last = (self.history - self.least) * self.steps // self.window
        return list(range(number + self.steps, last + 1))[:_LEARNED_CUTS]

    def usual_at(self, number: int) -> Usual:
        """What was usual in the shop by a cut."""
        if number not in self._usual:
            day = self.day_of(number)
            self._usual[number] = usual_before(self.days, day, self.window, self.item_count, self.category_count)
        return self._usual[number]

    def cut(self, number: int) -> Cut:
        """What was known at a cut and came after it."""
        if number not in self._cuts:
            day = self.day_of(number)
            users = self.days.known_before(day)
            at = np.full(len(users), day, np.int64)
            bought, amounts = self.days.bought_in(users, day, day + self.window)
            features = compute(self.days, users, at, self.usual_at(number), self.window)
            self._cuts[number] = Cut(day, users, Examples(features, bought, amounts))
        return self._cuts[number]

    def examples_at(self, number: int) -> Examples:
        """The examples to learn from at a cut; a sample, drawn by the seed, where there are very many."""
        parts = [self.cut(one).examples for one in self.learned_at(number)]
        count = sum(len(part.bought) for part in parts)
        kept = np.ones(count, np.bool_)
        if count > _MOST_EXAMPLES:
            dropped = np.random.default_rng(self.seed).choice(count, count - _MOST_EXAMPLES, replace=False)
            kept[dropped] = False
        places = np.split(kept, np.cumsum([len(part.bought) for part in parts])[:-1])
        return Examples(
            np.concatenate([part.features[at] for part, at in zip(parts, places, strict=True)]),
            np.concatenate([part.bought[at] for part, at in zip(parts, places, strict=True)]),
            np.concatenate([part.amounts[at] for part, at in zip(parts, places, strict=True)]),
        )


def sample(days: BuyingDays, seed: int) -> BuyingDays:
    """Keep so many customers, drawn by the seed, as are learned from."""
    users = np.unique(days.users)
    if len(users) > _MOST_CUSTOMERS:
        users = np.sort(np.random.default_rng(seed).choice(users, _MOST_CUSTOMERS, replace=False))
    return days.of_users(users)
