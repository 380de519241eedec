"""For those who watch: is the process alive, can it answer, and its figures."""

from typing import Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from api import answers
from api import metrics as measures
from api.auth import needs
from api.problems import documented
from api.state import state_of

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    """The process runs."""

    status: Literal["live"]


class Ready(BaseModel):
    """The process answers."""

    status: Literal["ready"]
    bundle: str
    database: Literal["there", "away"]


@router.get("/v1/health/live", response_model=Alive, responses=documented())
async def live() -> dict[str, Any]:
    """Whether the process runs; it says nothing about bundle or database."""
    return {"status": "live"}


@router.get("/v1/health/ready", response_model=Ready, responses=documented(503))
async def ready(request: Request) -> dict[str, Any]:
    """Whether a bundle is loaded and warm, and the keys are known.

    A database that is away later does not end that: answers go on without it.
    """
    state = state_of(request)
    state.auth.keys()
    bundle = answers.current(state).bundle.version
    return {"status": "ready", "bundle": bundle, "database": "away" if state.store.is_away else "there"}


@router.get(
    "/metrics",
    response_class=Response,
    responses=documented(401, 403, 503) | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    dependencies=[Depends(needs("metrics"))],
)
def metrics() -> Response:
    """The figures of all workers, for Prometheus."""
    return Response(measures.render(), media_type=CONTENT_TYPE_LATEST)
