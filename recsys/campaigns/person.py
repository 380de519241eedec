"""The events that are known of one user, in pages: those of the extract, then those of the own tables.

The extract may hold some of the latter too.
"""

from typing import Any

from recsys.data.extract import Extract
from recsys.data.times import rfc3339
from recsys.store.database import Store
from recsys.store.person import read_own_events


def read_events(store: Store, extract: Extract | None, user_id: str, *, skip: int, limit: int) -> list[dict[str, Any]]:
    """Read at most `limit` events of a user after the first `skip`. Each says where it is kept."""
    stored = [] if extract is None else _stored(extract, user_id, skip, limit)
    kept = 0 if extract is None else _count(extract, user_id)
    own = read_own_events(store, user_id, skip=max(0, skip - kept), limit=limit - len(stored))
    return [*stored, *({"kept_in": "own tables", **event} for event in own)]


def _count(extract: Extract, user_id: str) -> int:
    row = extract.users.row_of(user_id)
    return 0 if row < 0 else int(extract.events.offsets[row + 1] - extract.events.offsets[row])


def _stored(extract: Extract, user_id: str, skip: int, limit: int) -> list[dict[str, Any]]:
    row, events = extract.users.row_of(user_id), extract.events
    if row < 0:
        return []
    first, last = int(events.offsets[row]), int(events.offsets[row + 1])
    return [
        {
            "kept_in": "extract",
            "kind": extract.kinds[int(events.kinds[at])],
            "item_id": extract.items.id_of(int(events.items[at])),
            "value": None if events.values[at] != events.values[at] else float(events.values[at]),
            "occurred_at": rfc3339(int(events.times[at])),
        }
        for at in range(first + skip, min(last, first + skip + limit))
    ]
