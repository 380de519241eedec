"""The description of the API at /docs: Swagger UI, served from here. It asks nobody else."""

from functools import cache

from fastapi import APIRouter, Request, Response

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


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs(request: Request) -> Response:
    """Serve the page that describes every address and sends requests to it."""
    return respond(request, _file("docs.html"), _POLICY)


@router.api_route("/docs/{name}", methods=["GET", "HEAD"])
async def part(name: str, request: Request) -> Response:
    """Serve a file of that page. The name is only looked up."""
    if name not in _NAMES or name == "docs.html":
        raise ProblemError(404, "not_found", "There is nothing at this address.")
    return respond(request, _file(name), _POLICY)
