"""What a page of a list looks like to its receiver: plain rows, or what a mailing service documents.

`SHAPES` lists them; adding one is a function and a line. A row has user_id, email where it is known, and the columns of
the file. No shape makes anybody a subscriber: they set properties of people whom the service knows already, or whom it
may not mail until they consent there.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
_PREFIX = "recsys_"  # of the properties, so that they replace nothing of the shop's own


@dataclass(frozen=True)
class Shape:
    """How rows become the body of a request, and how many at most go into one."""

    body: Callable[[Sequence[Row], str], dict[str, Any]]  # from rows and the id of a list at the service
    rows: int
    max_bytes: int
    needs_email: bool = False
    needs_list: bool = False


def _plain(rows: Sequence[Row], _list: str) -> dict[str, Any]:
    return {"rows": list(rows)}


def _klaviyo(rows: Sequence[Row], list_id: str) -> dict[str, Any]:
    """A job of POST /api/profile-bulk-import-jobs; with a list the profiles are added to it."""
    profiles = [{"type": "profile", "attributes": _identity(row) | {"properties": _properties(row)}} for row in rows]
    data: dict[str, Any] = {"type": "profile-bulk-import-job", "attributes": {"profiles": {"data": profiles}}}
    if list_id:
        data["relationships"] = {"lists": {"data": [{"type": "list", "id": list_id}]}}
    return {"data": data}


def _braze(rows: Sequence[Row], _list: str) -> dict[str, Any]:
    """The attributes of POST /users/track, of users that Braze knows."""
    attributes = [{"external_id": row["user_id"], "_update_existing_only": True} | _properties(row) for row in rows]
    return {"attributes": attributes}


def _mailchimp(rows: Sequence[Row], list_id: str) -> dict[str, Any]:
    """The operations of POST /3.0/batches: the merge fields of members, whose subscription stays as it is."""
    operations = []
    for row in rows:
        member = hashlib.md5(row["email"].strip().lower().encode(), usedforsecurity=False).hexdigest()
        operations.append(
            {
                "method": "PATCH",
                "path": f"/lists/{list_id}/members/{member}",
                "operation_id": row["user_id"],
                "body": json.dumps({"merge_fields": _merge_fields(row)}, ensure_ascii=False),
            }
        )
    return {"operations": operations}


# Largest numbers of rows and bytes are those that the services document; Mailchimp names none for operations.
SHAPES: dict[str, Shape] = {
    "plain": Shape(_plain, 1_000, 5_000_000),
    "klaviyo": Shape(_klaviyo, 10_000, 5_000_000),
    "braze": Shape(_braze, 75, 4_000_000),
    "mailchimp": Shape(_mailchimp, 500, 4_000_000, needs_email=True, needs_list=True),
}


def pages(rows: Iterator[Row], shape: Shape, list_id: str = "") -> Iterator[bytes]:
    """The bodies of the requests, as JSON. A page that would be too long is halved."""
    page: list[Row] = []
    for row in rows:
        page.append(row)
        if len(page) == shape.rows:
            yield from _bodies(page, shape, list_id)
            page = []
    if page:
        yield from _bodies(page, shape, list_id)


def _bodies(page: Sequence[Row], shape: Shape, list_id: str) -> Iterator[bytes]:
    body = json.dumps(shape.body(page, list_id), ensure_ascii=False, allow_nan=False, default=str).encode()
    if len(body) <= shape.max_bytes or len(page) == 1:
        yield body
        return
    half = len(page) // 2
    yield from _bodies(page[:half], shape, list_id)
    yield from _bodies(page[half:], shape, list_id)


def _identity(row: Row) -> dict[str, Any]:
    known = {"external_id": row["user_id"]}
    return known | ({"email": row["email"]} if row.get("email") else {})


def _properties(row: Row) -> dict[str, Any]:
    """The columns of a row, with a prefix; Klaviyo and Braze take numbers, texts and lists of objects."""
    return {
        _PREFIX + name: value for name, value in row.items() if name not in ("user_id", "email") and value is not None
    }


def _merge_fields(row: Row) -> dict[str, Any]:
    """The same as merge fields, whose tags have ten characters at most: picks as PICK1, TITLE1, LINK1 and so on."""
    tags = {"item_id": "PICK", "title": "TITLE", "link": "LINK", "image_url": "IMAGE", "price": "PRICE"}
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name == "picks":
            for place, one in enumerate(value or (), 1):
                found |= {f"{tag}{place}": one[key] for key, tag in tags.items() if one.get(key) is not None}
        elif name not in ("user_id", "email") and value is not None:
            found[name.upper().replace("_", "")[:10]] = value
    return found
