"""What has changed in data that an earlier night has read: its past events, its users and its items."""

from dataclasses import dataclass

import numpy as np

from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary
from recsys.guards.figures import WINDOW_DAYS, Figures, NightData
from recsys.guards.sketch import changed_events, sketches


@dataclass(frozen=True)
class Known:
    """The ids that an earlier night has read."""

    users: Vocabulary
    items: Vocabulary


@dataclass(frozen=True)
class Comparison:
    """Tonight beside one earlier night."""

    changed: dict[str, tuple[float, int]]  # kind -> about how many of its past events changed, and how many it had
    lost: dict[str, float]  # kind -> share by which its past events are fewer (below 0: more)
    vanished: dict[str, float]  # "users", "items" -> share of the earlier night's ids that are gone
    new: dict[str, float]  # "users", "items" -> share of tonight's ids that the earlier night did not know


def compare(data: NightData, before: Figures, known: Known | None) -> Comparison:
    """Read the eight weeks again that the earlier night has sketched, and count what is another.

    known: the ids of that night, where they are still there. A source that no longer goes back to the begin of those
    weeks is not compared.
    """
    start = before.past_until - WINDOW_DAYS * MICROSECONDS_PER_DAY
    changed, lost = dict[str, tuple[float, int]](), dict[str, float]()
    oldest = min((int(part.times.min()) for part in data.parts if len(part)), default=before.past_until)
    if before.past and oldest <= max(start, before.oldest):
        again = sketches(data.parts, data.item_hashes, len(data.kinds), start, before.past_until)
        for kind, count in before.past.items():
            code = data.kinds.index(kind) if kind in data.kinds else None
            now = [0] * len(before.sketches[kind]) if code is None else again[code].tolist()
            changed[kind] = changed_events(before.sketches[kind], now), count
            lost[kind] = 1 - _count(data, code, start, before.past_until) / count
    pairs = {} if known is None else {"users": (known.users, data.users), "items": (known.items, data.catalog.ids)}
    return Comparison(
        changed,
        lost,
        {what: _missing(old, new) for what, (old, new) in pairs.items()},
        {what: _missing(new, old) for what, (old, new) in pairs.items()},
    )


def _count(data: NightData, code: int | None, start: int, end: int) -> int:
    if code is None:
        return 0
    return sum(
        int(np.count_nonzero((part.times >= start) & (part.times < end) & (part.kinds == code))) for part in data.parts
    )


def _missing(ids: Vocabulary, among: Vocabulary) -> float:
    """The share of the ids that are not among others, by their hashes."""
    if not len(ids):
        return 0.0
    return round(1 - float(np.isin(ids.hashes, among.hashes, assume_unique=False).mean()), 4)
