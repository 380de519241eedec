"""Items for a user, for a visitor, or for a history that comes with the question."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api import answers
from api.auth import needs
from api.problems import documented
from api.rules import Rules
from api.schemas import MAX_HISTORY, AnyFilter, Cursor, Excluded, Fields, Form, Id, JsonRoute, K, ShortFilter, Time
from api.state import state_of
from recsys.serving.answer import Query as EngineQuery
from recsys.serving.history import InlineEvent

router = APIRouter(route_class=JsonRoute, tags=["recommendations"])

FILTER_EXAMPLE = {
    "and": [
        {"column": "category", "op": "in", "value": ["Toys", "Games"]},
        {"not": {"column": "price", "op": "between", "value": [100, 1000]}},
    ]
}


class PriceDrop(BaseModel):
    """How an item became cheaper."""

    former_price: float = Field(description="Before the first change in the window", examples=[24.95])
    price: float = Field(examples=[19.95])
    changed_at: str = Field(description="When the last change was seen", examples=["2026-11-23T02:00:00Z"])


class Moved(BaseModel):
    """What rules did to an item."""

    from_: int | None = Field(alias="from", description="Its place without rules; null: far behind", examples=[7])
    by: list[str] = Field(description="pin, exploration, boost, bury, max_per or diversity", examples=[["boost"]])


class Contribution(BaseModel):
    """What an item of the history adds to the score."""

    item_id: str = Field(examples=["22752"])
    contribution: float = Field(examples=[0.31])


class LikenessPart(BaseModel):
    """How much one kind of likeness adds to a score."""

    part: Literal["taste", "content"]
    share: float = Field(description="How much it counts for this item", examples=[0.4])
    likeness: float = Field(description="A cosine", examples=[0.7])
    contribution: float = Field(description="share times likeness", examples=[0.28])


class Explanation(BaseModel):
    """What made an item come: items of the history, or what a similar item shares."""

    method: Literal["exact", "leave_one_out"] = Field(
        description="exact: all contributions and rest add up; leave_one_out: how far the score falls without the item"
    )
    history: list[Contribution] = Field(description="The five that matter most; empty of similar items")
    parts: list[LikenessPart] = Field(description="Of similar items, what adds up to the score; else empty")
    score: float = Field(description="Before any rule", examples=[0.8713])
    rest: float | None = Field(description="What is the same for everybody; null where it is not exact")


class Hit(BaseModel):
    """One item of an answer."""

    item_id: str = Field(examples=["85123A"])
    score: float | None = Field(description="Compares within one reason only", examples=[0.8713])
    reason: str = Field(
        description="personal, visitor, similar, popular, new, pinned or the box that it comes from",
        examples=["personal"],
    )
    fields: dict[str, Any] = Field({}, description="The columns asked for", examples=[{"title": "Lantern"}])
    price_drop: PriceDrop | None = Field(None, description="Of the box price_drops")
    explanation: Explanation | None = Field(
        None, description="Where it was asked for, of items that come from a history or are similar"
    )
    moved: Moved | None = Field(None, description="Only where a rule moved the item")


class Dropped(BaseModel):
    """How many items were left out; an item counts for the first reason that fits."""

    unlisted: int = Field(description="Not in the shop's catalog", examples=[6])
    sold_out: int = Field(examples=[31])
    filtered: int = Field(examples=[2710])
    bought: int = Field(examples=[4])
    excluded: int = Field(examples=[1])
    not_in_box: int = Field(description="Never listed by the box asked for; the item asked about", examples=[0])


class AnswerWarning(BaseModel):
    """Something that a caller may want to know."""

    code: str = Field(examples=["fewer_than_k"])
    detail: str = Field(examples=["Only 3 items are eligible; 20 were asked for."])


class Answer(BaseModel):
    """Items, where they come from, and what was left out."""

    request_id: str = Field(examples=["3f0c1b6a5d8e4f2a9b7c6d5e4f3a2b1c"])
    bundle: str = Field(description="The version of the bundle", examples=["20261123T020000.000000Z-mf-1a2b3c4d"])
    hits: list[Hit] = Field(description="Best first; fewer than k only when fewer are eligible")
    eligible: int = Field(description="How many items could have been answered", examples=[874])
    dropped: Dropped
    warnings: list[AnswerWarning]
    next_cursor: str | None = Field(None, description="For the items behind these; null: there are none")


class Asked(BaseModel):
    """What every question may say in its address."""

    model_config = ConfigDict(extra="forbid")

    k: K = 20
    exclude: Excluded = Field([])
    filter: ShortFilter = Field([])
    fields: Fields = Field([])
    cursor: Cursor | None = None
    explain: bool = Field(False, description="Say what made the items come")

    def query(self, user_id: str | None = None, visitor_id: str | None = None) -> EngineQuery:
        """The same for the engine."""
        names = [name for field in self.fields for name in field.split(",")]
        return EngineQuery(
            user_id,
            visitor_id,
            k=self.k,
            exclude=self.exclude,
            filters=self.filter,
            fields=names,
            cursor=self.cursor,
            explain=self.explain,
        )


class AskedOfUser(Asked):
    """… and that of a user."""

    visitor_id: Id | None = Field(None, description="Their visitor_id, when they have just logged in")


class PastEvent(Form):
    """An event that came with the question."""

    item_id: Id
    kind: str = Field(max_length=255, description="One of the configured kinds", examples=["cart"])
    occurred_at: Time | None = Field(None, description="Unset: now")


class Question(Form):
    """Everything is optional: without user, visitor and history the answer is what is popular."""

    user_id: Id | None = None
    visitor_id: Id | None = None
    history: list[PastEvent] = Field([], max_length=MAX_HISTORY, description="Oldest first")
    k: K = 20
    exclude: Excluded = Field([])
    filter: AnyFilter | None = Field(None, description="See the documentation", examples=[FILTER_EXAMPLE])
    fields: Fields = Field([])
    as_of: Time | None = Field(None, description="As if it were then; later events do not count. Unset: now")
    cursor: Cursor | None = None
    explain: bool = Field(False, description="Say what made the items come")
    rules: Rules | None = None

    def query(self) -> EngineQuery:
        """The same for the engine."""
        return EngineQuery(
            self.user_id,
            self.visitor_id,
            history=[InlineEvent(event.item_id, event.kind, event.occurred_at) for event in self.history],
            k=self.k,
            exclude=self.exclude,
            filters=[] if self.filter is None else [self.filter],
            fields=self.fields,
            as_of=self.as_of,
            cursor=self.cursor,
            explain=self.explain,
            rules=[] if self.rules is None else [self.rules.plain()],
        )


UserId = Annotated[Id, Path(description="Any text; / and the like as %2F. An unknown user gets popular items")]


@router.get(
    "/v1/users/{user_id:id}/recommendations",
    response_model=Answer,
    responses=documented(400, 401, 403, 422, 503),
    dependencies=[Depends(needs("recommend"))],
)
def recommend_to_user(user_id: UserId, asked: Annotated[AskedOfUser, Query()], request: Request) -> Response:
    """The best items for a user."""
    query = asked.query(user_id, asked.visitor_id)
    return answers.answer(state_of(request), query, request_id=request.state.request_id)


@router.post(
    "/v1/recommendations",
    response_model=Answer,
    responses=documented(400, 401, 403, 413, 415, 422, 503),
    dependencies=[Depends(needs("recommend"))],
)
def recommend(
    question: Annotated[
        Question,
        Body(
            openapi_examples={
                "a basket": {
                    "summary": "Nobody is logged in; what lies in the basket is known",
                    "value": {"history": [{"item_id": "85123A", "kind": "cart"}], "k": 5, "fields": ["title", "price"]},
                },
                "a visitor": {"summary": "A visitor, with a filter", "value": {"visitor_id": "v-81", "k": 5}},
            }
        ),
    ],
    request: Request,
) -> Response:
    """The best items for a history in the body, a visitor or a user."""
    return answers.answer(state_of(request), question.query(), request_id=request.state.request_id)
