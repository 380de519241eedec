"""Merge a guest with a user, report what is known of users, and delete users and visitors."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from api.auth import needs
from api.problems import documented
from api.schemas import Form, Id, JsonRoute
from api.state import AppState, state_of
from recsys.campaigns.person import read_events
from recsys.data.nobody import no_users, no_visitors
from recsys.data.times import rfc3339
from recsys.errors import RefusedError
from recsys.store.bulk import in_full
from recsys.store.campaigns import list_exports
from recsys.store.database import Store
from recsys.store.person import read_person
from recsys.store.users import Deleted, bury_user, bury_visitor, remove_some
from recsys.store.visitors import claim, link_visitor

router = APIRouter(route_class=JsonRoute, tags=["users"])

_FILES = "left out of every answer now; the next training rewrites the extract without them"


class Guest(Form):
    """The visitor that a user was before logging in."""

    visitor_id: Id


class Merged(BaseModel):
    """What the merge brought to the user."""

    request_id: str
    user_id: str
    visitor_id: str
    events: int = Field(description="Events of the visitor that are the user's from now on", examples=[3])


class Holder(BaseModel):
    """An export that holds a deleted user, and has to be dealt with there."""

    export_id: int
    campaign: str | None = Field(description="null: of `recsys audience`", examples=["lamps"])
    destination: str = Field(examples=["/home/shop/lamps.csv"])
    began_at: str = Field(examples=["2026-11-23T08:00:00Z"])


class Receipt(BaseModel):
    """What was deleted now, and what the next training deletes."""

    request_id: str
    user_id: str | None = Field(description="Null: the visitor is known as no user")
    visitor_ids: list[str] = Field(description="The visitors who were deleted with the user, being the same person")
    known: bool = Field(description="Whether anything was known of the id; if not, is it misspelled?")
    deleted_at: str = Field(description="Events up to this time no longer count", examples=["2026-11-23T08:00:00Z"])
    events: int = Field(description="Events of the own tables that were removed", examples=[12])
    files: str = Field(examples=[_FILES])
    exports: list[Holder] = Field(description="Lists that were handed out with the user in them")


class UserReport(BaseModel):
    """What the service keeps of a user. What else the shop's database knows, `recsys user report` reads."""

    request_id: str
    user_id: str
    deleted_at: str | None
    email_consent: bool | None
    attributes: dict[str, Any] | None = Field(description="null: the own tables have no row of the user")
    visitor_ids: list[str]
    memberships: list[dict[str, Any]] = Field(description="The audiences and campaigns that the user is in")
    exports: list[dict[str, Any]] = Field(description="Lists that were handed out with the user in them")
    reviews: list[dict[str, Any]]
    requests: list[dict[str, Any]] = Field(description="Questions that were kept, with their answers")
    events: list[dict[str, Any]] = Field(description="In the extract first, then in the own tables; kept_in says where")
    next_skip: int | None = Field(description="For the further events; null: there are none")


class AskedOfReport(BaseModel):
    """Which events."""

    model_config = ConfigDict(extra="forbid")

    skip: Annotated[int, Field(ge=0, le=10**12, description="next_skip of the page before")] = 0
    limit: Annotated[int, Field(ge=1, le=1_000)] = 500


@router.get(
    "/v1/users/{user_id:id}/report",
    response_model=UserReport,
    responses=documented(400, 401, 403, 422, 503),
    dependencies=[Depends(needs("account"))],
)
def report_user(
    user_id: Annotated[Id, Path()], asked: Annotated[AskedOfReport, Query()], request: Request
) -> dict[str, Any]:
    """Everything that the service keeps of a user, for a request by the user."""
    state = state_of(request)
    snapshot = state.live.snapshot
    extract = snapshot.log.extract if snapshot else None
    events = state.store.read(
        lambda store: read_events(store, extract, user_id, skip=asked.skip, limit=asked.limit + 1)
    )
    return {
        "request_id": request.state.request_id,
        **state.store.read(lambda store: read_person(store, user_id)),
        "events": events[: asked.limit],
        "next_skip": asked.skip + asked.limit if len(events) > asked.limit else None,
    }


@router.post(
    "/v1/users/{user_id:id}/merge",
    response_model=Merged,
    responses=documented(400, 401, 403, 413, 415, 422, 503),
    dependencies=[Depends(needs("events"))],
)
def merge_guest(user_id: Annotated[Id, Path()], guest: Guest, request: Request) -> dict[str, Any]:
    """Make what a visitor did, and will do, the user's: in the next answer, in the next training, and for good."""
    state = state_of(request)
    guests = state.config.source.guest_ids
    for name, given, words in (
        ("user_id", user_id, no_users(guests)),
        ("visitor_id", guest.visitor_id, no_visitors(guests)),
    ):
        if given in words:
            raise RefusedError(f"{name}: {given!r} stands for all guests ([source] guest_ids); allowed is one person's")

    state.store.write(lambda store: link_visitor(store, user_id, guest.visitor_id, now=store.now()))
    events = claim(state.store.write, [guest.visitor_id])
    names = {"user_id": user_id, "visitor_id": guest.visitor_id}
    return {"request_id": request.state.request_id, **names, "events": events}


@router.delete(
    "/v1/users/{user_id:id}",
    response_model=Receipt,
    responses=documented(400, 401, 403, 422, 503),
    dependencies=[Depends(needs("account"))],
)
def forget_user(user_id: Annotated[Id, Path()], request: Request) -> dict[str, Any]:
    """Delete a user: from every answer at once, and from the files with the next training. Twice is no error."""
    return _delete(request, lambda store, now: bury_user(store, user_id, now=now))


@router.delete(
    "/v1/visitors/{visitor_id:id}",
    response_model=Receipt,
    responses=documented(400, 401, 403, 422, 503),
    dependencies=[Depends(needs("account"))],
)
def forget_visitor(visitor_id: Annotated[Id, Path()], request: Request) -> dict[str, Any]:
    """Delete a visitor and, where the visitor logged in, the user too: they are one person. Twice is no error."""
    return _delete(request, lambda store, now: bury_visitor(store, visitor_id, now=now))


def _delete(request: Request, bury: Callable[[Store, int], Deleted]) -> dict[str, Any]:
    state = state_of(request)

    def at_once(store: Store) -> tuple[int, Deleted]:
        now = store.now()
        return now, bury(store, now)

    deleted_at, done = state.store.write(at_once)
    if done.user_id is not None:
        state.deleted = {**state.deleted, done.user_id: deleted_at}
    # Very many events take longer than one use of the database may.
    events = in_full(lambda: state.store.write(lambda store: remove_some(store, done)))
    return {
        "request_id": request.state.request_id,
        "user_id": done.user_id,
        "visitor_ids": done.visitor_ids,
        "known": done.known or events > 0 or _is_in_extract(state, done.user_id),
        "deleted_at": rfc3339(deleted_at),
        "events": events,
        "files": _FILES,
        "exports": _holders(state, done.exports),
    }


def _holders(state: AppState, exports: tuple[int, ...]) -> list[dict[str, Any]]:
    if not exports:
        return []
    return [
        {
            "export_id": one.export_id,
            "campaign": one.campaign,
            "destination": one.destination,
            "began_at": rfc3339(one.began_at),
        }
        for one in state.store.read(list_exports)
        if one.export_id in exports
    ]


def _is_in_extract(state: AppState, user_id: str | None) -> bool:
    snapshot = state.live.snapshot
    return snapshot is not None and user_id is not None and snapshot.log.extract.users.row_of(user_id) >= 0
