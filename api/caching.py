"""Answers that are the same for everybody: their tag, and 304 for a caller who holds them.

They may be kept by the caller alone (`private`), since a key may be needed for them, and are asked for again with the
tag (`no-cache`), so that what changes shows at once.
"""

import hashlib

from fastapi import Request, Response

CONTROL = "private, no-cache"


def tag_of(*parts: object) -> str:
    """The ETag of what these parts determine."""
    return f'"{hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()}"'


def is_held(request: Request, etag: str) -> bool:
    """Whether the caller holds the answer with this tag. `*` names none, as it is not known yet if there is one."""
    held = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in held


def not_modified(etag: str) -> Response:
    """Answer 304: what the caller holds is still right."""
    return Response(status_code=304, headers={"ETag": etag, "Cache-Control": CONTROL})
