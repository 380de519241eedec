"""Placements: questions that name one, and their definitions, which change while the service runs."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field

from api import answers
from api.auth import actor_of, needs
from api.placements import known, placed
from api.problems import ProblemError, documented
from api.routes.boxes import AskedOfBox, BoxQuestion
from api.routes.recommendations import Answer
from api.schemas import JsonRoute, PlacementName
from api.state import state_of
from recsys.config.settings import PlacementSettings
from recsys.data.times import rfc3339
from recsys.errors import NotFoundError
from recsys.serving.placements import (
    Placement,
    check_placement,
    definition_of,
    described,
    question,
    read_settings,
)
from recsys.store.placements import PlacementChange, delete_placement, list_placements, placement_history, put_placement

router = APIRouter(route_class=JsonRoute, tags=["placements"])

Name = Annotated[PlacementName, Path(description="Small letters, digits, - and _")]
Definition = Annotated[
    dict[str, Any],
    Body(
        openapi_examples={
            "a home page": {
                "value": {
                    "box": "for_you",
                    "k": 8,
                    "filter": "available:eq:true",
                    "rules": {"max_per": {"brand": 2}},
                    "fallbacks": ["trending", "popular"],
                    "ends_at": "2027-01-01T00:00:00Z",
                }
            }
        }
    ),
]


class PlacementShown(BaseModel):
    """A placement, and where it comes from."""

    name: str = Field(examples=["home"])
    source: str = Field(description="configuration or store", examples=["store"])
    active: bool = Field(description="Whether a question may name it now; of two of one name the first that is active")
    changed_at: str | None = Field(examples=["2026-11-23T08:00:00Z"])
    changed_by: str | None = Field(description="The name of the key, and its key_id", examples=["shop desk (1a2b3c4d)"])
    definition: PlacementSettings


class PlacementList(BaseModel):
    """All placements, by name."""

    request_id: str
    placements: list[PlacementShown]


class PlacementStored(BaseModel):
    """What a placement is from now on."""

    request_id: str
    changed: bool = Field(description="false: it was that already")
    placement: PlacementShown


class PlacementDeleted(BaseModel):
    """A stored placement is gone. One of the same name in the configuration takes its place."""

    request_id: str
    name: str


class PlacementVersion(BaseModel):
    """What a placement became, and by whom."""

    changed_at: str
    changed_by: str
    definition: PlacementSettings | None = Field(description="null: it was deleted")


class PlacementVersions(BaseModel):
    """The changes of a stored placement, the latest first; at most 100."""

    request_id: str
    name: str
    changes: list[PlacementVersion]


class Preview(BoxQuestion):
    """A question for a placement as it would be, whether or not it is active."""

    definition: dict[str, Any] | None = Field(None, description="Unset: as it is")


ERRORS = documented(400, 401, 403, 404, 422, 503)


@router.get(
    "/v1/placements/{name}", response_model=Answer, responses=ERRORS, dependencies=[Depends(needs("recommend"))]
)
def get_placement(name: Name, asked: Annotated[AskedOfBox, Query()], request: Request) -> Response:
    """The items of a placement."""
    return _answer(request, name, asked)


@router.post(
    "/v1/placements/{name}",
    response_model=Answer,
    responses=ERRORS | documented(413, 415),
    dependencies=[Depends(needs("recommend"))],
)
def ask_placement(name: Name, asked: BoxQuestion, request: Request) -> Response:
    """The items of a placement, asked for in the body: with a history, and with rules that are added to its own."""
    return _answer(request, name, asked)


@router.post(
    "/v1/placements/{name}/preview",
    response_model=Answer,
    responses=ERRORS | documented(413, 415),
    dependencies=[Depends(needs("admin"))],
)
def preview_placement(name: Name, asked: Preview, request: Request) -> Response:
    """The items of a placement for any user, visitor or basket, as it is or with another definition."""
    state = state_of(request)
    if asked.definition is None:
        same = [placement for placement in known(state) if placement.name == name]
        if not same:
            raise ProblemError(404, "unknown_placement", f"There is no placement {name!r}.")
        settings = same[0].settings
    else:
        settings = read_settings(asked.definition)
        check_placement(name, settings, state.live.snapshot)
    k = asked.k if "k" in asked.model_fields_set else None
    query = question(settings, asked.box_query("for_you"), k=k)
    return answers.answer(state, query, request_id=request.state.request_id)


@router.get(
    "/v1/placements",
    response_model=PlacementList,
    responses=documented(401, 403, 503),
    dependencies=[Depends(needs("admin"))],
)
def list_all(request: Request) -> dict[str, Any]:
    """All placements of the configuration and of the own tables."""
    state = state_of(request)
    state.learn_placements(state.store.read(list_placements))
    now = time.time_ns() // 1000
    shown = [described(placement, now) for placement in known(state)]
    return {"request_id": request.state.request_id, "placements": shown}


@router.put(
    "/v1/placements/{name}",
    response_model=PlacementStored,
    responses=ERRORS | documented(413, 415),
    dependencies=[Depends(needs("admin"))],
)
def put(name: Name, definition: Definition, request: Request) -> dict[str, Any]:
    """Make a placement, or change what it is. All workers know within a second or so."""
    state, settings, by = state_of(request), read_settings(definition), actor_of(request)
    check_placement(name, settings, state.live.snapshot)
    changed = state.store.write(lambda store: put_placement(store, name, definition_of(settings), by=by))
    stored = state.store.read(list_placements)
    state.learn_placements(stored)
    change = stored.get(name, PlacementChange(0, name, definition_of(settings), 0, by))
    placement = Placement(name, settings, "store", change.changed_at, change.changed_by)
    shown = described(placement, time.time_ns() // 1000)
    return {"request_id": request.state.request_id, "changed": changed, "placement": shown}


@router.delete(
    "/v1/placements/{name}",
    response_model=PlacementDeleted,
    responses=documented(401, 403, 404, 422, 503),
    dependencies=[Depends(needs("admin"))],
)
def delete(name: Name, request: Request) -> dict[str, Any]:
    """Delete a stored placement; its history stays."""
    state, by = state_of(request), actor_of(request)
    try:
        state.store.write(lambda store: delete_placement(store, name, by=by))
    except NotFoundError as error:
        raise ProblemError(404, "unknown_placement", f"{error}.".capitalize()) from None
    state.learn_placements(state.store.read(list_placements))
    return {"request_id": request.state.request_id, "name": name}


@router.get(
    "/v1/placements/{name}/history",
    response_model=PlacementVersions,
    responses=documented(401, 403, 422, 503),
    dependencies=[Depends(needs("admin"))],
)
def history_of(name: Name, request: Request) -> dict[str, Any]:
    """Who changed a stored placement when, and to what."""
    changes = state_of(request).store.read(lambda store: placement_history(store, name))
    shown = [
        {"changed_at": rfc3339(change.changed_at), "changed_by": change.changed_by, "definition": change.definition}
        for change in changes
    ]
    return {"request_id": request.state.request_id, "name": name, "changes": shown}


def _answer(request: Request, name: str, asked: AskedOfBox | BoxQuestion) -> Response:
    state, k = state_of(request), asked.k if "k" in asked.model_fields_set else None
    try:
        query = placed(state, name, asked.box_query("for_you"), k=k)
    except NotFoundError as error:
        raise ProblemError(404, "unknown_placement", str(error)) from None
    return answers.answer(state, query, request_id=request.state.request_id)
