"""The answer engine: a query -> an answer, for HTTP, the command line and whoever else asks. Plain values in and out.

`gather_context` reads what is new once; `answer` answers from it without asking anybody: it decides which items are
eligible, has the box rank them, and fills a list that is short from the box's fallbacks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recsys.config.settings import Config
from recsys.data.arrays import Int32
from recsys.data.catalog import ChangedItem
from recsys.data.nobody import no_visitors
from recsys.data.times import MICROSECONDS_PER_DAY, rfc3339
from recsys.errors import NotFoundError, RefusedError
from recsys.serving import filters, masks
from recsys.serving.asked import Asked, join
from recsys.serving.boxes import BOXES, Box, fallbacks_of
from recsys.serving.cursor import mark_of, read_cursor, write_cursor
from recsys.serving.eligibility import Eligibility, bought_rows, decide
from recsys.serving.explain import explain
from recsys.serving.explore import seed_of
from recsys.serving.history import Events, InlineEvent, ShownEvent, events_of
from recsys.serving.recommender import Hits
from recsys.serving.ruled import Ruled, apply, known_rows
from recsys.serving.rules import Rules, parse_all
from recsys.serving.snapshot import ITEMS_AT_ONCE, Snapshot
from recsys.spelling import meant
from recsys.store.changes import NO_EVENTS, Changes, NewEvents, read_changes
from recsys.store.database import Store

SKEW_MICROSECONDS = 5 * 60 * 1_000_000  # a clock that is so much ahead is forgiven


@dataclass(frozen=True)
class Query:
    """Who asks for which box. Without user, visitor and history the box for_you is what is popular."""

    user_id: str | None = None
    visitor_id: str | None = None
    history: Sequence[InlineEvent] = ()  # events that count beside those that are known, oldest first
    k: int = 20
    exclude: Sequence[str] = ()  # ids of items to leave out
    filters: Sequence[Any] = ()  # texts in the short form of recsys.serving.filters or decoded JSON; all have to be met
    fields: Sequence[str] = ()  # columns of the catalog that come with every item
    as_of: int | None = None  # microseconds UTC; None: now
    box: str = "for_you"  # a name in BOXES
    items: Sequence[str] = ()  # ids of the items that the box is about; they are not listed
    window_days: int | None = None  # how far back the box looks; None: as far as it does by itself
    category: str | None = None  # only items of this category and those below it, as "Food" for "Food > Coffee"
    cursor: str | None = None  # next_cursor of an earlier answer to the same question: what it answered is left out
    explain: bool = False  # whether hits say what made them come: items of the history, or what similar items share
    rules: Sequence[Any] = ()  # each decoded JSON, see recsys.serving.rules; the last counts where they contradict
    fallbacks: Sequence[str] | None = None  # boxes that fill a list that is short; None: those of the box


@dataclass(frozen=True)
class RequestContext:
    """What is known at the moment of a query."""

    snapshot: Snapshot
    events: NewEvents
    as_of: int  # microseconds UTC
    is_away: bool = False  # the database did not answer


@dataclass(frozen=True)
class Answer:
    """The items, best first, how many there were to choose from, and what a caller may want to know."""

    bundle: str  # its version
    hits: list[dict[str, Any]]  # item_id, score, reason, fields where columns were asked for, moved where a rule did
    eligible: int
    excluded_counts: dict[str, int]  # see Eligibility
    warnings: list[dict[str, str]]  # code, detail
    next_cursor: str | None = None  # for the items behind these; None: there are none, or no more can be paged through


def gather_context(
    config: Config,
    snapshot: Snapshot,
    query: Query,
    *,
    now: int,
    read: Callable[[Callable[[Store], Changes]], Changes],
    grow: Callable[[Snapshot, Sequence[ChangedItem]], Snapshot],
) -> RequestContext:
    """Read in one database query what is new of the user, the visitor and the catalog.

    now: microseconds UTC. read: calls its argument with a store. grow: makes the snapshot that has the changed items
    too. Raises what `read` raises.
    """
    visitor_id = visitor_of(config, query)
    changes = read(
        lambda store: read_changes(
            store,
            [query.user_id] if query.user_id is not None else [],
            [visitor_id] if visitor_id is not None else [],
            received_after=snapshot.log.extract.complete_until,
            known=snapshot.log.extract.recent or (),
            occurred_before=now + SKEW_MICROSECONDS if query.as_of is None else query.as_of,
            length=config.events.history_length,
            revision=snapshot.revision,
            item_limit=ITEMS_AT_ONCE,
        )
    )
    # An event of a clock that is ahead of ours has happened all the same.
    as_of = query.as_of if query.as_of is not None else max(now, max(changes.events.times, default=0) + 1)
    return RequestContext(grow(snapshot, changes.items), changes.events, as_of)


def visitor_of(config: Config, query: Query) -> str | None:
    """The visitor whose events count. An id that all guests share is nobody's, also where it has stored events."""
    return None if query.visitor_id in no_visitors(config.source.guest_ids) else query.visitor_id


