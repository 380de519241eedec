"""The ledger, one row a run, and the leases: the right to run, numbered, by the database's own clock.

A lease has a fencing number that grows with every owner. An owner that was paused or cut off and comes back finds its
number outdated and cannot publish (Kleppmann, "How to do distributed locking", 2016).
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from recsys.errors import NotFoundError, RefusedError
from recsys.store_insert import check_id, put
from recsys.store_tables import Database, Tables, clock

LEASE_SECONDS = 60
OUTCOMES = ("done", "failed", "refused")
DIED = "died: "  # begins the error of a run whose process was killed: that is no outcome, so its due time stays due
INTERRUPTED = "interrupted"  # the whole error of a run that Ctrl-C ended


@dataclass(frozen=True)
class Run:
    """A row of the ledger. Times are microseconds UTC."""

    run_id: int
    job: str
    config_hash: str
    status: str  # "running" or one of OUTCOMES
    owner: str
    started_at: int
    heartbeat_at: int  # the last sign of life
    finished_at: int | None
    steps: list[dict[str, Any]]  # {"name", "seconds", "counts"} in the order they ended
    metrics: dict[str, Any]
    error: str | None
    bundle: str | None
    due_at: int | None  # the due time of the schedule that it was for


class Runs(Database):
    """The rows of runs and leases. The lease of a job has the job's name."""

    def start_run(
        self, job: str, config_hash: str, *, owner: str, fencing: int | None = None, due_at: int | None = None
    ) -> int:
        """Write a row that is running; returns its run_id. `fencing`: the number of the job's lease that it holds.

        `due_at`: the due time that the run is for. Raises RefusedError when a run for it has ended already.
        """
        with self.writing() as connection:
            if due_at is not None:
                self._check_due(connection, job, due_at)
            now = clock(connection)
            row = self.tables.runs.insert().values(
                job=check_id("job", job),
                config_hash=config_hash,
                status="running",
                owner=check_id("owner", owner),
                fencing=fencing,
                started_at=now,
                heartbeat_at=now,
                steps="[]",
                due_at=due_at,
            )
            key = connection.execute(row).inserted_primary_key
            assert key is not None
            return int(key[0])

    def step(self, run_id: int, name: str, seconds: float, counts: dict[str, Any]) -> None:
        """Add a step to a run: how long it took and what it counted (plain values). Raises NotFoundError."""
        runs = self.tables.runs
        with self.writing() as connection:
            mine = runs.c.run_id == run_id
            steps = connection.execute(sa.select(runs.c.steps).where(mine).with_for_update()).scalar()
            if steps is None:
                raise NotFoundError(f"there is no run {run_id}")
            more = [*json.loads(steps), {"name": name, "seconds": seconds, "counts": counts}]
            change = {"steps": _to_json(more), "heartbeat_at": clock(connection)}
            connection.execute(runs.update().where(mine).values(change))

    def finish_run(
        self,
        run_id: int,
        status: str,
        *,
        metrics: dict[str, Any] | None = None,
        error: str | None = None,
        bundle: str | None = None,
    ) -> None:
        """Write the outcome ("done", "failed", "refused"). A run given up for dead stays so, with its error.

        Raises ValueError for another status, NotFoundError when there is no such run.
        """
        if status not in OUTCOMES:
            raise ValueError(f"the outcome {status!r} is unknown; allowed are {', '.join(OUTCOMES)}")
        runs = self.tables.runs
        with self.writing() as connection:
            found = connection.execute(sa.select(runs.c.status).where(runs.c.run_id == run_id)).scalar()
            if found is None:
                raise NotFoundError(f"there is no run {run_id}")
            now = clock(connection)
            values = {
                "status": status,
                "finished_at": now,
                "heartbeat_at": now,
                "metrics": _to_json(metrics or {}),
                "error": error.replace("\x00", "") if error else None,
                "bundle": bundle,
            }
            running = (runs.c.run_id == run_id) & (runs.c.status == "running")
            connection.execute(runs.update().where(running).values(values))

    def list_runs(self, limit: int = 20) -> list[Run]:
        """The latest runs, newest first."""
        runs = self.tables.runs
        with self.reading() as connection:
            rows = connection.execute(sa.select(runs).order_by(runs.c.run_id.desc()).limit(limit)).mappings().all()
        return [run_of(row) for row in rows]

    def acquire(self, name: str, owner: str, seconds: float = LEASE_SECONDS) -> int | None:
        """Take the lease when it is free or has expired: its new fencing number. None when somebody holds it.

        Runs of the job that are still "running" under an older number have died; their rows say so from now on.
        """
        leases, runs = self.tables.leases, self.tables.runs
        mine = leases.c.name == check_id("lease", name)
        self._add_lease(name)
        with self.writing() as connection:
            fencing, expires_at = connection.execute(
                sa.select(leases.c.fencing, leases.c.expires_at).where(mine).with_for_update()
            ).one()
            now = clock(connection)  # after the lock: waiting for it takes time
            if expires_at > now:
                return None
            fencing += 1
            values = {"owner": check_id("owner", owner), "fencing": fencing, "expires_at": now + _microseconds(seconds)}
            connection.execute(leases.update().where(mine).values(values))
            dead = (runs.c.job == name) & (runs.c.status == "running") & (runs.c.fencing < fencing)
            outcome = {"status": "failed", "error": f"{DIED}it stopped without a word", "finished_at": now}
            connection.execute(runs.update().where(dead).values(outcome))
            return int(fencing)

    def renew(self, name: str, fencing: int, seconds: float = LEASE_SECONDS) -> bool:
        """Keep the lease for `seconds` from now; False when it is not ours anymore.

        A lease that expired and that nobody has taken since is still ours: no other run was there in between.
        """
        leases, runs = self.tables.leases, self.tables.runs
        with self.writing() as connection:
            mine = self._held(name, fencing)
            if connection.execute(sa.select(leases.c.name).where(mine).with_for_update()).scalar() is None:
                return False
            now = clock(connection)
            connection.execute(leases.update().where(mine).values(expires_at=now + _microseconds(seconds)))
            running = (runs.c.job == name) & (runs.c.fencing == fencing) & (runs.c.status == "running")
            connection.execute(runs.update().where(running).values(heartbeat_at=now))
            return True

    def release(self, name: str, fencing: int) -> None:
        """Give the lease back at once; does nothing when it is not ours anymore."""
        with self.writing() as connection:
            free = self.tables.leases.update().values(owner=None, expires_at=0)
            connection.execute(free.where(self._held(name, fencing)))

    @contextmanager
    def holding(self, name: str, fencing: int) -> Iterator[None]:
        """While this lasts nobody can take the lease, even after it expires: publish inside.

        Raises RefusedError when the lease was released, has a newer owner, or has expired by the database's clock.
        Keep it short, and write nothing to the store inside: on SQLite that would wait for this very lock.
        """
        leases = self.tables.leases
        with self.writing() as connection:
            row = connection.execute(
                sa.select(leases.c.owner, leases.c.fencing, leases.c.expires_at)
                .where(leases.c.name == name)
                .with_for_update()
            ).one_or_none()
            if row is None or row.owner is None or row.fencing != fencing:
                found = "nobody holds it" if row is None or row.owner is None else f"number {row.fencing} holds it"
                raise RefusedError(f"the lease {name!r} with fencing number {fencing} is lost: {found} now")
            late = clock(connection) - row.expires_at
            if late >= 0:
                raise RefusedError(f"the lease {name!r} with fencing number {fencing} expired {late / 1e6:.1f} s ago")
            yield

    def _held(self, name: str, fencing: int) -> sa.ColumnElement[bool]:
        leases = self.tables.leases
        return (leases.c.name == name) & (leases.c.fencing == fencing) & leases.c.owner.is_not(None)

    def _check_due(self, connection: sa.Connection, job: str, due_at: int) -> None:
        due = self.tables.due
        waiting = connection.execute(sa.select(due.c.due_at).where(due.c.job == job).with_for_update()).scalar()
        if waiting != due_at or has_ended(connection, self.tables, job, due_at):
            raise RefusedError(f"the run of {job!r} for the due time {due_at} has ended already; found {waiting} due")

    def _add_lease(self, name: str) -> None:
        leases = self.tables.leases
        with self.reading() as connection:
            if connection.execute(sa.select(leases.c.name).where(leases.c.name == name)).scalar() is not None:
                return
        with self.writing() as connection:
            free = pa.table({"name": [name], "fencing": [0], "expires_at": [0]})
            put(connection, leases, free, replace=False)


def has_ended(connection: sa.Connection, tables: Tables, job: str, due_at: int) -> bool:
    """Whether the ledger knows how a run for this due time came out; a killed one has no outcome."""
    runs = tables.runs
    outcome = runs.c.status.in_(OUTCOMES) & sa.func.coalesce(runs.c.error, "").not_like(f"{DIED}%")
    ended = sa.select(runs.c.run_id).where(runs.c.job == job, runs.c.due_at == due_at, outcome).limit(1)
    return connection.execute(ended).scalar() is not None


def run_of(row: Any) -> Run:
    """The mapping of a row of runs as a value."""
    plain = {name: row[name] for name in Run.__dataclass_fields__ if name not in ("steps", "metrics")}
    return Run(steps=json.loads(row["steps"]), metrics=json.loads(row["metrics"] or "{}"), **plain)


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _to_json(values: Any) -> str:
    # Counts often come as numpy numbers, which know how to become plain ones.
    return json.dumps(values, ensure_ascii=True, default=lambda value: value.item())
