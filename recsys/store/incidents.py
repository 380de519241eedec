"""What people are told of, read from the ledger: each incident of a job once, and its end.

An incident begins with a run that fails, is refused, or does not come in time, and ends with the next run of the job
that succeeds. A run whose process was killed, and that is tried again, is none yet. `alerted_at` in the tables of runs
and due times says what was told, so a restart repeats nothing.

All times are the database's, in microseconds UTC.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from recsys.store.database import Store, read_clock
from recsys.store.runs import DIED, INTERRUPTED, LATER, Run, parse_run
from recsys.store.tables import Tables

AS_SCHEDULED = '"by": "schedule"'  # in the metrics of a run that cron or the like started in place of the schedule
Kind = Literal["failed", "refused", "overdue", "late", "missing", "recovered"]


@dataclass(frozen=True)
class Incident:
    """Something to tell about a job."""

    kind: Kind
    job: str
    run: Run | None  # the one that failed, is late, or succeeded; None: there is none
    due_at: int | None
    succeeded_at: int | None  # when the job last succeeded
    failures: int = 0  # runs without success since then

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return f"{self.kind} {self.job} {self.run.run_id if self.run else self.due_at or self.succeeded_at}"


def list_incidents(
    store: Store,
    jobs: Collection[str],
    *,
    recent_seconds: float,
    by_hand: bool = False,
    late_seconds: float | None = None,
    max_age_seconds: float | None = None,
) -> list[Incident]:
    """List what is to be told now.

    jobs: those that are scheduled. recent_seconds: a run that ended longer ago is not told of. by_hand: whether runs
    that a person started count. late_seconds: after a due time; max_age_seconds: since the last success; None: neither.
    """
    with store.reading() as connection:
        now = read_clock(connection)
        since = now - round(recent_seconds * 1e6)
        found = _of_runs(connection, store.tables, since, by_hand)
        told_failed = {incident.job for incident in found}
        due = _due_rows(connection, store.tables, jobs)
        if late_seconds is not None:
            found += _late(connection, store.tables, due, now - round(late_seconds * 1e6))
        if max_age_seconds is not None:
            late = told_failed | {incident.job for incident in found}
            found += _overdue(connection, store.tables, due, now - round(max_age_seconds * 1e6), late)
        return found


def mark_told(store: Store, incident: Incident) -> None:
    """Record that people were told of it."""
    runs, due = store.tables.runs, store.tables.due
    is_end = incident.kind == "recovered"
    with store.writing() as connection:
        now = read_clock(connection)
        if incident.kind in ("failed", "refused", "recovered") and incident.run is not None:
            connection.execute(runs.update().where(runs.c.run_id == incident.run.run_id).values(alerted_at=now))
        if incident.kind in ("overdue", "late", "missing", "recovered"):
            mine = due.c.job == incident.job
            connection.execute(due.update().where(mine).values(alerted_at=None if is_end else now))


def mark_due_told(store: Store, job: str, due_at: int) -> None:
    """Record that people were told that the run for this due time is late, when it is still the next one."""
    due = store.tables.due
    with store.writing() as connection:
        mine = (due.c.job == job) & (due.c.due_at == due_at)
        connection.execute(due.update().where(mine).values(alerted_at=read_clock(connection)))


def last_successes(store: Store) -> dict[str, int]:
    """When the last successful run of each job ended."""
    with store.reading() as connection:
        return _successes(connection, store.tables)


def _successes(connection: sa.Connection, tables: Tables) -> dict[str, int]:
    runs = tables.runs
    last = sa.select(runs.c.job, sa.func.max(runs.c.finished_at)).where(runs.c.status == "done").group_by(runs.c.job)
    return {str(job): int(at) for job, at in connection.execute(last)}


def _of_runs(connection: sa.Connection, tables: Tables, since: int, by_hand: bool) -> list[Incident]:
    """The failures that nobody was told of, and the successes that ended what people were told of."""
    runs = tables.runs
    ended = sa.select(runs.c.job).where(runs.c.finished_at >= since, runs.c.status != "running").distinct()
    found = list[Incident]()
    for job in sorted(connection.execute(ended).scalars()):
        last = _last_run(connection, runs, job, runs.c.status == "done")
        failures = _failures(connection, runs, job, 0 if last is None else last.run_id, by_hand)
        if failures and all(row.alerted_at is None for row in failures):
            run = _read(connection, runs, failures[-1].run_id)
            if (run.finished_at or 0) >= since:
                kind: Kind = "refused" if run.status == "refused" else "failed"
                succeeded_at = last.finished_at if last else None
                found.append(Incident(kind, job, run, run.due_at, succeeded_at, len(failures)))
        elif not failures and last is not None and (end := _end(connection, tables, job, last)) is not None:
            run = _read(connection, runs, end)
            if run.finished_at is not None and run.finished_at >= since:
                found.append(Incident("recovered", job, run, run.due_at, run.finished_at))
    return found


def _last_run(connection: sa.Connection, runs: sa.Table, job: str, condition: sa.ColumnElement[bool]) -> Any:
    columns = (runs.c.run_id, runs.c.finished_at, runs.c.alerted_at)
    query = sa.select(*columns).where(runs.c.job == job, condition).order_by(runs.c.run_id.desc()).limit(1)
    return connection.execute(query).one_or_none()


def _failures(connection: sa.Connection, runs: sa.Table, job: str, after: int, by_hand: bool) -> list[Any]:
    """The runs after a success that came to no good end: without those that are tried again, oldest first."""
    error, metrics = sa.func.coalesce(runs.c.error, ""), sa.func.coalesce(runs.c.metrics, "")
    is_by_hand = runs.c.due_at.is_(None) & metrics.not_like(f"%{AS_SCHEDULED}%")
    counts = ~is_by_hand & error.not_like(f"{DIED}%") & error.not_like(f"{LATER}%")
    if by_hand:
        counts = counts | (is_by_hand & (error != INTERRUPTED))
    query = sa.select(runs.c.run_id, runs.c.alerted_at).where(
        runs.c.job == job, runs.c.run_id > after, runs.c.status.in_(("failed", "refused")), counts
    )
    return list(connection.execute(query.order_by(runs.c.run_id)).all())


def _end(connection: sa.Connection, tables: Tables, job: str, last: Any) -> int | None:
    """The successful run that ended what people were told of, unless they were told of that, too.

    last: the job's last success.
    """
    runs, due = tables.runs, tables.due
    mine, is_bad = runs.c.job == job, runs.c.status.in_(("failed", "refused"))
    told = mine & is_bad & runs.c.alerted_at.is_not(None) & (runs.c.run_id < last.run_id)
    bad = connection.execute(sa.select(sa.func.max(runs.c.run_id)).where(told)).scalar()
    if bad is not None:
        first = sa.select(sa.func.min(runs.c.run_id)).where(mine, runs.c.status == "done", runs.c.run_id > bad)
        end = connection.execute(first).scalar_one()
        marked = sa.select(runs.c.alerted_at).where(runs.c.run_id == end)
        if connection.execute(marked).scalar() is None:
            return int(end)
    late = sa.select(due.c.job).where(due.c.job == job, due.c.alerted_at < last.finished_at)
    return int(last.run_id) if connection.execute(late).scalar() is not None else None


def _read(connection: sa.Connection, runs: sa.Table, run_id: int) -> Run:
    return parse_run(connection.execute(sa.select(runs).where(runs.c.run_id == run_id)).mappings().one())


def _due_rows(connection: sa.Connection, tables: Tables, jobs: Collection[str]) -> list[Any]:
    """The due times of jobs that are scheduled and not paused."""
    due, counters = tables.due, tables.counters
    paused = set(connection.execute(sa.select(counters.c.name).where(counters.c.name.like("paused %"))).scalars())
    rows = connection.execute(sa.select(due).order_by(due.c.job))
    return [row for row in rows if row.job in jobs and f"paused {row.job}" not in paused]


def _late(connection: sa.Connection, tables: Tables, due: list[Any], before: int) -> list[Incident]:
    """The due times before a moment whose run has not ended: one is under way, or none has begun."""
    runs, found = tables.runs, list[Incident]()
    succeeded = _successes(connection, tables)
    for row in due:
        if row.due_at >= before or (row.alerted_at is not None and row.alerted_at >= row.due_at):
            continue
        mine = (runs.c.job == row.job) & (runs.c.due_at == row.due_at) & (runs.c.status == "running")
        running = connection.execute(sa.select(runs).where(mine).limit(1)).mappings().one_or_none()
        run = None if running is None else parse_run(running)
        kind: Kind = "missing" if run is None else "late"
        found.append(Incident(kind, row.job, run, int(row.due_at), succeeded.get(row.job)))
    return found


def _overdue(
    connection: sa.Connection, tables: Tables, due: list[Any], since: int, told: Collection[str]
) -> list[Incident]:
    """The jobs scheduled for long whose last success is before a moment, and of which nobody was told since."""
    runs, succeeded, found = tables.runs, _successes(connection, tables), list[Incident]()
    for row in due:
        is_quiet = row.alerted_at is None or row.alerted_at < since
        if row.job in told or row.planned_at >= since or not is_quiet or succeeded.get(row.job, 0) >= since:
            continue
        recent = sa.select(runs.c.run_id).where(runs.c.job == row.job, runs.c.alerted_at >= since).limit(1)
        if connection.execute(recent).scalar() is None:
            found.append(Incident("overdue", row.job, None, None, succeeded.get(row.job)))
    return found
