"""What is known of a user: the events that recommendations are made from, for an operator to look at."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from api import answers
from api.answers import Sight
from api.auth import needs
from api.problems import documented
from api.routes.recommendations import Warning_
from api.schemas import Fields, Id, JsonRoute, to_text
from api.state import parts_of
from recsys.data.extract import timeline

router = APIRouter(route_class=JsonRoute, tags=["users"])


class HistoryEvent(BaseModel):
    """One event of the history."""

    item_id: str = Field(examples=["85123A"])
    kind: str = Field(examples=["purchase"])
    occurred_at: str = Field(examples=["2026-11-23T08:00:00Z"])
    known: bool = Field(description="Whether the bundle or the own tables know the item; else the event counts nowhere")
    fields: dict[str, Any] = Field({}, description="The columns asked for; empty of an item that nobody knows")


class Known(BaseModel):
    """What is known of a user."""

    request_id: str
    bundle: str = Field(description="The version of the bundle", examples=["20261123T020000.000000Z-mf-1a2b3c4d"])
    user_id: str
    events: list[HistoryEvent] = Field(description="Newest first; nothing from before a deletion")
    warnings: list[Warning_] = []


class AskedOfHistory(BaseModel):
    """What the question may say in its address."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=500, description="At most [events] history_length come")] = 50
    fields: Fields = Field([])


@router.get(
    "/v1/users/{user_id:id}/history",
    response_model=Known,
    responses=documented(400, 401, 403, 422, 503),
    dependencies=[Depends(needs("admin"))],
)
def show_history(
    user_id: Annotated[Id, Path()], asked: Annotated[AskedOfHistory, Query()], request: Request
) -> Response:
    """The events that a user's recommendations are made from. An unknown user has none."""
    parts = parts_of(request)
    sight = answers.look(parts, user_id, None, None)
    fields = [name for field in asked.fields for name in field.split(",")]
    answers.check_fields(sight.snapshot, fields)
    length = min(asked.limit, parts.config.events.history_length)
    body = {
        "request_id": request.state.request_id,
        "bundle": sight.snapshot.bundle.version,
        "user_id": user_id,
        "events": _events(sight, user_id, length, fields),
        "warnings": answers.warnings_of(sight),
    }
    return Response(to_json(body, inf_nan_mode="null"), media_type="application/json")


def _events(sight: Sight, user_id: str, length: int, fields: list[str]) -> list[dict[str, Any]]:
    snapshot, news = sight.snapshot, sight.news.events
    extract = snapshot.extract
    # Items that the extract does not know are shown too, so each gets a row of its own above those that it knows.
    others = [item for item in dict.fromkeys(news.items) if extract.items.row_of(item) < 0]
    rows = {item: len(extract.items) + at for at, item in enumerate(others)}
    found = timeline(extract, news, user_id, sight.as_of, length, new_items=rows)
    events = []
    for row, code, time in zip(found.items.tolist(), found.kinds.tolist(), found.times.tolist(), strict=True):
        count = len(extract.items)
        item = extract.items.id_of(row) if row < count else others[row - count]
        joint = snapshot.shelf.row_of(item)
        event = {"item_id": item, "kind": extract.kinds[code], "occurred_at": to_text(time), "known": joint >= 0}
        events.append(event | {"fields": answers.fields_of(snapshot, joint, fields) if joint >= 0 else {}})
    return events[::-1]
