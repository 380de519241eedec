"""Items: similar ones, what is known of one, and those that come, change or go between two trainings."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Body, Depends, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Discriminator, Field, FiniteFloat, StrictBool, Tag
from pydantic_core import to_json
from starlette.responses import Response

from api import answers
from api.auth import needs
from api.caching import CONTROL, is_held, not_modified, tag_of
from api.problems import ProblemError, documented
from api.routes.recommendations import Answer, AnswerWarning, Asked
from api.schemas import Fields, Id, JsonRoute, K, ShortFilter, Time
from api.state import AppState, state_of
from recsys.data.times import rfc3339
from recsys.serving.answer import Query as EngineQuery
from recsys.serving.answer import fields_of
from recsys.serving.attributes import fit, misspelled
from recsys.serving.snapshot import Snapshot
from recsys.store.database import Store
from recsys.store.items import add_stored_attributes, delete_item, stored_items, upsert_items
from recsys.store.tables import UNREADABLE

router = APIRouter(route_class=JsonRoute, tags=["items"])

MAX_ITEMS = 1_000
_MAX_ATTRIBUTES = 50
_MAX_ELEMENTS = 1_000  # of one list
_ATTRIBUTES = "attributes"
_RESERVED = (UNREADABLE, _ATTRIBUTES)  # what the own tables call a column of their own
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_ .-]{0,63}")
_TYPES = {"price": pa.float64(), "available": pa.bool_(), "created_at": pa.int64()}
_TEXTS = ("item_id", "title", "category", "brand", "image_url", _ATTRIBUTES)

Text = Annotated[str, Field(max_length=10_000, pattern="^[^\\x00]*$")]
Texts = Annotated[list[Text], Field(max_length=_MAX_ELEMENTS)]
Numbers = Annotated[
    list[Annotated[int | FiniteFloat, Field(union_mode="left_to_right")]], Field(max_length=_MAX_ELEMENTS)
]
Attribute = Annotated[Text | StrictBool | int | FiniteFloat | Texts | Numbers | None, Field(union_mode="left_to_right")]


class Item(BaseModel):
    """An item of the catalog. What is not said stays as it was; null forgets it. Other keys are attributes."""

    model_config = ConfigDict(
        extra="allow", strict=True, json_schema_extra={"propertyNames": {"pattern": f"^{_NAME.pattern}$"}}
    )
    __pydantic_extra__: dict[str, Attribute] = Field(init=False)

    item_id: Id
    title: Text | None = None
    category: Text | None = Field(None, description="Levels with >, as Home > Kitchen")
    brand: Text | None = None
    price: FiniteFloat | None = Field(None, ge=0)
    available: bool | None = None
    image_url: Text | None = None
    created_at: Time | None = None


class Stored(BaseModel):
    """What became of the items."""

    request_id: str
    stored: int = Field(description="How many items", examples=[1])
    new: list[str] = Field(description="Ids that nobody knew before; if that is unexpected, they are misspelled")
    warnings: list[AnswerWarning]


class KnownItem(BaseModel):
    """An item as the service knows it."""

    request_id: str
    bundle: str = Field(description="The version of the bundle", examples=["20261123T020000.000000Z-mf-1a2b3c4d"])
    item_id: str = Field(examples=["85123A"])
    trained: bool = Field(description="Whether the bundle was trained with it; else its vector comes from its columns")
    listed: bool = Field(description="Whether it is in the shop's catalog, so that it may be recommended")
    fields: dict[str, Any] = Field(description="Its columns, without those that are unknown", examples=[{"price": 4.5}])


class ItemReceipt(BaseModel):
    """What was deleted."""

    request_id: str
    item_id: str
    known: bool = Field(description="Whether the item was known; if not, is it misspelled?")
    deleted_at: str | None = Field(description="Null when it was not known", examples=["2026-11-23T08:00:00Z"])


def _tag(value: Any) -> str:
    return "many" if isinstance(value, list) else "one"


Items = Annotated[
    Annotated[Item, Tag("one")]
    | Annotated[Annotated[list[Item], Field(min_length=1, max_length=MAX_ITEMS)], Tag("many")],
    Discriminator(_tag),
]
Words = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern="^[^\\x00]*$",
        description="Words of a title, brand or category, or an item's id",
        examples=["paper lantren"],
    ),
]
ItemId = Annotated[Id, Path(description="Any text; / and the like as %2F")]


class WordsAsked(BaseModel):
    """What a search may say in its address."""

    model_config = ConfigDict(extra="forbid")

    q: Words
    k: K = 20
    filter: ShortFilter = Field([])
    fields: Fields = Field([])


@router.get(
    "/v1/items",
    response_model=Answer,
    responses=documented(400, 401, 403, 422, 503),
    dependencies=[Depends(needs("recommend"))],
)
def search_items(asked: Annotated[WordsAsked, Query()], request: Request) -> Response:
    """The items that words mean, best first: beginnings of words and typing mistakes are found too."""
    names = [name for field in asked.fields for name in field.split(",")]
    return answers.search(state_of(request), asked.q, k=asked.k, wanted=asked.filter, fields=names, request=request)


@router.get(
    "/v1/items/{item_id:id}/similar",
    response_model=Answer,
    responses=documented(400, 401, 403, 404, 422, 503),
    dependencies=[Depends(needs("recommend"))],
)
def similar_to_item(item_id: ItemId, asked: Annotated[Asked, Query()], request: Request) -> Response:
    """The items most similar to one."""
    query = replace(asked.query(), box="similar", items=[item_id])
    return answers.answer(state_of(request), query, request_id=request.state.request_id, same_for_all=request)


@router.get(
    "/v1/items/{item_id:id}",
    response_model=KnownItem,
    responses=documented(400, 401, 403, 404, 422, 503),
    dependencies=[Depends(needs("recommend"))],
)
def show_item(item_id: ItemId, request: Request) -> Response:
    """What the service knows of an item: the columns of the catalog, with what was posted since the training."""
    snapshot = answers.gather_context(state_of(request), EngineQuery()).snapshot
    row = snapshot.view.row_of(item_id)
    if row < 0:
        raise ProblemError(404, "unknown_item", f"This item is not among the {len(snapshot.view)} that are known.")
    etag = tag_of(snapshot.bundle.version, snapshot.revision, item_id)
    if is_held(request, etag):
        return not_modified(etag)
    values = fields_of(snapshot, row, snapshot.view.schema.names)
    bundle, own = snapshot.view.place(row)
    body = {
        "request_id": request.state.request_id,
        "bundle": snapshot.bundle.version,
        "item_id": item_id,
        "trained": snapshot.bundle.catalog.ids.row_of(item_id) >= 0,
        "listed": bool(bundle.catalog.is_listed[own]),
        "fields": {name: value for name, value in values.items() if value is not None},
    }
    headers = {"ETag": etag, "Cache-Control": CONTROL}
    return Response(to_json(body, inf_nan_mode="null"), headers=headers, media_type="application/json")


@router.delete(
    "/v1/items/{item_id:id}",
    response_model=ItemReceipt,
    responses=documented(400, 401, 403, 422, 503),
    dependencies=[Depends(needs("admin"))],
)
def remove_item(item_id: ItemId, request: Request) -> dict[str, Any]:
    """Delete an item: no answer lists it from now on, in every worker. Twice is no error."""
    state = state_of(request)
    snapshot = _latest(state)

    def delete(store: Store) -> tuple[int, bool]:
        now = store.now()
        known = bool(stored_items(store, [item_id])) or (snapshot is not None and snapshot.view.row_of(item_id) >= 0)
        if known:
            delete_item(store, item_id, now=now)
        return now, known

    deleted_at, known = state.store.write(delete)
    return {
        "request_id": request.state.request_id,
        "item_id": item_id,
        "known": known,
        "deleted_at": rfc3339(deleted_at) if known else None,
    }


@router.post(
    "/v1/items",
    response_model=Stored,
    responses=documented(400, 401, 403, 413, 415, 422, 503),
    dependencies=[Depends(needs("admin"))],
)
def post_items(
    items: Annotated[
        Items,
        Body(
            openapi_examples={
                "a new product": {
                    "value": {"item_id": "90210", "title": "Paper lantern", "category": "Home > Lights", "price": 4.5}
                },
                "sold out": {"value": [{"item_id": "85123A", "available": False}]},
            }
        ),
    ],
    request: Request,
) -> dict[str, Any]:
    """Add items, or change what is said of them; from the next answer on that counts, in every worker."""
    given = items if isinstance(items, list) else [items]
    plain = [_plain(item, at) for at, item in enumerate(given)]
    state = state_of(request)
    snapshot = _latest(state)
    kinds = snapshot.columns if snapshot else {}
    fitted, lost = fit(plain, kinds)
    ids = list(dict.fromkeys(item.item_id for item in given))

    def write(store: Store) -> tuple[int, set[str]]:
        known = stored_items(store, ids)
        return sum(upsert_items(store, table) for table in _tables(add_stored_attributes(store, fitted))), known

    stored, known = state.store.write(write)
    new = [item for item in ids if item not in known and (snapshot is None or snapshot.view.row_of(item) < 0)]
    warnings = _misspellings(plain, kinds) + _wrong_types(lost, kinds)
    return {"request_id": request.state.request_id, "stored": stored, "new": new, "warnings": warnings}


def _latest(state: AppState) -> Snapshot | None:
    """The snapshot with every change of an item until now: what was posted to another worker is known here too."""
    state.live.poll_items()
    return state.live.snapshot


def _misspellings(items: list[dict[str, Any]], kinds: Mapping[str, str]) -> list[dict[str, str]]:
    names = {name for item in items for name in item}
    return [
        {"code": "misspelled_column", "detail": f"{name} is stored as an attribute; is {meant} meant?"}
        for name, meant in misspelled(names, kinds).items()
    ]


def _wrong_types(lost: Mapping[str, int], kinds: Mapping[str, str]) -> list[dict[str, str]]:
    return [
        {
            "code": "wrong_type",
            "detail": f"{name} is a {kinds.get(name, 'column of the type of its first value')}: {count} values do not "
            "fit and are not stored.",
        }
        for name, count in lost.items()
    ]


def _plain(item: Item, at: int) -> dict[str, Any]:
    extra = item.__pydantic_extra__ or {}
    wrong = [name for name in extra if name in _RESERVED or not _NAME.fullmatch(name)]
    if wrong or len(extra) > _MAX_ATTRIBUTES:
        message = f"at most {_MAX_ATTRIBUTES} attributes, named as {_NAME.pattern}, but for {' and '.join(_RESERVED)}"
        raise RequestValidationError([{"loc": ("body", at), "msg": f"allowed are {message}", "type": "value_error"}])
    return {name: getattr(item, name) for name in item.model_fields_set | set(extra)}


def _tables(items: list[dict[str, Any]]) -> list[pa.Table]:
    """One table for all items that say the same things, so that what an item does not say stays as it was."""
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for item in items:
        alike.setdefault(tuple(sorted(item)), []).append(item)
    return [pa.table({name: _column(name, group) for name in names}) for names, group in alike.items()]


def _column(name: str, items: list[dict[str, Any]]) -> pa.Array:
    values = [item[name] for item in items]
    if name in _TYPES or name in _TEXTS:
        return pa.array(values, _TYPES.get(name, pa.string()))
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, OverflowError):  # whole numbers beside others, or beyond 64 bits
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
