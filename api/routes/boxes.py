"""The boxes of a shop's pages: for you, similar, trending, bestsellers, new arrivals and the others of BOXES."""

from dataclasses import replace
from typing import Annotated, Any, Self

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SkipValidation, ValidationError, field_validator, model_validator

from api import answers
from api.answers import Fault
from api.auth import needs
from api.placements import placed
from api.problems import documented, first_fault
from api.routes.recommendations import Answer, AnswerWarning, AskedOfUser, Dropped, Hit, Question
from api.rules import Rules
from api.schemas import (
    MAX_NAMED,
    AnyFilter,
    Box,
    Category,
    Excluded,
    Fields,
    Form,
    Id,
    JsonRoute,
    K,
    PlacementName,
    Time,
    WindowDays,
)
from api.state import AppState, state_of
from recsys.errors import NotFoundError
from recsys.serving.answer import Query as EngineQuery
from recsys.serving.answer import default_k

router = APIRouter(route_class=JsonRoute, tags=["boxes"])

MAX_BOXES = 20  # of a page
MAX_QUESTIONS = 100  # of a batch

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
        query = replace(
            self.query(), box=box, items=_listed(self.item_id), window_days=self.window_days, category=self.category
        )
        return _sized(query, self)


def _listed(items: str | list[str]) -> list[str]:
    return [items] if isinstance(items, str) else items


def _sized(query: EngineQuery, asked: BaseModel) -> EngineQuery:
    """The query with the box's own k where none is asked for."""
    return query if "k" in asked.model_fields_set else replace(query, k=default_k(query))


