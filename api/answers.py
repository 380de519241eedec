"""The door of HTTP to the answer engine: it asks recsys.serving.answer and writes what comes back as JSON."""

import time
from collections import Counter

from pydantic_core import to_json
from starlette.responses import Response

from api import metrics
from api.problems import RETRY_SECONDS, ProblemError
from api.state import AppState
from recsys.errors import AwayError, NotFoundError
from recsys.serving import answer
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
        return answer.gather_context(
            state.config, snapshot, query, now=now, read=state.store.read, grow=state.live.catch_up
        )
    except AwayError:
        metrics.AWAY.inc()
        return answer.context_without_store(snapshot, query, now=now, deleted=state.deleted)


def recommend(state: AppState, query: Query, *, request_id: str) -> Response:
    """The k best items for a user, a visitor, or whoever has the query's history."""
    return _respond(answer.recommend(state.config, gather_context(state, query), query), query, request_id)


def similar(state: AppState, item_id: str, query: Query, *, request_id: str) -> Response:
    """The k items most similar to one. Raises ProblemError for an unknown item."""
    context = gather_context(state, query)
    try:
        return _respond(answer.similar(context, item_id, query), query, request_id)
    except NotFoundError as error:
        raise ProblemError(404, "unknown_item", str(error)) from None


def _respond(found: Answer, query: Query, request_id: str) -> Response:
    """The answer as JSON, written once and as it is."""
    for reason, count in Counter(hit["reason"] for hit in found.hits).items():
        metrics.HITS.labels(reason).inc(count)
    if len(found.hits) < query.k:
        metrics.SHORT.inc()
    body = {
        "request_id": request_id,
        "bundle": found.bundle,
        "hits": found.hits,
        "eligible": found.eligible,
        "dropped": found.excluded_counts,
        "warnings": found.warnings,
    }
    return Response(to_json(body, inf_nan_mode="null"), media_type="application/json")
