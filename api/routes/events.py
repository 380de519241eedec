"""POST /v1/events: events are stored before they are acknowledged, and each counts once, however often it is sent."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Body, Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    Tag,
    WithJsonSchema,
    model_validator,
)

from api import metrics
from api.auth import needs
from api.problems import documented
from api.routes.recommendations import AnswerWarning
from api.schemas import Form, Id, JsonRoute, Time
from api.state import AppState, state_of
from recsys.config.settings import Config, EventSettings
from recsys.data.nobody import no_users, no_visitors
from recsys.errors import AwayError
from recsys.serving.answer import SKEW_MICROSECONDS
from recsys.spelling import meant
from recsys.store.database import Store
from recsys.store.events import insert_events, known_events

router = APIRouter(route_class=JsonRoute, tags=["events"])

MAX_EVENTS = 1_000
_OWNERS = ("user_id", "visitor_id")
MAX_PROPERTIES_BYTES = 8_000
_MINUTE = 60_000_000
_KIND = re.compile(r"\w[\w .:/-]{0,63}")
_TEXTS = ("event_id", "user_id", "visitor_id", "kind", "item_id", "request_id", "currency", "order_id", "properties")
_SCHEMA = pa.schema(
    {
        **dict.fromkeys(_TEXTS, pa.string()),
        **dict.fromkeys(("value", "quantity", "price"), pa.float64()),
        **dict.fromkeys(("occurred_at", "received_at"), pa.int64()),
    }
)


def _bounded(properties: dict[str, Any]) -> dict[str, Any]:
    if len(_canonical(properties).encode()) > MAX_PROPERTIES_BYTES:
        raise ValueError(f"at most {MAX_PROPERTIES_BYTES} bytes as JSON are allowed")
    return properties


def _canonical(value: Any) -> str:
    """JSON that is the same for the same content. Raises ValueError for a number that is none in JSON."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


Properties = Annotated[
    dict[str, Any], AfterValidator(_bounded), WithJsonSchema({"type": "object", "additionalProperties": True})
]


