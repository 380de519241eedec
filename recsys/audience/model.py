"""The probability that a user buys one of the given items soon: P(buys at all) * P(buys one of these | buys at all).

Both factors are learned from the most recent days, with vectors that were trained before those days. Shapes: U users,
B users in a block, S items asked about, E events.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsys.audience import logistic
from recsys.audience.features import (
    Affinity,
    Block,
    Float64,
    UserItemFeatures,
    compute_user_features,
    compute_user_item_features,
)
from recsys.audience.logistic import Logistic
from recsys.data.arrays import Bool, Int32, Int64
from recsys.data.interactions import Histories, Interactions
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.errors import RefusedError
from recsys.models.vectors import Vectors
from recsys.progress import Progress

ReadHistories = Callable[[Int64, int], Histories]  # user rows and a moment -> their histories, over the bundle's items
Measure = Callable[[Block], Float64]  # what a strategy measures of B users: [B], -inf for users whom it does not mean

NEVER_SEEN = np.iinfo(np.int64).max

_FIT_USERS = 100_000  # sampled for P(buys at all), over all windows
_FIT_WINDOWS = 5  # for P(buys at all): more are steadier. P(item | buys) is learned from the newest window only
_FIT_BUYERS = 5_000  # sampled for P(item | buys)
_FIT_ITEMS = 200
_RARE = 0.2  # sampling weight of an item without recent buyers, added to the number of buyers of the others
_BLOCK_USERS = 8192
_BLOCK_PAIRS = 2**18
BEST = 4  # of several items, so many are told for each user


@dataclass(frozen=True)
class Shop:
    """What an audience is drawn from. Item rows are the bundle's, times microseconds UTC."""

    first_seen: Int64  # [U] moment of each user's first event, NEVER_SEEN: there is none that counts
    purchases: Interactions  # events of kinds that mean "bought", without deleted users
    histories_at: ReadHistories  # ages are those at the moment, and at most those at `known_until`
    bought_codes: tuple[int, ...]
    known_until: int  # just after the newest event that training has seen; newer ones count as history alone


@dataclass(frozen=True)
class Window:
    """The days that were learned from: start <= time < end. Probabilities hold for as many days ahead."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Microseconds."""
        return self.end - self.start

    @property
    def days(self) -> float:
        """The length in days."""
        return self.length / MICROSECONDS_PER_DAY


@dataclass(frozen=True)
class BuyingModel:
    """Two logistic regressions and the window that they were learned from."""

    window: Window
    at_all: Logistic  # on UserFeatures.design
    of_item: Logistic  # on UserItemFeatures.design, given that the user buys at all


@dataclass(frozen=True)
class Scores:
    """Probabilities and facts about U users and a set of items; arrays [U] unless they say otherwise.

    Without items the question is about anything: then what says "items" is about all of them.
    """

    probability: Float64  # that the user buys at least one of the items within the window
    at_all: Float64  # that the user buys anything
    events: Float64  # in the history
    purchases: Float64
    purchase_days: Float64
    days_since_purchase: Float64
    bought_days: Float64  # days with a purchase, summed over the items
    days_since_bought: Float64
    looks: Float64
    affinity: Float64  # for the item that suits the user best
    has_history: Bool
    measured: Float64  # by the strategy, -inf for users whom it does not mean; 0: it measures nothing
    best: Int32  # [U, up to BEST] rows of the items that the user most probably buys, the best first


def learning_window(events: Interactions, as_of: int, days: float) -> Window:
    """The last `days` before `as_of` and before the newest event; at most a fifth of the time that events span.

    Raises RefusedError when there is no event before `as_of`.
    """
    before = events.times < as_of
    if not before.any():
        raise RefusedError("there is no event before the moment asked for, so there is nothing to learn from")
    first, end = int(events.times.min()), int(events.times.max(where=before, initial=events.times.min())) + 1
    return Window(end - round(min(days * MICROSECONDS_PER_DAY, (end - first) / 5)), end)


def first_seen(events: Interactions) -> Int64:
    """Find the time of each user's first event [U]; NEVER_SEEN where there is none."""
    moments = np.full(events.user_count, NEVER_SEEN)
    some = np.diff(events.offsets) > 0
    moments[some] = events.times[events.offsets[:-1][some]]
    return moments


def purchases_of(events: Interactions, item_rows: Int32, item_count: int, bought_codes: Sequence[int]) -> Interactions:
    """Select the events that mean "bought", with items translated through `item_rows`; -1 leaves an item out."""
    bought = events.of_kinds(bought_codes)
    mapped = replace(bought, items=item_rows[bought.items], item_count=item_count)
    return mapped.select(mapped.items >= 0)


def buyers_of(purchases: Interactions, items: Int32, as_of: int) -> Bool:
    """Mark who bought one of the items at any time before `as_of`: bool [U]."""
    return np.diff(purchases.select(np.isin(purchases.items, items) & (purchases.times < as_of)).offsets) > 0


