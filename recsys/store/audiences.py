"""The frozen audiences and their members."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from recsys.progress import Progress
from recsys.store.bulk import bulk_insert, conform
from recsys.store.database import Store, read_clock

MEMBER_COLUMNS = {
    "rank": pa.int64(),  # from 1
    "user_id": pa.string(),
    "probability": pa.float64(),
    "reason": pa.string(),
    "score": pa.float64(),
    "best_item": pa.string(),
    "runners_up": pa.string(),
}
_JSON = ("items", "options", "left_out", "warnings")


@dataclass(frozen=True)
class AudienceRecord:
    """A row of the audiences: what was asked for, and who was left out. Times are microseconds UTC."""

    audience_id: str
    as_of: int
    items: list[str]
    size: int  # as asked for
    strategy: str
    options: dict[str, Any]  # what else was asked for
    bundle: str
    consent: str  # "required" or "assumed"
    window_days: float  # for which the probabilities hold
    eligible: int
    left_out: dict[str, int]  # reason -> users
    warnings: list[str]
    created_at: int = 0  # by the database's clock, when it was frozen

    @property
    def members(self) -> int:
        """How many members were frozen, those included who were deleted since."""
        refilled: int = self.options.get("refilled", 0)
        return min(self.size, self.eligible) + refilled


def save_audience(store: Store, record: AudienceRecord, members: pa.Table, *, progress: Progress | None = None) -> bool:
    """Freeze an audience in one transaction; return False, with nothing written, when its id exists already.

    members: the columns of `list_members`. Deleted users are left out.
    Raises RefusedError when an id cannot be stored.
    """
    audiences, rows = store.tables.audiences, store.tables.audience_members
    ids = pa.array([record.audience_id] * members.num_rows, pa.string())
    conformed = conform(members.append_column("audience_id", ids), rows)

    def save(connection: sa.Connection) -> bool:
        values = asdict(record) | {name: json.dumps(getattr(record, name)) for name in _JSON}
        row = pa.table({name: [value] for name, value in (values | {"created_at": read_clock(connection)}).items()})
        if not bulk_insert(connection, audiences, conform(row, audiences), replace=False):
            return False
        bulk_insert(connection, rows, conformed, replace=False, progress=progress)
        gone = rows.c.user_id.in_(sa.select(store.tables.deletions.c.user_id))
        connection.execute(rows.delete().where(rows.c.audience_id == record.audience_id, gone))
        return True

    return store.transact(save)


def add_members(store: Store, record: AudienceRecord, members: pa.Table) -> int:
    """Add members behind those of a frozen audience, in one transaction; return how many.

    members: the columns of `list_members`; their ranks are given anew. Nothing is added when somebody else has added
    some since `record` was read.
    """
    audiences, rows = store.tables.audiences, store.tables.audience_members
    added: int = members.num_rows
    ranks = pa.array(range(record.members + 1, record.members + 1 + added), pa.int64())
    numbered = members.set_column(members.column_names.index("rank"), "rank", ranks)
    ids = pa.array([record.audience_id] * added, pa.string())
    conformed = conform(numbered.append_column("audience_id", ids), rows)
    options = record.options | {"refilled": record.options.get("refilled", 0) + added}

    def save(connection: sa.Connection) -> int:
        is_same = (audiences.c.audience_id == record.audience_id) & (audiences.c.options == json.dumps(record.options))
        if not connection.execute(audiences.update().where(is_same).values(options=json.dumps(options))).rowcount:
            return 0
        bulk_insert(connection, rows, conformed, replace=False)
        gone = rows.c.user_id.in_(sa.select(store.tables.deletions.c.user_id))
        connection.execute(rows.delete().where(rows.c.audience_id == record.audience_id, gone))
        return added

    return store.transact(save) if added else 0


def find_audience(store: Store, audience_id: str) -> AudienceRecord | None:
    """Find a frozen audience by its id; None when there is none."""
    audiences = store.tables.audiences
    with store.reading() as connection:
        row = connection.execute(sa.select(audiences).where(audiences.c.audience_id == audience_id)).mappings()
        found = row.one_or_none()
    if found is None:
        return None
    return AudienceRecord(**{**found, **{name: json.loads(found[name]) for name in _JSON}})


def list_members(store: Store, audience_id: str) -> pa.Table:
    """List an audience's members by rank, the columns of MEMBER_COLUMNS. Deleted users are left out.

    score: what the strategy measured, or null. best_item, runners_up: ids of items, the latter as JSON; null in an
    audience about anything.
    """
    rows, deletions = store.tables.audience_members, store.tables.deletions
    # A deletion that ran during the freeze may have left a row behind.
    alive = rows.c.user_id.not_in(sa.select(deletions.c.user_id))
    columns = [rows.c[name] for name in MEMBER_COLUMNS]
    query = sa.select(*columns).where(rows.c.audience_id == audience_id, alive).order_by(rows.c.rank)
    with store.reading() as connection:
        found = connection.execute(query).all()
    values = zip(*found, strict=True) if found else [()] * len(columns)
    return pa.table(
        [pa.array(v, t) for v, t in zip(values, MEMBER_COLUMNS.values(), strict=True)], names=list(MEMBER_COLUMNS)
    )
