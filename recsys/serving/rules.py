"""Rules of a question: what is pinned, boosted, capped, how diverse a list is, and which known items may come.

Rules come as JSON with a request, a placement or the configuration, and are checked here. `ruled` applies them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from typing import Any

from recsys.errors import RefusedError
from recsys.serving import filters
from recsys.serving.filters import Filter
from recsys.serving.operators import ELEMENTS, Kind
from recsys.spelling import meant

MAX_PINS = 100
MAX_BOOSTS = 50
MAX_CAPS = 5
MAX_BOOSTED_ITEMS = 1_000
MAX_PLACE = 500
MAX_FACTOR = 100.0


@dataclass(frozen=True)
class Pin:
    """An item that stands at a place, from 1 on."""

    item_id: str
    place: int


@dataclass(frozen=True)
class Boost:
    """Items that count as at place / factor: above 1 they come earlier, below 1 later, at 0 behind all others."""

    factor: float
    wanted: Filter | None = None  # the items that meet it
    item_ids: tuple[str, ...] = ()  # or these


@dataclass(frozen=True)
class Rules:
    """What a list has to be like. None: as the configuration says."""

    pin: tuple[Pin, ...] = ()
    boost: tuple[Boost, ...] = ()
    max_per: Mapping[str, int] = field(default_factory=dict)  # column -> how many items may share a value in it
    diversity: float | None = None  # 0 to 1
    exploration: float | None = None  # the share of places that new items get
    allow_seen: bool | None = None  # items of any event of the history
    allow_viewed: bool | None = None  # items that were viewed
    allow_in_basket: bool | None = None  # items put into the basket, and not bought since
    allow_repurchase: bool | None = None  # items that were bought

    @property
    def moves(self) -> bool:
        """Whether any of them changes an order."""
        return bool(self.pin or self.boost or self.max_per or self.diversity or self.exploration)


NO_RULES = Rules()
NAMES = tuple(each.name for each in fields(Rules))


def parse(expression: Any, kinds: Mapping[str, Kind], where: str = "rules") -> Rules:
    """Check rules, as JSON decodes them, against the columns of the catalog.

    Raises RefusedError that names the part, what was found and what is allowed.
    """
    if not isinstance(expression, Mapping):
        raise RefusedError(f"{where}: expected an object, found {filters.name_of(expression)}")
    for key in expression:
        if key not in NAMES:
            raise RefusedError(f"{where}: no such rule; allowed are {', '.join(NAMES)}{meant(str(key), NAMES)}")
    given = {key: value for key, value in expression.items() if value is not None}
    pins = [_pin(one, f"{where}.pin[{at}]") for at, one in enumerate(_list(given, "pin", MAX_PINS, where))]
    if len({pin.item_id for pin in pins}) < len(pins):
        raise RefusedError(f"{where}.pin: an item is pinned twice")
    boosts = [
        _boost(one, kinds, f"{where}.boost[{at}]") for at, one in enumerate(_list(given, "boost", MAX_BOOSTS, where))
    ]
    try:
        filters.join([boost.wanted for boost in boosts if boost.wanted is not None])
    except RefusedError as error:
        raise RefusedError(f"{where}.boost.{error}") from None
    return Rules(
        pin=tuple(pins),
        boost=tuple(boosts),
        max_per=_caps(given.get("max_per", {}), kinds, f"{where}.max_per"),
        diversity=_share(given.get("diversity"), f"{where}.diversity"),
        exploration=_share(given.get("exploration"), f"{where}.exploration"),
        allow_seen=_flag(given.get("allow_seen"), f"{where}.allow_seen"),
        allow_viewed=_flag(given.get("allow_viewed"), f"{where}.allow_viewed"),
        allow_in_basket=_flag(given.get("allow_in_basket"), f"{where}.allow_in_basket"),
        allow_repurchase=_flag(given.get("allow_repurchase"), f"{where}.allow_repurchase"),
    )


def parse_all(expressions: Sequence[Any], kinds: Mapping[str, Kind]) -> Rules:
    """Several sets of rules as one, as `parse` and `join` make it. Raises RefusedError as `parse`."""
    return reduce(join, (parse(one, kinds) for one in expressions), NO_RULES)


def join(first: Rules, second: Rules) -> Rules:
    """Both at once. Where both say something of the same thing, the second counts; of two caps the smaller."""
    taken = {pin.item_id for pin in second.pin}
    caps = {**first.max_per, **second.max_per}
    said = {each.name: getattr(second, each.name) for each in fields(Rules)[3:]}
    return replace(
        first,
        pin=(*second.pin, *(pin for pin in first.pin if pin.item_id not in taken)),
        boost=(*first.boost, *second.boost),
        max_per={column: min(limit, first.max_per.get(column, limit)) for column, limit in caps.items()},
        **{name: value for name, value in said.items() if value is not None},
    )


def _list(given: Mapping[str, Any], name: str, most: int, where: str) -> Sequence[Any]:
    values = given.get(name, [])
    if not isinstance(values, list) or len(values) > most:
        raise RefusedError(f"{where}.{name}: expected a list of at most {most}, found {filters.name_of(values)}")
    return values


def _pin(one: Any, where: str) -> Pin:
    if not isinstance(one, Mapping) or set(one) != {"item_id", "place"}:
        raise RefusedError(f'{where}: expected {{"item_id", "place"}}')
    place = one["place"]
    if not isinstance(one["item_id"], str) or not one["item_id"]:
        raise RefusedError(f"{where}.item_id: expected a text")
    if not isinstance(place, int) or isinstance(place, bool) or not 1 <= place <= MAX_PLACE:
        raise RefusedError(f"{where}.place: expected a whole number from 1 to {MAX_PLACE}")
    return Pin(one["item_id"], place)


def _boost(one: Any, kinds: Mapping[str, Kind], where: str) -> Boost:
    if not isinstance(one, Mapping) or set(one) not in ({"filter", "factor"}, {"item_ids", "factor"}):
        raise RefusedError(f'{where}: expected {{"filter", "factor"}} or {{"item_ids", "factor"}}')
    factor = one["factor"]
    is_number = isinstance(factor, int | float) and not isinstance(factor, bool)
    if not is_number or not math.isfinite(factor) or not 0 <= factor <= MAX_FACTOR:
        raise RefusedError(f"{where}.factor: expected a number from 0 to {MAX_FACTOR:g}")
    if "item_ids" in one:
        ids = one["item_ids"]
        if (
            not isinstance(ids, list)
            or not 1 <= len(ids) <= MAX_BOOSTED_ITEMS
            or not all(isinstance(i, str) for i in ids)
        ):
            raise RefusedError(f"{where}.item_ids: expected a list of 1 to {MAX_BOOSTED_ITEMS} texts")
        return Boost(float(factor), item_ids=tuple(ids))
    given = one["filter"]
    try:
        wanted = filters.parse_short(given, kinds) if isinstance(given, str) else filters.parse(given, kinds)
    except RefusedError as error:
        raise RefusedError(f"{where}.{error}") from None
    return Boost(float(factor), wanted=wanted)


def _caps(given: Any, kinds: Mapping[str, Kind], where: str) -> dict[str, int]:
    if not isinstance(given, Mapping) or len(given) > MAX_CAPS:
        raise RefusedError(f"{where}: expected an object of at most {MAX_CAPS} columns, found {filters.name_of(given)}")
    allowed = [name for name, kind in kinds.items() if kind not in ELEMENTS]
    for column, limit in given.items():
        if column not in allowed:
            names = ", ".join(allowed) or "none"
            raise RefusedError(f"{where}: no such column; allowed are {names}{meant(str(column), allowed)}")
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise RefusedError(f"{where}.{column}: expected a whole number from 1 on, found {filters.name_of(limit)}")
    return dict(given)


def _share(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise RefusedError(f"{where}: expected a number from 0 to 1")
    return float(value)


def _flag(value: Any, where: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise RefusedError(f"{where}: expected true or false, found {filters.name_of(value)}")
    return value
