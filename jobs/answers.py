"""Answers of the live bundle on the command line: for a user, and for an item."""

from typing import Any

import numpy as np

from jobs.commands import time_text
from jobs.show import Output, Report, Table
from recsys import bundle as bundles
from recsys import recommender
from recsys.bundle import Bundle
from recsys.config import Config
from recsys.data import MICROSECONDS_PER_DAY, Histories
from recsys.errors import NotFoundError
from recsys.extract import Extract, histories, open_extract
from recsys.store import open_store

SHOWN = ("title", "category", "brand", "price")
HISTORY_SHOWN = 10


def recommend(config: Config, *, user_id: str, k: int, report: Report) -> Output:
    """The k best items for a user, beside the newest events of the history they come from."""
    report("load", 0.0)
    bundle, extract = bundles.load(config.folder.path), open_extract(config.folder.path)
    store = open_store(config.store.url, config.store.table_prefix)
    as_of = extract.as_of
    history = histories(extract, store, [user_id], as_of, config.events.history_length)
    report("load", 1.0)
    hits = recommender.recommend(
        bundle,
        history.map_items(bundle.catalog.ids.rows_of(list(extract.items))),
        k,
        target_codes=config.target_codes,
        repeats=config.recommendations.repeats,
        allowed=recommender.available_items(bundle.catalog) if config.recommendations.exclude_sold_out else None,
    )
    events, found = _history(extract, history, bundle, as_of), _hits(bundle, hits)
    data = {"user_id": user_id, "bundle": bundle.version, "history": events, "hits": found}
    notes = [] if len(found) == k else [f"only {len(found)} of {k} items are eligible"]
    return Output(
        data,
        [
            _table(f"User {user_id}: newest of {len(history.items)} events", events[:HISTORY_SHOWN], ("time", "event")),
            _table(f"Recommended from {bundle.version}", found, ("rank", "reason", "score")),
            *notes,
        ],
    )


def similar(config: Config, *, item_id: str, k: int, report: Report) -> Output:
    """The k items most similar to one. Raises NotFoundError when the live bundle does not know it."""
    report("load", 0.0)
    bundle = bundles.load(config.folder.path)
    report("load", 1.0)
    row = bundle.catalog.ids.row_of(item_id)
    if row < 0:
        raise NotFoundError(f"item {item_id!r} is not in the live bundle {bundle.version} of {len(bundle.catalog)} items")
    found = _hits(bundle, recommender.similar(bundle, np.array([row], np.int32), k))
    item = _item(bundle, row)
    title = " · ".join(str(v) for v in item.values() if v is not None)
    return Output({"item": item, "bundle": bundle.version, "hits": found}, [_table(f"Similar to {title}", found, ("rank", "score"))])


def _item(bundle: Bundle, row: int) -> dict[str, Any]:
    columns = bundle.catalog.columns
    values = {name: columns.column(name)[row].as_py() for name in SHOWN if name in columns.column_names}
    return {"item_id": bundle.catalog.ids.id_of(row), **values}


def _history(extract: Extract, history: Histories, bundle: Bundle, as_of: int) -> list[dict[str, Any]]:
    """Newest first."""
    shown = []
    for item, kind, age in zip(history.items[::-1], history.kinds[::-1], history.ages_days[::-1], strict=True):
        row = bundle.catalog.ids.row_of(extract.items.id_of(int(item)))
        known = _item(bundle, row) if row >= 0 else {"item_id": extract.items.id_of(int(item))}
        time = as_of - round(float(age) * MICROSECONDS_PER_DAY)
        shown.append({"time": time_text(time), "event": bundle.kinds[kind], **known})
    return shown


def _hits(bundle: Bundle, hits: recommender.Hits) -> list[dict[str, Any]]:
    return [
        {"rank": rank, "reason": recommender.REASONS[reason], "score": float(score), **_item(bundle, int(row))}
        for rank, (row, score, reason) in enumerate(zip(hits.rows[0], hits.scores[0], hits.reasons[0], strict=True), 1)
        if row >= 0
    ]


def _table(title: str, rows: list[dict[str, Any]], first: tuple[str, ...]) -> Table:
    columns = [*first, "item_id", *(name for name in SHOWN if any(row.get(name) is not None for row in rows))]
    return Table(title, columns, [[row.get(name) for name in columns] for row in rows])
