"""The steps of a training run for related items: choose on validation, then fit all tables as of a moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from recsys.data.catalog import Catalog
from recsys.data.interactions import Interactions
from recsys.related import buy_again, cart, together
from recsys.related.baskets import Baskets, find_baskets
from recsys.related.buy_again import ChosenRepeats
from recsys.related.cart import ChosenCart
from recsys.related.content import Content, read_content
from recsys.related.counts import Counted
from recsys.related.pair_features import Known, read_catalog
from recsys.related.tables import Related
from recsys.related.together import Chosen

BASKET_GAP_MINUTES, SESSION_GAP_MINUTES = 30.0, 30.0


@dataclass(frozen=True)
class RelatedData:
    """What related items are learned from: events of users and visitors, and the catalog."""

    events: Interactions
    catalog: Catalog
    bought_codes: Sequence[int]  # the kinds that mean "bought"; all others make sessions
    seed: int

    @cached_property
    def baskets(self) -> Baskets:
        """The orders."""
        return find_baskets(self.events, self.bought_codes, gap_minutes=BASKET_GAP_MINUTES)

    @cached_property
    def sessions(self) -> Baskets:
        """What was looked at or put into the cart in one visit."""
        others = sorted(set(range(int(self.events.kinds.max(initial=-1)) + 1)) - set(self.bought_codes))
        return find_baskets(self.events, others, gap_minutes=SESSION_GAP_MINUTES)

    @cached_property
    def purchases(self) -> Interactions:
        """The events that mean "bought"."""
        return self.events.of_kinds(self.bought_codes)

    @cached_property
    def content(self) -> Content:
        """What the catalog says."""
        counts = np.bincount(self.events.items, minlength=len(self.catalog))
        return read_content(self.catalog.columns, counts)

    @cached_property
    def known(self) -> Known:
        """What the catalog says, as a network learns from it."""
        return read_catalog(self.content, self.catalog)


@dataclass(frozen=True)
class Choices:
    """What validation chose for each table."""

    bought_together: Chosen
    viewed_together: Chosen
    cart: ChosenCart
    buy_again: ChosenRepeats
    window: int  # microseconds: how long validation was, and with it each window that is learned from

    @property
    def facts(self) -> dict[str, Any]:
        """box -> settings and what they reached on validation, in plain values."""
        return {name: getattr(self, name).facts for name in _BOXES}


_BOXES = ("bought_together", "viewed_together", "cart", "buy_again")


def choose(data: RelatedData, *, start: int, end: int) -> Choices:
    """Choose how each table is made, on the events of [start, end) and what was before (microseconds)."""
    times: dict[str, Any] = {"start": start, "end": end, "seed": data.seed}
    return Choices(
        bought_together=together.choose(data.baskets, data.known, **times),
        viewed_together=together.choose(data.sessions, data.known, **times),
        cart=cart.choose_cart(data.baskets, **times),
        buy_again=buy_again.choose_repeats(data.purchases, **times),
        window=end - start,
    )


def fit(data: RelatedData, choices: Choices, *, now: int) -> Related:
    """Make all tables as of `now` (microseconds) from the events before it."""
    times: dict[str, Any] = {"now": now, "window": choices.window, "seed": data.seed}
    return Related(
        bought_together=together.fit(data.baskets, data.known, choices.bought_together, **times),
        viewed_together=together.fit(data.sessions, data.known, choices.viewed_together, **times),
        cart=cart.fit_cart(Counted(data.baskets.before(now), now), choices.cart.settings),
        repeats=buy_again.fit_repeats(data.purchases, choices.buy_again, **times),
        content=data.content,
        facts=choices.facts,
    )
