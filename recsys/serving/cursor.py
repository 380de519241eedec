"""Paging without repeats: a cursor holds which items were answered, so that no event in between brings one twice.

A cursor is text for addresses: a version and five bytes of each item's hash. Nothing personal is in it, and who changes
it only gets other pages.
"""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable

from recsys.errors import RefusedError

MAX_PAGED = 1_000  # items that can be paged through
_VERSION = b"\x01"
_BYTES = 5  # of 1,000 items answered one of a million others is left out with a probability of .001
_WRONG = "cursor: this is none; allowed is next_cursor of an earlier answer"


def mark_of(item_id: str) -> bytes:
    """What a cursor holds of an item."""
    return hashlib.blake2b(item_id.encode(), digest_size=_BYTES).digest()


def read_cursor(cursor: str) -> list[bytes]:
    """The marks of the items that were answered. Raises RefusedError for what is no cursor."""
    try:
        data = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        raise RefusedError(_WRONG) from None
    count, rest = divmod(len(data) - 1, _BYTES)
    if data[:1] != _VERSION or rest or not 0 < count <= MAX_PAGED:
        raise RefusedError(_WRONG)
    return [data[at : at + _BYTES] for at in range(1, len(data), _BYTES)]


def write_cursor(marks: Iterable[bytes]) -> str | None:
    """The cursor for the items behind those answered; None when as many were as can be paged through."""
    found = list(marks)
    if len(found) >= MAX_PAGED:
        return None
    return urlsafe_b64encode(_VERSION + b"".join(found)).rstrip(b"=").decode()
