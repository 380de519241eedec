"""What this process answers from, and what else is on disk."""

import time
from typing import Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from api.auth import needs
from api.problems import documented
from api.routes.runs import NDCG, HoldoutScores, holdout_scores
from api.schemas import JsonRoute
from api.state import state_of
from recsys.bundle import versions
from recsys.bundle.versions import Version
from recsys.data.times import rfc3339
from recsys.serving.snapshot import Snapshot

router = APIRouter(route_class=JsonRoute, tags=["operations"])


class Serving(BaseModel):
    """The bundle that answers come from."""

    version: str = Field(examples=["20261123T020000.000000Z-mf-1a2b3c4d"])
    created_at: str = Field(examples=["2026-11-23T02:00:00Z"])
    age_seconds: float = Field(examples=[3600])
    model: str = Field(examples=["mf"])
    dim: int = Field(description="Numbers in a vector", examples=[64])
    items: int = Field(description="Items of the bundle", examples=[3000])
    new_items: int = Field(description="Items that came or changed since", examples=[2])
    sold_out: int = Field(examples=[31])
    columns: dict[str, str] = Field(
        description="Columns of the catalog and what they hold: text, number, boolean, time",
        examples=[{"title": "text"}],
    )
    data: dict[str, Any] = Field(
        description="What it was trained on", examples=[{"events": 11693, "users": 483, "items": 190}]
    )
    index: dict[str, Any] = Field(
        description="The kind of the index, the kind that was asked for, and its measured recall against exact search",
        examples=[{"kind": "flat", "asked": "auto", "recall@20": {"plain": 1.0, "filtered": 1.0}}],
    )


class OnDisk(BaseModel):
    """A bundle on disk."""

    version: str = Field(examples=["20261123T020000.000000Z-mf-1a2b3c4d"])
    created_at: str = Field(examples=["2026-11-23T02:00:00Z"])
    model: str = Field(examples=["mf"])
    live: bool = Field(description="Whether CURRENT names it")
    pinned: bool = Field(description="Whether a rollback keeps it live")
    size: int = Field(description="Bytes", examples=[1048576])
    holdout_scores: HoldoutScores = Field(alias=NDCG)


class Status(BaseModel):
    """The state of the service, as this process knows it."""

    request_id: str
    database: Literal["there", "away"]
    serving: Serving | None = Field(description="Null until a bundle is loaded and warm")
    bundles: list[OnDisk] = Field(description="Newest first")


@router.get(
    "/v1/status", response_model=Status, responses=documented(401, 403, 503), dependencies=[Depends(needs("admin"))]
)
def show_status(request: Request) -> Response:
    """The bundle that is served, and those on disk."""
    state = state_of(request)
    snapshot = state.live.snapshot
    body = {
        "request_id": request.state.request_id,
        "database": "away" if state.store.is_away else "there",
        "serving": None if snapshot is None else _serving(snapshot),
        "bundles": [_on_disk(version) for version in versions.list_versions(state.config.storage.path)],
    }
    return Response(to_json(body, inf_nan_mode="null"), media_type="application/json")


def _serving(snapshot: Snapshot) -> dict[str, Any]:
    bundle = snapshot.bundle
    manifest = bundle.manifest
    data, created_at = manifest.get("data", {}), manifest["created_at"]
    return {
        "version": bundle.version,
        "created_at": rfc3339(created_at),
        "age_seconds": round(time.time() - created_at / 1e6, 1),
        "model": bundle.vectors.model,
        "dim": bundle.vectors.dim,
        "items": len(bundle.catalog),
        "new_items": snapshot.fresh_count,
        "sold_out": snapshot.stock.sold_out,
        "columns": snapshot.columns,
        "data": {name: data.get(name) for name in ("events", "users", "items")} | _first_and_last(data),
        "index": manifest.get("index", {}),
    }


def _first_and_last(data: dict[str, Any]) -> dict[str, str | None]:
    """The times of the first and last event. Older bundles wrote UTC as +00:00."""
    texts = {name: data.get(name) for name in ("first", "last")}
    return {name: text.replace("+00:00", "Z") if text else None for name, text in texts.items()}


def _on_disk(version: Version) -> dict[str, Any]:
    return {
        "version": version.version,
        "created_at": rfc3339(version.created_at),
        "model": version.model,
        "live": version.live,
        "pinned": version.pinned,
        "size": version.size,
        NDCG: holdout_scores(version.metrics),
    }
