"""The door of HTTP to the answer engine: it asks recsys.serving.answer and writes what comes back as JSON."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from pydantic_core import to_json

from api import metrics
from api.caching import CONTROL, is_held, not_modified, tag_of
from api.problems import RETRY_SECONDS, ProblemError
from api.state import AppState
from recsys.errors import AwayError, NotFoundError
from recsys.serving import answer as engine
from recsys.serving import several
from recsys.serving.answer import Answer, Query, RequestContext
from recsys.serving.search import search as engine_search
from recsys.serving.snapshot import Snapshot
from recsys.store.requests import KeptRequest


@dataclass(frozen=True)
class Fault:
    """Why one question among several cannot be asked."""

    status: int  # that a question of its own would have had
    code: str
    detail: str


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


def search(
    state: AppState, words: str, *, k: int, wanted: Sequence[Any], fields: Sequence[str], request: Request
) -> Response:
    """The k items that words mean; who holds the answer gets a 304, as `same_for_all` of `answer`."""
    context, headers = gather_context(state, Query()), dict[str, str]()
    if not context.is_away:
        etag = _tag_for_all(state, context, request)
        if is_held(request, etag):
            return not_modified(etag)
        headers = {"ETag": etag, "Cache-Control": CONTROL}
    with state.processors:
        found = engine_search(context, words, k=k, wanted=wanted, fields=fields)
    body = {"request_id": request.state.request_id} | plain(found)
    return Response(to_json(body, inf_nan_mode="null"), headers=headers, media_type="application/json")


def _tag_for_all(state: AppState, context: RequestContext, request: Request) -> str:
    address = request.scope["raw_path"], request.scope["query_string"]
    snapshot, minute = context.snapshot, context.as_of // 60_000_000
    return tag_of(state.tag, snapshot.bundle.version, snapshot.revision, minute, *address)


def answer(state: AppState, query: Query, *, request_id: str, same_for_all: Request | None = None) -> Response:
    """The k best items of a box. Raises ProblemError when it is about an item that nobody knows.

    same_for_all: the request, where the answer depends on nobody: it gets a tag that changes with the bundle, with any
    item and every minute, and who holds it gets a 304.
    """
    context, headers = gather_context(state, query), dict[str, str]()
    if same_for_all is not None and not context.is_away:
        etag = _tag_for_all(state, context, same_for_all)
        if is_held(same_for_all, etag):
            return not_modified(etag)
        headers = {"ETag": etag, "Cache-Control": CONTROL}
    try:
        with state.processors:
            found = engine.answer(state.config, context, query)
    except NotFoundError as error:
        raise ProblemError(404, "unknown_item", str(error)) from None
    _count(found, query)
    told = plain(found)
    if state.requests.wants(request_id):
        state.requests.keep(_kept(request_id, context, query, told))
    body = {"request_id": request_id} | told
    return Response(to_json(body, inf_nan_mode="null"), headers=headers, media_type="application/json")


def _kept(request_id: str, context: RequestContext, query: Query, told: dict[str, Any]) -> KeptRequest:
    question = to_json(
        {name: value for name, value in vars(query).items() if value not in (None, (), []) and value is not False}
    ).decode()
    answer = to_json({name: told[name] for name in ("hits", "eligible", "dropped", "warnings")}, inf_nan_mode="null")
    return KeptRequest(
        request_id=request_id,
        user_id=query.user_id,
        visitor_id=query.visitor_id,
        asked_at=time.time_ns() // 1000,
        as_of=context.as_of,
        bundle=context.snapshot.bundle.version,
        revision=context.snapshot.revision,
        question=question,
        answer=answer.decode(),
    )


def answer_page(state: AppState, common: Query, queries: Sequence[Query | Fault], *, request_id: str) -> Response:
    """The boxes of a page, for the user, visitor and moment of `common`; each is an answer or an error."""
    context = gather_context(state, common)
    asked = [query for query in queries if isinstance(query, Query)]
    with state.processors:
        outcomes = several.answer_page(state.config, context, asked)
    boxes = _all_told(queries, outcomes)
    body = {"request_id": request_id, "bundle": context.snapshot.bundle.version, "boxes": boxes}
    return Response(to_json(body, inf_nan_mode="null"), media_type="application/json")


def answer_batch(state: AppState, queries: Sequence[Query | Fault], *, request_id: str) -> Response:
    """Many questions, each with an answer or an error in its place."""
    asked = [query for query in queries if isinstance(query, Query)]
    contexts = _gather_contexts(state, asked)
    outcomes = [_outcome(state, context, query) for context, query in zip(contexts, asked, strict=True)]
    answers = _all_told(queries, outcomes)
    bundle = (contexts[0].snapshot if contexts else current(state)).bundle.version
    body = {"request_id": request_id, "bundle": bundle, "answers": answers}
    return Response(to_json(body, inf_nan_mode="null"), media_type="application/json")


def _outcome(state: AppState, context: RequestContext, query: Query) -> several.Outcome:
    """One answer of a batch; in between others have their turn."""
    with state.processors:
        return several.answer_batch(state.config, [context], [query])[0]


def _all_told(queries: Sequence[Query | Fault], outcomes: Sequence[several.Outcome]) -> list[dict[str, Any]]:
    """What became of each question. outcomes: of those that are no faults, in their order."""
    rest = iter(outcomes)
    return [
        {"box": query.box} | _told(next(rest), query)
        if isinstance(query, Query)
        else {"box": None} | _error(query.status, query.code, query.detail)
        for query in queries
    ]


def _gather_contexts(state: AppState, queries: Sequence[Query]) -> list[RequestContext]:
    """As `gather_context` for many queries."""
    snapshot, now = current(state), time.time_ns() // 1000
    try:
        return several.gather_contexts(
            state.config, snapshot, queries, now=now, read=state.store.read, grow=state.live.catch_up
        )
    except AwayError:
        metrics.AWAY.inc(len(queries))
        return [engine.context_without_store(snapshot, query, now=now, deleted=state.deleted) for query in queries]


def _told(outcome: several.Outcome, query: Query) -> dict[str, Any]:
    """An answer or an error among several."""
    if isinstance(outcome, Answer):
        _count(outcome, query)
        return {name: value for name, value in plain(outcome).items() if name != "bundle"}
    if isinstance(outcome, NotFoundError):
        return _error(404, "unknown_item", str(outcome))
    return _error(422, "invalid_request", str(outcome))


def _error(status: int, code: str, detail: str) -> dict[str, Any]:
    """An error in place of an answer. It has no hits, so that a page that lists them needs no special case."""
    return {"hits": [], "warnings": [], "error": {"status": status, "code": code, "detail": detail}}


def plain(found: Answer) -> dict[str, Any]:
    """An answer as JSON has it."""
    return {
        "bundle": found.bundle,
        "hits": found.hits,
        "eligible": found.eligible,
        "dropped": found.excluded_counts,
        "warnings": found.warnings,
        "next_cursor": found.next_cursor,
    }


def _count(found: Answer, query: Query) -> None:
    for reason, count in Counter(hit["reason"] for hit in found.hits).items():
        metrics.HITS.labels(reason).inc(count)
    if len(found.hits) < query.k:
        metrics.SHORT.inc()
