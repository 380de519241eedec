"""From ranked candidates to a list: pins, boosts, at most so many of a kind, diversity, and places kept for others.

Pure functions on one list. Shapes: N candidates, best first; K places of the list; D dim.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recsys.data.arrays import Bool, Float32, Int64

NO_GROUP = -1  # the code of a candidate that no cap counts


@dataclass(frozen=True)
class Cap:
    """At most `limit` candidates of one group. A group is what has the same value in a column."""

    groups: Int64  # [N] codes; NO_GROUP: not counted
    limit: int


@dataclass(frozen=True)
class Wanted:
    """What a list has to be like."""

    k: int
    pins: Mapping[int, int]  # place, from 0 on -> position of the candidate that has to be there
    kept: Mapping[int, int]  # the same for candidates that go there if no cap forbids it
    caps: Sequence[Cap]
    diversity: float = 0.0  # 0: only the order counts, 1: only how unlike the items are


@dataclass(frozen=True)
class Arranged:
    """The list, and what made it so."""

    positions: Int64  # [<= K] of candidates, in the order of the list
    passed_over: Bool  # [<= K]: candidates that stood before this one had to go because of a cap
    is_diverse: Bool  # [<= K]: the place comes from diversity
    full: tuple[tuple[int, int], ...]  # (position of the cap, group): no more of them may come


def boosted_order(factors: Float32) -> Int64:
    """The order of N candidates, best first, when each counts as at place / factor: positions [N].

    A factor of 2 lets the candidate at place 10 count as at place 5, 0.5 as at place 20, 0 behind all others. It works
    on places, because scores may be negative and compare within one reason only.
    """
    places = np.arange(1, len(factors) + 1, dtype=np.float64)
    with np.errstate(divide="ignore"):
        moved = np.where(factors == 1, places, places / factors)
    return np.lexsort((places, -factors, moved))


def arrange(order: Int64, wanted: Wanted, vectors: Float32 | None = None) -> Arranged:
    """Fill K places from candidates in an order.

    Pins stand where they have to, and count in the caps before all others. Every other place takes the first candidate
    that no cap forbids; with diversity the one with the most of (1 - diversity) * worth - diversity * likeness, where
    worth is 1 / log2(1 + place in the order) and likeness the largest cosine with what is in the list already (maximal
    marginal relevance, Carbonell and Goldstein 1998). What has a place behind the end of the list moves up to it.
    order: positions [M] of candidates, M <= N; pins and kept ones may be others. vectors: unit vectors [N, D], needed
    for diversity.
    """
    room = _Room(order, wanted, vectors if wanted.diversity else None)
    chosen: list[tuple[int, bool, bool]] = []
    pins, kept = dict(sorted(wanted.pins.items())), dict(sorted(wanted.kept.items()))
    for position in pins.values():
        room.take(position)
    room.reserve(list(kept.values()))
    while len(chosen) < wanted.k:
        place, best = len(chosen), room.best()
        if best < 0:  # whoever is left moves up; pins only where nothing else is left to stand before them
            kept = _moved_up({at: position for at, position in kept.items() if room.is_open(position)}, place)
            pins = pins if kept else _moved_up(pins, place)
        if place in pins:
            chosen.append((pins.pop(place), False, False))
        elif place in kept and room.is_open(kept[place]):
            chosen.append((room.take(kept.pop(place)), False, False))
        elif best >= 0:
            chosen.append((int(order[best]), room.has_passed(best), room.is_diverse(best)))
            room.take(int(order[best]))
        else:
            break
    columns = list(zip(*chosen, strict=True)) or [(), (), ()]
    return Arranged(
        np.array(columns[0], np.int64), np.array(columns[1], np.bool_), np.array(columns[2], np.bool_), room.full
    )


class _Room:
    """Which candidates may still come, and which of them is the best."""

    def __init__(self, order: Int64, wanted: Wanted, vectors: Float32 | None) -> None:
        self._order, self._caps, self._vectors = order, wanted.caps, vectors
        self._ordered = None if vectors is None else vectors[order]
        self._diversity = 0.0 if vectors is None else wanted.diversity
        self._worth = 1 / np.log2(np.arange(2, len(order) + 2))
        self._likeness = np.full(len(order), -1.0)
        self._is_open = np.ones(len(order), np.bool_)
        self._is_capped = np.zeros(len(order), np.bool_)
        self._used: set[int] = set()
        self._counts: list[dict[int, int]] = [{} for _ in wanted.caps]

    @property
    def full(self) -> tuple[tuple[int, int], ...]:
        return tuple(
            (number, group)
            for number, (cap, counts) in enumerate(zip(self._caps, self._counts, strict=True))
            for group, count in sorted(counts.items())
            if count >= cap.limit
        )

    def best(self) -> int:
        """The place in the order of the best that may come, of equal ones the first; -1 when there is none."""
        if not self._is_open.any():
            return -1
        if not self._diversity:
            return int(np.argmax(self._is_open))
        relevance = (1 - self._diversity) * self._worth - self._diversity * self._likeness
        return int(np.argmax(np.where(self._is_open, relevance, -np.inf)))

    def is_open(self, position: int) -> bool:
        return position not in self._used and all(
            counts.get(int(cap.groups[position]), 0) < cap.limit
            for cap, counts in zip(self._caps, self._counts, strict=True)
        )

    def has_passed(self, at: int) -> bool:
        """Whether a cap took somebody out who stood before this place in the order."""
        return bool(self._is_capped[:at].any())

    def is_diverse(self, at: int) -> bool:
        """Whether somebody stands before this place in the order who may come too."""
        return bool(self._is_open[:at].any())

    def reserve(self, positions: list[int]) -> None:
        """Keep candidates for places of their own."""
        self._is_open[np.isin(self._order, positions)] = False

    def take(self, position: int) -> int:
        self._used.add(position)
        self._is_open[self._order == position] = False
        if self._ordered is not None and self._vectors is not None:
            np.maximum(self._likeness, self._ordered @ self._vectors[position], out=self._likeness)
        for cap, counts in zip(self._caps, self._counts, strict=True):
            group = int(cap.groups[position])
            if group == NO_GROUP:
                continue
            counts[group] = counts.get(group, 0) + 1
            if counts[group] >= cap.limit:
                closed = self._is_open & (cap.groups[self._order] == group)
                self._is_capped |= closed
                self._is_open &= ~closed
        return position


def _moved_up(places: dict[int, int], first: int) -> dict[int, int]:
    """The same candidates, in the same order, from a place on without gaps."""
    return {first + at: position for at, position in enumerate(places.values())}
