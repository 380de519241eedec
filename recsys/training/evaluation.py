"""Evaluation of vectors and bundles, ranked by the same code that answers requests.

Shapes: I items, B evaluated users, K = 20 places of a list.
"""

from dataclasses import dataclass

import numpy as np

from recsys.bundle.bundle import Bundle, assemble
from recsys.config.settings import Config
from recsys.data.arrays import Float32, Int32, Int64, mean_or_zero
from recsys.data.catalog import Catalog
from recsys.data.interactions import Histories, Interactions
from recsys.data.splits import Splits
from recsys.data.targets import Targets, distinct_targets, targets_of
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.models.vectors import Vectors
from recsys.serving.eligibility import bought_rows
from recsys.serving.fresh_items import CatalogView
from recsys.serving.recommender import recommend
from recsys.training.metrics import CUTS, K, ndcg_per_user, ranking_metrics

_BASKET = MICROSECONDS_PER_DAY
_VALIDATION_USERS = 5000
_WEIGHING_USERS = 10_000  # who choose the weights of a blend, where there are up to 40,000 items;
_WEIGHING_SCORES = 400_000_000  # of an item for a user: what more items leave of them


@dataclass(frozen=True)
class EvaluationResult:
    """How a bundle did on a holdout."""

    rows: dict[str, dict[str, float]]  # "all", "new_users", "cold_items" -> metric -> value; see evaluate
    ndcg_per_user: Float32  # [B], NDCG@20 of the users of "all", who are the same for every bundle on this holdout


def evaluate(bundle: Bundle, splits: Splits, config: Config) -> EvaluationResult:
    """Rank all items of the bundle for users of the holdout and compare with what they did.

    The bundle's items are those of the splits, row by row; it must not have learned from the holdout. Rows:
    "all": users with an event before the holdout, histories as of its start; targets: items that had events by then.
    "new_users": users without such an event; the history is their first basket, the events within 24 hours of their
    first one, as of its last event; targets: what came later.
    "cold_items": users as in "all"; targets: items without an event before the holdout. Recall only.
    Unless [recommendations] allow_repurchase, items bought before are neither listed nor targets. Sold-out and
    deleted items are listed, as it is not known what could be bought then. A row has at most [evaluation] max_users.
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
    cold = distinct_targets(holdout.of_kinds(codes), users=np.diff(known.offsets) > 0, items=counts == 0)
    cold = cold.sample(most, seed)
    cold_figures = ranking_metrics(rank(bundle, histories_of(cold), config), cold, item_counts=counts)
    return EvaluationResult(
        {
            "all": ranking_metrics(rows, targets, item_counts=counts),
            "new_users": _evaluate_new_users(bundle, known, holdout, counts, config),
            "cold_items": {name: cold_figures[name] for name in ("users", *(f"recall@{cut}" for cut in CUTS))},
        },
        ndcg_per_user(rows, targets),
    )


def rank(bundle: Bundle, histories: Histories, config: Config) -> Int32:
    """Find the first 20 item rows for each history, as the service does but for sold-out items: int32 [B, 20]."""
    view, left_out = CatalogView(bundle), _left_out(config)
    excluded = bought_rows(view, histories, left_out) if left_out else None
    return recommend(view, histories, K, excluded=excluded).rows


def _left_out(config: Config) -> list[int]:
    """The kinds of which an earlier event keeps an item from being recommended again."""
    return [] if config.recommendations.allow_repurchase else config.bought_codes


class ValidationScore:
    """NDCG@20 on validation of vectors trained on the fit events; what models are tuned by.

    A call ranks all items for at most 5,000 users, drawn by the seed. Higher is better; 0 when nobody has a target.
    `per_user` does so for another draw of up to twice as many users, unless there are too many items: it tells apart
    what is nearly the same, and is called less often.
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
    """The metrics for given targets, as those of a file of held-out events; see ranking_metrics.

    events: what the bundle learned from, and histories are taken from, before `as_of` (microseconds). Targets count as
    they are, those of unknown items too. Users of row -1 are unknown and have an empty history. repeats: False leaves
    items that the history has bought out of the lists, though not out of the targets.
    """
    known_user = targets.users >= 0
    length, bought = config.events.history_length, config.bought_codes
    histories = events.histories(np.maximum(targets.users, 0), as_of, length, always=bought)
    histories = histories.select(known_user[histories.users])
    view = CatalogView(bundle)
    hits = recommend(view, histories, K, excluded=None if repeats else bought_rows(view, histories, bought))
    counts = np.bincount(events.items, minlength=events.item_count)
    return ranking_metrics(hits.rows, targets, item_counts=counts)


def _evaluate_new_users(
    bundle: Bundle, known: Interactions, holdout: Interactions, counts: Int64, config: Config
) -> dict[str, float]:
    new = holdout.select((np.diff(known.offsets) == 0)[holdout.users])
    has_events = np.diff(new.offsets) > 0
    first = np.zeros(new.user_count, np.int64)
    first[has_events] = new.times[new.offsets[:-1][has_events]]
    in_basket = new.times < (first + _BASKET)[new.users]
    baskets, later = new.select(in_basket), new.select(~in_basket)
    before = baskets.of_kinds(_left_out(config))
    targets = distinct_targets(later.of_kinds(config.target_codes), users=has_events, items=counts > 0, before=before)
    targets = targets.sample(config.evaluation.max_users, config.training.seed)
    histories = _basket_histories(baskets, targets.users, config.events.history_length)
    return ranking_metrics(rank(bundle, histories, config), targets, item_counts=counts)


def _basket_histories(baskets: Interactions, users: Int32, length: int) -> Histories:
    """The newest `length` events of each basket, with ages counted from its last event."""
    stops = baskets.offsets[users + 1]
    counts = np.minimum(stops - baskets.offsets[users], length)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    events = np.arange(offsets[-1]) + np.repeat(stops - counts - offsets[:-1], counts)
    ages = (np.repeat(baskets.times[stops - 1], counts) - baskets.times[events]) / MICROSECONDS_PER_DAY
    return Histories(offsets, baskets.items[events], baskets.kinds[events], ages.astype(np.float32))
