"""The figures of a night: what its events and its catalog are like. The ledger keeps them; they name nobody.

Shapes: E events, U users, I items, P periods of 24 hours. Period 0 ends with the newest event, so that every period
holds a whole daily cycle however late the shop's data arrive.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.arrays import Int64
from recsys.data.catalog import Catalog
from recsys.data.interactions import Interactions
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary
from recsys.guards.sketch import sketches

DAYS = 63  # eight weeks beside the newest one
WINDOW_DAYS = 56  # of the past that is compared between nights
REPEAT_DAYS = 16  # newest periods whose repeats are counted
_HOUR = 3_600_000_000
_ID_SAMPLE = 20_000  # whose forms are looked at
_PRICE_BINS, _FIRST_PRICE = 48, -16  # one for each power of two, from 2 ** -16 on
_CATEGORY_BINS = 64


@dataclass(frozen=True)
class Figures:
    """What a night's data are like. Times are microseconds UTC, counts and shares plain numbers."""

    at: int  # when it was read
    watermark: int  # of its extract
    events: int
    users: int  # that have events
    items: int
    duplicates: int  # rows that were equal to another and left out
    oldest: int
    newest: dict[str, int]  # kind -> time of its newest event
    gap_hours: dict[str, float]  # kind -> longest silence of the last nine weeks
    periods: dict[str, list[int]]  # kind -> events by period of 24 h, newest first [P]
    repeats: list[float]  # share of a period's events whose user, item and kind come again in it, newest first
    last_day: int  # the newest whole day, counted from 1970
    days: dict[str, list[int]]  # kind -> events by day (UTC), newest first, from last_day on [P]
    past_until: int  # the sketches are of the eight weeks before
    past: dict[str, int]  # kind -> events in them
    sketches: dict[str, list[int]]  # kind -> sketch of them
    top_user: float  # share of the events that the heaviest user has; all, and of the last week, whichever is more
    top_item: float
    catalog: dict[str, float]  # listed, and the shares available, titled, priced; only what the catalog has
    prices: list[int]  # priced items by power of two
    categories: list[int]  # items by a hash of their category
    forms: dict[str, dict[str, float]]  # "user", "item" -> form of the ids -> share

    @property
    def anchor(self) -> int:
        """The time of the newest event."""
        return max(self.newest.values(), default=self.oldest)

    @property
    def span_days(self) -> float:
        """From the oldest event to the newest."""
        return (self.anchor - self.oldest) / MICROSECONDS_PER_DAY

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the ledger."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Figures | None":
        """Read what `to_dict` wrote; None when another version wrote it with other figures."""
        names = {field.name for field in fields(cls)}
        return cls(**values) if set(values) == names else None


@dataclass(frozen=True)
class NightData:
    """What a night has read, as far as it is measured."""

    events: Interactions  # of the users
    visits: Interactions  # of visitors
    users: Vocabulary
    catalog: Catalog
    kinds: tuple[str, ...]
    watermark: int
    duplicates: int

    @property
    def parts(self) -> tuple[Interactions, Interactions]:
        """All events."""
        return self.events, self.visits

    @property
    def item_hashes(self) -> npt.NDArray[np.uint64]:
        """The hash of the id of each item row: [I]."""
        ids = self.catalog.ids
        hashes = np.empty(len(ids), np.uint64)
        hashes[ids.order] = ids.hashes
        return hashes


