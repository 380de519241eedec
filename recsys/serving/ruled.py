"""A list under its rules: pins, boosts, caps, diversity and new items, over whatever a box ranks.

Shapes: N candidates, K places.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recsys.data.arrays import Bool, Float32, Int32, Int64
from recsys.serving import arrange, explore, masks, recommender
from recsys.serving.arrange import NO_GROUP, Arranged, Cap, Wanted
from recsys.serving.asked import Asked, hits_of, no_hits
from recsys.serving.eligibility import Eligibility
from recsys.serving.filters import Condition, Filter, Not
from recsys.serving.operators import fold
from recsys.serving.popular import target_weights
from recsys.serving.recommender import Hits
from recsys.serving.rules import Boost, Rules

MAX_DEPTH = 5_000  # candidates that boosts and diversity choose from
_EXPLORED = 50  # new items that are drawn from
PINNED, NEW = -1, -2  # the reasons of hits that no box ranked

Rank = Callable[[Asked, int], Hits]


@dataclass(frozen=True)
class Ruled:
    """A list, what moved each item of it, and pins that could not be placed."""

    hits: Hits  # [1, <= K]
    moved: list[dict[str, Any] | None]  # [<= K]: from (the place without rules, None: far behind), by
    pins_left_out: list[str]  # in words


def apply(asked: Asked, rank: Rank, k: int, rules: Rules, *, share: float, seed: int) -> Ruled:
    """The k items of a question under rules.

    rank: the best eligible items, so many, without padding; the reason of those that the box itself ranks is 0.
    share: of the places, for new items. seed: of the draw among them.
    The list is short only where no eligible item is left that the caps allow.
    """
    pins, left_out = _pins(asked, rules, k)
    explored = _explored(asked, rank, explore.places_for(share, k, seed), seed)
    depth = min(MAX_DEPTH, max(k, _depth(k, rules)))
    while True:
        hits = rank(asked, depth)
        if not rules.moves and not explored.rows.size:
            return Ruled(hits, [None] * hits.rows.shape[1], left_out)
        table = _Table(asked, rules, hits, pins, explored, k)
        is_all = hits.rows.shape[1] < depth
        if is_all or depth == MAX_DEPTH or table.is_settled(depth):
            break
        depth = min(MAX_DEPTH, 4 * depth)
    while not is_all and len(table.arranged.positions) < k:
        rest = asked.eligibility.without(asked.snapshot.view, hits.rows[0])
        more = rank(replace(asked, eligibility=_outside(asked, rest, table.full_groups())), max(k, depth))
        if not more.rows.shape[1]:
            break
        hits = _joined(hits, more)
        table = _Table(asked, rules, hits, pins, explored, k)
    return Ruled(table.hits(), table.moved(), left_out)


def known_rows(asked_histories: Any, kinds: Sequence[str], bought_codes: Sequence[int], rules: Rules) -> Int32:
    """The rows of a history, as histories have them, that may not come again by `allow_…` rules other than repurchase.

    asked_histories: one history. In the basket is what was put there after the last purchase of it.
    """
    rows, codes = asked_histories.items, asked_histories.kinds
    out = np.zeros(len(rows), np.bool_)
    if rules.allow_seen is False:
        out[:] = True
    if rules.allow_viewed is False and "view" in kinds:
        out |= codes == kinds.index("view")
    if rules.allow_in_basket is False and "cart" in kinds:
        bought = np.isin(codes, list(bought_codes))
        last_bought = {row: at for at, row in enumerate(rows.tolist()) if bought[at]}
        later = np.array([at > last_bought.get(row, -1) for at, row in enumerate(rows.tolist())], np.bool_)
        out |= (codes == kinds.index("cart")) & later
    return np.asarray(rows[out], np.int32)


class _Table:
    """Candidates in a row: those that were ranked, then pins and new items that are not among them."""

    def __init__(self, asked: Asked, rules: Rules, hits: Hits, pins: Mapping[int, int], explored: Hits, k: int) -> None:
        self._asked, self._rules, self._ranked, self._pins = asked, rules, hits, pins
        place = {row: at for at, row in enumerate(hits.rows[0].tolist())}
        others = [row for row in pins.values() if row not in place]
        others += [row for row in explored.rows[0].tolist() if row not in place and row not in pins.values()]
        place |= {row: len(place) + at for at, row in enumerate(dict.fromkeys(others))}
        self.rows = np.fromiter(place, np.int32, len(place))
        count = hits.rows.shape[1]
        self._factors = factors_of(asked, rules.boost, hits.rows[0])
        order = arrange.boosted_order(self._factors)
        own = [row for row in explored.rows[0].tolist() if row not in pins.values()]
        free = [at for at in range(1, k) if at not in pins]  # the last ones that no pin has
        self._kept = {at: place[row] for at, row in zip(free[max(0, len(free) - len(own)) :], own, strict=False)}
        self._scores = dict(zip(explored.rows[0].tolist(), explored.scores[0].tolist(), strict=True))
        self._values = {column: values_of(asked, column, self.rows) for column in rules.max_per}
        caps = [Cap(_codes(values), rules.max_per[column]) for column, values in self._values.items()]
        self._pinned = {at: place[row] for at, row in pins.items()}
        wanted = Wanted(k, self._pinned, self._kept, caps, rules.diversity or 0.0)
        vectors = directions(asked, self.rows) if rules.diversity else None
        with np.errstate(divide="ignore"):
            self._keys = np.arange(1, count + 1) / self._factors
        self._k = k
        self.arranged: Arranged = arrange.arrange(order, wanted, vectors)
        self._caps = caps

    def is_settled(self, depth: int) -> bool:
        """Whether a list that is full would be the same with more candidates: none of those can count as better."""
        chosen = self.arranged.positions
        if len(chosen) < self._k:
            return True  # more of the same does not help; see `apply`
        free = chosen[(chosen < len(self._keys)) & ~np.isin(chosen, [*self._pinned.values(), *self._kept.values()])]
        if self._rules.diversity:
            free = np.argsort(self._keys, kind="stable")[: self._k]
        highest = max((boost.factor for boost in self._rules.boost), default=1.0)
        most = max(1.0, highest) if len(self._rules.boost) < 2 else _highest(self._rules.boost)
        return bool(self._keys[free].max(initial=0) <= (depth + 1) / most)

    def full_groups(self) -> dict[str, list[Any]]:
        """The values of each column of which no more may come."""
        columns = list(self._values)
        full: dict[str, list[Any]] = {}
        for number, group in self.arranged.full:
            codes = self._caps[number].groups
            full.setdefault(columns[number], []).append(self._values[columns[number]][int(np.argmax(codes == group))])
        return full

    def hits(self) -> Hits:
        """The list as an answer."""
        count, positions = self._ranked.rows.shape[1], self.arranged.positions
        rows, is_ranked = self.rows[positions], positions < count
        scores, reasons = np.full(len(rows), np.nan, np.float32), np.full(len(rows), PINNED, np.int8)
        scores[is_ranked] = self._ranked.scores[0, positions[is_ranked]]
        reasons[is_ranked] = self._ranked.reasons[0, positions[is_ranked]]
        for at in np.flatnonzero(np.isin(positions, list(self._kept.values()))):
            scores[at], reasons[at] = self._scores[int(rows[at])], NEW
        return Hits(rows[None], scores[None], reasons[None])

    def moved(self) -> list[dict[str, Any] | None]:
        """For each place what moved the item there; None where nothing did."""
        count = len(self._factors)
        pinned, kept = set(self._pinned.values()), set(self._kept.values())
        found: list[dict[str, Any] | None] = []
        columns = (self.arranged.positions, self.arranged.passed_over, self.arranged.is_diverse)
        for at, (position, is_passed, is_diverse) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            factor = self._factors[position] if position < count else 1.0
            by = {
                "pin": position in pinned,
                "exploration": position in kept,
                "boost": factor > 1,
                "bury": factor < 1,
                "max_per": is_passed,
                "diversity": is_diverse,
            }
            before = position + 1 if position < count else None
            names = [name for name, holds in by.items() if holds]
            is_told = names and (before != at + 1 or names[0] in ("pin", "exploration"))
            found.append({"from": before, "by": names} if is_told else None)
        return found


def factors_of(asked: Asked, boosts: Sequence[Boost], rows: Int32) -> Float32:
    """The product of the factors of each of the joint rows [N]: float32 [N]."""
    view, factors = asked.snapshot.view, np.ones(len(rows), np.float32)
    for boost in boosts:
        if boost.wanted is None:
            factors[np.isin(rows, view.rows_of(boost.item_ids))] *= boost.factor
            continue
        for bundle, inside, own in view.split(rows):
            met = masks.mask(boost.wanted, bundle.catalog.columns)
            factors[inside[met[own]]] *= boost.factor
    return factors


def values_of(asked: Asked, column: str, rows: Int32) -> list[Any]:
    """What the catalog says of joint rows [N] in a column, texts without case and Unicode form; None: nothing."""
    view = asked.snapshot.view
    found: list[Any] = [None] * len(rows)
    for bundle, inside, own in view.split(rows):
        columns = bundle.catalog.columns
        if column in columns.column_names:
            for at, value in zip(inside, columns.column(column).take(own).to_pylist(), strict=True):
                found[at] = fold(value) if isinstance(value, str) else value
    return found


def directions(asked: Asked, rows: Int32) -> Float32:
    """What joint rows are alike by: their personal item vectors, each of length 1 or 0: float32 [N, D]."""
    view = asked.snapshot.view
    vectors = view.main.vectors.personal_columns(recommender.item_vectors(view, rows))
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30), np.float32)


def _pins(asked: Asked, rules: Rules, k: int) -> tuple[dict[int, int], list[str]]:
    """Place, from 0 on -> row of the pins that can be placed, and why others cannot. A taken place moves a pin on."""
    view, placed, left_out = asked.snapshot.view, dict[int, int](), list[str]()
    for pin in rules.pin:
        row = view.row_of(pin.item_id)
        place = next((place for place in range(pin.place - 1, k) if place not in placed), -1)
        if row < 0:
            left_out.append(f"{pin.item_id} is pinned, and nobody knows this item.")
        elif not asked.eligibility.keeps(view, np.array([row], np.int32))[0]:
            left_out.append(f"{pin.item_id} is pinned, and not eligible: {_why_not(asked, row)}.")
        elif place < 0:
            left_out.append(f"{pin.item_id} is pinned to place {pin.place}; of {k} places none is free from there on.")
        else:
            placed[place] = row
    return placed, left_out


def _why_not(asked: Asked, row: int) -> str:
    view, at = asked.snapshot.view, int(row >= len(asked.snapshot.view.main.catalog))
    in_stock, allowed = asked.snapshot.stock.allowed[at], asked.eligibility.allowed[at]
    own = row - view.starts[at]
    if in_stock is not None and not in_stock[own]:
        return "it is sold out or not in the shop's catalog"
    if allowed is not None and not allowed[own]:
        return "it does not meet the filter, or the box never lists it"
    return "it was bought, is excluded, or the question is about it"


def _explored(asked: Asked, rank: Rank, count: int, seed: int) -> Hits:
    """New items for `count` places, drawn from those that rank best among the new, by the demand they may expect.

    Those that the box cannot rank follow by expected demand alone.
    """
    view = asked.snapshot.view
    rows = explore.new_rows(view, asked.as_of) if count else np.zeros(0, np.int32)
    rows = explore.sample(rows[asked.eligibility.keeps(view, rows)], seed)
    if not len(rows):
        return no_hits()
    hits = rank(replace(asked, eligibility=asked.eligibility.only(view, rows)), _EXPLORED)
    hits = _at(hits, np.flatnonzero(hits.reasons[0] == 0))  # of the box itself
    expected = explore.expected_demand(view, rows, asked.as_of, target_weights(asked))
    others = np.flatnonzero(~np.isin(rows, hits.rows[0]))
    others = others[np.argsort(-expected[others], kind="stable")]
    hits = _joined(hits, hits_of(rows[others], expected[others]))
    by_row = dict(zip(rows.tolist(), expected.tolist(), strict=True))
    best = np.array([by_row[row] for row in hits.rows[0, :_EXPLORED].tolist()], np.float32)
    return _at(hits, explore.draw(best, count, seed))


def _at(hits: Hits, positions: Int64) -> Hits:
    return Hits(hits.rows[:, positions], hits.scores[:, positions], hits.reasons[:, positions])


def _depth(k: int, rules: Rules) -> int:
    """How many candidates rules need at first; more are asked for where these do not do."""
    if rules.diversity or rules.max_per:
        return max(4 * k, 100)
    return int(k * min(_highest(rules.boost), 10.0)) + k if rules.boost else k


def _highest(boosts: Sequence[Boost]) -> float:
    """The largest factor that an item may have: all boosts together."""
    return float(np.prod([max(1.0, boost.factor) for boost in boosts]))


def _outside(asked: Asked, eligibility: Eligibility, full: Mapping[str, list[Any]]) -> Eligibility:
    """The eligible items that have none of these values."""
    allowed: list[Bool | None] = list(eligibility.allowed)
    for column, values in full.items():
        outside: Filter = Not(Condition(column, "in", tuple(values)))
        for at, bundle in enumerate(asked.snapshot.view.bundles):
            met, mask = masks.mask(outside, bundle.catalog.columns), allowed[at]
            allowed[at] = met if mask is None else met & mask
    return replace(eligibility, allowed=tuple(allowed))


def _joined(first: Hits, second: Hits) -> Hits:
    return Hits(
        np.concatenate([first.rows, second.rows], axis=1),
        np.concatenate([first.scores, second.scores], axis=1),
        np.concatenate([first.reasons, second.reasons], axis=1),
    )


def _codes(values: Sequence[Any]) -> Int64:
    numbers: dict[Any, int] = {}
    return np.array([NO_GROUP if v is None else numbers.setdefault(v, len(numbers)) for v in values], np.int64)