class BoxOrPlacement(Form):
    """What one of several questions is about."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": [name], "properties": {name: {"type": "string"}}} for name in ("box", "placement")]
        }
    )

    box: Box | None = Field(None, description="A box or a placement is required, not both")
    placement: PlacementName | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.box is None) == (self.placement is None):
            raise ValueError("box or placement: one of them is required, not both")
        return self


class PageBox(BoxOrPlacement):
    """One box of a page. What it does not say is as the page says."""

    item_id: Id | Named = Field([], description="One item or several that the box is about")
    k: K | None = None
    exclude: Excluded = Field([])
    filter: AnyFilter | None = Field(None, description="Has to be met beside the page's")
    fields: Fields | None = None
    window_days: WindowDays | None = None
    category: Category | None = None
    rules: Rules | None = Field(None, description="Count beside the page's, and before them")


class PageQuestion(Question):
    """What all boxes of a page share, and the boxes, in the order in which they may take items."""

    boxes: Annotated[list[PageBox], Field(min_length=1, max_length=MAX_BOXES)]

    @field_validator("cursor")
    @classmethod
    def _of_one_box(cls, cursor: str | None) -> str | None:
        if cursor is not None:
            raise ValueError("a cursor goes on with one box; send it to /v1/boxes/{box}")
        return cursor

    def box_query(self, asked: PageBox, state: AppState) -> EngineQuery | Fault:
        """One of its boxes for the engine."""
        common, page_k = self.query(), self.k if "k" in self.model_fields_set else None
        query = replace(
            common,
            box=asked.box or "for_you",
            items=_listed(asked.item_id),
            exclude=[*common.exclude, *asked.exclude],
            filters=[*common.filters, *([] if asked.filter is None else [asked.filter])],
            fields=common.fields if asked.fields is None else asked.fields,
            window_days=asked.window_days,
            category=asked.category,
            rules=[*common.rules, *([] if asked.rules is None else [asked.rules.plain()])],
        )
        if asked.placement is not None:
            return _placed(state, asked.placement, query, k=asked.k, usual_k=page_k)
        return replace(query, k=asked.k or page_k or default_k(query))


def _placed(
    state: AppState, name: str, query: EngineQuery, *, k: int | None, usual_k: int | None = None
) -> EngineQuery | Fault:
    try:
        return placed(state, name, query, k=k, usual_k=usual_k)
    except NotFoundError as error:
        return Fault(404, "unknown_placement", str(error))


class BatchQuestion(BoxOrPlacement, BoxQuestion):
    """One question of a batch."""


class Batch(Form):
    """Up to 100 questions, for boxes of any kind and of different users."""

    # Each is validated by itself: a wrong one has its error, and the others their answers.
    questions: Annotated[list[Annotated[BatchQuestion, SkipValidation]], Field(min_length=1, max_length=MAX_QUESTIONS)]


class BoxError(BaseModel):
    """Why a question among several has no answer."""

    status: int = Field(description="As a question of its own would have had", examples=[404])
    code: str = Field(examples=["unknown_item"])
    detail: str


class BoxAnswer(BaseModel):
    """One answer among several. Where there is an error, there are no hits."""

    box: str | None = Field(
        description="That of the placement where one was named; null where the question could not be asked",
        examples=["trending"],
    )
    hits: list[Hit] = Field(description="Best first; fewer than k only when fewer are eligible")
    eligible: int | None = None
    dropped: Dropped | None = None
    warnings: list[AnswerWarning]
    next_cursor: str | None = Field(None, description="For /v1/boxes/{box}, to go on with this box alone")
    error: BoxError | None = None


class PageAnswer(BaseModel):
    """The boxes of a page, in the order of the question."""

    request_id: str
    bundle: str
    boxes: list[BoxAnswer]


class BatchAnswer(BaseModel):
    """The answers, in the order of the questions."""

    request_id: str
    bundle: str
    answers: list[BoxAnswer]


ERRORS = documented(400, 401, 403, 404, 422, 503)


@router.get("/v1/boxes/{box}", response_model=Answer, responses=ERRORS, dependencies=[Depends(needs("recommend"))])
def get_box(box: BoxName, asked: Annotated[AskedOfBox, Query()], request: Request) -> Response:
    """The items of a box."""
    query = asked.box_query(box)
    same_for_all = request if query.user_id is None and query.visitor_id is None else None
    return answers.answer(state_of(request), query, request_id=request.state.request_id, same_for_all=same_for_all)


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


@router.post(
    "/v1/pages",
    response_model=PageAnswer,
    responses=documented(400, 401, 403, 413, 415, 422, 503),
    dependencies=[Depends(needs("recommend"))],
)
def ask_page(
    page: Annotated[
        PageQuestion,
        Body(
            openapi_examples={
                "a product page": {
                    "value": {
                        "visitor_id": "v-81",
                        "fields": ["title", "price"],
                        "boxes": [{"box": "similar", "item_id": "85123A", "k": 6}, {"box": "trending", "k": 6}],
                    }
                }
            }
        ),
    ],
    request: Request,
) -> Response:
    """Several boxes for one page. No item is in two of them: what a box lists, no later one does."""
    state = state_of(request)
    queries = [page.box_query(box, state) for box in page.boxes]
    return answers.answer_page(state, page.query(), queries, request_id=request.state.request_id)


@router.post(
    "/v1/batch",
    response_model=BatchAnswer,
    responses=documented(400, 401, 403, 413, 415, 422, 503),
    dependencies=[Depends(needs("recommend"))],
)
def ask_batch(
    batch: Annotated[
        Batch,
        Body(
            openapi_examples={
                "two users": {
                    "value": {
                        "questions": [
                            {"box": "for_you", "user_id": "1003", "k": 5},
                            {"box": "for_you", "user_id": "1024", "k": 5},
                        ]
                    }
                }
            }
        ),
    ],
    request: Request,
) -> Response:
    """Up to 100 questions in one request, each with an answer or an error of its own."""
    state = state_of(request)
    queries = [_read_question(state, question) for question in batch.questions]
    return answers.answer_batch(state, queries, request_id=request.state.request_id)


def _read_question(state: AppState, question: Any) -> EngineQuery | Fault:
    """The query of a question, or what is wrong with it."""
    try:
        read = BatchQuestion.model_validate(question)
    except ValidationError as error:
        return Fault(422, "invalid_request", first_fault(error, BatchQuestion))
    if read.placement is None:
        return read.box_query(read.box or "")
    return _placed(state, read.placement, read.box_query("for_you"), k=read.k if "k" in read.model_fields_set else None)