def measure(data: NightData, *, now: int) -> Figures:
    """Measure a night in one pass over its events and its catalog. now: microseconds UTC."""
    kinds = [kind for code, kind in enumerate(data.kinds) if any((part.kinds == code).any() for part in data.parts)]
    codes = {kind: data.kinds.index(kind) for kind in kinds}
    newest = {kind: max(_newest(part, code) for part in data.parts) for kind, code in codes.items()}
    anchor = min(max(newest.values(), default=now), now)
    oldest = min((int(part.times.min()) for part in data.parts if len(part)), default=now)
    last_day = anchor // MICROSECONDS_PER_DAY - 1
    until = last_day * MICROSECONDS_PER_DAY
    start = until - WINDOW_DAYS * MICROSECONDS_PER_DAY
    sketched = sketches(data.parts, data.item_hashes, len(data.kinds), start, until)
    periods = _by_period(data, codes, anchor)
    days = _by_period(data, codes, (last_day + 1) * MICROSECONDS_PER_DAY - 1)
    return Figures(
        at=now,
        watermark=data.watermark,
        events=sum(len(part) for part in data.parts),
        users=int(np.count_nonzero(np.diff(data.events.offsets))),
        items=int(np.count_nonzero(np.bincount(data.events.items, minlength=data.events.item_count))),
        duplicates=data.duplicates,
        oldest=oldest,
        newest=newest,
        gap_hours={kind: _longest_gap(data, code, anchor) for kind, code in codes.items()},
        periods=periods,
        repeats=_repeats(data.events, anchor),
        last_day=last_day,
        days=days,
        past_until=until,
        past=count_past(data, start, until),
        sketches={kind: sketched[code].tolist() for kind, code in codes.items()},
        top_user=_top_share(data.events, anchor, "users"),
        top_item=_top_share(data.events, anchor, "items"),
        catalog=_catalog_shares(data.catalog),
        prices=_price_bins(data.catalog),
        categories=_category_bins(data.catalog),
        forms={"user": _forms(data.users), "item": _forms(data.catalog.ids)},
    )


def count_past(data: NightData, start: int, end: int) -> dict[str, int]:
    """Count the events from `start` to `end` (microseconds) by kind."""
    counts = np.zeros(len(data.kinds), np.int64)
    for part in data.parts:
        counts += np.bincount(part.kinds[(part.times >= start) & (part.times < end)], minlength=len(data.kinds))
    return {kind: int(counts[code]) for code, kind in enumerate(data.kinds) if counts[code]}


def _newest(part: Interactions, code: int) -> int:
    mine = part.times[part.kinds == code]
    return int(mine.max()) if len(mine) else 0


def _by_period(data: NightData, codes: Mapping[str, int], end: int) -> dict[str, list[int]]:
    """Count events by kind and by period of 24 hours, of which period 0 ends with the moment `end`."""
    counts = np.zeros((max(codes.values(), default=0) + 1) * DAYS, np.int64)
    for part in data.parts:
        period = (end - part.times) // MICROSECONDS_PER_DAY
        inside = (period >= 0) & (period < DAYS)
        at = part.kinds[inside].astype(np.int64) * DAYS + period[inside]
        counts += np.bincount(at, minlength=len(counts))
    return {kind: counts[code * DAYS : (code + 1) * DAYS].tolist() for kind, code in codes.items()}


def _longest_gap(data: NightData, code: int, anchor: int) -> float:
    """The longest run of whole hours without an event of the kind, in the last nine weeks before its newest event."""
    hours = DAYS * 24
    seen = np.zeros(hours, np.bool_)
    for part in data.parts:
        ago = (anchor - part.times[part.kinds == code]) // _HOUR
        seen[ago[(ago >= 0) & (ago < hours)]] = True
    at = np.flatnonzero(seen)
    return float(np.diff(at).max()) if len(at) > 1 else 0.0


def _repeats(events: Interactions, anchor: int) -> list[float]:
    """The share of the events of each of the newest periods whose user, item and kind come again in it."""
    ago = (anchor - events.times) // MICROSECONDS_PER_DAY
    inside = np.flatnonzero((ago >= 0) & (ago < REPEAT_DAYS))
    users = np.searchsorted(events.offsets, inside, side="right") - 1
    keys = (users * events.item_count + events.items[inside]) * 128 + events.kinds[inside]
    parts = [keys[ago[inside] == period] for period in range(REPEAT_DAYS)]
    return [round(1 - len(np.unique(part)) / max(1, len(part)), 4) if len(part) else 0.0 for part in parts]