def context_without_store(snapshot: Snapshot, query: Query, *, now: int, deleted: dict[str, int]) -> RequestContext:
    """What is known while the database is away: the snapshot, and deletions (user id -> time) that were seen before."""
    gone = {query.user_id: deleted[query.user_id]} if query.user_id in deleted else {}
    events = NewEvents(**{**vars(NO_EVENTS), "deleted": gone})
    return RequestContext(snapshot, events, now if query.as_of is None else query.as_of, is_away=True)


def answer(config: Config, context: RequestContext, query: Query) -> Answer:
    """The k best items of a box.

    Raises RefusedError for an unknown box, for a question that does not fit it, a wrong filter, an unknown column or an
    event of an unknown kind; NotFoundError when the item that a box is about is unknown.
    """
    snapshot, box = context.snapshot, find_box(query)
    check_fields(snapshot, query.fields)
    _check_kinds(snapshot, query.history)
    rules = parse_all(query.rules, snapshot.columns)
    asked, unknown = _asked(config, context, query, box, rules)
    names = (query.box, *fallbacks_of(query.box, query.fallbacks, asked))
    # Whatever came in between: so many are enough to leave out what was shown and to have k others.
    shown = [] if query.cursor is None else read_cursor(query.cursor)
    listed = _ruled(asked, names, query, rules, query.k + len(shown))
    hits = listed.hits
    warnings = _warnings(context, query, asked.eligibility, len(shown))
    warnings += [_warning("pin_left_out", message) for message in listed.pins_left_out]
    count = hits.rows.shape[1]
    if count < min(query.k + len(shown), asked.eligibility.eligible):
        warnings.append(_warning("fewer_than_k", f"Only {count} items are listed: max_per allows no more."))
    if query.category is not None and not asked.eligibility.eligible:
        warnings += _unknown_category(snapshot, query.category)
    if box.reason == "personal" and not len(asked.histories.items):
        warnings.append(_warning("no_history", "Nothing is known of this user yet; these items are popular."))
    elif hits.rows.size and not (hits.reasons == 0).any():
        message = f"The box {query.box} has no items of its own; `reason` says which box these come from."
        warnings.append(_warning("fallback", message))
    if unknown:
        message = f"{unknown} of the events and items that came with the question name items that nobody knows."
        warnings.append(_warning("unknown_items", message))
    reasons = [BOXES[name].reason or name for name in names]
    reasons = ["visitor" if query.user_id is None and reason == "personal" else reason for reason in reasons]
    reasons += ["new", "pinned"]
    return _answer(asked, listed, query, warnings, reasons, shown)


def find_box(query: Query) -> Box:
    """The box that a query names. Raises RefusedError when there is none, or when the query does not fit it."""
    box = BOXES.get(query.box)
    if box is None:
        near = meant(query.box, BOXES)
        raise RefusedError(f"box: there is no {query.box!r}; allowed are {', '.join(BOXES)}{near}")
    if box.needs in ("item", "items") and not query.items:
        what = "an item; name it" if box.needs == "item" else "items; name them"
        raise RefusedError(f"item_id: the box {query.box} is about {what}")
    if box.needs == "person" and query.user_id is None and query.visitor_id is None and not query.history:
        raise RefusedError(f"user_id: the box {query.box} needs a user_id, a visitor_id or a history")
    if query.window_days is not None and not box.takes_window:
        takers = ", ".join(name for name, each in BOXES.items() if each.takes_window)
        raise RefusedError(f"window_days: the box {query.box} has no window; those that have one are {takers}")
    return box


def default_k(query: Query) -> int:
    """How many items a box lists where nobody says: all that it is to re-rank, else 20."""
    box = BOXES.get(query.box)
    return max(1, len(query.items)) if box is not None and box.lists_named else Query.k