def learn(shop: Shop, evaluation_vectors: Vectors, window: Window, *, seed: int, progress: Progress) -> BuyingModel:
    """Learn from the purchases within the window, with features of what came before it.

    evaluation_vectors: trained on nothing later than the window's start. Raises RefusedError when no user who was
    known before bought anything within the window.
    """
    random = np.random.default_rng(seed)
    bought = shop.purchases.between(window.start, window.end)
    is_buyer = np.diff(bought.offsets) > 0
    known = np.flatnonzero(shop.first_seen < window.start)
    buyers = known[is_buyer[known]]
    if len(buyers) == 0:
        raise RefusedError(
            f"of {len(known)} users known before, nobody bought anything in the {window.days:.0f} days from which the "
            "probability of buying would be learned"
        )
    progress("learn who buys", 0.0)
    at_all = _learn_at_all(shop, window, random, progress)
    progress("learn who buys what", 0.0)
    items = _draw_items(shop.purchases, window, random)
    of_item = _learn_items(
        shop, bought, Affinity.of(evaluation_vectors), _draw(buyers, _FIT_BUYERS, random), items, window, progress
    )
    return BuyingModel(window, at_all, of_item)


def score(
    model: BuyingModel,
    shop: Shop,
    vectors: Vectors,
    users: Int64,
    items: Int32,
    as_of: int,
    *,
    measure: Measure | None = None,
    progress: Progress,
) -> Scores:
    """Score how likely each user row [U] buys at least one of the items [S], or anything, in the days after `as_of`.

    items: none of them stands for anything. measure: what the strategy wants to know of users beside it.
    """
    affinity = Affinity.of(vectors)
    log_demand = _log_demand(shop.purchases, items, min(as_of, shop.known_until), model.window.length)
    step = max(1, min(_BLOCK_USERS, _BLOCK_PAIRS // max(1, len(items))))
    parts: list[Scores] = []
    for start in range(0, len(users), step):
        rows = users[start : start + step]
        histories = shop.histories_at(rows, as_of)
        block = Block(rows, histories, compute_user_features(histories, shop.bought_codes), shop.bought_codes)
        measured = np.zeros(len(rows)) if measure is None else measure(block)
        if len(items):
            pair_features = compute_user_item_features(histories, items, affinity, shop.bought_codes)
            parts.append(_score(model, block, pair_features, log_demand, items, measured))
        else:
            parts.append(_score_anything(model, block, measured))
        progress("score users", (start + len(histories)) / len(users))
    progress("score users", 1.0)
    return _concatenate(parts, min(BEST, len(items)))


def _score(
    model: BuyingModel,
    block: Block,
    pair_features: UserItemFeatures,
    log_demand: Float64,
    items: Int32,
    measured: Float64,
) -> Scores:
    of_items = model.of_item.predict(pair_features.design(block.users, log_demand))
    anything = _score_anything(model, block, measured)
    return replace(
        anything,
        # Items are assumed to be independent, given that the user buys at all.
        probability=anything.at_all * -np.expm1(np.log1p(-np.minimum(of_items, 1 - 1e-12)).sum(axis=1)),
        bought_days=pair_features.bought_days.sum(axis=1),
        days_since_bought=pair_features.days_since_bought.min(axis=1),
        looks=pair_features.looks.sum(axis=1),
        affinity=pair_features.affinity.max(axis=1),
        best=items[np.argsort(-of_items, axis=1, kind="stable")[:, :BEST]],
    )


def _score_anything(model: BuyingModel, block: Block, measured: Float64) -> Scores:
    users = block.users
    at_all, events = model.at_all.predict(users.design()), np.diff(block.histories.offsets).astype(np.float64)
    return Scores(
        probability=at_all,
        at_all=at_all,
        events=events,
        purchases=users.purchases,
        purchase_days=users.purchase_days,
        days_since_purchase=users.days_since_purchase,
        bought_days=users.purchase_days,
        days_since_bought=users.days_since_purchase,
        looks=events - users.purchases,
        affinity=np.zeros(len(events)),
        has_history=users.has_history,
        measured=measured,
        best=np.zeros((len(events), 0), np.int32),
    )


def newcomer_probability(model: BuyingModel, shop: Shop, items: Int32, as_of: int, alive: Bool) -> float:
    """How likely a user without any history buys one of the items, or anything, within the window.

    Of the users who had no history when the learned window began, the share who bought in it; times the share of the
    buyers who bought one of the items. alive [U]: who counts.
    """
    unknown = alive & (shop.first_seen >= model.window.start)
    bought = np.diff(shop.purchases.between(model.window.start, model.window.end).offsets) > 0
    share = float((bought & unknown).sum() / max(1, unknown.sum()))
    if not len(items):
        return share
    log_demand = _log_demand(shop.purchases, items, min(as_of, shop.known_until), model.window.length)
    return share * float(-np.expm1(np.log1p(-np.minimum(np.exp(log_demand), 1 - 1e-12)).sum()))


def _concatenate(parts: list[Scores], width: int) -> Scores:
    if not parts:
        empty = {name: np.zeros(0) for name in Scores.__dataclass_fields__}
        return Scores(**empty | {"has_history": np.zeros(0, np.bool_), "best": np.zeros((0, width), np.int32)})
    names = Scores.__dataclass_fields__
    return Scores(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _learn_at_all(shop: Shop, window: Window, random: np.random.Generator, progress: Progress) -> Logistic:
    """Fit P(buys at all): the coefficients on several windows, the intercept on the newest.

    Each older window has an indicator column of its own, which is 0 in the newest window and when users are scored.
    """
    windows = _windows_to_learn(shop, window)
    rows, answers, levels = [], [], []
    for number, one in enumerate(windows):
        known = _draw(np.flatnonzero(shop.first_seen < one.start), _FIT_USERS // len(windows), random)
        is_buyer = np.diff(shop.purchases.between(one.start, one.end).offsets) > 0
        rows.append(_user_rows(shop, known, one.start))
        answers.append(is_buyer[known])
        levels.append(np.eye(len(windows))[np.full(len(known), number)][:, 1:])
        progress("learn who buys", (number + 1) / len(windows))
    user_features = np.concatenate(rows)
    found = logistic.fit(np.column_stack([user_features, np.concatenate(levels)]), np.concatenate(answers))
    return Logistic(found.intercept, found.coefficients[: user_features.shape[1]])


def _windows_to_learn(shop: Shop, window: Window) -> list[Window]:
    """List the window and earlier ones that have a window's length of history before them, newest first."""
    first = int(shop.first_seen.min())
    shifts = [number * window.length for number in range(_FIT_WINDOWS)]
    windows = [Window(window.start - shift, window.end - shift) for shift in shifts]
    return windows[:1] + [one for one in windows[1:] if one.start - window.length >= first]


def _user_rows(shop: Shop, users: Int64, as_of: int) -> Float64:
    blocks = [users[start : start + _BLOCK_USERS] for start in range(0, len(users), _BLOCK_USERS)]
    return np.concatenate(
        [compute_user_features(shop.histories_at(block, as_of), shop.bought_codes).design() for block in blocks]
    )


def _learn_items(
    shop: Shop,
    bought: Interactions,
    affinity: Affinity,
    buyers: Int64,
    items: Int32,
    window: Window,
    progress: Progress,
) -> Logistic:
    log_demand = _log_demand(shop.purchases, items, window.start, window.length)
    slots = np.full(bought.item_count, -1, np.int64)
    slots[items] = np.arange(len(items))
    rows, answers = [], []
    step = max(1, _BLOCK_PAIRS // len(items))
    for start in range(0, len(buyers), step):
        block = buyers[start : start + step]
        histories = shop.histories_at(block, window.start)
        pair_features = compute_user_item_features(histories, items, affinity, shop.bought_codes)
        design = pair_features.design(compute_user_features(histories, shop.bought_codes), log_demand)
        rows.append(design.reshape(-1, design.shape[-1]))
        answers.append(_bought_pairs(bought, block, slots, len(items)))
        progress("learn who buys what", (start + len(block)) / len(buyers))
    return logistic.fit(np.concatenate(rows), np.concatenate(answers))


def _bought_pairs(bought: Interactions, users: Int64, slots: Int64, items: int) -> Bool:
    """Mark which of the users bought which of the items: bool [B * S]."""
    histories = bought.histories(users, np.iinfo(np.int64).max, max(1, len(bought)))
    slot = slots[histories.items]
    pairs = np.zeros(len(users) * items, np.bool_)
    pairs[(histories.users * items + slot)[slot >= 0]] = True
    return pairs


def _draw(rows: Int64, count: int, random: np.random.Generator) -> Int64:
    return rows if len(rows) <= count else np.sort(random.choice(rows, count, replace=False))


def _draw_items(purchases: Interactions, window: Window, random: np.random.Generator) -> Int32:
    """Draw items that were bought before the window, with weights by the demand just before it."""
    buyers, _ = _demand(purchases, window.start, window.length)
    ever = np.bincount(purchases.items[purchases.times < window.start], minlength=purchases.item_count) > 0
    weights = np.where(ever, buyers + _RARE, 0.0)
    if not ever.any():
        weights = np.ones(len(weights))
    count = min(_FIT_ITEMS, int((weights > 0).sum()))
    return np.sort(random.choice(len(weights), count, replace=False, p=weights / weights.sum())).astype(np.int32)


def _log_demand(purchases: Interactions, items: Int32, as_of: int, length: int) -> Float64:
    buyers, all_buyers = _demand(purchases, as_of, length)
    return np.log((buyers[items] + 0.5) / (all_buyers + 1))


def _demand(purchases: Interactions, as_of: int, length: int) -> tuple[Float64, int]:
    """Count the buyers of every item [I], and of anything, in the `length` microseconds before `as_of`."""
    recent = purchases.between(as_of - length, as_of)
    pairs = np.unique(recent.users.astype(np.int64) * purchases.item_count + recent.items)
    buyers = np.bincount(pairs % max(1, purchases.item_count), minlength=purchases.item_count)
    return buyers.astype(np.float64), int((np.diff(recent.offsets) > 0).sum())
