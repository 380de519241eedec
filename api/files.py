"""Files that browsers load, held in memory: read from a package, and served with a tag and what protects them."""

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePath

from fastapi import Request, Response

from api.caching import is_held

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Cache-Control": "no-cache",  # browsers keep it and ask again with its ETag, so a new version shows at once
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class File:
    """A file as it is sent."""

    body: bytes
    media_type: str
    etag: str


def read(package: str, folder: str, name: str) -> File:
    """Read a file of an installed package. Raises ImportError when the package is missing."""
    body = (resources.files(package) / folder / name).read_bytes()
    return File(body, _TYPES[PurePath(name).suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def respond(request: Request, file: File, policy: str) -> Response:
    """Answer with the file, or with 304 when the browser holds it. policy: the Content-Security-Policy."""
    headers = {**_HEADERS, "Content-Security-Policy": policy, "ETag": file.etag}
    if is_held(request, file.etag):
        return Response(status_code=304, headers=headers)
    return Response(file.body, media_type=file.media_type, headers=headers)
