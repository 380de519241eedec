"""The rows of reviews: each once, whatever file brought it."""

import hashlib
from collections import Counter
from collections.abc import Iterable

import pyarrow as pa

from recsys.progress import Progress
from recsys.store.bulk import upsert
from recsys.store.database import Store
from recsys.store.users import read_deletions

CONTENT = ("item_id", "user_id", "time", "text")


def upsert_reviews(store: Store, reviews: pa.Table, *, progress: Progress | None = None) -> int:
    """Store reviews, in one transaction; return how many. What a deleted user wrote before the deletion is left out.

    Columns: item_id, user_id, stars, text, time (microseconds UTC) and language. A review with the same item, user,
    time and text replaces the stored one; of several without a user each is one.
    Raises RefusedError, with nothing written, when an id or a value cannot be stored.
    """
    deletions = read_deletions(store)
    rows = [row for row in reviews.to_pylist() if not _is_gone(row, deletions)]
    kept = pa.Table.from_pylist(rows, schema=reviews.schema)
    seen = Counter[tuple[object, ...]]()
    ids = list[str]()
    for row in rows:
        content = tuple(row[name] for name in CONTENT)
        seen[content] += 1
        ids.append(_id_of((*content, seen[content] if row["user_id"] is None else 1)))
    return upsert(store, store.tables.reviews, [kept.append_column("review_id", pa.array(ids, pa.string()))], progress)


def _is_gone(row: dict[str, object], deletions: dict[str, int]) -> bool:
    until = deletions.get(str(row["user_id"])) if row["user_id"] is not None else None
    return until is not None and (not isinstance(row["time"], int) or row["time"] <= until)


def _id_of(content: Iterable[object]) -> str:
    parts = ("" if value is None else str(value) for value in content)
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()
