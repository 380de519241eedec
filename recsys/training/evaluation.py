"""Full-ranking metrics, computed through recommender.recommend itself; every item is a candidate, none is sampled.

Shapes: U users, I items, B judged users, K = 20, N targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.bundle.bundle import Bundle, assemble
from recsys.config.settings import Config
from recsys.data.arrays import Bool, Float32, Int32, Int64, mean_or_zero
from recsys.data.catalog import Catalog
from recsys.data.interactions import Histories, Interactions
from recsys.data.splits import Splits
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary
from recsys.models.vectors import Vectors
from recsys.serving.eligibility import bought_rows
from recsys.serving.fresh_items import CatalogView
from recsys.serving.recommender import recommend

K = 20
CUTS = (5, 10, 20)
_BASKET = MICROSECONDS_PER_DAY
_VALIDATION_USERS = 5000
_WEIGHING_USERS = 10_000  # who choose the weights of a blend, where there are up to 40,000 items;
_WEIGHING_SCORES = 400_000_000  # of an item for a user: what more items leave of them


@dataclass(frozen=True)
class Targets:
    """What B users turned out to want: user b owns items[offsets[b]:offsets[b + 1]], each once, at least one."""

    users: Int32  # [B], user rows, ascending
    offsets: Int64  # [B + 1]
    items: Int32  # [N], ascending within a user

    def __len__(self) -> int:
        return len(self.users)

    @property
    def counts(self) -> Int64:
        """How many targets each user has: int64 [B]."""
        return np.diff(self.offsets)

    def sample(self, most: int, seed: int) -> "Targets":
        """At most so many of the users, drawn by the seed."""
        if len(self) <= most:
            return self
        kept = np.zeros(len(self), np.bool_)
        kept[np.random.default_rng(seed).choice(len(self), most, replace=False)] = True
        return self._keep(kept)

    def _keep(self, kept: Bool) -> "Targets":
        offsets = np.concatenate([[0], np.cumsum(self.counts[kept])]).astype(np.int64)
        return Targets(self.users[kept], offsets, self.items[np.repeat(kept, self.counts)])


@dataclass(frozen=True)
class EvaluationResult:
    """How a bundle did on a holdout."""

    rows: dict[str, dict[str, float]]  # "all", "new_users", "cold_items" -> metric -> value; see judge
    ndcg_per_user: Float32  # [B], NDCG@20 of the users of "all", who are the same for every bundle on this holdout


def evaluate(bundle: Bundle, splits: Splits, config: Config) -> EvaluationResult:
    """Rank all items of the bundle for users of the holdout and compare with what they did.

    The bundle's items are those of the splits, row by row; it must not have learnt from the holdout. Rows:
    "all": users with an event before the holdout, histories as of its start; targets: items that had events by then.
    "new_users": users without; the history is their first basket, the events within 24 hours of their first one, as
    of its last event; targets: what came later.
    "cold_items": users as in "all"; targets: items without an event before the holdout. Recall only.
    Unless [recommendations] allow_repurchase, items with an event of a target kind before are not listed, nor targets.
    Sold-out items are listed, for what was sold out then is not known. At most [evaluation] max_users a row.
    Raises ValueError when the bundle has other items than the splits.
    """
    known, holdout = splits.known, splits.holdout
    if len(bundle.catalog) != known.item_count:
        raise ValueError(f"the bundle has {len(bundle.catalog)} items, the events have {known.item_count}")
    codes = config.target_codes
    counts = np.bincount(known.items, minlength=known.item_count)
    most, seed = config.evaluation.max_users, config.training.seed

    def histories_of(targets: Targets) -> Histories:
        length = config.events.history_length
        return known.histories(targets.users, splits.holdout_start, length, always=config.bought_codes)

    targets = targets_of(holdout, known, target_codes=codes, bought_codes=_left_out(config)).sample(most, seed)
    rows = rank(bundle, histories_of(targets), config)
    cold = _collect(holdout.of_kinds(codes), users=np.diff(known.offsets) > 0, items=counts == 0).sample(most, seed)
    cold_figures = metrics(rank(bundle, histories_of(cold), config), cold, item_counts=counts)
    return EvaluationResult(
        {
            "all": metrics(rows, targets, item_counts=counts),
            "new_users": _judge_new_users(bundle, known, holdout, counts, config),
            "cold_items": {name: cold_figures[name] for name in ("users", *(f"recall@{cut}" for cut in CUTS))},
        },
        ndcg_per_user(rows, targets),
    )


def rank(bundle: Bundle, histories: Histories, config: Config) -> Int32:
    """The first 20 item rows for each history, as the service would answer but for sold-out items: int32 [B, 20]."""
    view = CatalogView(bundle)
    return recommend(view, histories, K, excluded=bought_rows(view, histories, _left_out(config))).rows


def _left_out(config: Config) -> list[int]:
    """The kinds of which an earlier event keeps an item from being recommended again."""
    return [] if config.recommendations.allow_repurchase else config.bought_codes


class ValidationScore:
    """What chooses while training: NDCG@20 on validation of vectors trained on the fit events.

    A call ranks all items, through recommend(), for at most 5,000 users, drawn by the seed; their histories and targets
    are gathered once. Higher is better; 0 when nobody has a target. per_user does so for users drawn apart from these,
    up to twice as many where items are not too many: it tells what is nearly the same, and is asked less often.
    """

    def __init__(self, catalog: Catalog, splits: Splits, config: Config) -> None:
        codes, bought = config.target_codes, config.bought_codes
        targets = targets_of(splits.validation, splits.fit, target_codes=codes, bought_codes=_left_out(config))
        affordable = max(_VALIDATION_USERS, min(_WEIGHING_USERS, _WEIGHING_SCORES // max(1, len(catalog))))

        def drawn(most: int) -> tuple[Histories, Targets]:
            sample = targets.sample(min(config.evaluation.max_users, most), config.training.seed)
            length = config.events.history_length
            return splits.fit.histories(sample.users, splits.validation_start, length, always=bought), sample

        self._choosing = self._weighing = drawn(_VALIDATION_USERS)
        if min(len(targets), affordable) > _VALIDATION_USERS:
            self._weighing = drawn(affordable)
        wanted = splits.fit.of_kinds(codes).items
        self._popularity = np.bincount(wanted, minlength=len(catalog)).astype(np.float32)
        self._catalog, self._config = catalog, config

    def __call__(self, vectors: Vectors) -> float:
        """The mean over the users."""
        return mean_or_zero(self._by_user(vectors, *self._choosing))

    def per_user(self, vectors: Vectors) -> Float32:
        """NDCG@20 of each of the users who choose the weights of a blend, the same for all vectors: [B]."""
        return self._by_user(vectors, *self._weighing)

    def _by_user(self, vectors: Vectors, histories: Histories, targets: Targets) -> Float32:
        kinds = tuple(self._config.events.weights)
        bundle = assemble(vectors, self._catalog, self._popularity, kinds=kinds, index_settings=self._config.index)
        return ndcg_per_user(rank(bundle, histories, self._config), targets)


def evaluate_targets(
    bundle: Bundle, events: Interactions, targets: Targets, config: Config, *, as_of: int, repeats: bool
) -> dict[str, float]:
    """Figures for given targets, as of a file of held-out events: see metrics.

    events: what the bundle learnt from and histories are taken from, before `as_of` (microseconds). Targets count as
    they are, also those of unknown items; users of row -1 are unknown and have an empty history. repeats: False leaves
    out of the lists, though not of the targets, items of which the history has an event of a target kind.
    """
    known_user = targets.users >= 0
    length, bought = config.events.history_length, config.bought_codes
    histories = events.histories(np.maximum(targets.users, 0), as_of, length, always=bought)
    histories = histories.select(known_user[histories.users])
    view = CatalogView(bundle)
    hits = recommend(view, histories, K, excluded=None if repeats else bought_rows(view, histories, bought))
    counts = np.bincount(events.items, minlength=events.item_count)
    return metrics(hits.rows, targets, item_counts=counts)


def targets_from_ids(
    user_ids: Sequence[str], item_ids: Sequence[str], *, users: Vocabulary, items: Vocabulary
) -> Targets:
    """Targets from pairs of ids [N] of a file; pairs that come twice count once.

    A user that `users` does not know has row -1; an item that `items` does not know has a row beyond the catalog, a
    target that no list can hold.
    """
    names = {name: number for number, name in enumerate(dict.fromkeys(user_ids))}
    wanted = {name: number for number, name in enumerate(dict.fromkeys(item_ids))}
    user_rows, item_rows = users.rows_of(list(names)), items.rows_of(list(wanted))
    unknown = item_rows < 0
    item_rows[unknown] = len(items) + np.arange(np.count_nonzero(unknown), dtype=np.int32)
    # Users in the order of their rows, unknown ones first, each with a number of its own.
    order = np.argsort(user_rows, kind="stable")
    number = np.argsort(order, kind="stable")
    width = len(items) + np.count_nonzero(unknown) + 1
    pairs = np.unique(
        np.fromiter(
            (number[names[u]] * width + item_rows[wanted[i]] for u, i in zip(user_ids, item_ids, strict=True)), np.int64
        )
    )
    counts = np.bincount(pairs // width, minlength=len(names))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Targets(user_rows[order], offsets, (pairs % width).astype(np.int32))


def targets_of(
    holdout: Interactions,
    known: Interactions,
    *,
    target_codes: Sequence[int],
    bought_codes: Sequence[int],
) -> Targets:
    """The distinct items with an event of a target kind in the holdout, of users and items that have events in `known`.

    bought_codes: an event of these kinds in `known` keeps an item from being the user's target.
    """
    items = np.bincount(known.items, minlength=known.item_count) > 0
    before = known.of_kinds(bought_codes)
    return _collect(holdout.of_kinds(target_codes), users=np.diff(known.offsets) > 0, items=items, before=before)


def metrics(rows: Int32, targets: Targets, *, item_counts: npt.NDArray[np.integer]) -> dict[str, float]:
    """Figures of the lists rows [B, 20] (-1 pads), means over the users; all 0 when there is none.

    recall@k: share of the targets among the first k. hit_rate@k: share of users with a target among them.
    mrr@k: 1 / place of the first target, 0 beyond k. ndcg@k: discounted gain (1 / log2(place + 1) each) over the most
    that min(k, number of targets) places can give. coverage@20: share of the I items that are in any list.
    long_tail@20: share of the listed items outside the head, the fewest items that together have half of the training
    events. item_counts: training events of each item, of any kind, [I].
    """
    hits = _hits(rows, targets)
    figures: dict[str, float] = {"users": len(targets)}
    for cut in CUTS:
        first = hits[:, :cut]
        figures[f"ndcg@{cut}"] = mean_or_zero(_ndcg(hits, targets.counts, cut))
        figures[f"recall@{cut}"] = mean_or_zero(first.sum(axis=1) / targets.counts)
        figures[f"mrr@{cut}"] = mean_or_zero(np.where(first.any(axis=1), 1 / (first.argmax(axis=1) + 1), 0))
        figures[f"hit_rate@{cut}"] = mean_or_zero(np.any(first, axis=1))
    listed = rows[rows >= 0]
    figures[f"coverage@{K}"] = len(np.unique(listed)) / max(1, len(item_counts))
    figures[f"long_tail@{K}"] = mean_or_zero(~head_items(item_counts)[listed])
    return figures


def ndcg_per_user(rows: Int32, targets: Targets) -> Float32:
    """NDCG@20 of each user, to compare two bundles user by user: float32 [B]."""
    return _ndcg(_hits(rows, targets), targets.counts, K).astype(np.float32)


def head_items(item_counts: npt.NDArray[np.integer]) -> Bool:
    """The fewest items that together have at least half of all events: bool [I]; ties by row."""
    order = np.argsort(-item_counts, kind="stable")
    before = np.cumsum(item_counts[order]) - item_counts[order]
    head = np.zeros(len(item_counts), np.bool_)
    head[order] = 2 * before < item_counts.sum()
    return head


def _judge_new_users(
    bundle: Bundle, known: Interactions, holdout: Interactions, counts: Int64, config: Config
) -> dict[str, float]:
    new = holdout.select((np.diff(known.offsets) == 0)[holdout.users])
    has_events = np.diff(new.offsets) > 0
    first = np.zeros(new.user_count, np.int64)
    first[has_events] = new.times[new.offsets[:-1][has_events]]
    in_basket = new.times < (first + _BASKET)[new.users]
    baskets, later = new.select(in_basket), new.select(~in_basket)
    before = baskets.of_kinds(_left_out(config))
    targets = _collect(later.of_kinds(config.target_codes), users=has_events, items=counts > 0, before=before)
    targets = targets.sample(config.evaluation.max_users, config.training.seed)
    histories = _basket_histories(baskets, targets.users, config.events.history_length)
    return metrics(rank(bundle, histories, config), targets, item_counts=counts)


def _basket_histories(baskets: Interactions, users: Int32, length: int) -> Histories:
    """The newest `length` events of each basket, with ages counted from its last event."""
    stops = baskets.offsets[users + 1]
    counts = np.minimum(stops - baskets.offsets[users], length)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    events = np.arange(offsets[-1]) + np.repeat(stops - counts - offsets[:-1], counts)
    ages = (np.repeat(baskets.times[stops - 1], counts) - baskets.times[events]) / MICROSECONDS_PER_DAY
    return Histories(offsets, baskets.items[events], baskets.kinds[events], ages.astype(np.float32))


def _collect(events: Interactions, *, users: Bool, items: Bool, before: Interactions | None = None) -> Targets:
    """The distinct (user, item) of events, of these users [U] and items [I], but for the pairs of `before`."""
    pairs = np.unique(_pairs(events)[users[events.users] & items[events.items]])
    if before is not None:
        pairs = np.setdiff1d(pairs, _pairs(before), assume_unique=False)
    owners, rows = pairs // events.item_count, pairs % events.item_count
    found, counts = np.unique(owners, return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Targets(found.astype(np.int32), offsets, rows.astype(np.int32))


def _pairs(events: Interactions) -> Int64:
    return events.users.astype(np.int64) * events.item_count + events.items


def _hits(rows: Int32, targets: Targets) -> Bool:
    """Which places of the lists hold a target: bool [B, 20]."""
    if rows.shape != (len(targets), K):
        raise ValueError(
            f"lists are {rows.shape}; {len(targets)} users have targets, so [{len(targets)}, {K}] is allowed"
        )
    width = int(max(rows.max(initial=-1), targets.items.max(initial=-1))) + 1
    wanted = np.repeat(np.arange(len(targets)), targets.counts) * width + targets.items
    listed = np.arange(len(targets))[:, None] * width + rows
    return np.isin(listed, wanted) & (rows >= 0)


def _ndcg(hits: Bool, target_counts: Int64, cut: int) -> npt.NDArray[np.float64]:
    gains = 1 / np.log2(np.arange(2, cut + 2))
    best = np.concatenate([[0.0], np.cumsum(gains)])[np.minimum(target_counts, cut)]
    return np.asarray((hits[:, :cut] * gains).sum(axis=1) / best)
