"""The boxes of a shop's pages: what each ranks, what it needs to know, and what it shows where it has too little.

`BOXES` lists them. Adding one is a function from `Asked` to hits and one line here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from recsys.data.arrays import Int32, Int64
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.errors import RefusedError
from recsys.serving import recommender
from recsys.serving.asked import Asked, no_hits
from recsys.serving.looks_like import looks_like
from recsys.serving.popular import arrived_rows, bestsellers, new_arrivals, popular, trending
from recsys.serving.price_drops import drop_of, dropped_rows, price_drops
from recsys.serving.recommender import Hits
from recsys.serving.related_items import bought, bought_together, buy_again, cart, viewed_together
from recsys.serving.similar import similar
from recsys.spelling import meant

Needs = Literal["nothing", "item", "items", "person"]


@dataclass(frozen=True)
class Box:
    """One kind of list. `rank` gets a question and a depth, and returns at most so many items that may be answered."""

    rank: Callable[[Asked, int], Hits]  # best first; reads `Asked.eligibility` and lists nothing outside of it
    needs: Needs = "nothing"  # what a question has to name: an item that is known, items, or a user, visitor or history
    fallbacks: tuple[str, ...] = ()  # names in BOXES, which fill a list that is short, one after the other
    only: Callable[[Asked], Int32] | None = None  # the rows that it may list at all; None: any eligible item
    takes_window: bool = False  # whether window_days means something
    lists_named: bool = False  # whether an item that the question names may be listed
    lists_bought: bool = False  # whether what was bought may be listed although [recommendations] leaves it out
    reason: str | None = None  # of its hits; None: its name
    details: Callable[[Asked, int], dict[str, Any]] | None = None  # what it says of a hit beside its fields, by its row
    explores: bool = False  # whether new items get a share of its places where the question does not say


def _for_you(asked: Asked, depth: int) -> Hits:
    """What fits the history best; nothing without one."""
    if not len(asked.histories.items):
        return no_hits()
    return recommender.recommend(
        asked.snapshot.view,
        asked.histories,
        depth,
        allowed=asked.eligibility.allowed,
        excluded=asked.excluded,
        fill=False,
    )


def _viewed(asked: Asked) -> tuple[Int32, Int64]:
    """What the user or visitor looked at, the latest first: rows [N], each once, and when (microseconds UTC).

    Every kind of event counts but those that mean "bought".
    """
    events = asked.events
    is_view = (events.items >= 0) & (events.kinds >= 0) & ~np.isin(events.kinds, asked.snapshot.bought_codes)
    order = np.argsort(-events.times, kind="stable")
    order = order[is_view[order]]
    rows = asked.snapshot.view.current_row(events.items[order])
    first = np.sort(np.unique(rows, return_index=True)[1])
    return rows[first], events.times[order][first]


def _recently_viewed(asked: Asked, depth: int) -> Hits:
    """The items looked at last, with minus the days since then as scores."""
    rows, times = _viewed(asked)
    return asked.first(rows, (times - asked.as_of) / MICROSECONDS_PER_DAY, depth)


BOXES: dict[str, Box] = {
    "for_you": Box(_for_you, explores=True, fallbacks=("popular",), reason="personal"),
    "similar": Box(similar, needs="item", fallbacks=("popular",)),
    "bought_together": Box(bought_together, needs="item", fallbacks=("similar", "popular")),
    "viewed_together": Box(viewed_together, needs="item", fallbacks=("similar", "popular")),
    "cart": Box(cart, needs="items", fallbacks=("bought_together", "similar", "popular")),
    "buy_again": Box(buy_again, needs="person", only=bought, lists_bought=True),
    "popular": Box(popular),
    "trending": Box(trending, fallbacks=("bestsellers", "popular"), takes_window=True),
    "bestsellers": Box(bestsellers, fallbacks=("popular",), takes_window=True),
    "new_arrivals": Box(new_arrivals, only=arrived_rows, takes_window=True),
    "price_drops": Box(price_drops, only=dropped_rows, takes_window=True, details=drop_of),
    "recently_viewed": Box(_recently_viewed, needs="person", only=lambda asked: _viewed(asked)[0], lists_bought=True),
    "rerank": Box(
        _for_you,
        needs="items",
        fallbacks=("popular",),
        only=lambda asked: asked.seeds,
        lists_named=True,
        lists_bought=True,
        reason="personal",
    ),
    "looks_like": Box(looks_like, needs="item", fallbacks=("similar", "popular")),
}


def check_fallbacks(names: Sequence[str]) -> None:
    """Raise RefusedError for a box that there is not, or that cannot fill the list of another."""
    allowed = [name for name, box in BOXES.items() if not box.lists_named]
    for name in names:
        if name not in allowed:
            near = meant(name, allowed)
            raise RefusedError(f"fallbacks: {name!r} fills no list; allowed are {', '.join(allowed)}{near}")


def fallbacks_of(name: str, wanted: Sequence[str] | None, asked: Asked) -> Sequence[str]:
    """The boxes that fill the list of a box; None: its own. Those that need what nobody named are left out.

    Raises RefusedError as `check_fallbacks`.
    """
    if wanted is None:
        return BOXES[name].fallbacks
    check_fallbacks(wanted)
    has = {"item": bool(len(asked.seeds)), "items": bool(len(asked.seeds)), "person": bool(len(asked.histories.items))}
    return [other for other in dict.fromkeys(wanted) if other != name and has.get(BOXES[other].needs, True)]
