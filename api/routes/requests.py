"""A request that was kept: what was asked and answered, and the same answer again."""

import threading
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json, to_json

from api import answers
from api.auth import needs
from api.problems import documented
from api.schemas import Id, JsonRoute
from api.state import AppState, state_of
from recsys.data.times import rfc3339
from recsys.errors import BundleError, NotFoundError, RefusedError
from recsys.serving.replay import is_same, replay
from recsys.serving.snapshot import items_after
from recsys.store.requests import KeptRequest, find_request

router = APIRouter(route_class=JsonRoute, tags=["operations"])

_loading = threading.Lock()  # one bundle of another time at once: each has an index of its own


class Replayed(BaseModel):
    """The same question, answered again."""

    same: bool | None = Field(description="Whether the lists are the same; null when it cannot be answered any more")
    detail: str = Field(description="What may make a difference, or why there is no answer")
    hits: list[dict[str, Any]]


class RequestShown(BaseModel):
    """What was asked and answered."""

    request_id: str = Field(description="Of the request that was asked about")
    asked_at: str = Field(examples=["2026-11-23T08:00:00Z"])
    as_of: str = Field(description="Events from then on did not count", examples=["2026-11-23T08:00:00Z"])
    bundle: str = Field(description="That the answer came from", examples=["20261123T020000.000000Z-mf-1a2b3c4d"])
    question: dict[str, Any] = Field(description="In the words of the engine; what was not said is missing")
    answer: dict[str, Any] = Field(description="hits, eligible, dropped and warnings as they were answered")
    replay: Replayed | None = Field(description="Where it was asked for")


class AskedOfRequest(BaseModel):
    """What the question may say in its address."""

    model_config = ConfigDict(extra="forbid")

    replay: bool = Field(False, description="Answer again, from the bundle and the moment of then")


@router.get(
    "/v1/requests/{request_id:id}",
    response_model=RequestShown,
    responses=documented(400, 401, 403, 404, 422, 503),
    dependencies=[Depends(needs("admin"))],
)
def show_request(
    request_id: Annotated[Id, Path()], asked: Annotated[AskedOfRequest, Query()], request: Request
) -> Response:
    """What was asked with a request id, and what was answered. Pages and batches are not kept."""
    state = state_of(request)
    kept = state.store.read(lambda store: find_request(store, request_id))
    answer = from_json(kept.answer)
    body = {
        "request_id": kept.request_id,
        "asked_at": rfc3339(kept.asked_at),
        "as_of": rfc3339(kept.as_of),
        "bundle": kept.bundle,
        "question": from_json(kept.question),
        "answer": answer,
        "replay": _replayed(state, kept, answer["hits"]) if asked.replay else None,
    }
    return Response(to_json(body, inf_nan_mode="null"), media_type="application/json")


def _replayed(state: AppState, kept: KeptRequest, hits: list[dict[str, Any]]) -> dict[str, Any]:
    with _loading:
        try:
            found = replay(
                state.config,
                kept,
                answers.current(state),
                read=state.store.read,
                read_items=lambda after: state.store.read(partial(items_after, revision=after)),
            )
        except (BundleError, NotFoundError, RefusedError) as error:
            return {"same": None, "detail": f"It cannot be answered again: {error}", "hits": []}
    same = is_same(hits, found.hits)
    detail = "The same items in the same order."
    if not same:
        detail = "Another answer: events came late or were deleted, items changed again, or the configuration did."
    return {"same": same, "detail": detail, "hits": found.hits}
