"""Campaigns: created as drafts, approved, exported, measured, reported, cancelled and deleted."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path as File
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, Field

from api.auth import actor_of, needs
from api.commands import run_campaign
from api.problems import ProblemError, documented
from api.schemas import Form, JsonRoute
from api.state import state_of
from recsys.campaigns.definition import Definition
from recsys.campaigns.report import POLICY, gather, render
from recsys.campaigns.shown import describe_all, describe_campaign, describe_export, summarize
from recsys.errors import RefusedError
from recsys.store.campaigns import change_campaign, check_campaign, delete_campaign, find_campaign, find_same
from recsys.store.database import Store

router = APIRouter(route_class=JsonRoute, tags=["campaigns"])

_T = TypeVar("_T")
_FILES = ("suppress", "seeds", "contacts")  # keys of an audience that name files of this machine

Name = Annotated[str, Path(max_length=64, description="Small letters, digits, - and _", examples=["lamps"])]


class CampaignSummary(BaseModel):
    """A campaign in a list."""

    name: str = Field(examples=["lamps"])
    state: str = Field(description="draft, approved, exported, measured or cancelled", examples=["draft"])
    changed_at: str = Field(examples=["2026-11-23T08:00:00Z"])
    changed_by: str = Field(description="Who brought it into this state", examples=["shop desk (1a2b3c4d)"])
    purpose: str
    members: int
    mailed: int = Field(description="Members who are not held back")
    held_back: int
    expected_buyers: float = Field(description="Among those who are mailed")
    verdict: str | None = Field(description="Of the measurement, as worked; null: not measured")


class ListedCampaign(CampaignSummary):
    """A campaign in the list of all."""

    delete_after: str | None = Field(description="The day until which the members may be kept; null: not exported")


class CampaignList(BaseModel):
    """All campaigns, the one that was changed last first."""

    request_id: str
    campaigns: list[ListedCampaign]


class CampaignLogged(BaseModel):
    """A change of a campaign."""

    at: str
    action: str
    by: str


class ExportShown(BaseModel):
    """A row of the register of exports."""

    export_id: int
    began_at: str
    finished_at: str | None = Field(description="null: it broke off, and may have been handed out all the same")
    destination: str
    members: int
    by: str


class CampaignShown(CampaignSummary):
    """Everything that is known of a campaign, without ids of people."""

    request_id: str
    definition: dict[str, Any]
    audience_id: str
    as_of: str
    bundle: str
    version: str
    could_find: list[dict[str, Any]] = Field(description="The smallest effects that are found, by the share held back")
    segments: dict[str, dict[str, int]]
    audience: dict[str, Any] | None
    delete_after: str | None
    changes: list[CampaignLogged]
    exports: list[ExportShown]
    measurement: dict[str, Any] | None


class CampaignMoved(CampaignSummary):
    """The campaign after a change."""

    request_id: str


class CampaignDeleted(BaseModel):
    """A campaign is gone with its members."""

    request_id: str
    name: str
    exports: list[ExportShown] = Field(description="What was handed out of it, and is to be deleted there too")


class CampaignDiff(BaseModel):
    """What differs between two campaigns."""

    request_id: str
    changed: dict[str, Any] = Field(description="Key -> both values")
    members: dict[str, int] = Field(description="both, only_first, only_second")


class Measure(Form):
    """When the mails went out."""

    sent_at: str | None = Field(None, description="Unset: at the first export", examples=["2026-11-23T08:00:00Z"])


class CampaignMeasured(BaseModel):
    """What the mailing brought so far."""

    request_id: str
    name: str
    mailed: int
    held_back: int
    conversion: dict[str, float] = Field(description="mailed, held_back, difference, low and high of the 95 % interval")
    spend: dict[str, float] | None = Field(description="The same; null where purchases have no values")
    sample_ratio: float
    verdict: str = Field(
        description="window_open, not_comparable, worked, harmed, no_effect or not_enough_data", examples=["worked"]
    )
    text: str
    more_people: int | None
    more_days: int | None
    sent_at: str
    until: str
    window_days: float
    tenths: list[dict[str, Any]]


ERRORS = documented(400, 401, 403, 404, 409, 422, 503)
GATE = [Depends(needs("audience"))]


@router.get("/v1/campaigns", response_model=CampaignList, responses=documented(401, 403, 503), dependencies=GATE)
def list_campaigns(request: Request) -> dict[str, Any]:
    """All campaigns."""
    return _answer(request, {"campaigns": state_of(request).store.read(describe_all)})


@router.post(
    "/v1/campaigns", response_model=CampaignShown, responses=ERRORS | documented(413, 415, 500), dependencies=GATE
)
def create_campaign(definition: Definition, request: Request) -> dict[str, Any]:
    """Draw and freeze the members, as a draft. The same definition again changes nothing."""
    named = [key for key in _FILES if key in definition.audience]
    if named:
        raise RefusedError(
            f"audience.{named[0]}: no file of this machine can be named over HTTP; `recsys campaign` can"
        )
    values = definition.model_dump(mode="json")
    state_of(request).store.read(_or_conflict(lambda store: find_same(store, definition.name, values)))
    return _answer(request, run_campaign(["create", "-"], by=actor_of(request), text=json.dumps(values)))


@router.get("/v1/campaigns/{name}", response_model=CampaignShown, responses=ERRORS, dependencies=GATE)
def show_campaign(name: Name, request: Request) -> dict[str, Any]:
    """Everything that is known of a campaign, without ids of people."""
    found = state_of(request).store.read(lambda store: describe_campaign(store, find_campaign(store, name)))
    return _answer(request, found)


@router.get(
    "/v1/campaigns/{name}/report",
    response_class=Response,
    responses=ERRORS | {200: {"content": {"text/html": {}}, "description": "One HTML file that needs no other"}},
    dependencies=GATE,
)
def report_campaign(name: Name, request: Request) -> Response:
    """The report of a campaign: who is in it, and whether it helped."""
    state = state_of(request)
    snapshot = state.live.snapshot
    told = state.store.read(lambda store: gather(store, name, snapshot.bundle if snapshot else None))
    headers = {"Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'", "Cache-Control": "no-store"}
    return Response(render(told), media_type="text/html; charset=utf-8", headers=headers)


@router.get("/v1/campaigns/{name}/diff/{other}", response_model=CampaignDiff, responses=ERRORS, dependencies=GATE)
def diff_campaigns(name: Name, other: Name, request: Request) -> dict[str, Any]:
    """What differs between two campaigns, and how many members both have."""
    state_of(request).store.read(lambda store: [find_campaign(store, one) for one in (name, other)])
    return _answer(request, run_campaign(["diff", name, other]))


@router.post("/v1/campaigns/{name}/approve", response_model=CampaignMoved, responses=ERRORS, dependencies=GATE)
def approve_campaign(name: Name, request: Request) -> dict[str, Any]:
    """Approve a draft, so that it may be exported."""
    return _change(request, name, "approve")


@router.post("/v1/campaigns/{name}/cancel", response_model=CampaignMoved, responses=ERRORS, dependencies=GATE)
def cancel_campaign(name: Name, request: Request) -> dict[str, Any]:
    """Cancel a campaign that is not sent."""
    return _change(request, name, "cancel")


@router.post(
    "/v1/campaigns/{name}/export",
    response_class=Response,
    responses=ERRORS | documented(500) | {200: {"content": {"text/csv": {}}, "description": "The members to mail"}},
    dependencies=GATE,
)
def export_campaign(name: Name, request: Request) -> Response:
    """The members to mail as CSV: without those held back, and those who may no longer be mailed."""
    _check(request, name, "export")
    with tempfile.TemporaryDirectory(prefix="recsys-export-") as folder:
        out = File(folder) / "members.csv"
        words = ["export", name, "--out", str(out), "--destination", f"HTTP, {actor_of(request)}"]
        run_campaign(words, by=actor_of(request))
        return Response(out.read_bytes(), media_type="text/csv; charset=utf-8", headers={"Cache-Control": "no-store"})


@router.post(
    "/v1/campaigns/{name}/measure",
    response_model=CampaignMeasured,
    responses=ERRORS | documented(413, 415, 500),
    dependencies=GATE,
)
def measure_campaign(name: Name, asked: Measure, request: Request) -> dict[str, Any]:
    """Compare the mailed with those held back, as far as the last training has read what they bought."""
    _check(request, name, "measure")
    moment = [] if asked.sent_at is None else [f"--sent-at={asked.sent_at}"]
    return _answer(request, run_campaign(["measure", name, *moment], by=actor_of(request)))


@router.delete("/v1/campaigns/{name}", response_model=CampaignDeleted, responses=ERRORS, dependencies=GATE)
def remove_campaign(name: Name, request: Request) -> dict[str, Any]:
    """Delete a draft, cancelled or measured campaign with its members; its log stays."""
    by = actor_of(request)
    exports = state_of(request).store.write(_or_conflict(lambda store: delete_campaign(store, name, by=by)))
    return _answer(request, {"name": name, "exports": [describe_export(one) for one in exports]})


def _answer(request: Request, found: dict[str, Any]) -> dict[str, Any]:
    return {"request_id": request.state.request_id, **found}


def _change(request: Request, name: str, action: str) -> dict[str, Any]:
    by = actor_of(request)
    change = _or_conflict(lambda store: change_campaign(store, name, action, by=by))
    return _answer(request, summarize(state_of(request).store.write(change)))


def _check(request: Request, name: str, action: str) -> None:
    state_of(request).store.write(_or_conflict(lambda store: check_campaign(store, name, action)))


def _or_conflict(use: Callable[[Store], _T]) -> Callable[[Store], _T]:
    """Turn what the state of a campaign does not allow into a conflict."""

    def tried(store: Store) -> _T:
        try:
            return use(store)
        except RefusedError as error:
            raise ProblemError(409, "wrong_state", str(error)) from None

    return tried
