"""Draw an audience: learn who buys, score the users who may be mailed, and take the first by rank.

Shapes: U users.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa

from recsys.audience.eligible import Mailable, exclude, find_mailable, refuse_if_nobody
from recsys.audience.facts import Facts
from recsys.audience.features import Block, Float64
from recsys.audience.filters import count_sold_out
from recsys.audience.inputs import Campaign, Inputs, build_shop, check_lag
from recsys.audience.model import (
    BuyingModel,
    Scores,
    Shop,
    buyers_of,
    learn,
    learning_window,
    newcomer_probability,
    score,
)
from recsys.audience.propensity import matches, parse_condition
from recsys.audience.sizes import choose_size
from recsys.audience.strategies import STRATEGIES, Member, in_order, rank, reach
from recsys.audience.suppression import find_users
from recsys.bundle.bundle import Bundle
from recsys.data.arrays import Bool, Int32, Int64
from recsys.data.times import MICROSECONDS_PER_DAY, rfc3339
from recsys.data.vocabulary import Vocabulary
from recsys.errors import BundleError
from recsys.progress import Progress
from recsys.store.audiences import AudienceRecord
from recsys.store.users import read_deletions

_DIGITS = 9  # of a probability; beyond them the order would depend on rounding errors


def draw(
    inputs: Inputs,
    mailable: Mailable,
    campaign: Campaign,
    items: Int32,
    draft: AudienceRecord,
    progress: Progress,
) -> tuple[AudienceRecord, pa.Table]:
    """Choose the audience now; return its record and its members, with the columns of `list_members`.

    mailable: by the campaign's rules. items: rows of the bundle; none: anything. draft: the record without what the
    draw decides. Raises RefusedError when no user is eligible, or the strategy has nothing to go by, BundleError when
    the bundle has no pre-refit vectors.
    """
    users, strategy = inputs.users, STRATEGIES[campaign.strategy]
    check_lag(inputs, campaign.as_of)
    deleted = find_users(users, read_deletions(inputs.store))
    left_out: dict[str, int] = {}
    eligible = find_mailable(mailable, left_out)
    shop = build_shop(inputs, deleted)
    model = learn_model(inputs, shop, campaign.as_of, progress)
    facts = Facts(inputs, campaign, shop, items, model, deleted)
    rows = np.flatnonzero(eligible)
    measure = None if strategy.measure is None else partial(_measure, strategy.measure, facts)
    vectors, as_of = inputs.bundle.vectors, campaign.as_of
    scores = score(model, shop, vectors, rows, items, as_of, measure=measure, progress=progress)
    if strategy.includes_unknown:
        scores = _with_newcomers(scores, newcomer_probability(model, shop, items, as_of, ~deleted))
    chosen = _leave_out(inputs, campaign, shop, items, rows, scores, left_out)
    refuse_if_nobody(int(chosen.sum()), len(users), left_out)
    some, seed = _select(scores, chosen), inputs.config.training.seed
    size, promised = choose_size(campaign.size, some.probability[in_order(some, strategy, seed)])
    members = rank(some, users, rows[chosen], size, strategy, seed)
    options = {"curve": reach(some, strategy, seed), "score": strategy.score} | promised
    record = replace(
        draft,
        size=size,
        window_days=model.window.days,
        eligible=int(chosen.sum()),
        left_out=left_out,
        warnings=[
            *_warnings(inputs, campaign, model, len(members)),
            *mailable.warnings,
            *_warn_of_sold_out(inputs, items),
        ],
        options=draft.options | options,
    )
    return record, _table_of(members, inputs.bundle.catalog.ids)


def _measure(of: Callable[[Block, Facts], Float64], facts: Facts, block: Block) -> Float64:
    return of(block, facts)


def _leave_out(
    inputs: Inputs,
    campaign: Campaign,
    shop: Shop,
    items: Int32,
    rows: Int64,
    scores: Scores,
    left_out: dict[str, int],
) -> Bool:
    """Mark which of the mailable users, at `rows`, may be members; count the others by their first reason."""
    strategy, chosen = STRATEGIES[campaign.strategy], np.ones(len(rows), np.bool_)
    if not strategy.includes_unknown:
        chosen = exclude(chosen, left_out, "users without a history", ~scores.has_history)
    if campaign.conditions:
        conditions = [parse_condition(text) for text in campaign.conditions]
        met = matches(inputs, conditions, inputs.users.ids_of(rows), campaign.as_of)
        chosen = exclude(chosen, left_out, "users who do not meet --where", ~met)
    if campaign.exclude_past_buyers:
        # A history may be too short to hold the purchase, and the extract too old.
        bought = buyers_of(shop.purchases, items, campaign.as_of)[rows] | (scores.bought_days > 0)
        chosen = exclude(chosen, left_out, "past buyers", bought)
    if campaign.bought_within_days is not None:
        since = (campaign.as_of - min(campaign.as_of, shop.known_until)) / MICROSECONDS_PER_DAY
        recent = scores.days_since_bought <= max(campaign.bought_within_days - since, 0.0)
        chosen = exclude(chosen, left_out, f"buyers within {campaign.bought_within_days:g} days", recent)
    if campaign.min_purchases:
        reason = f"users with fewer than {campaign.min_purchases} purchases"
        chosen = exclude(chosen, left_out, reason, scores.purchases < campaign.min_purchases)
    if campaign.min_events:
        reason = f"users with fewer than {campaign.min_events} events"
        chosen = exclude(chosen, left_out, reason, scores.events < campaign.min_events)
    if strategy.others:
        chosen = exclude(chosen, left_out, strategy.others, np.isneginf(scores.measured))
    return chosen


def _with_newcomers(scores: Scores, probability: float) -> Scores:
    """The scores, where users without a history have this probability of buying one of the items."""
    return replace(scores, probability=np.where(scores.has_history, scores.probability, probability))


def learn_model(inputs: Inputs, shop: Shop, as_of: int, progress: Progress) -> BuyingModel:
    """Learn the probabilities from the days before `as_of`, which the bundle's pre-refit vectors have not seen.

    Raises BundleError when the bundle has no such vectors, RefusedError when there is nothing to learn from.
    """
    bundle = inputs.bundle
    if bundle.evaluation is None:
        raise BundleError(f"the bundle {bundle.version} has no vectors from before its refit; `recsys train` makes one")
    window = learning_window(inputs.extract.events, as_of, _holdout_days(bundle))
    return learn(shop, bundle.evaluation, window, seed=inputs.config.training.seed, progress=progress)


def _warn_of_sold_out(inputs: Inputs, items: Int32) -> list[str]:
    count = count_sold_out(inputs.bundle, items)
    return [f"{count} of the {len(items)} items asked about are sold out"] if count else []


def _select(scores: Scores, chosen: Bool) -> Scores:
    rounded = replace(scores, probability=np.round(scores.probability, _DIGITS))
    return Scores(**{name: values[chosen] for name, values in vars(rounded).items()})


def _holdout_days(bundle: Bundle) -> float:
    days: float = bundle.manifest["configuration"]["evaluation"]["holdout_days"]
    return days


def _warnings(inputs: Inputs, campaign: Campaign, model: BuyingModel, members: int) -> list[str]:
    found = []
    if members < campaign.size.number:
        found.append(f"only {members} of the {campaign.size} users asked for are eligible")
    if campaign.as_of < inputs.extract.as_of:
        found.append(
            f"the moment asked for lies before the newest event, of {rfc3339(inputs.extract.as_of)}, from which the "
            "bundle has learned: the probabilities are flattered"
        )
    asked = _holdout_days(inputs.bundle)
    if model.window.days < asked - 0.5:
        found.append(
            f"the probabilities hold for {model.window.days:.1f} days instead of {asked:g}: a window is at most a "
            "fifth of the time that the events span"
        )
    return found


def _table_of(members: list[Member], items: Vocabulary) -> pa.Table:
    ids = {row: items.id_of(row) for row in {row for member in members for row in member.best}}
    best = [[ids[row] for row in member.best] for member in members]
    columns = {
        "user_id": pa.array([member.user_id for member in members], pa.string()),
        "rank": pa.array([member.rank for member in members], pa.int64()),
        "probability": pa.array([member.probability for member in members], pa.float64()),
        "reason": pa.array([member.reason for member in members], pa.string()),
        "score": pa.array([member.score for member in members], pa.float64(), from_pandas=True),  # NaN becomes null
        "best_item": pa.array([one[0] if one else None for one in best], pa.string()),
        "runners_up": pa.array([json.dumps(one[1:]) if one else None for one in best], pa.string()),
    }
    return pa.table(columns)
