"""What is known of a user: the events that recommendations are made from, for the user and for an operator."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi import Query as InAddress
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from api import answers
from api.auth import needs
from api.problems import documented
from api.routes.recommendations import AnswerWarning
from api.schemas import Fields, Id, JsonRoute
from api.state import state_of
from recsys.data.times import rfc3339
from recsys.serving.answer import Query, check_fields, context_warnings, fields_of, shown_history
from recsys.serving.history import ShownEvent
from recsys.serving.snapshot import Snapshot

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
    warnings: list[AnswerWarning]
    next_cursor: str | None = Field(None, description="For the events before these; null: there are none")


class AskedOfHistory(BaseModel):
    """What the question may say in its address."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=500, description="At most [events] history_length come, on all pages")] = 50
    fields: Fields = Field([])
    cursor: (
        Annotated[str, Field(pattern=r"^\d{1,18}-\d{1,9}$", description="next_cursor of the page before")] | None
    ) = None


@router.get(
    "/v1/users/{user_id:id}/history",
    response_model=Known,
    responses=documented(400, 401, 403, 422, 503),
    dependencies=[Depends(needs("account"))],
)
def show_history(
    user_id: Annotated[Id, Path()], asked: Annotated[AskedOfHistory, InAddress()], request: Request
) -> Response:
    """The events that a user's recommendations are made from. An unknown user has none."""
    state, query = state_of(request), Query(user_id)
    context = answers.gather_context(state, query)
    snapshot = context.snapshot
    fields = [name for field in asked.fields for name in field.split(",")]
    check_fields(snapshot, fields)
    behind = _behind(_in_order(shown_history(state.config, context, query)), asked.cursor)
    events = behind[: asked.limit]
    body = {
        "request_id": request.state.request_id,
        "bundle": snapshot.bundle.version,
        "user_id": user_id,
        "events": [_event(snapshot, event, fields) for event in events],
        "warnings": context_warnings(context),
        "next_cursor": _cursor(events, asked.cursor) if len(behind) > len(events) else None,
    }
    return Response(to_json(body, inf_nan_mode="null"), media_type="application/json")


def _in_order(events: list[ShownEvent]) -> list[ShownEvent]:
    """Newest first; those of one moment, which a database may read in any order, in the same order on every page."""
    return sorted(events, key=lambda event: (-event.time, event.item_id, event.kind))


def _place(cursor: str | None) -> tuple[int, int]:
    """What a cursor holds: the time of the last event that was answered, and how many of that time were."""
    time, _, count = cursor.partition("-") if cursor is not None else ("0", "", "0")
    return int(time), int(count)


def _cursor(events: list[ShownEvent], earlier: str | None) -> str:
    """The place behind the events. They are named by time, not by number: one that came since moves none."""
    time, count = _place(earlier)
    last = events[-1].time
    return f"{last}-{sum(event.time == last for event in events) + (count if last == time else 0)}"


def _behind(events: list[ShownEvent], cursor: str | None) -> list[ShownEvent]:
    """The events, newest first, behind those that were answered."""
    if cursor is None:
        return events
    time, count = _place(cursor)
    older = [event for event in events if event.time <= time]
    answered = min(count, sum(event.time == time for event in older))
    return older[answered:]


def _event(snapshot: Snapshot, event: ShownEvent, fields: list[str]) -> dict[str, Any]:
    row = snapshot.view.row_of(event.item_id)
    return {
        "item_id": event.item_id,
        "kind": event.kind,
        "occurred_at": rfc3339(event.time),
        "known": row >= 0,
        "fields": fields_of(snapshot, row, fields) if row >= 0 else {},
    }
