"""The types of request data: ids, times, lists. Each checks its values and documents itself in OpenAPI."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import from_json
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException

from api.problems import ProblemError
from recsys.data.times import parse_time
from recsys.errors import RefusedError
from recsys.serving.boxes import BOXES
from recsys.spelling import meant
from recsys.store.bulk import check_id
from recsys.store.tables import MAX_ID_LENGTH

MAX_K = 500
MAX_EXCLUDED = 1_000
MAX_FIELDS = 50
MAX_HISTORY = 1_000
MAX_NAMED = 1_000  # items that a question is about
MAX_WINDOW_DAYS = 3_650
MAX_CURSOR = 8_000


def _storable(identifier: str) -> str:
    try:
        return check_id("the id", identifier)
    except RefusedError as error:
        raise ValueError(str(error)) from None


def _time(value: Any) -> int:
    if not isinstance(value, str) or len(value) > 64:
        raise ValueError("expected a text as 2026-11-23T08:00:00Z")
    try:
        time = parse_time(value)
    except (ValueError, OverflowError):
        raise ValueError("expected a time with its zone, as 2026-11-23T08:00:00Z") from None
    if time < 0:
        raise ValueError("expected a time from 1970 on")
    return time


def _filter(value: Any) -> Any:
    if isinstance(value, str | dict):
        return value
    raise ValueError('expected a text as price:lt:20, or an object; several are one as {"and": [...]}')


def _known_box(name: str) -> str:
    if name not in BOXES:
        raise ValueError(f"there is no such box; allowed are {', '.join(BOXES)}{meant(name, BOXES)}")
    return name


Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH), AfterValidator(_storable)]
Time = Annotated[  # microseconds UTC inside, RFC 3339 outside
    int,
    BeforeValidator(_time),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-23T08:00:00Z"]}),
]
K = Annotated[int, Field(ge=1, le=MAX_K, description="How many items")]
Fields = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    Field(max_length=MAX_FIELDS, description="Columns of the catalog to return of every hit"),
]
Box = Annotated[
    str, AfterValidator(_known_box), WithJsonSchema({"type": "string", "enum": [*BOXES], "examples": ["trending"]})
]
PlacementName = Annotated[str, Field(max_length=64, examples=["home"])]
Category = Annotated[
    str, Field(min_length=1, max_length=1_000, description="Only this category and those below it", examples=["Food"])
]
WindowDays = Annotated[int, Field(ge=1, le=MAX_WINDOW_DAYS, description="Days that the box looks back; unset: its own")]
Cursor = Annotated[
    str,
    Field(max_length=MAX_CURSOR, description="next_cursor of an earlier answer: what was answered does not come again"),
]
Excluded = Annotated[list[Id], Field(max_length=MAX_EXCLUDED, description="Items to leave out")]
ShortFilter = Annotated[
    list[Annotated[str, Field(max_length=20_000)]],
    Field(
        max_length=16,
        description="column:op:value with op eq, in, between, range, gt, ge, lt, le, prefix, contains or exists, "
        "or JSON; all have to be met",
    ),
]
AnyFilter = Annotated[str | dict[str, Any], BeforeValidator(_filter)]


class AnyText(Convertor[str]):
    """An id as a part of an address: any text, slashes and line breaks too, percent-encoded."""

    regex = "[^/]*"

    def convert(self, value: str) -> str:
        """See Convertor. value: as it was sent; the middleware has checked that it is UTF-8."""
        return unquote(value)

    def to_string(self, value: str) -> str:
        """See Convertor."""
        return quote(value, safe="")


register_url_convertor("id", AnyText())


class Form(BaseModel):
    """A body that refuses unknown keys and values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class JsonRequest(Request):
    """A request whose JSON is read strictly: no NaN, no half surrogate pairs, no endless nesting."""

    async def json(self) -> Any:
        """Parse the body. Raises HTTPException: the framework would hide any other error."""
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError:
            raise HTTPException(400, "The body is no JSON in UTF-8, or nested too deeply.") from None


class JsonRoute(APIRoute):
    """A route that takes JSON only, with `Content-Type: application/json`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        handle = super().get_route_handler()
        gates: list[Any] = [each.dependency for each in self.dependencies] if self.body_field is not None else []

        async def strict(request: Request) -> Response:
            for gate in gates:  # check the key first: the framework would read the body before
                await gate(request)
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if self.body_field is not None and kind != "application/json":
                detail = "The body has to be JSON, with Content-Type: application/json."
                raise ProblemError(415, "wrong_media_type", detail)
            return await handle(JsonRequest(request.scope, request.receive))

        return strict
