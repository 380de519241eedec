"""Run a job: hold its lease, and record its steps and outcome in the ledger."""

import getpass
import logging
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

from jobs.background import repeating
from jobs.logs import DUE, note_run
from jobs.memory_watch import watching_memory
from recsys.config.settings import Config
from recsys.errors import AwayError, BusyError, ConfigError, RecsysError, RefusedError
from recsys.store.database import Store, is_away
from recsys.store.leases import acquire_lease, release_lease, renew_lease
from recsys.store.runs import INTERRUPTED, LATER, add_step, finish_run, start_run

RENEW_SECONDS = 10.0
MEMORY = "memory"  # a cause
MAY_PASS = ("network",)  # causes of failures that may be gone a while later
STARTED = "started"  # of a run's metrics: see describe_start

_SECRET: Any = {"store": True, "alerts": True, "source": {"url", "url_file"}}  # of the settings that are kept
_log = logging.getLogger(__name__)


@dataclass
class ActiveRun:
    """A run in progress. `started`, `metrics` and `bundle` are written to its row when it ends."""

    store: Store
    run_id: int
    fencing: int
    lease: str
    started: dict[str, Any]  # who or what started it, where, with which version and settings
    is_scheduled: bool  # started by the schedule, or as if by it
    metrics: dict[str, Any] = field(default_factory=dict)
    bundle: str | None = None

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """Time a step and record it, also when it fails, with the counts that are put into the yielded dict.

        peak_mb among them is the largest memory that the process has had until then.
        """
        counts: dict[str, Any] = {}
        start = time.perf_counter()
        try:
            yield counts
        finally:
            seconds = round(time.perf_counter() - start, 3)
            add_step(self.store, self.run_id, name, seconds, {**counts, "peak_mb": peak_megabytes()})

    def keep_lease(self) -> None:
        """Renew the lease before something is written outside the store. A lease that only expired is kept.

        Raises RefusedError when it was lost: after a suspension another run may have begun.
        """
        if not renew_lease(self.store, self.lease, self.fencing):
            raise RefusedError(
                f"the lease {self.lease!r} with fencing number {self.fencing} is lost: this run was away for too long, "
                "and another has begun; `recsys runs` shows it"
            )


@contextmanager
def run(store: Store, job: str, config: Config, *, scheduled: bool = False) -> Iterator[ActiveRun]:
    """Hold and renew the lease of `job`, and write the outcome of the block.

    scheduled: the run counts as one of the schedule, whoever starts it.

    Raises RefusedError when another run holds the lease, or when a run for the same due time has ended. An exception
    of the block is recorded and raised again: a RefusedError as `refused`, any other as `failed`. The message of a
    library is not recorded, because it may hold personal data.
    """
    owner = process_name(os.getpid())
    fencing = acquire_lease(store, job, owner)
    if fencing is None:
        raise BusyError(
            f"another run of {job!r} is under way; `recsys runs` shows it, and it ends or expires by itself"
        )
    with _renewing_lease(store, job, fencing):
        due_at = _due_at(job)
        is_scheduled = scheduled or due_at is not None
        started = describe_start(config, is_scheduled=is_scheduled)
        run_id = start_run(
            store, job, config.hash(), owner=owner, fencing=fencing, due_at=due_at, metrics={STARTED: started}
        )
        note_run(run_id)
        current = ActiveRun(store, run_id, fencing, job, started, is_scheduled)
        status, error = "failed", None
        try:
            with watching_memory(config.schedule.reserve_memory_mb, partial(_end_for_memory, current)):
                yield current
            status = "done"
        except RefusedError as refusal:
            status, error = "refused", str(refusal)
            raise
        except KeyboardInterrupt:
            error = INTERRUPTED
            raise
        except BaseException as failure:
            error = (LATER if _is_tried_again(failure, job) else "") + _describe(failure)
            current.metrics["cause"] = cause_of(failure)
            raise
        finally:
            metrics = {STARTED: current.started, **current.metrics}
            finish_run(store, current.run_id, status, metrics=metrics, error=error, bundle=current.bundle)


def _end_for_memory(run: ActiveRun, reason: str) -> None:
    """Record that a run failed for want of memory, and end this process. What it had begun is removed by the next."""
    metrics = {STARTED: run.started, **run.metrics, "cause": MEMORY}
    try:
        finish_run(run.store, run.run_id, "failed", metrics=metrics, error=reason)
        release_lease(run.store, run.lease, run.fencing)
    finally:
        _log.error("%s", reason)
        os._exit(1)  # an exception would wait for the library that takes the memory


def describe_start(config: Config, *, is_scheduled: bool) -> dict[str, Any]:
    """Who or what starts a run, on which machine, with which version and settings. Secrets are left out."""
    settings = config.model_dump(mode="json", exclude=_SECRET, exclude_defaults=True)
    return {
        "by": "schedule" if is_scheduled else "hand",
        "user": user_name(),
        "host": socket.gethostname(),
        "version": version("recsys"),
        "settings": settings,
    }


def who() -> str:
    """Who acts through this process, for people to read."""
    return f"{user_name() or 'somebody'} (command line)"


def user_name() -> str | None:
    """The name of the account that this process runs under; None in a container without names."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def peak_megabytes() -> int:
    """The largest resident memory that this process has had, in MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)


def _is_tried_again(failure: BaseException, job: str) -> bool:
    """Whether the scheduler starts the run again: the reason may pass by itself."""
    may_pass = isinstance(failure, AwayError | ConnectionError | TimeoutError) or cause_of(failure) in MAY_PASS
    return _due_at(job) is not None and (may_pass or is_away(failure))


def _describe(failure: BaseException) -> str:
    """Describe a failure for the ledger: in full when it is ours, else by its class, which holds no personal data."""
    name = type(failure).__name__
    is_ours = isinstance(failure, RecsysError) or type(failure).__module__ == "builtins"
    return f"{name}: {failure}" if is_ours else f"{name}; its own words are where the run was started"


def cause_of(failure: BaseException) -> str:
    """What kind of failure it is: as its error says, else memory, configuration, or the name of its class."""
    if isinstance(failure, RecsysError) and failure.cause:
        return failure.cause
    if isinstance(failure, MemoryError):
        return MEMORY
    return "configuration" if isinstance(failure, ConfigError) else type(failure).__name__


def process_name(pid: int) -> str:
    """Name a process of this machine for the ledger."""
    return f"{socket.gethostname()}:{pid}"


def _due_at(job: str) -> int | None:
    name, _, due_at = os.environ.get(DUE, "").rpartition(" ")
    return int(due_at) if name == job else None


@contextmanager
def _renewing_lease(store: Store, job: str, fencing: int) -> Iterator[None]:
    def renew() -> bool:
        try:
            # Once the lease is lost, its fencing number keeps this run from publishing.
            return renew_lease(store, job, fencing)
        except Exception as error:  # the database is away, perhaps not for long
            _log.warning("the lease of %s could not be renewed: %s", job, type(error).__name__)
            return True

    try:
        with repeating("lease", RENEW_SECONDS, renew):
            yield
    finally:
        release_lease(store, job, fencing)
