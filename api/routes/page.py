"""The page at /: static files, held in memory. The page reads all its data from the API, with a key."""

from fastapi import APIRouter, Request, Response

from api.files import read, respond
from api.problems import ProblemError
from recsys.campaigns.report import STYLE_HASH

router = APIRouter(include_in_schema=False)

_NAMES = ("page.html", "page.css", "page.js", "campaigns.js", "chart.js", "elements.js", "items.js", "icon.svg")
# Images of items may come from anywhere, everything else from here only. No text can become HTML or a script.
# A report opens from a blob, which has the policy of this page: its style is let in by its hash.
_POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {STYLE_HASH}; "
    "connect-src 'self'; img-src 'self' http: https:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
_FILES = {name: read("api", "static", name) for name in _NAMES}


@router.get("/")
async def page(request: Request) -> Response:
    """Serve the page."""
    return respond(request, _FILES["page.html"], _POLICY)


@router.get("/static/{name}")
async def static(name: str, request: Request) -> Response:
    """Serve a file of the page. The name is only looked up."""
    if name not in _FILES or name == "page.html":
        raise ProblemError(404, "not_found", "There is nothing at this address.")
    return respond(request, _FILES[name], _POLICY)
