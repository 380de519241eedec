"""The due times of the schedule, one row a job.

* A due time advances only when the ledger holds an ended run for it, so a killed process loses none.
* A run for a due time starts only under the job's lease and while none has ended, so none happens twice.
* A scheduler works for a due time under a claim that expires.

All times are the database's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from recsys.store.bulk import bulk_insert, check_id
from recsys.store.database import Store, read_clock
from recsys.store.runs import LATER, Run, has_ended, parse_run

NEVER = 2**62  # the due time of a job that waits for another one
_PAUSED = "paused "  # begins the name of a counter that holds since when a job is paused

NextDue = Callable[[int], int]  # the first due time after a moment; both microseconds UTC


@dataclass(frozen=True)
class Due:
    """A row of the due times. Times are microseconds UTC."""

    job: str
    entry: str  # the cron entry and zone that due_at came from
    due_at: int
    attempts: int  # processes that died while working for this due time, and not with their scheduler
    owner: str | None  # the scheduler that holds the claim
    free_at: int  # when the claim expires


@dataclass(frozen=True)
class ProcessExit:
    """How the process of a job ended, in case that the ledger has no outcome of its run."""

    process: str  # the owner of its runs in the ledger
    error: str  # begins with DIED unless it is an outcome
    counts: bool = True  # whether it was one of the attempts
    pause_seconds: float = 0.0  # before the next attempt


def plan_due(store: Store, job: str, entry: str, next_due: NextDue) -> None:
    """Write the job's first due time. When its entry has changed, replace a due time that lies ahead."""
    due = store.tables.due
    with store.writing() as connection:
        now = read_clock(connection)
        row = _lock_due(store, connection, job)
        if row is None:
            values = {"job": check_id("job", job), "entry": check_id("entry", entry), "due_at": next_due(now)}
            fresh = {**values, "attempts": 0, "free_at": 0, "planned_at": now}
            bulk_insert(connection, due, pa.table({name: [value] for name, value in fresh.items()}), replace=False)
        elif row.entry != entry:
            due_at = next_due(now) if row.due_at > now else row.due_at
            connection.execute(due.update().where(due.c.job == job).values(entry=entry, due_at=due_at))


def list_due(store: Store) -> list[Due]:
    """List the due times, by job."""
    due = store.tables.due
    columns = [due.c[name] for name in Due.__dataclass_fields__]
    with store.reading() as connection:
        return [Due(*row) for row in connection.execute(sa.select(*columns).order_by(due.c.job))]


def claim_due(store: Store, job: str, owner: str, *, seconds: float, next_due: NextDue) -> int | None:
    """Claim the job's due time for `seconds`; return it, or None when there is nothing to do.

    There is nothing to do when the due time lies ahead, another scheduler holds it, its last process died a moment
    ago, or a run of the job is under way. A due time whose run has ended meanwhile advances.
    """
    due, leases = store.tables.due, store.tables.leases
    mine = due.c.job == job
    with store.reading() as connection:  # usually nothing is due, which needs no lock
        waiting = connection.execute(sa.select(due.c.due_at, due.c.free_at).where(mine)).one_or_none()
        if waiting is None or max(waiting.due_at, waiting.free_at) > read_clock(connection):
            return None
    with store.writing() as connection:
        row = _lock_due(store, connection, job)
        now = read_clock(connection)
        if row is None or max(row.due_at, row.free_at) > now or _is_paused(store, connection, job):
            return None
        lease = sa.select(leases.c.name).where(leases.c.name == job, leases.c.expires_at > now)
        if connection.execute(lease).scalar() is not None:
            return None
        if has_ended(connection, store.tables, job, row.due_at):
            _advance(store, connection, job, row.due_at, now, next_due)
            return None
        claim = {"owner": check_id("owner", owner), "free_at": now + round(seconds * 1e6)}
        connection.execute(due.update().where(mine).values(claim))
        return int(row.due_at)


def renew_due(store: Store, job: str, due_at: int, owner: str, *, seconds: float) -> bool:
    """Extend the claim to `seconds` from now; return False when it was lost."""
    due = store.tables.due
    mine = (due.c.job == job) & (due.c.due_at == due_at) & (due.c.owner == owner)
    with store.writing() as connection:
        free_at = read_clock(connection) + round(seconds * 1e6)
        return connection.execute(due.update().where(mine).values(free_at=free_at)).rowcount == 1


def settle_due(
    store: Store, job: str, due_at: int, owner: str, process_exit: ProcessExit, *, attempts: int, next_due: NextDue
) -> str:
    """Settle a due time after its process ended: return "ended", "again", "given up", or "lost" (the claim was lost).

    A run of the process that is still "running" becomes a failed one. Without an ended run the due time is tried
    again. After `attempts` died processes a failed run is written and the due time advances.
    """
    due = store.tables.due
    with store.writing() as connection:
        row = _lock_due(store, connection, job)
        now = read_clock(connection)
        _fail_orphan(store, connection, job, due_at, process_exit, now)
        if row is None or (row.due_at, row.owner) != (due_at, owner):
            return "lost"
        if has_ended(connection, store.tables, job, due_at):
            _advance(store, connection, job, due_at, now, next_due)
            return "ended"
        died = row.attempts + process_exit.counts
        if died >= attempts:
            error = _last_error(store, connection, job, due_at) or process_exit.error
            _give_up(store, connection, job, due_at, owner, f"given up after {died} attempts: {error}", now)
            _advance(store, connection, job, due_at, now, next_due)
            return "given up"
        wait = {"attempts": died, "owner": None, "free_at": now + round(process_exit.pause_seconds * 1e6)}
        connection.execute(due.update().where(due.c.job == job).values(wait))
        return "again"


