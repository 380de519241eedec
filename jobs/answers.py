"""The door of the command line to the answer engine: it asks recsys.serving.answer and prints what comes back."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jobs.commands import open_shop
from jobs.history_file import read_history
from jobs.output import Output, Table
from recsys.config.settings import Config
from recsys.data.times import parse_time, readable
from recsys.errors import ConfigError, NotFoundError, RefusedError
from recsys.progress import Progress
from recsys.serving import answer as engine
from recsys.serving.answer import Answer, Query, RequestContext, fields_of, shown_history
from recsys.serving.placements import known_placements, question
from recsys.serving.snapshot import Snapshot, grow, items_after, load, read_posted
from recsys.store.database import Store
from recsys.store.placements import list_placements

SHOWN = ("title", "category", "brand", "price")
HISTORY_SHOWN = 10
# Options that have other names than over HTTP.
_OPTIONS = {"box": "NAME", "item_id": "--item", "user_id": "--user", "window_days": "--window-days"}


def recommend(
    config: Config,
    *,
    user_ids: list[str],
    k: int,
    visitor: str | None = None,
    history: Path | None = None,
    filters: Sequence[str] = (),
    exclude: Sequence[str] = (),
    fields: Sequence[str] = (),
    rules: str | None = None,
    as_of: str | None = None,
    progress: Progress,
) -> Output:
    """The k best items for each user, beside the newest events of the history that they come from.

    visitor, history: of the only user, or of nobody that is known. history: a file of further events. filters: in the
    short form of HTTP or as JSON. as_of: as if it were then; None: now. Raises ConfigError for an option that is wrong.
    """
    query = Query(
        visitor_id=visitor,
        k=k,
        exclude=exclude,
        filters=filters,
        fields=_names(fields),
        as_of=_moment(as_of),
        rules=_rules(rules),
    )
    with closing(open_shop(config)) as store:
        snapshot = _load(config, store, progress)
        if history is not None:
            query = replace(query, history=read_history(history, snapshot.bundle.kinds))
        found = [_recommend(config, store, snapshot, replace(query, user_id=user)) for user in user_ids or (None,)]
    return Output([data for data, _ in found], [part for _, parts in found for part in parts])


def _recommend(
    config: Config, store: Store, snapshot: Snapshot, query: Query
) -> tuple[dict[str, Any], list[Table | str]]:
    """The answer to one query: for `--json`, and for people."""
    context = _context(config, store, snapshot, query)
    with _options():
        found = engine.answer(config, context, query)
    history = [
        {"time": readable(event.time), "event": event.kind, **_item(context.snapshot, event.item_id)}
        for event in shown_history(config, context, query, with_all_bought=True)
    ]
    asked = {"user_id": query.user_id, "visitor_id": query.visitor_id, "bundle": found.bundle, "history": history}
    data = asked | _data(context, found)
    who = f"User {query.user_id}" if query.user_id is not None else "The given history"
    if query.user_id is None and query.visitor_id is not None:
        who = f"Visitor {query.visitor_id}"
    return data, [
        _table(f"{who}: newest of {len(history)} events", history[:HISTORY_SHOWN], ("time", "event")),
        _table(f"Recommended from {found.bundle}", data["hits"], ("rank", "reason", "score"), query.fields),
        *(warning["detail"] for warning in found.warnings),
    ]


def similar(
    config: Config,
    *,
    item_ids: list[str],
    k: int,
    filters: Sequence[str] = (),
    exclude: Sequence[str] = (),
    fields: Sequence[str] = (),
    rules: str | None = None,
    progress: Progress,
) -> Output:
    """The k items most similar to each. Options as in `recommend`.

    Raises NotFoundError when one of the items is unknown, ConfigError for an option that is wrong.
    """
    query = Query(k=k, exclude=exclude, filters=filters, fields=_names(fields), rules=_rules(rules))
    with closing(open_shop(config)) as store:
        context = _context(config, store, _load(config, store, progress), query)
    snapshot = context.snapshot
    if unknown := [item_id for item_id in item_ids if snapshot.view.row_of(item_id) < 0]:
        where = f"the live bundle {snapshot.bundle.version} and what is newer: {len(snapshot.view)} items"
        raise NotFoundError(f"no item {', '.join(map(repr, unknown))} in {where}")
    answers, parts = [], list[Table | str]()
    for item_id in item_ids:
        with _options():
            found = engine.answer(config, context, replace(query, box="similar", items=[item_id]))
        item = _item(snapshot, item_id)
        answers.append({"item": item, "bundle": found.bundle} | _data(context, found))
        title = " · ".join(str(value) for value in item.values() if value is not None)
        parts += [
            _table(f"Similar to {title}", answers[-1]["hits"], ("rank", "score"), query.fields),
            *(warning["detail"] for warning in found.warnings),
        ]
    return Output(answers, parts)


def box(
    config: Config,
    *,
    name: str,
    user: str | None,
    visitor: str | None,
    items: Sequence[str],
    history: Path | None,
    k: int | None,
    filters: Sequence[str],
    exclude: Sequence[str],
    fields: Sequence[str],
    rules: str | None,
    window_days: int | None,
    category: str | None,
    as_of: str | None,
    cursor: str | None,
    explain: bool,
    progress: Progress,
) -> Output:
    """The k best items of a box. items: those that it is about. Other options as in `recommend`.

    cursor: of an earlier answer, which this one goes on with. explain: say what made each come.

    Raises NotFoundError when the item that the box is about is unknown, ConfigError for an option that is wrong.
    """
    query = Query(
        user,
        visitor,
        exclude=exclude,
        filters=filters,
        fields=_names(fields),
        as_of=_moment(as_of),
        box=name,
        items=items,
        window_days=window_days,
        category=category,
        cursor=cursor,
        explain=explain,
        rules=_rules(rules),
    )
    query = replace(query, k=k or engine.default_k(query))
    with _options():
        engine.find_box(query)  # before the bundle is loaded
    with closing(open_shop(config)) as store:
        return _show_box(config, store, query, history, name, progress)


def preview(
    config: Config,
    *,
    name: str,
    user: str | None,
    visitor: str | None,
    items: Sequence[str],
    history: Path | None,
    k: int | None,
    as_of: str | None,
    progress: Progress,
) -> Output:
    """What a placement lists for a user, visitor or basket, whether or not it is active. Options as in `box`.

    Raises NotFoundError when there is no such placement, ConfigError for an option that is wrong.
    """
    with closing(open_shop(config)) as store:
        known = known_placements(config, list_placements(store))
        placement = next((placement for placement in known if placement.name == name), None)
        if placement is None:
            names = ", ".join(dict.fromkeys(placement.name for placement in known)) or "none"
            raise NotFoundError(f"there is no placement {name!r}; there are {names}")
        query = question(placement.settings, Query(user, visitor, items=items, as_of=_moment(as_of)), k=k)
        with _options():
            engine.find_box(query)
        return _show_box(config, store, query, history, f"placement {name}", progress)


def _show_box(
    config: Config, store: Store, query: Query, history: Path | None, title: str, progress: Progress
) -> Output:
    snapshot = _load(config, store, progress)
    snapshot = replace(snapshot, posted=read_posted(snapshot, lambda use: use(store)))
    if history is not None:
        query = replace(query, history=read_history(history, snapshot.bundle.kinds))
    context = _context(config, store, snapshot, query)
    with _options():
        found = engine.answer(config, context, query)
    data = {"box": query.box, "bundle": found.bundle} | _data(context, found) | {"next_cursor": found.next_cursor}
    rows = [row | {"because of": _reasons(row)} if query.explain else row for row in data["hits"]]
    first = ("rank", "reason", "score", "because of") if query.explain else ("rank", "reason", "score")
    table = _table(f"{title} from {found.bundle}", rows, first, query.fields)
    return Output(data, [table, *(warning["detail"] for warning in found.warnings)])


def _reasons(hit: dict[str, Any]) -> str | None:
    """What made an item come, and what each part adds to its score."""
    told = hit.get("explanation")
    if told is None:
        return None
    parts = [*told["history"], *told["parts"]]
    return ", ".join(f"{each.get('item_id') or each['part']} {each['contribution']:+.3f}" for each in parts)


def _load(config: Config, store: Store, progress: Progress) -> Snapshot:
    progress("load", 0.0)
    snapshot = load(config, partial(items_after, store))
    progress("load", 1.0)
    return snapshot


def _context(config: Config, store: Store, snapshot: Snapshot, query: Query) -> RequestContext:
    now = time.time_ns() // 1000
    return engine.gather_context(
        config, snapshot, query, now=now, read=lambda use: use(store), grow=partial(grow, config)
    )


@contextmanager
def _options() -> Iterator[None]:
    """What the engine refuses is an option: its words begin with the name, as "filter: no such column"."""
    try:
        yield
    except RefusedError as error:
        name, _, rest = str(error).partition(":")
        raise ConfigError(f"{_OPTIONS.get(name, f'--{name}')}:{rest}") from None


def _data(context: RequestContext, found: Answer) -> dict[str, Any]:
    """What the JSON of both commands has: the words are those of HTTP."""
    hits = [
        {
            "rank": rank,
            "reason": hit["reason"],
            "score": hit["score"],
            **_item(context.snapshot, hit["item_id"]),
            **{name: value for name, value in hit.items() if name not in ("item_id", "score", "reason")},
        }
        for rank, hit in enumerate(found.hits, 1)
    ]
    return {
        "hits": hits,
        "eligible": found.eligible,
        "dropped": found.excluded_counts,
        "warnings": found.warnings,
    }


def _item(snapshot: Snapshot, item_id: str) -> dict[str, Any]:
    """The id and, of a known item, the columns that are always shown."""
    row = snapshot.view.row_of(item_id)
    names = snapshot.bundle.catalog.columns.column_names
    known = fields_of(snapshot, row, [name for name in SHOWN if name in names]) if row >= 0 else {}
    return {"item_id": item_id, **known}


def _names(fields: Sequence[str]) -> list[str]:
    return [name.strip() for text in fields for name in text.split(",") if name.strip()]


def _moment(text: str | None) -> int | None:
    """The time of --as-of in microseconds UTC. Raises ConfigError."""
    if text is None:
        return None
    try:
        moment = parse_time(text, default_utc=True)
    except (ValueError, OverflowError):
        moment = -1
    if moment < 0:
        allowed = "allowed is ISO 8601 from 1970 on, as 2026-11-23 or 2026-11-23T08:00Z"
        raise ConfigError(f"--as-of {text!r} is no time; {allowed}")
    return moment


def _rules(text: str | None) -> list[Any]:
    """The rules of --rules, decoded: JSON, or the name of a file that holds it. Raises ConfigError."""
    if text is None:
        return []
    try:
        return [json.loads(text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8"))]
    except OSError as error:
        raise ConfigError(f"--rules: {text}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ConfigError("--rules: this is no JSON in UTF-8") from None


def _table(title: str, rows: list[dict[str, Any]], first: tuple[str, ...], fields: Sequence[str] = ()) -> Table:
    shown = [name for name in SHOWN if any(row.get(name) is not None for row in rows)]
    more = [name for name in fields if name not in shown]
    cells = [
        [*(_cell(name, row.get(name)) for name in (*first, "item_id", *shown)), *(row["fields"][name] for name in more)]
        for row in rows
    ]
    return Table(title, [*first, "item_id", *shown, *more], cells)


def _cell(column: str, value: Any) -> Any:
    return f"{value:.2f}" if column == "price" and value is not None else value