def _top_share(events: Interactions, anchor: int, of: str) -> float:
    """The share of the events that the heaviest user or item has: of all, or of the last week, whichever is more."""
    rows: Any = np.diff(events.offsets) if of == "users" else np.bincount(events.items)
    everything = rows.max(initial=0) / max(1, len(events))
    recent = np.flatnonzero(events.times > anchor - 7 * MICROSECONDS_PER_DAY)
    owners = np.searchsorted(events.offsets, recent, side="right") - 1 if of == "users" else events.items[recent]
    weekly = np.bincount(owners).max(initial=0) / len(recent) if len(recent) else 0.0
    return round(float(max(everything, weekly)), 4)


def _catalog_shares(catalog: Catalog) -> dict[str, float]:
    """How many items the catalog lists, and which shares of them are available, titled and priced."""
    listed = int(catalog.is_listed.sum())
    shares = {"listed": float(listed)}
    table = catalog.columns.slice(0, listed)
    names = {"available": "available", "title": "titled", "price": "priced"}
    for column, name in names.items():
        if listed and column in table.column_names:
            values = table.column(column)
            if column == "available":
                has = pc.fill_null(values.cast(pa.bool_()), True)
            elif column == "price":
                has = pc.fill_null(pc.greater(values.cast(pa.float64()), 0.0), False)
            else:
                has = pc.is_valid(values)
            shares[name] = round(float(np.asarray(has.to_numpy()).mean()), 4)
    return shares


def _price_bins(catalog: Catalog) -> list[int]:
    prices = catalog.prices[catalog.is_listed]
    prices = prices[np.isfinite(prices) & (prices > 0)]
    at = np.clip(np.floor(np.log2(prices)) - _FIRST_PRICE, 0, _PRICE_BINS - 1).astype(np.int64)
    return [int(count) for count in np.bincount(at, minlength=_PRICE_BINS)]


def _category_bins(catalog: Catalog) -> list[int]:
    bins = [0] * _CATEGORY_BINS
    if "category" in catalog.columns.column_names:
        column = catalog.columns.column("category").slice(0, int(catalog.is_listed.sum()))
        for row in pc.value_counts(column).to_pylist():
            if row["values"] is not None:
                bins[zlib.crc32(str(row["values"]).encode()) % _CATEGORY_BINS] += row["counts"]
    return bins


def _forms(ids: Vocabulary) -> dict[str, float]:
    """Which forms the ids have, and how often: of an evenly spaced sample."""
    rows = np.linspace(0, max(0, len(ids) - 1), min(len(ids), _ID_SAMPLE)).astype(np.int64)
    found: dict[str, int] = {}
    for identifier in ids.ids_of(rows):
        form = form_of(identifier)
        found[form] = found.get(form, 0) + 1
    return {form: round(count / len(rows), 4) for form, count in found.items()}


def form_of(identifier: str) -> str:
    """Say of which characters an id is made, not which ones: `digits`, `digits upper`, `0 digits`, `digits .0`."""
    marks = [
        ("0", identifier.startswith("0") and len(identifier) > 1),
        ("digits", any(c.isdigit() for c in identifier)),
        ("lower", any(c.islower() for c in identifier)),
        ("upper", any(c.isupper() for c in identifier)),
        ("blank", identifier != identifier.strip()),
        (".0", identifier.endswith(".0")),
        ("other", not identifier.removesuffix(".0").isalnum()),
    ]
    return " ".join(name for name, holds in marks if holds)


def period_sums(periods: Mapping[str, Sequence[int]]) -> Int64:
    """The events of all kinds by period: [P]."""
    return np.asarray(np.asarray(list(periods.values()), np.int64).reshape(len(periods), DAYS).sum(axis=0), np.int64)
