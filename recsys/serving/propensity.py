"""Score users by the live bundle's scorers: from their events, as they are at the moment of the question.

Shapes: B users.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.bundle.bundle import Bundle
from recsys.config.settings import Config
from recsys.data.arrays import Float64, Int64
from recsys.data.extract import Extract
from recsys.data.times import parse_time, rfc3339
from recsys.propensity.days import BuyingDays, summarize
from recsys.propensity.scorer import Predictions
from recsys.serving.answer import RequestContext
from recsys.serving.fresh_items import CatalogView
from recsys.serving.history import EventLog, Events, events_of
from recsys.store.changes import NewEvents

BLOCK_USERS = 8192
NEVER_BOUGHT, NOT_TRAINED = "never_bought", "not_trained"
FIGURES = ("probability", "churn_risk", "value", "value_low", "value_high")  # of a customer and a window
_DIGITS = {"probability": 6, "churn_risk": 6}


@dataclass(frozen=True)
class Scored:
    """What is expected of some users within one window."""

    window: int  # days
    trained_at: int  # microseconds UTC
    predictions: Predictions  # arrays [B]


def score_users(
    log: EventLog, view: CatalogView, posted: NewEvents, user_ids: Sequence[str], as_of: int
) -> tuple[Int64, list[Scored]]:
    """Score those of the users who bought anything before `as_of`: their places in `user_ids` [B], and each window.

    posted: what the own tables have received since the extract. Events that are newer than what training has seen count
    at its last moment, and days back from that: else an event or two would make everybody else look silent.
    """
    bundle = view.main
    anchor = min(as_of, trained_until(bundle, log.extract))
    days = _days(events_of(log, view, posted, user_ids, as_of), bundle, len(user_ids), log.bought, anchor)
    users = np.unique(days.users)
    found = bundle.propensity
    if found is None or not len(users):
        return users, []
    at = np.zeros(len(users), np.int64)
    return users, [
        Scored(window, found.trained_at[window], scorer.predict(days, users, at))
        for window, scorer in sorted(found.scorers.items())
    ]


def trained_until(bundle: Bundle, extract: Extract) -> int:
    """The moment up to which training has seen the events, in microseconds UTC."""
    last = bundle.manifest["data"]["last"]
    return min(extract.as_of, parse_time(last) + 1) if last else extract.as_of


def score_in_blocks(
    log: EventLog, view: CatalogView, posted: NewEvents, user_ids: Sequence[str], as_of: int
) -> Iterator[tuple[list[str], list[Scored]]]:
    """As score_users, of very many, a block at a time: the ids of those who bought anything, and each window."""
    for start in range(0, len(user_ids), BLOCK_USERS):
        block = user_ids[start : start + BLOCK_USERS]
        users, scored = score_users(log, view, posted, block, as_of)
        yield [block[user] for user in users.tolist()], scored


def describe(config: Config, context: RequestContext, user_id: str) -> dict[str, Any]:
    """What is expected of one user, in plain values. "reason" says why there is nothing; else it is None."""
    snapshot = context.snapshot
    found = snapshot.bundle.propensity
    users, scored = score_users(snapshot.log, snapshot.view, context.events, [user_id], context.as_of)
    reason = NOT_TRAINED if found is None or not found.scorers else None if len(users) else NEVER_BOUGHT
    windows = [values(one, 0) for one in scored] if len(users) else []
    refused = {} if found is None else {days: facts.get("refused", []) for days, facts in found.facts.items()}
    asked = [str(window) for window in config.propensity.windows_days]
    return {"windows": windows, "reason": reason, "refused": {days: refused.get(days, []) for days in asked}}


def values(scored: Scored, at: int) -> dict[str, Any]:
    """One user's figures of one window, rounded; None where the shop knows no values."""
    found = {name: float(getattr(scored.predictions, name)[at]) for name in FIGURES}
    rounded = {name: round(one, _DIGITS.get(name, 2)) if np.isfinite(one) else None for name, one in found.items()}
    return {"days": scored.window, **rounded, "trained_at": rfc3339(scored.trained_at)}


def _days(events: Events, bundle: Bundle, users: int, bought: Sequence[int], as_of: int) -> BuyingDays:
    """The days on which these users bought. Events of items that the bundle does not know are left out."""
    kept = (events.items >= 0) & (events.items < len(bundle.catalog)) & (events.kinds >= 0)
    owners, is_purchase = events.owners[kept], np.isin(events.kinds[kept], np.asarray(bought, np.int8))
    return summarize(
        owners,
        events.items[kept].astype(np.int64),
        np.minimum(events.times[kept], as_of - 1),
        _worth(events, kept.nonzero()[0], is_purchase.astype(np.float64), users),
        is_purchase=is_purchase,
        category_of=bundle.category_of,
        user_count=users,
        as_of=as_of,
    )


def _worth(events: Events, at: Int64, is_purchase: Float64, users: int) -> Float64:
    """What each event is worth. The own tables are read without values: a newer purchase counts as the user's mean."""
    stored, origins = events.log.extract.events.values, events.origins[at]
    is_stored = origins < len(stored)
    worth = np.full(len(at), np.nan)
    worth[is_stored] = stored[origins[is_stored]]
    known = np.isfinite(worth) & (is_purchase > 0)
    owners = events.owners[at]
    sums = np.bincount(owners[known], worth[known], users)
    means = sums / np.maximum(np.bincount(owners[known], minlength=users), 1)
    return np.where(is_stored, worth, means[owners])