class Event(Form):
    """What a user or a visitor did with an item."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": [owner], "properties": {owner: {"type": "string"}}} for owner in _OWNERS]
        }
    )

    event_id: Id | None = Field(
        None, description="Set by the sender; the same id again changes nothing. Unset: made from the content"
    )
    user_id: Id | None = Field(None, description="At least one of user_id and visitor_id is required")
    visitor_id: Id | None = None
    kind: Id = Field(
        description="One of the configured kinds; another is stored, and counts from the next training on",
        examples=["purchase"],
    )
    item_id: Id
    value: FiniteFloat | None = Field(None, description="What was paid in all. Unset: price times quantity")
    quantity: FiniteFloat | None = Field(None, gt=0, description="How many pieces", examples=[2])
    price: FiniteFloat | None = Field(None, ge=0, description="Of one piece", examples=[12.5])
    currency: str | None = Field(None, pattern="^[A-Z]{3}$", description="ISO 4217", examples=["EUR"])
    order_id: Id | None = Field(None, description="The basket that the item was bought or put in with")
    properties: Properties | None = Field(
        None, description=f"Anything else, at most {MAX_PROPERTIES_BYTES} bytes; stored with the event"
    )
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
    """What became of the events."""

    request_id: str
    received: int = Field(description="Events in the request: all are stored, but for those warned of", examples=[1])
    stored: int = Field(description="How many of them are new", examples=[1])
    unknown_items: list[str] = Field(description="Items that nobody knows; their events count once they are known")
    warnings: list[AnswerWarning]


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
    known = _known_kinds(state)
    for at, event in enumerate(given):
        if event.kind not in known and not _KIND.fullmatch(event.kind):
            raise _fault(
                at, "kind", f"a new kind has 1 to 64 letters, digits, _ - . : / or blanks{meant(event.kind, known)}"
            )
    named = request.state.given_request_id
    somebody, warnings = _without_guests(given, state.config.source.guest_ids)
    stored = state.store.write(lambda store: _insert(store, somebody, named, state.config)) if somebody else 0
    metrics.EVENTS.labels("stored").inc(stored)
    metrics.EVENTS.labels("known").inc(len(somebody) - stored)
    unknown = _unknown_items(state, given)
    warnings += _new_kinds(state.config.events, given, known)
    if unknown:
        detail = f"Nobody knows {len(unknown)} items of these events; is the id misspelled, or the item yet to come?"
        warnings.append({"code": "unknown_items", "detail": detail})
    counts = {"received": len(given), "stored": stored, "unknown_items": unknown}
    return {"request_id": request.state.request_id, **counts, "warnings": warnings}


def _without_guests(events: Sequence[Event], guests: Collection[str]) -> tuple[dict[int, Event], list[dict[str, str]]]:
    """Take ids off that stand for all guests, which would merge all of them with one user.

    Returns the events that name somebody then, by their place, and a warning where there were such ids.
    """
    words = {"user_id": no_users(guests), "visitor_id": no_visitors(guests)}
    kept: dict[int, Event] = {}
    shown: dict[str, None] = {}
    for at, event in enumerate(events):
        shared = {name: None for name in _OWNERS if getattr(event, name) in words[name]}
        shown |= {f"{name} {getattr(event, name)!r}": None for name in shared}
        if any(getattr(event, name) is not None and name not in shared for name in _OWNERS):
            kept[at] = event.model_copy(update=shared) if shared else event
    if not shown:
        return kept, []
    detail = (
        f"{', '.join(list(shown)[:5])}: such an id stands for all guests ([source] guest_ids) and merges no visitor"
    )
    if lost := len(events) - len(kept):
        detail += f"; {lost} events have no other id and are not stored"
    return kept, [{"code": "guest_id", "detail": f"{detail}."}]


def _insert(store: Store, events: Mapping[int, Event], request_id: str | None, config: Config) -> int:
    # By the database's clock, as the extract's watermark.
    now = store.now()
    ids = _event_ids(store, list(events.values()), now, config.events)
    rows = []
    for (at, event), event_id in zip(events.items(), ids, strict=True):
        occurred_at = now if event.occurred_at is None else event.occurred_at
        if occurred_at > now + SKEW_MICROSECONDS:
            raise _fault(at, "occurred_at", "more than five minutes ahead of the database's clock")
        values = event.model_dump() | {"event_id": event_id, "occurred_at": occurred_at, "received_at": now}
        values |= {"kind": config.events.aliases.get(event.kind, event.kind), "value": _value(event)}
        values["properties"] = None if event.properties is None else _canonical(event.properties)
        rows.append(values | {"request_id": event.request_id or request_id})
    return insert_events(store, pa.Table.from_pylist(rows, _SCHEMA))


def _value(event: Event) -> float | None:
    if event.value is not None or event.price is None:
        return event.value
    return event.price * (1.0 if event.quantity is None else event.quantity)


def _event_ids(store: Store, events: Sequence[Event], now: int, settings: EventSettings) -> list[str]:
    """The ids of events: where the sender gave none, a hash of the content.

    Without a time the same content is another event once `dedup_window_minutes` have passed, and a retry before that.
    The hash therefore holds the window of the clock, and the id of the window before counts while it is that recent.
    """
    window = max(1, round(settings.dedup_window_minutes * _MINUTE))
    earlier = {
        at: _hash(event, now // window - 1)
        for at, event in enumerate(events)
        if event.event_id is None and event.occurred_at is None
    }
    known = known_events(store, set(earlier.values()), received_after=now - window) if earlier else set()
    return [
        event.event_id or (earlier[at] if earlier.get(at) in known else _hash(event, now // window))
        for at, event in enumerate(events)
    ]


def _hash(event: Event, window: int) -> str:
    content = event.model_dump(exclude_none=True)
    if event.occurred_at is None:
        content["window"] = window
    return hashlib.blake2b(_canonical(content).encode(), digest_size=16).hexdigest()


def _known_kinds(state: AppState) -> list[str]:
    """The words that count today: those of the configuration and the kinds of the bundle."""
    snapshot = state.live.snapshot
    return list(dict.fromkeys((*state.config.events.words, *(snapshot.bundle.kinds if snapshot else ()))))


def _new_kinds(settings: EventSettings, events: Sequence[Event], known: Sequence[str]) -> list[dict[str, str]]:
    """A warning for each kind that does not count yet."""
    if settings.own_kinds is not None:
        counts = "[events] own_kinds does not name it, so its events do not count"
    elif not settings.weight_of_new_kinds:
        counts = "[events] new_kind_weight is 0, so its events do not count"
    else:
        counts = f"it counts from the next training on, with weight {settings.weight_of_new_kinds:g}"
    return [
        {"code": "new_kind", "detail": f"{kind} is no kind of [events.weights]: {counts}{meant(kind, known)}"}
        for kind in dict.fromkeys(event.kind for event in events)
        if kind not in known
    ]


def _unknown_items(state: AppState, events: Sequence[Event]) -> list[str]:
    """The items of events that nobody knows, each once. Without a bundle nothing is known, and none is named."""
    ids = list(dict.fromkeys(event.item_id for event in events))
    for is_last in (False, True):
        snapshot = state.live.snapshot
        ids = [item for item in ids if snapshot is not None and snapshot.view.row_of(item) < 0]
        if ids and not is_last:  # another worker may have taken the item a moment ago
            try:
                state.live.poll_items()
            except AwayError:
                break
    return ids


def _fault(at: int, key: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body", at, key), "msg": message, "type": "value_error"}])
