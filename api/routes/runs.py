"""GET /v1/runs: the ledger, with each run's steps and the evaluation of its models."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from api.auth import needs
from api.problems import documented
from api.schemas import JsonRoute
from api.state import state_of
from recsys.data.times import rfc3339
from recsys.store import runs
from recsys.store.runs import Run

router = APIRouter(route_class=JsonRoute, tags=["operations"])

NDCG = "ndcg@20"


class HoldoutScores(BaseModel):
    """NDCG@20 on the holdout, over the same users; null where it was not evaluated."""

    candidate: float | None = Field(description="Of the winner, before its refit", examples=[0.2909])
    popularity: float | None = Field(description="Null when popularity itself is the winner", examples=[0.21])
    live: float | None = Field(description="Of the bundle that was live then", examples=[0.2874])


class Step(BaseModel):
    """A part of a run."""

    name: str = Field(examples=["fit mf"])
    seconds: float = Field(examples=[12.7])


class RunShown(BaseModel):
    """A run."""

    run_id: int
    job: str = Field(examples=["train"])
    status: str = Field(description="running, done, refused or failed", examples=["done"])
    started_at: str = Field(examples=["2026-11-23T02:00:00Z"])
    finished_at: str | None
    due_at: str | None = Field(description="The due time that the schedule started it for")
    seconds: float | None = Field(description="Null while it runs", examples=[74.1])
    winner: str | None = Field(description="The best of the models", examples=["mf"])
    holdout_scores: HoldoutScores = Field(alias=NDCG)
    models: dict[str, dict[str, float | None]] = Field(
        description="All metrics of every model, over all evaluated users", examples=[{"mf": {NDCG: 0.2909}}]
    )
    steps: list[Step]
    bundle: str | None = Field(description="The bundle that it saved")
    error: str | None = Field(description="Why it failed or was refused")


class Ledger(BaseModel):
    """The latest runs."""

    request_id: str
    runs: list[RunShown] = Field(description="Newest first")


class LedgerQuery(BaseModel):
    """The query parameters."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100, description="How many runs")] = 20


@router.get(
    "/v1/runs", response_model=Ledger, responses=documented(401, 403, 422, 503), dependencies=[Depends(needs("admin"))]
)
def list_runs(asked: Annotated[LedgerQuery, Query()], request: Request) -> Response:
    """List the latest runs of the jobs, with their metrics."""
    found = state_of(request).store.read(lambda store: runs.list_runs(store, asked.limit))
    body = {"request_id": request.state.request_id, "runs": [_shown(run) for run in found]}
    return Response(to_json(body, inf_nan_mode="null"), media_type="application/json")


def holdout_scores(metrics: dict[str, Any]) -> dict[str, float | None]:
    """Read NDCG@20 of everything compared from the metrics of a run or a bundle."""
    gate = metrics.get("gate", {})
    return {name: gate.get(name) for name in HoldoutScores.model_fields}


def _shown(run: Run) -> dict[str, Any]:
    ended = run.finished_at
    return {
        "run_id": run.run_id,
        "job": run.job,
        "status": run.status,
        "started_at": rfc3339(run.started_at),
        "finished_at": rfc3339(ended),
        "due_at": rfc3339(run.due_at),
        "seconds": None if ended is None else round((ended - run.started_at) / 1e6, 1),
        "winner": run.metrics.get("winner"),
        NDCG: holdout_scores(run.metrics),
        "models": {name: rows.get("all", {}) for name, rows in run.metrics.get("models", {}).items()},
        "steps": [{"name": step["name"], "seconds": step["seconds"]} for step in run.steps],
        "bundle": run.bundle,
        "error": run.error,
    }
