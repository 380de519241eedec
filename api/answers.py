"""The door of HTTP to the answer engine: it asks recsys.serving.answer and writes what comes back as JSON."""

import time
from collections import Counter
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from api import metrics
from api.problems import RETRY_SECONDS, ProblemError
from api.state import AppState
from recsys.errors import AwayError, NotFoundError
from recsys.serving import answer as engine
from recsys.serving.answer import Answer, Query, RequestContext
from recsys.serving.snapshot import Snapshot


def current(state: AppState) -> Snapshot:
    """The snapshot to answer from. Raises ProblemError while there is none."""
    snapshot = state.live.snapshot
    if snapshot is None:
        headers = {"Retry-After": str(RETRY_SECONDS)}
        raise ProblemError(503, "not_ready", "No bundle is loaded yet; `recsys train` makes one.", headers)
    return snapshot


def gather_context(state: AppState, query: Query) -> RequestContext:
    """What is known now; without the own tables where the database is away. Raises ProblemError without a bundle."""
    snapshot, now = current(state), time.time_ns() // 1000
    try:
        return engine.gather_context(
            state.config, snapshot, query, now=now, read=state.store.read, grow=state.live.catch_up
        )
    except AwayError:
        metrics.AWAY.inc()
        return engine.context_without_store(snapshot, query, now=now, deleted=state.deleted)


def answer(state: AppState, query: Query, *, request_id: str) -> Response:
    """The k best items of a box. Raises ProblemError when it is about an item that nobody knows."""
    context = gather_context(state, query)
    try:
        found = engine.answer(state.config, context, query)
    except NotFoundError as error:
        raise ProblemError(404, "unknown_item", str(error)) from None
    _count(found, query)
    body = {"request_id": request_id} | plain(found)
    return Response(to_json(body, inf_nan_mode="null"), media_type="application/json")


def plain(found: Answer) -> dict[str, Any]:
    """An answer as JSON has it."""
    return {
        "bundle": found.bundle,
        "hits": found.hits,
        "eligible": found.eligible,
        "dropped": found.excluded_counts,
        "warnings": found.warnings,
    }


def _count(found: Answer, query: Query) -> None:
    for reason, count in Counter(hit["reason"] for hit in found.hits).items():
        metrics.HITS.labels(reason).inc(count)
    if len(found.hits) < query.k:
        metrics.SHORT.inc()
