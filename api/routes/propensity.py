"""GET /v1/users/{user_id}/propensity: how likely a customer buys again or is lost, and for how much."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from api import answers
from api.auth import needs
from api.problems import documented
from api.routes.recommendations import AnswerWarning
from api.schemas import Id, JsonRoute
from api.state import state_of
from recsys.serving.answer import Query, context_warnings
from recsys.serving.propensity import describe

router = APIRouter(route_class=JsonRoute, tags=["users"])


class WindowFigures(BaseModel):
    """What is expected within so many days from now."""

    days: int = Field(examples=[30])
    probability: float = Field(description="To buy anything", examples=[0.42])
    churn_risk: float = Field(
        description="Share of the chance to buy that was lost since the last purchase, by the customer's own rhythm",
        examples=[0.13],
    )
    value: float | None = Field(description="Expected spend; null where the shop's purchases have no values")
    value_low: float | None = Field(description="The spend lies between value_low and value_high in 90 % of the cases")
    value_high: float | None
    trained_at: str = Field(description="Nothing later was learned from", examples=["2026-11-23T02:00:00Z"])


class PropensityAnswer(BaseModel):
    """What is expected of a user."""

    request_id: str
    bundle: str = Field(description="The version of the bundle", examples=["20261123T020000.000000Z-mf-1a2b3c4d"])
    user_id: str
    windows: list[WindowFigures] = Field(
        description="One for each window of [propensity] windows_days that was learned"
    )
    reason: str | None = Field(description="Why windows is empty: never_bought or not_trained; else null")
    refused: dict[str, list[str]] = Field(
        description="Days of a window: why the last training did not learn it; an older scorer may serve all the same"
    )
    warnings: list[AnswerWarning]


@router.get(
    "/v1/users/{user_id:id}/propensity",
    response_model=PropensityAnswer,
    responses=documented(400, 401, 403, 422, 503),
    dependencies=[Depends(needs("audience"))],
)
def show_propensity(user_id: Annotated[Id, Path()], request: Request) -> Response:
    """How likely the user buys within each window, is lost, and how much is expected.

    Purchases that were posted since the last training count. An unknown user never bought.
    """
    state = state_of(request)
    context = answers.gather_context(state, Query(user_id))
    body = {
        "request_id": request.state.request_id,
        "bundle": context.snapshot.bundle.version,
        "user_id": user_id,
        **describe(state.config, context, user_id),
        "warnings": context_warnings(context),
    }
    return Response(to_json(body, inf_nan_mode="null"), media_type="application/json")
