"""From a question to an answer: one snapshot, one database query, one search, one JSON object.

Nothing of the outside world is decided here but which items may be answered: sold out, filtered, bought, excluded.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic_core import to_json
from starlette.responses import Response

from api import metrics as measures
from api.live import ITEMS_AT_ONCE, Snapshot
from api.problems import RETRY_SECONDS, ProblemError
from api.schemas import SKEW_MICROSECONDS, to_text
from api.state import Parts
from recsys.data.arrays import Bool, Int32
from recsys.data.extract import histories_with
from recsys.data.interactions import Histories, newest_events
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.errors import AwayError, RefusedError
from recsys.serving import filters
from recsys.serving import fresh_items as delta
from recsys.serving.filters import Filter
from recsys.serving.recommender import REASONS, Hits
from recsys.store.changes import Changes, read_changes
from recsys.store.events import NewEvents


@dataclass(frozen=True)
class Wish:
    """What an answer shall look like."""

    k: int
    exclude: Sequence[str]
    fields: Sequence[str]
    short_filters: Sequence[str] = ()
    filter: Any = None  # an expression of recsys.serving.filters


@dataclass(frozen=True)
class Past:
    """An event that came with the question."""

    item_id: str
    kind: str
    time: int | None  # microseconds UTC; None: now


@dataclass(frozen=True)
class Sight:
    """What is known at the moment of a question."""

    snapshot: Snapshot
    news: Changes
    as_of: int
    is_away: bool


@dataclass(frozen=True)
class Choice:
    """Which items may be answered, and how many may not and why. Joint rows."""

    allowed: tuple[Bool | None, ...]
    excluded: Int32
    eligible: int
    dropped: dict[str, int]


def current(parts: Parts) -> Snapshot:
    """The snapshot to answer from. Raises ProblemError while there is none."""
    snapshot = parts.live.snapshot
    if snapshot is None:
        headers = {"Retry-After": str(RETRY_SECONDS)}
        raise ProblemError(503, "not_ready", "No bundle is loaded yet; `recsys train` makes one.", headers)
    return snapshot


def look(parts: Parts, user_id: str | None, visitor_id: str | None, as_of: int | None) -> Sight:
    """Read, in one query, what is new of a user, of a visitor and of the catalog."""
    snapshot = current(parts)
    now = time.time_ns() // 1000
    try:
        news = parts.link.read(
            lambda store: read_changes(
                store,
                user_id,
                visitor_id,
                received_after=snapshot.extract.watermark,
                occurred_before=now + SKEW_MICROSECONDS if as_of is None else as_of,
                length=parts.config.events.history_length,
                revision=snapshot.revision,
                item_limit=0 if snapshot.is_full else ITEMS_AT_ONCE,
            )
        )
    except AwayError:
        measures.AWAY.inc()
        gone = {user_id: parts.deleted[user_id]} if user_id in parts.deleted else {}
        news = Changes(NewEvents([], [], [], [], [], gone), [])
        return Sight(snapshot, news, as_of or now, is_away=True)
    # An event of a clock that is ahead of ours has happened all the same.
    moment = as_of if as_of is not None else max(now, max(news.events.times, default=0) + 1)
    return Sight(parts.live.catch_up(snapshot, news.items), news, moment, is_away=False)


def history(parts: Parts, sight: Sight, user_id: str | None, visitor_id: str | None, past: Sequence[Past]) -> Histories:
    """The history of one user in joint rows: extract, own tables, and what came with the question."""
    snapshot, known = sight.snapshot, sight.snapshot.extract.items
    unknown = [item for item in set(sight.news.events.items) if known.row_of(item) < 0]
    rows = {item: snapshot.history_row(item) for item in unknown}
    new_items = {item: len(known) + row for item, row in rows.items() if row >= 0}
    length = parts.config.events.history_length
    fresh, users, visitors = sight.news.events, [user_id], [visitor_id]
    events = histories_with(
        snapshot.extract,
        fresh,
        users,
        sight.as_of,
        length,
        visitor_ids=visitors,
        always=parts.config.evaluation.targets,
        new_items=new_items,
    )
    events = snapshot.joint(events)
    return _with_past(snapshot, events, past, sight.as_of, length) if past else events


def choose(snapshot: Snapshot, wish: Wish, bought: Int32) -> Choice:
    """Which items may be answered. Raises RefusedError for a wrong filter. bought: joint rows to leave out."""
    allowed = list(snapshot.eligible)
    before = _count(snapshot, allowed)
    if (wanted := _filter(snapshot, wish)) is not None:
        for at, bundle in enumerate(snapshot.shelf.bundles):
            met, mask = filters.mask(wanted, bundle.catalog.columns), allowed[at]
            allowed[at] = met if mask is None else met & mask
    after = _count(snapshot, allowed)
    bought = _allowed_rows(snapshot, allowed, bought)
    named = np.array([snapshot.shelf.row_of(item) for item in wish.exclude], np.int32)
    excluded = np.setdiff1d(_allowed_rows(snapshot, allowed, named), bought)
    dropped = {
        "sold_out": snapshot.sold_out,
        "filtered": before - after,
        "bought": len(bought),
        "excluded": len(excluded),
    }
    return Choice(tuple(allowed), excluded, after - len(bought) - len(excluded), dropped)


def recommend(
    parts: Parts,
    user_id: str | None,
    visitor_id: str | None,
    wish: Wish,
    *,
    past: Sequence[Past] = (),
    as_of: int | None = None,
    request_id: str,
) -> Response:
    """The k best items for a user, a visitor, or whoever has this past."""
    sight = look(parts, user_id, visitor_id, as_of)
    snapshot, repeats = sight.snapshot, parts.config.recommendations.allow_repurchase
    check_fields(snapshot, wish.fields)
    events = history(parts, sight, user_id, visitor_id, past)
    bought = np.zeros(0, np.int32)
    if not repeats:
        bought = snapshot.shelf.standing_for(events.items[np.isin(events.kinds, snapshot.targets)])
    choice = choose(snapshot, wish, bought)
    hits = delta.recommend(
        snapshot.shelf,
        events,
        wish.k,
        target_codes=snapshot.targets,
        repeats=repeats,
        allowed=choice.allowed,
        excluded=(np.array([0, len(choice.excluded)], np.int64), choice.excluded),
    )
    warnings = _warnings(sight, wish, choice)
    if not len(events.items):
        warnings.append(_warning("no_history", "Nothing is known of this user yet; these items are popular."))
    unknown = sum(snapshot.history_row(event.item_id) < 0 for event in past)
    if unknown:
        warnings.append(_warning("unknown_items", f"{unknown} events of the history name items that nobody knows."))
    reasons = ["visitor" if user_id is None and reason == "personal" else reason for reason in REASONS]
    return respond(snapshot, hits, wish, choice, warnings, reasons=reasons, request_id=request_id)


def respond(
    snapshot: Snapshot,
    hits: Hits,
    wish: Wish,
    choice: Choice,
    warnings: list[dict[str, str]],
    *,
    reasons: Sequence[str],
    request_id: str,
) -> Response:
    """The answer as JSON, written once and as it is."""
    found = []
    for row, score, code in zip(hits.rows[0].tolist(), hits.scores[0].tolist(), hits.reasons[0].tolist(), strict=True):
        if row < 0:
            break
        bundle, own = snapshot.shelf.place(row)
        hit = {"item_id": bundle.catalog.ids.id_of(own), "score": score, "reason": reasons[code]}
        if wish.fields:
            hit["fields"] = fields_of(snapshot, row, wish.fields)
        found.append(hit)
    for reason, count in Counter(hit["reason"] for hit in found).items():
        measures.HITS.labels(reason).inc(count)
    if len(found) < wish.k:
        measures.SHORT.inc()
    body = {"request_id": request_id, "bundle": snapshot.bundle.version, "hits": found, "eligible": choice.eligible}
    body |= {"dropped": choice.dropped, "warnings": warnings}
    return Response(to_json(body, inf_nan_mode="null"), media_type="application/json")


def similar(parts: Parts, item_id: str, wish: Wish, *, request_id: str) -> Response:
    """The k items most similar to one. Raises ProblemError when nobody knows it."""
    sight = look(parts, None, None, None)
    snapshot = sight.snapshot
    check_fields(snapshot, wish.fields)
    row = snapshot.shelf.row_of(item_id)
    if row < 0:
        raise ProblemError(404, "unknown_item", f"This item is not among the {snapshot.size} that are known.")
    itself = np.array([row], np.int32)
    choice = choose(snapshot, replace(wish, exclude=[item for item in wish.exclude if item != item_id]), itself)
    choice.dropped["bought"] = 0  # the item itself took that place
    hits = delta.similar(snapshot.shelf, row, wish.k, allowed=choice.allowed, excluded=choice.excluded)
    return respond(snapshot, hits, wish, choice, _warnings(sight, wish, choice), reasons=REASONS, request_id=request_id)


def _with_past(snapshot: Snapshot, events: Histories, past: Sequence[Past], as_of: int, length: int) -> Histories:
    codes = {kind: code for code, kind in enumerate(snapshot.bundle.kinds)}
    for event in past:
        if event.kind not in codes:
            raise RefusedError(f"history: unknown kind; allowed are {', '.join(codes)}")
    known = [(snapshot.history_row(event.item_id), event) for event in past]
    known = [(row, event) for row, event in known if row >= 0]
    times = np.array([as_of if event.time is None else min(event.time, as_of) for _, event in known], np.int64)
    ages = ((as_of - times) / MICROSECONDS_PER_DAY).astype(np.float32)
    items = np.concatenate([events.items, np.array([row for row, _ in known], np.int32)])
    kinds = np.concatenate([events.kinds, np.array([codes[event.kind] for _, event in known], np.int8)])
    ages = np.concatenate([events.ages_days, ages])
    order = np.argsort(-ages, kind="stable")
    order = order[newest_events(np.zeros(len(order), np.int64), kinds[order], 1, length, snapshot.targets)]
    return Histories(np.array([0, len(order)], np.int64), items[order], kinds[order], ages[order])


def _filter(snapshot: Snapshot, wish: Wish) -> Filter | None:
    parts = [filters.parse_short(text, snapshot.columns) for text in wish.short_filters]
    if wish.filter is not None:
        parts.append(filters.parse(wish.filter, snapshot.columns))
    return filters.join(parts)


def _count(snapshot: Snapshot, allowed: Sequence[Bool | None]) -> int:
    return sum(
        len(bundle.catalog) if mask is None else int(np.count_nonzero(mask))
        for bundle, mask in zip(snapshot.shelf.bundles, allowed, strict=True)
    )


def _allowed_rows(snapshot: Snapshot, allowed: Sequence[Bool | None], rows: Int32) -> Int32:
    """Those joint rows, each once, that are not left out already."""
    rows = np.unique(rows[rows >= 0]).astype(np.int32)
    kept, start = np.ones(len(rows), np.bool_), 0
    for bundle, mask in zip(snapshot.shelf.bundles, allowed, strict=True):
        inside = (rows >= start) & (rows < start + len(bundle.catalog))
        if mask is not None:
            kept[inside] = mask[rows[inside] - start]
        start += len(bundle.catalog)
    return rows[kept]


def check_fields(snapshot: Snapshot, fields: Sequence[str]) -> None:
    """Raises RefusedError for a column that the catalog does not have."""
    names = snapshot.bundle.catalog.columns.column_names
    if any(field not in names for field in fields):
        raise RefusedError(f"fields: no such column; allowed are {', '.join(names)}")


def fields_of(snapshot: Snapshot, row: int, fields: Sequence[str]) -> dict[str, Any]:
    """What the catalog says of the item of a joint row, in columns that it has."""
    bundle, own = snapshot.shelf.place(row)
    return {name: _value(bundle.catalog.columns, name, own) for name in fields}


def _value(columns: Any, name: str, row: int) -> Any:
    value = columns.column(name)[row].as_py()
    return to_text(value) if name == "created_at" and isinstance(value, int) else value


def _warnings(sight: Sight, wish: Wish, choice: Choice) -> list[dict[str, str]]:
    warnings = []
    if choice.eligible < wish.k:
        told = f"Only {choice.eligible} items are eligible; {wish.k} were asked for."
        warnings.append(_warning("fewer_than_k", told))
    return warnings + warnings_of(sight)


def warnings_of(sight: Sight) -> list[dict[str, str]]:
    """What was not to be known at that moment."""
    warnings = []
    if sight.is_away:
        told = "The database does not answer; events and items since the last training are not counted."
        warnings.append(_warning("database_away", told))
    if sight.snapshot.is_full:
        told = "More items are new than a worker holds ([api] max_fresh_items); the latest wait for the next training."
        warnings.append(_warning("too_many_new_items", told))
    return warnings


def _warning(code: str, detail: str) -> dict[str, str]:
    return {"code": code, "detail": detail}