def shown_history(
    config: Config, context: RequestContext, query: Query, *, limit: int | None = None, with_all_bought: bool = False
) -> list[ShownEvent]:
    """The events that recommendations for the query are made from, newest first, with those of unknown items.

    limit: the newest so many. with_all_bought: what was bought longer ago counts too, and is not recommended.
    """
    length = min(limit or config.events.history_length, config.events.history_length)
    always = context.snapshot.bought_codes if with_all_bought else ()
    return _events(config, context, query).shown(length, always)


def fields_of(snapshot: Snapshot, row: int, fields: Sequence[str]) -> dict[str, Any]:
    """What the catalog says of the item of a joint row, in columns that it has; times as RFC 3339."""
    bundle, own = snapshot.view.place(row)
    columns = bundle.catalog.columns
    return {name: _value(columns, name, own) if name in columns.column_names else None for name in fields}


def check_fields(snapshot: Snapshot, fields: Sequence[str]) -> None:
    """Raise RefusedError for a column that the catalog does not have."""
    names = snapshot.view.schema.names if fields else []
    for field in fields:
        if field not in names:
            raise RefusedError(f"fields: no such column; allowed are {', '.join(names)}{meant(field, names)}")


def context_warnings(context: RequestContext) -> list[dict[str, str]]:
    """What could not be known at that moment."""
    warnings = []
    if context.is_away:
        message = "The database does not answer; events and items since the last training are not counted."
        warnings.append(_warning("database_away", message))
    if context.snapshot.is_full:
        message = (
            "More items are new than a worker holds ([api] max_fresh_items); the latest wait for the next training."
        )
        warnings.append(_warning("too_many_new_items", message))
    return warnings


def _events(config: Config, context: RequestContext, query: Query) -> Events:
    snapshot = context.snapshot
    return events_of(
        snapshot.log,
        snapshot.view,
        context.events,
        [query.user_id],
        context.as_of,
        visitor_ids=[visitor_of(config, query)],
        inline=query.history,
    )


def _asked(config: Config, context: RequestContext, query: Query, box: Box, rules: Rules) -> tuple[Asked, int]:
    """The question as a box gets it, and how many of the items that it names are unknown."""
    snapshot, view = context.snapshot, context.snapshot.view
    rows = view.rows_of(list(dict.fromkeys(query.items)))
    if box.needs == "item" and rows[0] < 0:
        raise NotFoundError(f"This item is not among the {len(view)} that are known.")
    events, length = _events(config, context, query), config.events.history_length
    histories = events.histories(1, context.as_of, length, snapshot.bought_codes)
    bought, may_repeat = np.zeros(0, np.int32), rules.allow_repurchase
    if may_repeat is None:
        may_repeat = config.recommendations.allow_repurchase or box.lists_bought
    if not may_repeat:
        bought = bought_rows(view, histories, snapshot.bought_codes).values
    known = view.current_row(known_rows(histories, snapshot.bundle.kinds, snapshot.bought_codes, rules))
    eligibility = _decide(snapshot, query, bought, known)
    seeds = rows[rows >= 0]
    asked = Asked(
        config=config,
        snapshot=snapshot,
        events=events,
        histories=histories,
        seeds=seeds,
        as_of=context.as_of,
        window_days=query.window_days,
        eligibility=eligibility if box.lists_named else eligibility.without(view, seeds),
    )
    unknown = int(np.count_nonzero(rows < 0)) + sum(view.trained_row(event.item_id) < 0 for event in query.history)
    return (asked if box.only is None else narrowed(asked, box.only(asked))), unknown


def narrowed(asked: Asked, rows: Int32) -> Asked:
    """The question with only these joint rows eligible."""
    return replace(asked, eligibility=asked.eligibility.only(asked.snapshot.view, rows))


def _ranked(asked: Asked, names: Sequence[str], k: int) -> Hits:
    """The k best items of the first box, then of its fallbacks. A hit's reason is the position of its box."""
    answers, count = [BOXES[names[0]].rank(asked, k)], 0
    for name in names[1:]:
        count += int(np.count_nonzero(answers[-1].rows >= 0))
        if count >= k:
            break
        listed = np.concatenate([hits.rows[0] for hits in answers])
        rest = replace(asked, eligibility=asked.eligibility.without(asked.snapshot.view, listed))
        answers.append(BOXES[name].rank(rest, k - count))
    return join(answers)


