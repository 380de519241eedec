"""The due times of the schedule, one row a job, and what is still to be told about runs.

A due time moves on only when the ledger holds an ended run for it, so that no kill loses a night; and a run for a due
time starts only under the job's lease while none has ended, so that none happens twice. Who may try is settled by a
claim that expires. All of it by the database's clock.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from recsys.store.bulk import bulk_insert, check_id
from recsys.store.database import Store, clock
from recsys.store.runs import INTERRUPTED, Run, has_ended, run_of

NextDue = Callable[[int], int]  # the first due time after a moment; both microseconds UTC


@dataclass(frozen=True)
class Due:
    """A row of the due times. Times are microseconds UTC."""

    job: str
    entry: str  # the cron entry and zone that due_at came from
    due_at: int
    attempts: int  # processes that died under a living scheduler while working for this due time
    owner: str | None  # the scheduler that holds the claim
    free_at: int  # until then nobody else may claim it


@dataclass(frozen=True)
class ProcessExit:
    """How the process of a job ended, for the case that the ledger does not know."""

    process: str  # the owner of its runs in the ledger
    error: str  # begins with DIED unless it is an outcome
    counts: bool = True  # as one of the attempts
    pause_seconds: float = 0.0  # before the next attempt


@dataclass(frozen=True)
class Overdue:
    """A job without a successful run for too long. Times are microseconds UTC."""

    job: str
    succeeded_at: int | None


def plan_due(store: Store, job: str, entry: str, next_due: NextDue) -> None:
    """Write the job's first due time, or, when its entry has changed, a new one unless one is waiting to run."""
    due = store.tables.due
    with store.writing() as connection:
        now = clock(connection)
        row = _locked(store, connection, job)
        if row is None:
            values = {"job": check_id("job", job), "entry": check_id("entry", entry), "due_at": next_due(now)}
            fresh = {**values, "attempts": 0, "free_at": 0, "planned_at": now}
            bulk_insert(connection, due, pa.table({name: [value] for name, value in fresh.items()}), replace=False)
        elif row.entry != entry:
            due_at = next_due(now) if row.due_at > now else row.due_at
            connection.execute(due.update().where(due.c.job == job).values(entry=entry, due_at=due_at))


def list_due(store: Store) -> list[Due]:
    """Every row, by job."""
    due = store.tables.due
    columns = [due.c[name] for name in Due.__dataclass_fields__]
    with store.reading() as connection:
        return [Due(*row) for row in connection.execute(sa.select(*columns).order_by(due.c.job))]


def claim_due(store: Store, job: str, owner: str, *, seconds: float, next_due: NextDue) -> int | None:
    """The due time that is ours to work for during `seconds`; None when there is nothing to do.

    That is: it lies ahead, another scheduler holds it, its last process died a moment ago, or a run of the job is
    under way, whoever started it. One whose run has ended meanwhile moves on.
    """
    due, leases = store.tables.due, store.tables.leases
    mine = due.c.job == job
    with store.reading() as connection:  # the usual answer needs no lock
        waiting = connection.execute(sa.select(due.c.due_at, due.c.free_at).where(mine)).one_or_none()
        if waiting is None or max(waiting.due_at, waiting.free_at) > clock(connection):
            return None
    with store.writing() as connection:
        row = _locked(store, connection, job)
        now = clock(connection)
        if row is None or max(row.due_at, row.free_at) > now:
            return None
        lease = sa.select(leases.c.name).where(leases.c.name == job, leases.c.expires_at > now)
        if connection.execute(lease).scalar() is not None:
            return None
        if has_ended(connection, store.tables, job, row.due_at):
            _move_on(store, connection, job, row.due_at, now, next_due)
            return None
        claim = {"owner": check_id("owner", owner), "free_at": now + round(seconds * 1e6)}
        connection.execute(due.update().where(mine).values(claim))
        return int(row.due_at)


def renew_due(store: Store, job: str, due_at: int, owner: str, *, seconds: float) -> bool:
    """Keep the claim for `seconds` from now; False when it is not ours anymore."""
    due = store.tables.due
    mine = (due.c.job == job) & (due.c.due_at == due_at) & (due.c.owner == owner)
    with store.writing() as connection:
        free_at = clock(connection) + round(seconds * 1e6)
        return connection.execute(due.update().where(mine).values(free_at=free_at)).rowcount == 1


