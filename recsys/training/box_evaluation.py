"""Evaluation of a box by time: what it lists at moments of the holdout beside what happened after them.

A box is asked as the service asks it, one question at a time, and so are the plain boxes of its kind, on the same
questions. Shapes: Q questions, I items, N wanted items.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from recsys.bundle.bundle import Bundle
from recsys.config.settings import Config
from recsys.data.arrays import Int32
from recsys.data.demand import Demand, Float64, count_events
from recsys.data.extract import Extract
from recsys.data.interactions import Interactions
from recsys.data.splits import Splits
from recsys.data.targets import targets_of
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.errors import ConfigError, RefusedError
from recsys.related.baskets import find_baskets
from recsys.related.questions import ask
from recsys.related.training import BASKET_GAP_MINUTES
from recsys.serving import answer as engine
from recsys.serving import snapshot as snapshots
from recsys.serving.answer import Query, RequestContext
from recsys.serving.boxes import BOXES
from recsys.serving.popular import CHOSEN, WAYS, way_weights
from recsys.serving.snapshot import Snapshot
from recsys.source.dataset import Dataset
from recsys.store.changes import NO_EVENTS
from recsys.training.box_choice import CHOICES, WEEK, WEEKS, choose_ways, weeks_before
from recsys.training.metrics import K

SESSION_MICROSECONDS = 30 * 60 * 1_000_000  # a longer pause of the same user begins another session
MOST_QUESTIONS = 1_000  # drawn by the seed


@dataclass(frozen=True)
class Question:
    """One question and what happened then."""

    query: Query
    wanted: Int32  # [N] rows of items
    gains: Float64  # [N] what each of them is worth, above 0


@dataclass(frozen=True)
class Inputs:
    """What questions are made of."""

    config: Config
    dataset: Dataset
    splits: Splits


@dataclass(frozen=True)
class Evaluated:
    """How a kind of box is evaluated."""

    questions: Callable[[Inputs], Iterator[Question]]
    plain: tuple[str, ...]  # the boxes that it has to beat
    needs_model: bool = True  # False: counts by day answer it and the plain ones
    needs_related: bool = False  # whether what belongs together answers it


@dataclass(frozen=True)
class BoxResult:
    """How one box did on Q questions."""

    metrics: dict[str, float]  # questions; ndcg@20; recall@20: the share of all gains that the list holds
    ndcg: Float64  # [Q]
    chosen: dict[str, Any] = field(default_factory=dict)  # see choose_ways; empty where nothing was chosen


def find_evaluated(name: str) -> Evaluated:
    """How a box is evaluated. Raises ConfigError for one that is not."""
    if name not in EVALUATED:
        raise ConfigError(f"the box {name!r} is not evaluated; allowed are {', '.join(EVALUATED)}")
    return EVALUATED[name]


def evaluate_box(name: str, inputs: Inputs, bundle: Bundle) -> dict[str, BoxResult]:
    """Ask a box and the plain boxes of its kind. By name, the box first.

    bundle: has learned from nothing in the holdout. Its counts by day are replaced by those of all days, since they
    answer as of any moment. Sold-out and deleted items are listed, as it is not known what could be bought then. Beside
    a box that lists what was bought, the plain ones list it too.
    Raises RefusedError when nothing in the holdout can evaluate the box.
    """
    questions = draw_questions(name, inputs)
    config, snapshot = open_questions(name, inputs, bundle)
    names = (name, *find_evaluated(name).plain)
    return {each: _ask(config, snapshot, each, questions) for each in names}


def draw_questions(name: str, inputs: Inputs) -> list[Question]:
    """The questions that evaluate a box, at most MOST_QUESTIONS. Raises errors as `evaluate_box`."""
    questions = list(find_evaluated(name).questions(inputs))
    if not questions:
        raise RefusedError(f"nothing in the last days can evaluate the box {name}; a longer holdout_days may")
    if len(questions) <= MOST_QUESTIONS:
        return questions
    drawn = np.random.default_rng(inputs.config.training.seed).choice(len(questions), MOST_QUESTIONS, replace=False)
    return [questions[at] for at in np.sort(drawn)]


def open_questions(name: str, inputs: Inputs, bundle: Bundle) -> tuple[Config, Snapshot]:
    """What the questions of a box are answered with; see `evaluate_box`."""
    settings = {"allow_unlisted": True, "exclude_sold_out": False}
    if BOXES[name].lists_bought:  # so may the plain ones, or there would be nothing to compare with
        settings["allow_repurchase"] = True
    changed = inputs.config.recommendations.model_copy(update=settings)
    config = inputs.config.model_copy(update={"recommendations": changed})
    return config, _snapshot(config, inputs.dataset, bundle)


def quality(rows: Int32, question: Question) -> tuple[float, float]:
    """NDCG@20 and recall@20 of the rows that a question was answered with, best first: int32 [<= 20]."""
    discounts, gains = 1 / np.log2(np.arange(2, K + 2)), dict(zip(question.wanted, question.gains, strict=True))
    listed = np.array([gains.get(row, 0.0) for row in rows.tolist()])
    best = np.sort(question.gains)[::-1][:K]
    ndcg = (listed * discounts[: len(listed)]).sum() / (best * discounts[: len(best)]).sum()
    return float(ndcg), float(listed.sum() / question.gains.sum())


def difference(box: BoxResult, other: BoxResult) -> tuple[float, float, float]:
    """By how much the mean NDCG@20 of a box is above another's, and a 95 % interval of it, paired by question."""
    each = box.ndcg - other.ndcg
    mean, half = float(each.mean()), 0.0
    if len(each) > 1:
        half = 1.96 * float(each.std(ddof=1)) / len(each) ** 0.5
    return mean, mean - half, mean + half