def trigger_due(store: Store, job: str, after: str) -> None:
    """Make a job due that waits for another one, when that has succeeded since the job last was due."""
    due, runs = store.tables.due, store.tables.runs
    with store.reading() as connection:
        row = connection.execute(sa.select(due).where(due.c.job == job)).one_or_none()
        if row is None or row.due_at != NEVER:
            return
        succeeded = sa.select(sa.func.max(runs.c.finished_at)).where(runs.c.job == after, runs.c.status == "done")
        at = connection.execute(succeeded).scalar()
        last = connection.execute(sa.select(sa.func.max(runs.c.due_at)).where(runs.c.job == job)).scalar()
    if at is not None and at > max(last or 0, row.planned_at):
        with store.writing() as connection:
            waiting = (due.c.job == job) & (due.c.due_at == NEVER)
            connection.execute(due.update().where(waiting).values(due_at=int(at)))


def pause_job(store: Store, job: str) -> None:
    """Start no further run of a job until it is resumed. One that is under way goes on."""
    with store.writing() as connection:
        row = pa.table({"name": [f"{_PAUSED}{job}"], "value": [read_clock(connection)]})
        bulk_insert(connection, store.tables.counters, row, replace=False)


def resume_job(store: Store, job: str, next_due: NextDue) -> bool:
    """Let a paused job run again, from its next due time on; return whether it was paused."""
    due, counters = store.tables.due, store.tables.counters
    with store.writing() as connection:
        gone = counters.delete().where(counters.c.name == f"{_PAUSED}{job}")
        if connection.execute(gone).rowcount == 0:
            return False
        now = read_clock(connection)
        missed = (due.c.job == job) & (due.c.due_at <= now)
        connection.execute(due.update().where(missed).values(due_at=next_due(now), attempts=0, planned_at=now))
        return True


def paused_jobs(store: Store) -> dict[str, int]:
    """The paused jobs, and since when (microseconds UTC)."""
    counters = store.tables.counters
    with store.reading() as connection:
        found = sa.select(counters.c.name, counters.c.value).where(counters.c.name.like(f"{_PAUSED}%"))
        return {str(name).removeprefix(_PAUSED): int(at) for name, at in connection.execute(found)}


def _is_paused(store: Store, connection: sa.Connection, job: str) -> bool:
    counters = store.tables.counters
    found = sa.select(counters.c.name).where(counters.c.name == f"{_PAUSED}{job}")
    return connection.execute(found).scalar() is not None


def _last_error(store: Store, connection: sa.Connection, job: str, due_at: int) -> str | None:
    """Why the last run for a due time failed, where that may have passed and did not."""
    runs = store.tables.runs
    mine = (runs.c.job == job) & (runs.c.due_at == due_at) & runs.c.error.like(f"{LATER}%")
    error = connection.execute(sa.select(runs.c.error).where(mine).order_by(runs.c.run_id.desc()).limit(1)).scalar()
    return None if error is None else str(error).removeprefix(LATER)


def latest_runs(store: Store) -> dict[str, list[Run]]:
    """Of each job, oldest first: the latest run that has succeeded, the latest that has ended, the latest of all."""
    runs = store.tables.runs
    conditions = (runs.c.status == "done", runs.c.status != "running", sa.true())
    with store.reading() as connection:
        newest = set[int]()
        for condition in conditions:
            ids = sa.select(sa.func.max(runs.c.run_id)).where(condition).group_by(runs.c.job)
            newest.update(connection.execute(ids).scalars())
        found = sa.select(runs).where(runs.c.run_id.in_(newest)).order_by(runs.c.run_id)
        by_job: dict[str, list[Run]] = {}
        for row in connection.execute(found).mappings():
            by_job.setdefault(row["job"], []).append(parse_run(row))
    return by_job


def _lock_due(store: Store, connection: sa.Connection, job: str) -> sa.Row[Any] | None:
    due = store.tables.due
    return connection.execute(sa.select(due).where(due.c.job == job).with_for_update()).one_or_none()


def _advance(store: Store, connection: sa.Connection, job: str, due_at: int, now: int, next_due: NextDue) -> None:
    due = store.tables.due
    # After the later of the two, so that a clock that was set back does not repeat a due time.
    fresh = {"due_at": next_due(max(due_at, now)), "attempts": 0, "owner": None, "free_at": 0}
    connection.execute(due.update().where(due.c.job == job).values(fresh))


def _fail_orphan(
    store: Store, connection: sa.Connection, job: str, due_at: int, process_exit: ProcessExit, now: int
) -> None:
    runs = store.tables.runs
    mine = (runs.c.job == job) & (runs.c.due_at == due_at) & (runs.c.owner == process_exit.process)
    outcome = {"status": "failed", "error": process_exit.error, "finished_at": now}
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
