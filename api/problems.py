"""Every error as problem+json (RFC 9457): a status, a code for programs, and a detail for people."""

import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from recsys.errors import AwayError, NotFoundError, RefusedError
from recsys.spelling import meant

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 2  # Retry-After while the database is away, and about how often the service tries to reach it
_SHOWN_ERRORS = 20

_CODES = {400: "invalid_json", 404: "not_found", 405: "method_not_allowed"}
_WORDS = {
    "not_found": "There is nothing at this address.",
    "method_not_allowed": "This address does not take this method; the Allow header names those it takes.",
}


class Fault(BaseModel):
    """One wrong part of a request."""

    where: str = Field(description="The part, as body.events[3].kind")
    detail: str


class Problem(BaseModel):
    """A problem as RFC 9457 defines it."""

    model_config = ConfigDict(title="Problem")

    type: str = Field("about:blank", examples=["about:blank"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    code: str = Field(description="For programs", examples=["invalid_request"])
    detail: str = Field(description="For people", examples=["filter.column: no such column; allowed are price"])
    request_id: str = Field(examples=["3f0c1b6a5d8e4f2a9b7c6d5e4f3a2b1c"])
    errors: list[Fault] = []


class ProblemError(Exception):
    """An error that becomes a response."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        """Set the HTTP status, a code for programs, and a detail for people, which must not repeat ids or keys."""
        super().__init__(detail)
        self.status, self.code, self.detail, self.headers = status, code, detail, dict(headers or {})


def respond(
    status: int,
    code: str,
    detail: str,
    *,
    request_id: str,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Build the response of a problem."""
    body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "code": code}
    body |= {"detail": detail, "request_id": request_id}
    if errors:
        body["errors"] = list(errors)
    return Response(to_json(body), status, dict(headers or {}), media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Register handlers that turn the errors of routes, engine and framework into problems."""
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(NotFoundError, _not_found)
    app.add_exception_handler(AwayError, _away)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document the errors of a route in OpenAPI; 400 and 431, which every route has, are added."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({400, 431, *statuses})
    }


def schemas() -> dict[str, Any]:
    """Build the JSON schemas that `documented` refers to."""
    shape = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**shape.pop("$defs"), "Problem": shape}


def first_fault(error: ValidationError, model: type[BaseModel]) -> str:
    """Say in one line what is wrong with a part of a body that was validated by itself, as the model says."""
    fault = error.errors()[0]
    names = list(_names_at(model, fault["loc"][:-1]))
    return f"{_where(fault['loc'])}: {_worded(fault, names, 'key')}".removeprefix(": ")


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return respond(error.status, error.code, error.detail, request_id=_id(request), headers=error.headers)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "invalid_request")
    detail = _WORDS.get(code, str(error.detail))
    headers = dict(error.headers or {}) | ({"Allow": _allowed_methods(request)} if error.status_code == 405 else {})
    return respond(error.status_code, code, detail, request_id=_id(request), headers=headers)


def _allowed_methods(request: Request) -> str:
    """The methods of an address. The framework names those of one of its routes only."""
    here = [route for route in request.app.state.routes if route.path_regex.match(request.scope["path"])]
    return ", ".join(sorted({method for route in here for method in route.methods}))


async def _validation(request: Request, error: Exception) -> Response:
    """Turn validation errors into a problem. The values are not repeated: they may be personal, and long."""
    assert isinstance(error, RequestValidationError)
    faults = [{"where": _where(fault["loc"]), "detail": _detail(request, fault)} for fault in error.errors()]
    detail = f"{faults[0]['where']}: {faults[0]['detail']}" if faults else "The request cannot be read."
    shown = faults[:_SHOWN_ERRORS]
    return respond(422, "invalid_request", detail, request_id=_id(request), errors=shown)


async def _refused(request: Request, error: Exception) -> Response:
    return respond(422, "invalid_request", str(error), request_id=_id(request))


async def _not_found(request: Request, error: Exception) -> Response:
    return respond(404, "not_found", str(error), request_id=_id(request))


async def _away(request: Request, _error: Exception) -> Response:
    detail = "The service's database does not answer; nothing was lost that was acknowledged. Ask again."
    headers = {"Retry-After": str(RETRY_SECONDS)}
    return respond(503, "database_away", detail, request_id=_id(request), headers=headers)


def _detail(request: Request, fault: Mapping[str, Any]) -> str:
    """What is wrong, in words; of a wrong name, which right one may be meant."""
    location = _untagged(fault["loc"])
    names = _names_beside(request, location) if fault["type"] == "extra_forbidden" else ()
    return _worded(fault, list(dict.fromkeys(names)), "parameter" if location[0] == "query" else "key")


def _worded(fault: Mapping[str, Any], names: Sequence[str], what: str) -> str:
    """What is wrong, in words. names: those that are allowed in place of a wrong one."""
    if fault["type"] == "extra_forbidden":
        allowed = f"; allowed are {', '.join(names)}" if names else ""
        return f"there is no such {what}{allowed}{meant(str(fault['loc'][-1]), names)}"
    if fault["type"] in ("dict_type", "model_type", "model_attributes_type"):
        return "expected a JSON object"
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] in ("literal_error", "enum") and isinstance(fault.get("input"), str):
        message += meant(fault["input"], re.findall(r"'([^']*)'", str(fault.get("ctx", {}).get("expected"))))
    return message


def _names_beside(request: Request, location: Sequence[Any]) -> Iterator[str]:
    """The names that are allowed where a wrong one was found, of the models that the route reads."""
    route = request.scope.get("route")
    read = getattr(route, "body_field", None)
    dependant = getattr(route, "dependant", None)
    fields = [read] if location[0] == "body" else getattr(dependant, f"{location[0]}_params", [])
    for field in filter(None, fields):
        yield from _names_at(field.field_info.annotation, location[1:-1])


def _names_at(annotation: Any, path: Sequence[Any]) -> Iterator[str]:
    """The names of the fields that a type has at a path of keys and positions."""
    for model in _models_at(annotation, path):
        yield from (each.alias or name for name, each in model.model_fields.items())


def _models_at(annotation: Any, path: Sequence[Any]) -> Iterator[type[BaseModel]]:
    """The models that a type has at a path of keys and positions."""
    kind, arguments = get_origin(annotation), get_args(annotation)
    if kind is Annotated:
        yield from _models_at(arguments[0], path)
    elif kind in (Union, UnionType):
        for each in arguments:
            yield from _models_at(each, path)
    elif kind is list and path and isinstance(path[0], int):
        yield from _models_at(arguments[0], path[1:])
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not path:
            yield annotation
        elif (field := annotation.model_fields.get(str(path[0]))) is not None:
            yield from _models_at(field.annotation, path[1:])


def _untagged(location: Sequence[Any]) -> Sequence[Any]:
    """Where a fault is. For a body that is one event or a list, without which of the two it was read as."""
    if tuple(location[:2]) in (("body", "one"), ("body", "many")):
        return (location[0], *location[2:])
    return location


def _where(location: Sequence[Any]) -> str:
    """Name the part of a request."""
    location = _untagged(location)
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).lstrip(".")[:200]


def _id(request: Request) -> str:
    return str(request.scope["state"]["request_id"])
