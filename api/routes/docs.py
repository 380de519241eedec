"""The description of the API: for programs at /openapi.json, for people at /docs as Swagger UI, served from here."""

from functools import cache

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from api.caching import CONTROL, is_held, not_modified, tag_of
from api.files import File, read, respond
from api.problems import ProblemError

router = APIRouter(include_in_schema=False)

# name -> package and folder. Of fastapi-offline only the files of Swagger UI are used.
_NAMES = {
    "docs.html": ("api", "swagger"),
    "docs.js": ("api", "swagger"),
    "swagger-ui.css": ("fastapi_offline", "static"),
    "swagger-ui-bundle.js": ("fastapi_offline", "static"),
}
# Swagger UI's icons are data: addresses.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@cache
def _file(name: str) -> File:
    """Read a file when somebody asks for it first: most workers are never asked for their 1.7 MB."""
    return read(*_NAMES[name], name)


@router.get("/openapi.json")
async def description(request: Request) -> Response:
    """Serve the OpenAPI document."""
    body = to_json(request.app.openapi())
    etag = tag_of(body)
    if is_held(request, etag):
        return not_modified(etag)
    return Response(body, headers={"ETag": etag, "Cache-Control": CONTROL}, media_type="application/json")


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Serve the page that describes every address and sends requests to it."""
    return respond(request, _file("docs.html"), _POLICY)


@router.get("/docs/{name}")
async def part(name: str, request: Request) -> Response:
    """Serve a file of that page. The name is only looked up."""
    if name not in _NAMES or name == "docs.html":
        raise ProblemError(404, "not_found", "There is nothing at this address.")
    return respond(request, _file(name), _POLICY)