def _snapshot(config: Config, dataset: Dataset, bundle: Bundle) -> Snapshot:
    """What answers come from, with the events of all days: a question sees those before its moment.

    The ways of the boxes are chosen in the weeks before those that evaluate them.
    """
    until = int(dataset.events.times.max()) + 1
    extract = Extract(dataset.users, dataset.catalog.ids, dataset.events, dataset.kinds, dataset.watermark, until)
    demand, chosen = _demand(dataset, bundle.demand), dict[str, Any]()
    if demand is not None:
        end = demand.end_day - WEEKS * WEEK
        chosen = choose_ways(config, dataset.kinds, demand, len(dataset.catalog), end)
    bundle = replace(bundle, demand=demand, manifest=bundle.manifest | {CHOSEN: chosen})
    return snapshots.load(config, lambda _: [], bundle=bundle, extract=extract)


def _demand(dataset: Dataset, counted: Demand | None) -> Demand | None:
    half_life = counted.half_life_days if counted is not None else 28.0
    return count_events(dataset.events, kind_count=len(dataset.kinds), half_life_days=half_life)


def _ask(config: Config, snapshot: Snapshot, name: str, questions: Sequence[Question]) -> BoxResult:
    ids, found = snapshot.bundle.catalog.ids, np.zeros((len(questions), 2))
    for at, question in enumerate(questions):
        query = replace(question.query, box=name, k=K)
        assert query.as_of is not None  # each question is one of a moment
        answer = engine.answer(config, RequestContext(snapshot, NO_EVENTS, query.as_of), query)
        found[at] = quality(ids.rows_of([hit["item_id"] for hit in answer.hits]), question)
    ndcg, recall = found.T
    metrics = {"questions": len(questions), f"ndcg@{K}": float(ndcg.mean()), f"recall@{K}": float(recall.mean())}
    return BoxResult(metrics, ndcg, snapshot.bundle.manifest[CHOSEN].get(name, {}))


def _weeks(inputs: Inputs, box: str) -> Iterator[Question]:
    """What everybody does in each of the last weeks, asked for when it begins."""
    demand, kinds, count = _demand(inputs.dataset, None), inputs.dataset.kinds, len(inputs.dataset.catalog)
    if demand is None:
        return
    weights = way_weights(WAYS[box], inputs.config, kinds, demand)
    for day in weeks_before(demand, demand.end_day):
        gains = CHOICES[box].gains(demand, day, weights, count)
        wanted = np.flatnonzero(gains > 0)
        if len(wanted):
            yield Question(Query(as_of=day * MICROSECONDS_PER_DAY), wanted.astype(np.int32), gains[wanted])


def _bought_next_week(inputs: Inputs) -> Iterator[Question]:
    return _weeks(inputs, "bestsellers")


def _rising_next_week(inputs: Inputs) -> Iterator[Question]:
    return _weeks(inputs, "trending")


def _bought_by_user(inputs: Inputs) -> Iterator[Question]:
    """What each known user buys in the holdout, asked for when it begins."""
    config, splits = inputs.config, inputs.splits
    left_out = [] if config.recommendations.allow_repurchase else config.bought_codes
    targets = targets_of(splits.holdout, splits.known, target_codes=config.target_codes, bought_codes=left_out)
    for at, user in enumerate(targets.users.tolist()):
        wanted = targets.items[targets.offsets[at] : targets.offsets[at + 1]]
        query = Query(inputs.dataset.users.id_of(user), as_of=splits.holdout_start)
        yield Question(query, wanted, np.ones(len(wanted)))


