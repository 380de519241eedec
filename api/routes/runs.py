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


class Finding(BaseModel):
    """What the check of the source found."""

    severity: str = Field(description="error, warning or note", examples=["warning"])
    reason: str = Field(examples=["duplicate"])
    rows: int = Field(examples=[12])
    of: int = Field(description="Rows examined", examples=[40_000])


class Guard(BaseModel):
    """What a guard found."""

    guard: str = Field(examples=["volume purchase"])
    outcome: str = Field(description="ok, warn or refuse", examples=["ok"])
    figure: float | None = Field(examples=[0.97])
    bound: float | None = Field(examples=[0.5])
    earlier: list[float | None] = Field(description="The figure of the last good nights, newest first")
    text: str = Field(description="One sentence with the figure and the bound")


class Mover(BaseModel):
    """An item whose share of the lists of a sample of users changed most beside the live bundle's."""

    item_id: str = Field(examples=["P00017"])
    before: float = Field(description="Share of the users in whose ten best it was", examples=[0.02])
    now: float = Field(description="Share of the users in whose ten best it is", examples=[0.31])


class StartedBy(BaseModel):
    """Who or what started a run; null where an older version wrote it."""

    by: str | None = Field(description="schedule or hand", examples=["schedule"])
    user: str | None = Field(description="The account of the process", examples=["recsys"])
    host: str | None = Field(examples=["shop-1"])
    version: str | None = Field(description="Of the program", examples=["0.1.0"])
    forced: str | None = Field(description="The reason for which it published whatever guards and gate said")


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
    cause: str | None = Field(description="What kind of failure it was", examples=["missing table orders"])
    started: StartedBy
    findings: list[Finding]
    guards: list[Guard]
    movers: list[Mover]


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
        "cause": run.metrics.get("cause"),
        "started": {name: run.metrics.get("started", {}).get(name) for name in StartedBy.model_fields},
        "findings": [finding for step in run.steps for finding in step["counts"].get("findings", ())],
        "guards": [
            {name: verdict[name] for name in Guard.model_fields}
            for verdict in run.metrics.get("guards", {}).get("verdicts", ())
        ],
        "movers": [mover for step in run.steps for mover in step["counts"].get("movers", ())],
    }
