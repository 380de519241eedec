"""The ledger: one row a run, with its steps, metrics and outcome."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from recsys.errors import NotFoundError, RefusedError
from recsys.store.bulk import check_id
from recsys.store.database import Store, read_clock
from recsys.store.tables import Tables

OUTCOMES = ("done", "failed", "refused")
DIED = "died: "  # begins the error of a run whose process was killed; that is no outcome, so its due time stays due
LATER = "tried again later: "  # begins the error of a scheduled run that failed for a reason that may pass
INTERRUPTED = "interrupted"  # the error of a run that Ctrl-C ended


@dataclass(frozen=True)
class Run:
    """A row of the ledger. Times are microseconds UTC."""

    run_id: int
    job: str
    config_hash: str
    status: str  # "running" or one of OUTCOMES
    owner: str
    started_at: int
    heartbeat_at: int  # when it last renewed its lease or wrote a step
    finished_at: int | None
    steps: list[dict[str, Any]]  # {"name", "seconds", "counts"} in the order they ended
    metrics: dict[str, Any]
    error: str | None
    bundle: str | None
    due_at: int | None  # the due time that the schedule started it for


def start_run(
    store: Store,
    job: str,
    config_hash: str,
    *,
    owner: str,
    fencing: int | None = None,
    due_at: int | None = None,
    metrics: dict[str, Any] | None = None,
) -> int:
    """Write the row of a run that starts; return its run_id.

    fencing: the number of the job's lease that the run holds. due_at: the due time that the run is for. metrics: what
    is known before it ends.
    Raises RefusedError when a run for that due time has ended already.
    """
    with store.writing() as connection:
        if due_at is not None:
            _check_due(store, connection, job, due_at)
        now = read_clock(connection)
        row = store.tables.runs.insert().values(
            job=check_id("job", job),
            config_hash=config_hash,
            status="running",
            owner=check_id("owner", owner),
            fencing=fencing,
            started_at=now,
            heartbeat_at=now,
            steps="[]",
            metrics=_to_json(metrics or {}),
            due_at=due_at,
        )
        key = connection.execute(row).inserted_primary_key
        assert key is not None
        return int(key[0])


def add_step(store: Store, run_id: int, name: str, seconds: float, counts: dict[str, Any]) -> None:
    """Add a step to a run, with its counts (plain values). Raises NotFoundError when there is no such run."""
    runs = store.tables.runs
    with store.writing() as connection:
        mine = runs.c.run_id == run_id
        steps = connection.execute(sa.select(runs.c.steps).where(mine).with_for_update()).scalar()
        if steps is None:
            raise NotFoundError(f"there is no run {run_id}")
        more = [*json.loads(steps), {"name": name, "seconds": seconds, "counts": counts}]
        change = {"steps": _to_json(more), "heartbeat_at": read_clock(connection)}
        connection.execute(runs.update().where(mine).values(change))


def finish_run(
    store: Store,
    run_id: int,
    status: str,
    *,
    metrics: dict[str, Any] | None = None,
    error: str | None = None,
    bundle: str | None = None,
) -> None:
    """Write the outcome of a run: "done", "failed" or "refused". A run that was declared dead stays failed.

    Raises ValueError for another status, NotFoundError when there is no such run.
    """
    if status not in OUTCOMES:
        raise ValueError(f"the outcome {status!r} is unknown; allowed are {', '.join(OUTCOMES)}")
    runs = store.tables.runs
    with store.writing() as connection:
        found = connection.execute(sa.select(runs.c.status).where(runs.c.run_id == run_id)).scalar()
        if found is None:
            raise NotFoundError(f"there is no run {run_id}")
        now = read_clock(connection)
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


def list_runs(
    store: Store, limit: int = 20, *, job: str | None = None, statuses: Sequence[str] = (), before: int | None = None
) -> list[Run]:
    """List the latest runs, newest first: of one job, of some statuses, before a run_id; unset: of all."""
    runs = store.tables.runs
    query = sa.select(runs)
    if job is not None:
        query = query.where(runs.c.job == job)
    if statuses:
        query = query.where(runs.c.status.in_(statuses))
    if before is not None:
        query = query.where(runs.c.run_id < before)
    with store.reading() as connection:
        rows = connection.execute(query.order_by(runs.c.run_id.desc()).limit(limit)).mappings().all()
    return [parse_run(row) for row in rows]


def read_run(store: Store, run_id: int) -> Run:
    """Read one run. Raises NotFoundError when there is none of this number."""
    runs = store.tables.runs
    with store.reading() as connection:
        row = connection.execute(sa.select(runs).where(runs.c.run_id == run_id)).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"there is no run {run_id}; `recsys runs` lists them")
    return parse_run(row)


def failed_bundles(store: Store) -> set[str]:
    """The bundles that runs had saved before they failed."""
    runs = store.tables.runs
    with store.reading() as connection:
        found = sa.select(runs.c.bundle).where(runs.c.status == "failed", runs.c.bundle.is_not(None))
        return {str(bundle) for bundle in connection.execute(found).scalars()}


def _check_due(store: Store, connection: sa.Connection, job: str, due_at: int) -> None:
    due = store.tables.due
    waiting = connection.execute(sa.select(due.c.due_at).where(due.c.job == job).with_for_update()).scalar()
    if waiting != due_at or has_ended(connection, store.tables, job, due_at):
        raise RefusedError(f"the run of {job!r} for the due time {due_at} has ended already; found {waiting} due")


def has_ended(connection: sa.Connection, tables: Tables, job: str, due_at: int) -> bool:
    """Whether a run for this due time has an outcome in the ledger; a killed run has none."""
    runs = tables.runs
    error = sa.func.coalesce(runs.c.error, "")
    outcome = runs.c.status.in_(OUTCOMES) & error.not_like(f"{DIED}%") & error.not_like(f"{LATER}%")
    ended = sa.select(runs.c.run_id).where(runs.c.job == job, runs.c.due_at == due_at, outcome).limit(1)
    return connection.execute(ended).scalar() is not None


def parse_run(row: Any) -> Run:
    """Turn a row of the table, as a mapping, into a Run."""
    plain = {name: row[name] for name in Run.__dataclass_fields__ if name not in ("steps", "metrics")}
    return Run(steps=json.loads(row["steps"]), metrics=json.loads(row["metrics"] or "{}"), **plain)


def _to_json(values: Any) -> str:
    # Counts are often numpy numbers: `item` makes them plain ones.
    return json.dumps(values, ensure_ascii=True, default=lambda value: value.item())