def _visited_again(inputs: Inputs) -> Iterator[Question]:
    """The items of each session of a known user, asked for when it begins."""
    known = np.diff(inputs.splits.known.offsets) > 0
    for user, start, items in _sessions(inputs.splits.holdout):
        if known[user]:
            query = Query(inputs.dataset.users.id_of(user), as_of=start)
            yield Question(query, np.unique(items), np.ones(len(np.unique(items))))


def _seen_beside(inputs: Inputs) -> Iterator[Question]:
    """The other items of each session, asked for with its first one."""
    for _, start, items in _sessions(inputs.splits.holdout):
        others = np.setdiff1d(items, items[:1])
        if len(others):
            query = Query(items=[inputs.dataset.catalog.ids.id_of(int(items[0]))], as_of=start)
            yield Question(query, others, np.ones(len(others)))


def _rest_of_basket(inputs: Inputs) -> Iterator[Question]:
    """The other items of each order, asked for with one of them."""
    return _rest(inputs, inputs.config.bought_codes, share=0)


def _rest_of_cart(inputs: Inputs) -> Iterator[Question]:
    """Half of the items of each order, asked for with the other half."""
    return _rest(inputs, inputs.config.bought_codes, share=0.5)


def _rest_of_visit(inputs: Inputs) -> Iterator[Question]:
    """What else is looked at in a visit, asked for with one of its items."""
    bought = inputs.config.bought_codes
    return _rest(inputs, [code for code in range(len(inputs.dataset.kinds)) if code not in bought], share=0)


def _rest(inputs: Inputs, codes: Sequence[int], *, share: float) -> Iterator[Question]:
    """Items of each basket of these kinds of events that ask for the others; all had an event before the holdout."""
    known = np.bincount(inputs.splits.known.items, minlength=len(inputs.dataset.catalog)) > 0
    baskets = find_baskets(inputs.splits.holdout, codes, gap_minutes=BASKET_GAP_MINUTES).of_items(known)
    asked = ask(baskets, share=share, most=MOST_QUESTIONS, seed=inputs.config.training.seed)
    ids = inputs.dataset.catalog.ids
    for at in range(len(asked)):
        wanted = asked.wanted.row(at)
        named = [ids.id_of(item) for item in asked.asked.row(at).tolist()]
        yield Question(Query(items=named, as_of=inputs.splits.holdout_start), wanted, np.ones(len(wanted)))


def _bought_again(inputs: Inputs) -> Iterator[Question]:
    """What each user buys again in the holdout, asked for when it begins."""
    config, splits = inputs.config, inputs.splits
    targets = targets_of(splits.holdout, splits.known, target_codes=config.bought_codes, bought_codes=[])
    had = splits.known.of_kinds(config.bought_codes)
    for at, user in enumerate(targets.users.tolist()):
        wanted = targets.items[targets.offsets[at] : targets.offsets[at + 1]]
        wanted = wanted[np.isin(wanted, had.items[had.offsets[user] : had.offsets[user + 1]])]
        if len(wanted):
            query = Query(inputs.dataset.users.id_of(user), as_of=splits.holdout_start)
            yield Question(query, wanted, np.ones(len(wanted)))


def _sessions(events: Interactions) -> Iterator[tuple[int, int, Int32]]:
    """Each session: its user's row, when it begins, and the items in their order."""
    if not len(events):
        return
    users = events.users
    begins = np.append(True, (np.diff(users) != 0) | (np.diff(events.times) > SESSION_MICROSECONDS))
    starts = np.flatnonzero(begins)
    for start, stop in zip(starts, np.append(starts[1:], len(events)), strict=True):
        yield int(users[start]), int(events.times[start]), events.items[start:stop]


# Which question evaluates a box, and the plain boxes beside it.
EVALUATED: dict[str, Evaluated] = {
    "for_you": Evaluated(_bought_by_user, ("popular", "bestsellers")),
    "similar": Evaluated(_seen_beside, ("popular",), needs_related=True),
    "bought_together": Evaluated(_rest_of_basket, ("similar", "popular"), needs_related=True),
    "viewed_together": Evaluated(_rest_of_visit, ("similar", "popular"), needs_related=True),
    "cart": Evaluated(_rest_of_cart, ("bought_together", "similar", "popular"), needs_related=True),
    "buy_again": Evaluated(_bought_again, ("recently_viewed", "for_you"), needs_related=True),
    "recently_viewed": Evaluated(_visited_again, ("popular", "for_you")),
    "popular": Evaluated(_bought_next_week, ("bestsellers", "trending"), needs_model=False),
    "bestsellers": Evaluated(_bought_next_week, ("popular", "trending"), needs_model=False),
    "trending": Evaluated(_rising_next_week, ("bestsellers", "popular"), needs_model=False),
    "new_arrivals": Evaluated(_rising_next_week, ("popular",), needs_model=False),
}