def _ruled(asked: Asked, names: Sequence[str], query: Query, rules: Rules, k: int) -> Ruled:
    """The k best items of the boxes under the rules."""
    share = rules.exploration
    if share is None:
        share = asked.config.recommendations.exploration if BOXES[names[0]].explores else 0.0
    if not share and not rules.moves:
        return Ruled(_ranked(asked, names, k), [None] * k, [])
    who = (query.user_id, query.visitor_id, tuple(query.history), tuple(query.items))
    seed = seed_of(who, query.box, asked.snapshot.bundle.version, asked.as_of // MICROSECONDS_PER_DAY)
    return apply(asked, lambda each, depth: _ranked(each, names, depth), k, rules, share=share, seed=seed)


def _decide(snapshot: Snapshot, query: Query, bought: Int32, known: Int32) -> Eligibility:
    parts = [
        filters.parse_short(one, snapshot.columns) if isinstance(one, str) else filters.parse(one, snapshot.columns)
        for one in query.filters
    ]
    if query.category is not None:
        parts.append(_category(snapshot, query.category))
    excluded = np.concatenate([snapshot.view.rows_of(query.exclude), known])
    return decide(snapshot.view, snapshot.stock, filters.join(parts), bought=bought, excluded=excluded)


def _category(snapshot: Snapshot, category: str) -> filters.Filter:
    if "category" not in snapshot.columns:
        raise RefusedError("category: the catalog has no column `category`")
    return filters.parse({"column": "category", "op": "prefix", "value": category}, snapshot.columns)


def _unknown_category(snapshot: Snapshot, category: str) -> list[dict[str, str]]:
    """A warning when no item of the catalog has the category or one below it."""
    tables = [bundle.catalog.columns for bundle in snapshot.view.bundles]
    wanted = _category(snapshot, category)
    if any(masks.mask(wanted, columns).any() for columns in tables):
        return []
    named = [columns.column("category").unique().drop_null().to_pylist() for columns in tables]
    near = meant(category, sorted({str(name) for names in named for name in names}))
    return [_warning("unknown_category", f"No item has the category {category!r} or one below it{near or '.'}")]


def _answer(
    asked: Asked,
    ruled: Ruled,
    query: Query,
    warnings: list[dict[str, str]],
    reasons: Sequence[str],
    shown: Sequence[bytes],
) -> Answer:
    """The hits in words. reasons: those that the codes of the hits stand for, the box's own first."""
    snapshot, eligibility, details = asked.snapshot, asked.eligibility, BOXES[query.box].details
    found, marks, hits = list[dict[str, Any]](), dict.fromkeys(shown), ruled.hits
    columns = (hits.rows[0].tolist(), hits.scores[0].tolist(), hits.reasons[0].tolist())
    explained: dict[int, dict[str, Any]] = {}
    for row, score, code, moved in zip(*columns, ruled.moved, strict=False):
        bundle, own = snapshot.view.place(row)
        item_id = bundle.catalog.ids.id_of(own)
        if (mark := mark_of(item_id)) in marks or len(found) == query.k:
            continue
        marks[mark] = None
        hit: dict[str, Any] = {"item_id": item_id, "score": None if np.isnan(score) else score, "reason": reasons[code]}
        if details is not None and code == 0:
            hit |= details(asked, row)
        if query.fields:
            hit["fields"] = fields_of(snapshot, row, query.fields)
        if moved:
            hit["moved"] = moved
        if query.explain:
            explained[row] = hit
        found.append(hit)
    explain(asked, explained)
    has_more = len(found) == query.k and eligibility.eligible > len(marks)
    return Answer(
        bundle=snapshot.bundle.version,
        hits=found,
        eligible=eligibility.eligible,
        excluded_counts=eligibility.excluded_counts,
        warnings=warnings,
        next_cursor=write_cursor(marks) if has_more else None,
    )


def _check_kinds(snapshot: Snapshot, history: Sequence[InlineEvent]) -> None:
    kinds = snapshot.bundle.kinds
    for event in history:
        if event.kind not in kinds:
            raise RefusedError(f"history: unknown kind; allowed are {', '.join(kinds)}{meant(event.kind, kinds)}")


def _value(columns: Any, name: str, row: int) -> Any:
    value = columns.column(name)[row].as_py()
    return rfc3339(value) if name == "created_at" and isinstance(value, int) else value


def _warnings(context: RequestContext, query: Query, eligibility: Eligibility, shown: int) -> list[dict[str, str]]:
    if eligibility.eligible >= query.k + shown:
        return context_warnings(context)
    earlier = f", of which {shown} were answered before" if shown else ""
    message = f"Only {eligibility.eligible} items are eligible{earlier}; {query.k} were asked for."
    return [_warning("fewer_than_k", message), *context_warnings(context)]


def _warning(code: str, detail: str) -> dict[str, str]:
    return {"code": code, "detail": detail}
