"""Answers of the live bundle on the command line: for a user, and for an item."""

from typing import Any

from jobs.commands import open_configured, time_text
from jobs.output import Output, Report, Table
from recsys.bundle import bundle as bundles
from recsys.bundle.bundle import Bundle
from recsys.config.settings import Config
from recsys.data.arrays import Bool
from recsys.data.extract import Extract, histories, open_extract
from recsys.data.interactions import Histories, codes_in
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.errors import NotFoundError
from recsys.serving import recommender

SHOWN = ("title", "category", "brand", "price")
HISTORY_SHOWN = 10


def recommend(config: Config, *, user_ids: list[str], k: int, report: Report) -> Output:
    """The k best items for each user, beside the newest events of the history that they come from."""
    report("load", 0.0)
    bundle, extract = bundles.load(config.storage.path), open_extract(config.storage.path)
    length, targets = config.events.history_length, config.evaluation.targets
    found = histories(extract, open_configured(config), user_ids, extract.as_of, length, always=targets)
    report("load", 1.0)
    # A kept bundle may number its items and kinds otherwise.
    rows, codes = extract.items.rows_in(bundle.catalog.ids), codes_in(extract.kinds, bundle.kinds)
    hits = recommender.recommend(
        bundle,
        found.translate(rows, codes),
        k,
        target_codes=bundle.codes_of(targets),
        repeats=config.recommendations.allow_repurchase,
        allowed=_allowed(config, bundle),
    )
    answers = [
        {
            "user_id": user_id,
            "bundle": bundle.version,
            "history": _history(extract, found.slice(at, at + 1), bundle),
            "hits": _hits(bundle, hits, at),
        }
        for at, user_id in enumerate(user_ids)
    ]
    return Output(answers, [part for answer in answers for part in _parts(answer, k)])


def _parts(answer: dict[str, Any], k: int) -> list[Table | str]:
    events, hits = answer["history"], answer["hits"]
    notes = [] if len(hits) == k else [f"only {len(hits)} of {k} items are eligible"]
    return [
        _table(f"User {answer['user_id']}: newest of {len(events)} events", events[:HISTORY_SHOWN], ("time", "event")),
        _table(f"Recommended from {answer['bundle']}", hits, ("rank", "reason", "score")),
        *notes,
    ]


def similar(config: Config, *, item_ids: list[str], k: int, report: Report) -> Output:
    """The k items most similar to each. Raises NotFoundError when the live bundle does not know one of them."""
    report("load", 0.0)
    bundle = bundles.load(config.storage.path)
    report("load", 1.0)
    rows = bundle.catalog.ids.rows_of(item_ids)
    if unknown := [item_id for item_id, row in zip(item_ids, rows, strict=True) if row < 0]:
        where = f"the live bundle {bundle.version} of {len(bundle.catalog)} items"
        raise NotFoundError(f"no item {', '.join(map(repr, unknown))} in {where}")
    hits = recommender.similar(bundle, rows, k, allowed=_allowed(config, bundle))
    answers = [
        {"item": _item(bundle, int(row)), "bundle": bundle.version, "hits": _hits(bundle, hits, at)}
        for at, row in enumerate(rows)
    ]
    return Output(answers, [_similar_table(answer) for answer in answers])


def _allowed(config: Config, bundle: Bundle) -> Bool | None:
    return recommender.available_items(bundle.catalog) if config.recommendations.exclude_sold_out else None


def _similar_table(answer: dict[str, Any]) -> Table:
    title = " · ".join(str(value) for value in answer["item"].values() if value is not None)
    return _table(f"Similar to {title}", answer["hits"], ("rank", "score"))


def _item(bundle: Bundle, row: int) -> dict[str, Any]:
    columns = bundle.catalog.columns
    values = {name: columns.column(name)[row].as_py() for name in SHOWN if name in columns.column_names}
    return {"item_id": bundle.catalog.ids.id_of(row), **values}


def _history(extract: Extract, history: Histories, bundle: Bundle) -> list[dict[str, Any]]:
    """Newest first."""
    shown = []
    for item, kind, age in zip(history.items[::-1], history.kinds[::-1], history.ages_days[::-1], strict=True):
        row = bundle.catalog.ids.row_of(extract.items.id_of(int(item)))
        known = _item(bundle, row) if row >= 0 else {"item_id": extract.items.id_of(int(item))}
        time = extract.as_of - round(float(age) * MICROSECONDS_PER_DAY)
        shown.append({"time": time_text(time), "event": extract.kinds[kind], **known})
    return shown


def _hits(bundle: Bundle, hits: recommender.Hits, at: int) -> list[dict[str, Any]]:
    return [
        {"rank": rank, "reason": recommender.REASONS[reason], "score": float(score), **_item(bundle, int(row))}
        for rank, (row, score, reason) in enumerate(
            zip(hits.rows[at], hits.scores[at], hits.reasons[at], strict=True), 1
        )
        if row >= 0
    ]


def _table(title: str, rows: list[dict[str, Any]], first: tuple[str, ...]) -> Table:
    columns = [*first, "item_id", *(name for name in SHOWN if any(row.get(name) is not None for row in rows))]
    return Table(title, columns, [[_cell(name, row.get(name)) for name in columns] for row in rows])


def _cell(column: str, value: Any) -> Any:
    return f"{value:.2f}" if column == "price" and value is not None else value
