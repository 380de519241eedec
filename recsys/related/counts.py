"""Pairs counted in baskets: how often two items are in one basket, weighted in several ways at once.

Shapes: B baskets, I items, S seeds (the items asked about), P pairs, W weightings.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recsys.data.arrays import Float32, Int32, Int64
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.related.baskets import Baskets

ALL_TIME = 36500.0  # days: a half-life that weighs all baskets alike
_LEAST_WEIGHT = 1e-9  # scipy drops pairs whose sum is 0, and all weightings need the same ones
_PAIRS_AT_ONCE = 4_000_000
_RECENT_DAYS = 28.0
_MOST_ITEMS_A_USER = 300


@dataclass(frozen=True)
class Weighting:
    """How much a basket counts: 0.5 ** (age / half_life_days) / size ** size_exponent."""

    half_life_days: float = ALL_TIME
    size_exponent: float = 0.0


UNWEIGHTED = Weighting()


@dataclass(frozen=True)
class Pairs:
    """What is in one basket with each of S seeds, without the seed: seed s owns offsets[s]:offsets[s + 1]."""

    seeds: Int64  # [S] item rows
    offsets: Int64  # [S + 1]
    items: Int32  # [P]
    counts: Float32  # [W, P]

    @property
    def owners(self) -> Int64:
        """The position 0..S-1 of the seed of each pair: int64 [P]."""
        return np.repeat(np.arange(len(self.seeds)), np.diff(self.offsets))

    def select(self, which: npt.NDArray[np.integer]) -> "Pairs":
        """The pairs at the positions `which`, ascending."""
        sizes = np.bincount(self.owners[which], minlength=len(self.seeds))
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return Pairs(self.seeds, offsets, self.items[which], self.counts[:, which])


@dataclass(frozen=True)
class Counted:
    """The baskets up to a moment, ready to be counted."""

    baskets: Baskets
    now: int  # microseconds; no basket is later

    @cached_property
    def ages_days(self) -> npt.NDArray[np.float64]:
        """How old each basket is: float64 [B]."""
        return (self.now - self.baskets.times) / MICROSECONDS_PER_DAY

    def weights(self, weighting: Weighting) -> Float32:
        """How much each basket counts: float32 [B]."""
        weights = 1 / self.baskets.sizes**weighting.size_exponent
        if weighting.half_life_days < ALL_TIME:
            weights *= 0.5 ** (self.ages_days / weighting.half_life_days)
        return np.maximum(weights, _LEAST_WEIGHT).astype(np.float32)

    def demand(self, half_life_days: float) -> Float32:
        """In how many baskets each item is, those of long ago counting less: float32 [I]."""
        return self.demand_in(Weighting(half_life_days))

    def demand_in(self, weighting: Weighting) -> Float32:
        """In how many baskets each item is, as the weighting counts them: float32 [I]."""
        return np.asarray(self.baskets.transposed @ self.weights(weighting), np.float32)

    @cached_property
    def total(self) -> Float32:
        """In how many baskets each item is: float32 [I]."""
        return self.demand(ALL_TIME)

    @cached_property
    def recent(self) -> Float32:
        """In how many baskets of the last 28 days each item is: float32 [I]."""
        weights = (self.ages_days <= _RECENT_DAYS).astype(np.float32)
        return np.asarray(self.baskets.transposed @ weights, np.float32)

    @cached_property
    def trend(self) -> Float32:
        """The share of an item's baskets that is of the last 28 days, over that of all items: float32 [I], about 1.

        It is drawn towards 1 as if the item had been in five more baskets.
        """
        overall = max(float(self.recent.sum()), 1.0) / max(float(self.total.sum()), 1.0)
        return np.asarray((self.recent / overall + 5) / (self.total + 5), np.float32)

    @cached_property
    def latest_demand(self) -> tuple[Float32, Float32, Float32]:
        """The demand with half-lives of 60, 20 and 7 days: float32 [I] each."""
        return self.demand(60.0), self.demand(20.0), self.demand(7.0)

    @cached_property
    def buyers(self) -> tuple[sparse.csr_array, sparse.csr_array]:
        """1 where a user has an item in any basket: sparse float32 [users, I], and the same [I, users].

        Who has hundreds of items says little of which belong together, and costs most: such users are left out.
        """
        users, rows = np.unique(self.baskets.users, return_inverse=True)
        owners = np.repeat(rows, self.baskets.sizes)
        ones = np.ones(len(owners), np.float32)
        by_user = sparse.csr_array((ones, (owners, self.baskets.items)), shape=(len(users), self.baskets.item_count))
        by_user.data[:] = 1
        by_user = by_user[np.diff(by_user.indptr) <= _MOST_ITEMS_A_USER]
        return by_user, by_user.T.tocsr()

    def pairs(self, seeds: Int64, weightings: Sequence[Weighting]) -> Pairs:
        """Count what is in one basket with each of the `seeds` [S], in each of the weightings."""
        asked = self.baskets.transposed[seeds]
        parts = dict[Weighting, sparse.csr_array]()
        for weighting in dict.fromkeys(weightings):
            weighted = asked.copy()
            weighted.data *= self.weights(weighting)[asked.indices]
            parts[weighting] = weighted @ self.baskets.matrix
        first = parts[weightings[0]]
        owners = np.repeat(np.arange(len(seeds)), np.diff(first.indptr))
        kept = first.indices != seeds[owners]
        sizes = np.bincount(owners[kept], minlength=len(seeds))
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        # The products of matrices of one pattern have one pattern, in one order.
        counts = np.stack([parts[weighting].data[kept] for weighting in weightings]).astype(np.float32, copy=False)
        return Pairs(seeds, offsets, first.indices[kept].astype(np.int32), counts)

    def blocks(self, seeds: Int64) -> Iterator[Int64]:
        """The seeds [S] in blocks whose pairs need a bounded memory."""
        work = self.baskets.transposed @ self.baskets.sizes.astype(np.float64)
        number = np.cumsum(work[seeds]) // _PAIRS_AT_ONCE
        yield from np.split(seeds, np.flatnonzero(np.diff(number)) + 1)


def best_of_each(offsets: Int64, scores: npt.NDArray[np.floating], most: int) -> Int64:
    """The positions of the `most` highest scores of each owner, grouped by owner, highest first; ties by position.

    offsets: [S + 1]; scores: [P].
    """
    found = []
    for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        own = scores[start:stop]
        if stop - start > most:
            least = np.partition(own, stop - start - most)[stop - start - most]
            at = np.flatnonzero(own >= least)
            found.append(start + at[np.argsort(-own[at], kind="stable")[:most]])
        else:
            found.append(start + np.argsort(-own, kind="stable"))
    return np.concatenate(found).astype(np.int64) if found else np.zeros(0, np.int64)
