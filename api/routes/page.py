"""The page at /: static files, held in memory. The page reads all its data from the API, with a key."""

import hashlib
from dataclasses import dataclass
from importlib import resources

from fastapi import APIRouter, Request, Response

from api.problems import ProblemError

router = APIRouter(include_in_schema=False)

_TYPES = {
    "page.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "chart.js": "text/javascript; charset=utf-8",
    "elements.js": "text/javascript; charset=utf-8",
    "items.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
# Images of items may come from anywhere, everything else from here only. No text can become HTML or a script.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' http: https:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",  # browsers keep it and ask again with its ETag, so a new version shows at once
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class _File:
    body: bytes
    media_type: str
    etag: str


def _read(name: str) -> _File:
    body = (resources.files("api") / "static" / name).read_bytes()
    return _File(body, _TYPES[name], f'"{hashlib.sha256(body).hexdigest()[:32]}"')


_FILES = {name: _read(name) for name in _TYPES}


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """Serve the page."""
    return _respond(request, _FILES["page.html"])


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
async def static(name: str, request: Request) -> Response:
    """Serve a file of the page. The name is only looked up."""
    if name not in _FILES or name == "page.html":
        raise ProblemError(404, "not_found", "There is nothing at this address.")
    return _respond(request, _FILES[name])


def _respond(request: Request, file: _File) -> Response:
    headers = {**_HEADERS, "ETag": file.etag}
    held = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if file.etag in held or held == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(file.body, media_type=file.media_type, headers=headers)