def settle_due(
    store: Store, job: str, due_at: int, owner: str, ending: ProcessExit, *, attempts: int, next_due: NextDue
) -> str:
    """What follows from the end of the process: "ended", "again", "given up", or "lost" (another holds the claim).

    The process is certainly gone, so a run of its own that still says "running" gets the ending's error. Without
    an ended run the due time is tried again, until `attempts` of them have died: then a failed run says so.
    """
    due = store.tables.due
    with store.writing() as connection:
        row = _locked(store, connection, job)
        now = clock(connection)
        _bury(store, connection, job, due_at, ending, now)
        if row is None or (row.due_at, row.owner) != (due_at, owner):
            return "lost"
        if has_ended(connection, store.tables, job, due_at):
            _move_on(store, connection, job, due_at, now, next_due)
            return "ended"
        died = row.attempts + ending.counts
        if died >= attempts:
            _give_up(store, connection, job, due_at, owner, f"given up after {died} attempts: {ending.error}", now)
            _move_on(store, connection, job, due_at, now, next_due)
            return "given up"
        wait = {"attempts": died, "owner": None, "free_at": now + round(ending.pause_seconds * 1e6)}
        connection.execute(due.update().where(due.c.job == job).values(wait))
        return "again"


def untold_runs(store: Store, *, seconds: float) -> list[Run]:
    """Failed and refused runs that ended in the last `seconds` and that no alert has told of, oldest first.

    Without those that somebody started by hand and interrupted: who did so knows it.
    """
    runs = store.tables.runs
    with store.reading() as connection:
        since = clock(connection) - round(seconds * 1e6)
        untold = runs.c.status.in_(("failed", "refused")) & runs.c.alerted_at.is_(None)
        by_hand = runs.c.due_at.is_(None) & (sa.func.coalesce(runs.c.error, "") == INTERRUPTED)
        found = sa.select(runs).where(untold, ~by_hand, runs.c.finished_at >= since).order_by(runs.c.run_id)
        return [run_of(row) for row in connection.execute(found).mappings()]


def overdue_jobs(store: Store, *, seconds: float) -> list[Overdue]:
    """Jobs that for `seconds` had no successful run, were there to have one, and were told of in no alert."""
    due, runs = store.tables.due, store.tables.runs
    last = sa.func.max(runs.c.finished_at)
    with store.reading() as connection:
        since = clock(connection) - round(seconds * 1e6)
        done = sa.select(runs.c.job, last).where(runs.c.status == "done").group_by(runs.c.job)
        succeeded: dict[str, int] = {str(job): int(at) for job, at in connection.execute(done)}
        quiet = due.c.alerted_at.is_(None) | (due.c.alerted_at < since)
        jobs = connection.execute(sa.select(due.c.job).where(due.c.planned_at < since, quiet)).scalars().all()
    return [Overdue(job, succeeded.get(job)) for job in jobs if succeeded.get(job, 0) < since]


def mark_told(store: Store, what: Run | Overdue) -> None:
    """Write down that an alert has told of it."""
    table: sa.Table = store.tables.runs if isinstance(what, Run) else store.tables.due
    mine = table.c.run_id == what.run_id if isinstance(what, Run) else table.c.job == what.job
    with store.writing() as connection:
        connection.execute(table.update().where(mine).values(alerted_at=clock(connection)))


def _locked(store: Store, connection: sa.Connection, job: str) -> sa.Row[Any] | None:
    due = store.tables.due
    return connection.execute(sa.select(due).where(due.c.job == job).with_for_update()).one_or_none()


def _move_on(store: Store, connection: sa.Connection, job: str, due_at: int, now: int, next_due: NextDue) -> None:
    due = store.tables.due
    # After the later of the two: a clock that was set back must not bring the same due time again.
    fresh = {"due_at": next_due(max(due_at, now)), "attempts": 0, "owner": None, "free_at": 0}
    connection.execute(due.update().where(due.c.job == job).values(fresh))


def _bury(store: Store, connection: sa.Connection, job: str, due_at: int, ending: ProcessExit, now: int) -> None:
    runs = store.tables.runs
    mine = (runs.c.job == job) & (runs.c.due_at == due_at) & (runs.c.owner == ending.process)
    outcome = {"status": "failed", "error": ending.error, "finished_at": now}
    connection.execute(runs.update().where(mine, runs.c.status == "running").values(outcome))


def _give_up(store: Store, connection: sa.Connection, job: str, due_at: int, owner: str, error: str, now: int) -> None:
    row = store.tables.runs.insert().values(
        job=job,
        config_hash="",
        status="failed",
        owner=owner,
        started_at=now,
        heartbeat_at=now,
        finished_at=now,
        steps="[]",
        error=error,
        due_at=due_at,
    )
    connection.execute(row)
