"""How many buyers were expected at past moments, and how many came: on the shop's own events.

At each moment everything is learned again from what came before it. The vectors are trained once, on what lies before
all of the moments, so that they have seen no answer. Shapes: U users, W moments.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from recsys.audience.features import Float64
from recsys.audience.inputs import Inputs, build_shop
from recsys.audience.model import Shop, buyers_of, learn, learning_window, score
from recsys.audience.suppression import find_users
from recsys.data.arrays import Bool, Int32
from recsys.data.interactions import Interactions
from recsys.data.times import MICROSECONDS_PER_DAY, rfc3339
from recsys.errors import RefusedError
from recsys.models.budget import Budget
from recsys.models.contract import TrainingData, fit
from recsys.models.vectors import Vectors
from recsys.progress import Progress
from recsys.store.users import read_deletions

_EDGES = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)


@dataclass(frozen=True)
class Moment:
    """One past moment: what was told of the users known by then, and what they did in the days after it."""

    as_of: int  # microseconds UTC
    probability: Float64  # [U]
    bought: Bool  # [U]


def look_back(inputs: Inputs, items: Int32, *, weeks: int, days: float, size: int, progress: Progress) -> list[Moment]:
    """Tell at each of the last `weeks` weeks who buys one of the items, or anything, within `days`, and look who did.

    items: rows of the bundle; none: anything. size: of the users known at a moment, the first so many by probability.
    The last moment lies `days` before what training has seen. Raises RefusedError when the events do not reach back far
    enough.
    """
    deleted = find_users(inputs.users, read_deletions(inputs.store))
    shop = build_shop(inputs, deleted)
    end, length = inputs.trained_until, round(days * MICROSECONDS_PER_DAY)
    moments = [end - length - week * 7 * MICROSECONDS_PER_DAY for week in range(weeks)][::-1]
    before = moments[0] - length
    events = inputs.extract.events
    if not len(events) or before - events.times.min() < 4 * length:
        raise RefusedError(
            f"the shop's events begin less than {5 * days:g} days before {rfc3339(moments[0])}, the first of {weeks} "
            f"moments; fewer --weeks, or fewer --days, need less"
        )
    vectors = _vectors_before(inputs, before) if len(items) else inputs.bundle.vectors
    return [
        _look_at(inputs, shop, vectors, items, as_of, days, size, progress=_part(progress, at, weeks))
        for at, as_of in enumerate(moments)
    ]


def _look_at(
    inputs: Inputs,
    shop: Shop,
    vectors: Vectors,
    items: Int32,
    as_of: int,
    days: float,
    size: int,
    *,
    progress: Progress,
) -> Moment:
    known_by_then = Shop(
        first_seen=shop.first_seen,
        purchases=shop.purchases.before(as_of),
        histories_at=shop.histories_at,
        bought_codes=shop.bought_codes,
        known_until=as_of,
    )
    window = learning_window(inputs.extract.events.before(as_of), as_of, days)
    model = learn(known_by_then, vectors, window, seed=inputs.config.training.seed, progress=progress)
    users = np.flatnonzero(shop.first_seen < as_of)
    probability = score(model, known_by_then, vectors, users, items, as_of, progress=progress).probability
    first = np.argsort(-probability, kind="stable")[:size]
    came = shop.purchases.between(as_of, as_of + window.length)
    everything = items if len(items) else np.arange(came.item_count, dtype=np.int32)
    bought = buyers_of(came, everything, as_of + window.length)
    return Moment(as_of, probability[first], bought[users[first]])


def _vectors_before(inputs: Inputs, moment: int) -> Vectors:
    """Vectors with the settings of the live bundle, learned from the events before a moment."""
    bundle, config, extract = inputs.bundle, inputs.config, inputs.extract
    events = extract.events.before(moment)
    rows = extract.items.rows_in(bundle.catalog.ids)[events.items]
    known = rows >= 0
    of_bundle = Interactions.from_rows(
        events.users[known],
        rows[known],
        events.kinds[known],
        events.times[known],
        events.values[known],
        user_count=events.user_count,
        item_count=len(bundle.catalog),
    )
    data = TrainingData(
        events=of_bundle,
        catalog=bundle.catalog,
        now=moment,
        kind_weights=tuple(config.events.weights.get(kind, 0.0) for kind in extract.kinds),
        target_codes=tuple(extract.codes_of(config.evaluation.targets)),
        half_life_days=config.events.half_life_days,
        seed=config.training.seed,
        device=config.training.device,
    )
    return fit(bundle.vectors.model, data, bundle.vectors.settings, Budget())


def _part(progress: Progress, at: int, of: int) -> Progress:
    """The progress of one of several equal parts."""
    return lambda step, done: progress(step, (at + done) / of)


def summarize(moments: Sequence[Moment]) -> dict[str, Any]:
    """The moments one by one, the mean error of their totals, and calibration over all of them."""
    each: list[dict[str, Any]] = [
        {
            "as_of": rfc3339(one.as_of),
            "users": len(one.probability),
            "expected": round(float(one.probability.sum()), 2),
            "actual": int(one.bought.sum()),
        }
        for one in moments
    ]
    errors = [abs(week["expected"] / week["actual"] - 1) for week in each if week["actual"]]
    expected, actual = sum(week["expected"] for week in each), sum(week["actual"] for week in each)
    return {
        "weeks": each,
        "expected": round(expected, 2),
        "actual": actual,
        "mean_error": round(float(np.mean(errors)), 4) if errors else None,
        "calibration": _calibration(moments),
    }


def _calibration(moments: Sequence[Moment]) -> list[dict[str, Any]]:
    """What became of the probabilities, by size: those that anybody had."""
    probability = np.concatenate([one.probability for one in moments])
    bought = np.concatenate([one.bought for one in moments])
    bins = np.searchsorted(_EDGES, probability, side="right") - 1
    found = []
    for number, (low, high) in enumerate(pairwise(_EDGES)):
        here = bins == number if high < 1 else bins >= number
        if here.any():
            told = {"from": low, "to": high, "users": int(here.sum())}
            told |= {"mean": round(float(probability[here].mean()), 6), "bought": round(float(bought[here].mean()), 6)}
            found.append(told)
    return found
