"""The boxes of a shop's pages: for you, similar, trending, bestsellers, new arrivals and the others of BOXES."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field

from api import answers
from api.auth import needs
from api.problems import documented
from api.routes.recommendations import Answer, AskedOfUser, Question
from api.schemas import MAX_NAMED, Box, Category, Id, JsonRoute, Time, WindowDays
from api.state import state_of
from recsys.serving.answer import Query as EngineQuery
from recsys.serving.answer import default_k

router = APIRouter(route_class=JsonRoute, tags=["boxes"])

BoxName = Annotated[Box, Path(description="What is listed")]
Named = Annotated[
    list[Id], Field(max_length=MAX_NAMED, description="The items that the box is about; only rerank lists them")
]


class AskedOfBox(AskedOfUser):
    """What a question for a box may say in its address."""

    user_id: Id | None = None
    visitor_id: Id | None = None
    item_id: Named = Field([])
    window_days: WindowDays | None = None
    category: Category | None = None
    as_of: Time | None = Field(None, description="As if it were then; later events do not count. Unset: now")

    def box_query(self, box: str) -> EngineQuery:
        """The same for the engine."""
        query = self.query(self.user_id, self.visitor_id)
        query = replace(query, box=box, items=self.item_id, window_days=self.window_days, as_of=self.as_of)
        return _sized(replace(query, category=self.category), self)


class BoxQuestion(Question):
    """Everything is optional, but for the item that some boxes are about."""

    item_id: Id | Named = Field([], description="One item or several that the box is about")
    window_days: WindowDays | None = None
    category: Category | None = None

    def box_query(self, box: str) -> EngineQuery:
        """The same for the engine."""
        items = [self.item_id] if isinstance(self.item_id, str) else self.item_id
        query = replace(self.query(), box=box, items=items, window_days=self.window_days, category=self.category)
        return _sized(query, self)


def _sized(query: EngineQuery, asked: BaseModel) -> EngineQuery:
    """The query with the box's own k where none is asked for."""
    return query if "k" in asked.model_fields_set else replace(query, k=default_k(query))


ERRORS = documented(400, 401, 403, 404, 422, 503)


@router.get("/v1/boxes/{box}", response_model=Answer, responses=ERRORS, dependencies=[Depends(needs("recommend"))])
def get_box(box: BoxName, asked: Annotated[AskedOfBox, Query()], request: Request) -> Response:
    """The items of a box."""
    return answers.answer(state_of(request), asked.box_query(box), request_id=request.state.request_id)


@router.post(
    "/v1/boxes/{box}",
    response_model=Answer,
    responses=ERRORS | documented(413, 415),
    dependencies=[Depends(needs("recommend"))],
)
def ask_box(
    box: BoxName,
    question: Annotated[
        BoxQuestion,
        Body(
            openapi_examples={
                "trending": {"value": {"k": 8, "window_days": 7, "fields": ["title", "price"]}},
                "similar": {"value": {"item_id": "85123A", "k": 8}},
            }
        ),
    ],
    request: Request,
) -> Response:
    """The items of a box, asked for in the body: with a history and a filter of any form."""
    return answers.answer(state_of(request), question.box_query(box), request_id=request.state.request_id)
