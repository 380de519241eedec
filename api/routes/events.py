"""POST /v1/events: events are stored before they are acknowledged, and each counts once, however often it is sent."""

from collections.abc import Collection
from typing import Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Body, Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Discriminator, Field, FiniteFloat, Tag, model_validator

from api import metrics
from api.auth import needs
from api.problems import documented
from api.schemas import Form, Id, JsonRoute, Time
from api.state import state_of
from recsys.serving.answer import SKEW_MICROSECONDS
from recsys.store.database import Store
from recsys.store.events import insert_events

router = APIRouter(route_class=JsonRoute, tags=["events"])

MAX_EVENTS = 1_000
_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("event_id", "user_id", "visitor_id", "kind", "item_id", "request_id"), pa.string()),
        "value": pa.float64(),
        "occurred_at": pa.int64(),
        "received_at": pa.int64(),
    }
)


class Event(Form):
    """What a user or a visitor did with an item."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [owner], "properties": {owner: {"type": "string"}}} for owner in ("user_id", "visitor_id")
            ]
        }
    )

    event_id: Id = Field(description="Set by the sender; sending the same event again changes nothing")
    user_id: Id | None = Field(None, description="At least one of user_id and visitor_id is required")
    visitor_id: Id | None = None
    kind: str = Field(max_length=255, description="One of the configured kinds", examples=["purchase"])
    item_id: Id
    value: FiniteFloat | None = Field(None, description="For example the price paid")
    request_id: Id | None = Field(
        None, description="The answer that led to the event; unset: the X-Request-ID of this request"
    )
    occurred_at: Time | None = Field(None, description="Unset: now; at most five minutes in the future")

    @model_validator(mode="after")
    def _has_owner(self) -> "Event":
        if self.user_id is None and self.visitor_id is None:
            raise ValueError("one of user_id and visitor_id is required")
        return self


class Received(BaseModel):
    """How many events were stored."""

    request_id: str
    received: int = Field(description="Events in the request; all of them are stored now", examples=[1])
    stored: int = Field(description="How many of them are new", examples=[1])


def _tag(value: Any) -> str:
    return "many" if isinstance(value, list) else "one"


Events = Annotated[
    Annotated[Event, Tag("one")]
    | Annotated[Annotated[list[Event], Field(min_length=1, max_length=MAX_EVENTS)], Tag("many")],
    Discriminator(_tag),
]
_EXAMPLE = {"event_id": "5f0e9a52-1", "user_id": "17850", "kind": "purchase", "item_id": "85123A", "value": 12.5}


@router.post(
    "/v1/events",
    response_model=Received,
    responses=documented(400, 401, 403, 413, 415, 422, 503),
    dependencies=[Depends(needs("events"))],
)
def post_events(
    events: Annotated[
        Events,
        Body(openapi_examples={"one": {"value": _EXAMPLE}, "many": {"value": [_EXAMPLE | {"visitor_id": "v-81"}]}}),
    ],
    request: Request,
) -> dict[str, Any]:
    """Store events, all or none. They count from the next answer on, in every worker."""
    state = state_of(request)
    given = events if isinstance(events, list) else [events]
    kinds = (*state.config.events.weights, *state.config.events.returns)
    for at, event in enumerate(given):
        if event.kind not in kinds:
            raise _fault(at, "kind", f"unknown kind; allowed are {', '.join(kinds)}")
    named = request.state.given_request_id
    guests = state.config.source.guest_ids
    stored = state.store.write(lambda store: _insert(store, given, named, guests))
    metrics.EVENTS.labels("stored").inc(stored)
    metrics.EVENTS.labels("known").inc(len(given) - stored)
    return {"request_id": request.state.request_id, "received": len(given), "stored": stored}


def _insert(store: Store, events: list[Event], request_id: str | None, guests: Collection[str]) -> int:
    # By the database's clock, as the extract's watermark.
    now = store.now()
    rows = []
    for at, event in enumerate(events):
        occurred_at = now if event.occurred_at is None else event.occurred_at
        if occurred_at > now + SKEW_MICROSECONDS:
            raise _fault(at, "occurred_at", "more than five minutes ahead of the database's clock")
        values = event.model_dump() | {"occurred_at": occurred_at, "received_at": now}
        if event.user_id in guests and event.visitor_id is not None:
            values["user_id"] = None  # else all guests would be merged with one user
        rows.append(values | {"request_id": event.request_id or request_id})
    return insert_events(store, pa.Table.from_pylist(rows, _SCHEMA))


def _fault(at: int, key: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body", at, key), "msg": message, "type": "value_error"}])
