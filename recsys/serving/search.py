"""Search of the catalog by words: for the page's search field, and for whoever looks for an item's id.

It asks the same question of eligibility as every answer does: what is sold out or not listed is not found.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys.data.arrays import Float32, Int32
from recsys.serving import filters
from recsys.serving.answer import Answer, RequestContext, check_fields, context_warnings, fields_of
from recsys.serving.eligibility import decide
from recsys.serving.fresh_items import CatalogView

REASON = "search"


def search(
    context: RequestContext, words: str, *, k: int = 20, wanted: Sequence[Any] = (), fields: Sequence[str] = ()
) -> Answer:
    """The k items that the words mean best; with equal scores the popular ones come first.

    wanted: filters as in `Query`. fields: columns that come with every item. `eligible` counts the items found.
    Raises RefusedError for a wrong filter or an unknown column.
    """
    snapshot = context.snapshot
    check_fields(snapshot, fields)
    parts = [
        filters.parse_short(one, snapshot.columns) if isinstance(one, str) else filters.parse(one, snapshot.columns)
        for one in wanted
    ]
    nobody = np.zeros(0, np.int32)
    eligibility = decide(snapshot.view, snapshot.stock, filters.join(parts), bought=nobody, excluded=nobody)
    rows, scores = _found(snapshot.view, words)
    kept = eligibility.keeps(snapshot.view, rows)
    rows, scores = rows[kept], scores[kept]
    hits = [
        _hit(context, row, score, fields) for row, score in zip(rows[:k].tolist(), scores[:k].tolist(), strict=True)
    ]
    warnings = context_warnings(context)
    if not len(rows):
        said = "No item of the catalog has words like these, or none of them may be listed."
        warnings.append({"code": "nothing_found", "detail": said})
    return Answer(snapshot.bundle.version, hits, len(rows), eligibility.excluded_counts, warnings)


def _found(view: CatalogView, words: str) -> tuple[Int32, Float32]:
    """Joint rows and scores of what was found in the bundle and in what is newer, best first."""
    rows, scores, popularity = [], [], []
    for bundle, start in zip(view.bundles, view.starts, strict=True):
        own, own_scores = bundle.search.find(words)
        rows.append(own + np.int32(start))
        scores.append(own_scores)
        popularity.append(bundle.popularity[own])
    all_rows, all_scores = np.concatenate(rows), np.concatenate(scores)
    order = np.lexsort((all_rows, -np.concatenate(popularity), -all_scores))
    return all_rows[order], all_scores[order]


def _hit(context: RequestContext, row: int, score: float, fields: Sequence[str]) -> dict[str, Any]:
    bundle, own = context.snapshot.view.place(row)
    hit: dict[str, Any] = {"item_id": bundle.catalog.ids.id_of(own), "score": score, "reason": REASON}
    return hit | ({"fields": fields_of(context.snapshot, row, fields)} if fields else {})
