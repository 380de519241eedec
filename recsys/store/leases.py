"""Leases: the right to run a job, for a limited time by the database's clock.

A lease has a fencing number that grows with every owner. An owner that was suspended and comes back finds its number
outdated and cannot publish. Source: M. Kleppmann, "How to do distributed locking", 2016.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import sqlalchemy as sa

from recsys.errors import RefusedError
from recsys.store.bulk import bulk_insert, check_id
from recsys.store.database import Store, read_clock
from recsys.store.runs import DIED

LEASE_SECONDS = 60


def acquire_lease(store: Store, name: str, owner: str, seconds: float = LEASE_SECONDS) -> int | None:
    """Take a lease that is free or has expired; return its new fencing number, or None when another owner holds it.

    Runs of the job that are still "running" under an older number are marked as failed.
    """
    leases, runs = store.tables.leases, store.tables.runs
    mine = leases.c.name == check_id("lease", name)
    _add_lease(store, name)
    with store.writing() as connection:
        fencing, expires_at = connection.execute(
            sa.select(leases.c.fencing, leases.c.expires_at).where(mine).with_for_update()
        ).one()
        now = read_clock(connection)  # after the lock: waiting for it takes time
        if expires_at > now:
            return None
        fencing += 1
        values = {"owner": check_id("owner", owner), "fencing": fencing, "expires_at": now + _microseconds(seconds)}
        connection.execute(leases.update().where(mine).values(values))
        dead = (runs.c.job == name) & (runs.c.status == "running") & (runs.c.fencing < fencing)
        outcome = {"status": "failed", "error": f"{DIED}it stopped without a word", "finished_at": now}
        connection.execute(runs.update().where(dead).values(outcome))
        return int(fencing)


def renew_lease(store: Store, name: str, fencing: int, seconds: float = LEASE_SECONDS) -> bool:
    """Extend the lease to `seconds` from now; return False when it was lost.

    A lease that expired but was not taken since is still held: no other run was there in between.
    """
    leases, runs = store.tables.leases, store.tables.runs
    with store.writing() as connection:
        mine = _held(store, name, fencing)
        if connection.execute(sa.select(leases.c.name).where(mine).with_for_update()).scalar() is None:
            return False
        now = read_clock(connection)
        connection.execute(leases.update().where(mine).values(expires_at=now + _microseconds(seconds)))
        running = (runs.c.job == name) & (runs.c.fencing == fencing) & (runs.c.status == "running")
        connection.execute(runs.update().where(running).values(heartbeat_at=now))
        return True


def release_lease(store: Store, name: str, fencing: int) -> None:
    """Give the lease back at once. Does nothing when it was lost."""
    with store.writing() as connection:
        free = store.tables.leases.update().values(owner=None, expires_at=0)
        connection.execute(free.where(_held(store, name, fencing)))


@contextmanager
def holding_lease(store: Store, name: str, fencing: int) -> Iterator[None]:
    """Lock the lease, so that nobody takes it while the block runs, even after it expires. Publish inside.

    Raises RefusedError when the lease was released, has a newer owner, or has expired by the database's clock.
    Keep the block short and do not write to the store inside: on SQLite that would wait for this very lock.
    """
    leases = store.tables.leases
    with store.writing() as connection:
        row = connection.execute(
            sa.select(leases.c.owner, leases.c.fencing, leases.c.expires_at)
            .where(leases.c.name == name)
            .with_for_update()
        ).one_or_none()
        if row is None or row.owner is None or row.fencing != fencing:
            found = "nobody holds it" if row is None or row.owner is None else f"number {row.fencing} holds it"
            raise RefusedError(f"the lease {name!r} with fencing number {fencing} is lost: {found} now")
        late = read_clock(connection) - row.expires_at
        if late >= 0:
            raise RefusedError(f"the lease {name!r} with fencing number {fencing} expired {late / 1e6:.1f} s ago")
        yield


def _held(store: Store, name: str, fencing: int) -> sa.ColumnElement[bool]:
    leases = store.tables.leases
    return (leases.c.name == name) & (leases.c.fencing == fencing) & leases.c.owner.is_not(None)


def _add_lease(store: Store, name: str) -> None:
    leases = store.tables.leases
    with store.reading() as connection:
        if connection.execute(sa.select(leases.c.name).where(leases.c.name == name)).scalar() is not None:
            return
    with store.writing() as connection:
        free = pa.table({"name": [name], "fencing": [0], "expires_at": [0]})
        bulk_insert(connection, leases, free, replace=False)


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)
