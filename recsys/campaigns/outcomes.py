"""What became of the members of a campaign: who bought, for how much, and what the mailing brought.

Shapes: N members, D tenths.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.audience.inputs import Inputs
from recsys.campaigns.members import held_back
from recsys.data.arrays import Bool, Float64
from recsys.data.times import MICROSECONDS_PER_DAY, rfc3339
from recsys.experiments.assignment import EVERY_MAILING, hold_back
from recsys.experiments.lift import measure
from recsys.store.campaigns import CampaignRecord

_TENTHS = 10


@dataclass(frozen=True)
class Outcomes:
    """What N people did after a moment."""

    converted: Bool  # bought one of the items that the campaign is about
    spend: Float64 | None  # of everything that was bought; None: no purchase has a value


def find_outcomes(inputs: Inputs, user_ids: Sequence[str], items: Sequence[str], start: int, end: int) -> Outcomes:
    """What people [N] bought in start <= time < end (microseconds UTC), as far as the last training has read it.

    items: ids; none: any purchase counts.
    """
    extract = inputs.extract
    bought = extract.events.of_kinds(extract.codes_of(inputs.config.bought)).between(start, end)
    rows = extract.users.rows_of(list(user_ids))
    of_items = bought.select(np.isin(bought.items, extract.items.rows_of(list(items)))) if items else bought
    known, at = rows >= 0, np.maximum(rows, 0)
    converted = known & (np.diff(of_items.offsets)[at] > 0)
    values = np.nan_to_num(bought.values.astype(np.float64))
    total = np.bincount(bought.users, values, bought.user_count)
    return Outcomes(converted, np.where(known, total[at], 0.0) if np.isfinite(bought.values).any() else None)


def measure_campaign(
    inputs: Inputs,
    campaign: CampaignRecord,
    members: pa.Table,
    items: Sequence[str],
    *,
    sent_at: int,
    window_days: float,
) -> dict[str, Any]:
    """Compare the mailed with those held back since `sent_at` (microseconds UTC): plain values, for the store.

    members: frozen, without those who were deleted since: user_id, probability.
    Raises RefusedError when one of both groups is empty.
    """
    end = sent_at + round(window_days * MICROSECONDS_PER_DAY)
    until = min(end, inputs.extract.as_of)
    ids = members["user_id"].to_pylist()
    mailed = ~held_back(campaign.name, campaign.control_share, ids)
    probability = members["probability"].to_numpy()
    found = find_outcomes(inputs, ids, items, sent_at, until)
    lift = measure(
        found.converted,
        found.spend,
        mailed,
        probability,
        share=campaign.control_share,
        worth=campaign.definition["worth"],
        days=max(0.0, (until - sent_at) / MICROSECONDS_PER_DAY),
        days_left=max(0.0, (end - until) / MICROSECONDS_PER_DAY),
    )
    return {
        **asdict(lift),
        "sent_at": rfc3339(sent_at),
        "until": rfc3339(max(until, sent_at)),
        "window_days": window_days,
        "tenths": tenths(probability, found.converted, mailed),
    }


def measure_all(inputs: Inputs, mailable: Bool, *, sent_at: int, until: int) -> dict[str, Any]:
    """Compare who may be mailed with those of them who are held back from every mailing: any purchase counts.

    mailable: of the users [U], for all reasons but being held back. sent_at, until: microseconds UTC.
    Raises RefusedError when one of both groups is empty.
    """
    share = inputs.config.audience.control_share
    rows = np.flatnonzero(mailable)
    ids = inputs.users.ids_of(rows)
    extract = inputs.extract
    before = extract.events.of_kinds(extract.codes_of(inputs.config.bought)).before(sent_at)
    known = extract.users.rows_of(ids)
    bought = np.where(known >= 0, np.diff(before.offsets)[np.maximum(known, 0)], 0).astype(np.float64)
    end = min(until, extract.as_of)
    found = find_outcomes(inputs, ids, (), sent_at, end)
    days = max(0.0, (end - sent_at) / MICROSECONDS_PER_DAY)
    mailed = ~hold_back(ids, EVERY_MAILING, share)
    lift = measure(found.converted, found.spend, mailed, bought, share=share, worth=0.1, days=days, days_left=0.0)
    return {**asdict(lift), "sent_at": rfc3339(sent_at), "until": rfc3339(end), "window_days": round(days, 2)}


def tenths(probability: Float64, converted: Bool, mailed: Bool) -> list[dict[str, Any]]:
    """Members in tenths by probability, the likeliest first: what was expected, and what each group did."""
    order = np.argsort(-probability, kind="stable")
    found = []
    for part in np.array_split(order, min(_TENTHS, len(order))):
        groups = {"mailed": part[mailed[part]], "held_back": part[~mailed[part]]}
        counts = {name: len(rows) for name, rows in groups.items()}
        shares = {
            f"{name}_converted": float(converted[rows].mean()) if len(rows) else None for name, rows in groups.items()
        }
        found.append({"expected": float(probability[part].mean()), **counts, **shares})
    return found
