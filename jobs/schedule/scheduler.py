"""The scheduler: runs each job once per due time, in a process of its own, even when processes are killed.

* The configuration holds the cron entries, the table of due times what is still to run, and the ledger what has ended.
* The scheduler claims a due time, starts the job, ends it when it takes too long, and settles the outcome.
* A kill may interrupt any of these steps. The next scheduler, or another one on the same store, continues there.
"""

import logging
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread

from apscheduler.schedulers.background import BackgroundScheduler

from jobs.ledger import process_name
from jobs.logs import DUE, begin_log
from jobs.schedule import alerts
from jobs.schedule.channels import open_channels
from jobs.schedule.entries import Entry, planned
from jobs.schedule.exporter import NightMetrics, serving_metrics
from jobs.schedule.remembered import Remembered
from jobs.schedule.resources import MEGABYTE, available_memory, free_disk, group_memory
from recsys.config.settings import Config, ScheduleSettings
from recsys.data.folder import failpoint
from recsys.data.times import readable
from recsys.errors import ConfigError, RecsysError, RefusedError
from recsys.store.database import Store, database_url
from recsys.store.migrate import open_store
from recsys.store.runs import DIED, list_runs
from recsys.store.schedule import ProcessExit, claim_due, list_due, plan_due, renew_due, settle_due, trigger_due
from recsys.store.shop import check_shop

POLL_SECONDS = 5.0  # between two checks of the due times
CLAIM_SECONDS = 60.0
NEEDS = "needs"  # the section of what is remembered about the last run of each job
PAUSE_SECONDS = 60.0  # between a process that died and the next one
MAX_PAUSE_SECONDS = 1800.0
WATCH_SECONDS = 1.0  # between two looks at the memory of running jobs
BUSY = 4  # the exit code of a job that finds another run under way

_log = logging.getLogger(__name__)


@dataclass
class Child:
    """The process of a job, which leads its own process group. Times are of the monotonic clock."""

    entry: Entry
    due_at: int
    process: subprocess.Popen[bytes]
    started: float
    renewed: float
    asked_to_end: float | None = None
    reason: str | None = None  # why the scheduler ends it
    attempts: int = 0  # before this one
    free_at_start: int = 0  # bytes of disk
    most_memory: int = 0  # bytes
    most_disk: int = 0


@dataclass(frozen=True)
class Scheduler:
    """One scheduler: its store, its settings, and its name as an owner of claims."""

    store: Store
    settings: ScheduleSettings
    owner: str
    folder: Path  # the data folder, whose disk is watched
    remembered: Remembered


def schedule(
    config: Config,
    path: Path,
    *,
    commands: dict[str, Sequence[str]] | None = None,
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Run what is due until SIGTERM or SIGINT, which also ends a running job with its process group.

    path: the configuration file, for the jobs' processes. commands: the command line of a job, instead of
    `recsys JOB --config PATH`. Raises ConfigError when nothing is scheduled.
    """
    begin_log(config.log.form)
    entries = planned(config, path, commands or {})
    database_url(config.store.url)
    wake: SimpleQueue[bool] = SimpleQueue()  # True: check what is due; False: end
    opened: list[Store] = []
    remembered = Remembered(config.storage.path)
    sender = alerts.Sender(open_channels(config.alerts), Event())
    metrics = NightMetrics(config, lambda: _first(opened), [entry.job for entry in entries], sender.outcomes)
    with (
        serving_metrics(config, metrics),
        _signals(wake),
        _alarm_clock(entries, wake),
        _alerts(opened, config, entries, sender, remembered, poll_seconds),
    ):
        if not _open(config, opened, wake, poll_seconds):
            return
        owner = f"{process_name(os.getpid())}:{uuid.uuid4().hex}"
        scheduler = Scheduler(opened[0], config.schedule, owner, config.storage.path, remembered)
        _work(scheduler, entries, wake, poll_seconds)
    opened[0].close()


def _open(config: Config, opened: list[Store], wake: SimpleQueue[bool], poll_seconds: float) -> bool:
    """Open the store into `opened` as soon as it answers; return False when the scheduler is to end before.

    Raises ConfigError for a URL that can never work, RefusedError when the data folder is another shop's.
    """
    while True:
        try:
            store = open_store(config.store.url, config.store.table_prefix)
            check_shop(store, config.storage.path, config.source.url)
        except (ConfigError, RefusedError):
            raise
        except RecsysError as error:  # the database is away; the alerts tell it
            _log.warning("the store cannot be opened; trying again: %s", error)
        else:
            opened.append(store)
            return True
        if not _woken(wake, poll_seconds):
            return False


def _work(scheduler: Scheduler, entries: list[Entry], wake: SimpleQueue[bool], poll_seconds: float) -> None:
    """Look at every due time, at every end of a child, and every few seconds; finally end the children."""
    children: dict[str, Child] = {}
    going_on, unplanned = True, list(entries)
    while going_on or children:
        unplanned = [entry for entry in unplanned if not _guarded(_plan, scheduler, children, entry)]
        for entry in (entry for entry in entries if entry not in unplanned):
            if entry.job in children:
                settled = _guarded(_attend, scheduler, children, entry)
                if not (settled or going_on or children[entry.job].process.returncode is None):
                    del children[entry.job]  # the database is away: the next scheduler settles it
            elif going_on:
                _guarded(_begin, scheduler, children, entry)
        pause = min(poll_seconds, WATCH_SECONDS) if children else poll_seconds
        if (going_on or children) and not _woken(wake, pause) and going_on:
            going_on = False
            _log.info("ending; %d running", len(children))
            for child in children.values():
                _ask_to_end(child, f"{DIED}it was ended with its scheduler")


def _guarded(
    step: Callable[[Scheduler, dict[str, Child], Entry], None],
    scheduler: Scheduler,
    children: dict[str, Child],
    entry: Entry,
) -> bool:
    try:
        step(scheduler, children, entry)
    except Exception as error:  # the database is away: the step is tried again at the next check
        _log.warning("%s: %s; trying again", entry.job, type(error).__name__)
        _log.debug("%s", entry.job, exc_info=True)
        return False
    return True


def _woken(wake: SimpleQueue[bool], seconds: float) -> bool:
    """Wait until it is time to check; return False when the scheduler is to end."""
    try:
        woken = wake.get(timeout=seconds)
        while woken:
            woken = wake.get_nowait()
    except Empty:
        return True
    return False


def _plan(scheduler: Scheduler, _children: dict[str, Child], entry: Entry) -> None:
    plan_due(scheduler.store, entry.job, entry.text, entry.next_due)
    _log.info("%s: scheduled for %s", entry.job, entry.text)


def _begin(scheduler: Scheduler, children: dict[str, Child], entry: Entry) -> None:
    if entry.after is not None:
        trigger_due(scheduler.store, entry.job, entry.after)
    due_at = claim_due(scheduler.store, entry.job, scheduler.owner, seconds=CLAIM_SECONDS, next_due=entry.next_due)
    if due_at is None:
        return
    attempts = next((due.attempts for due in list_due(scheduler.store) if due.job == entry.job), 0)
    if (lack := _lack(scheduler, entry)) is not None:
        _put_off(scheduler, entry, due_at, attempts, lack)
        return
    failpoint("after claim")
    process = subprocess.Popen(  # noqa: S603  (our own command)
        [sys.executable, "-m", "recsys.process", str(os.getpid()), *entry.command],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, DUE: f"{entry.job} {due_at}"},
    )
    now = time.monotonic()
    free = free_disk(scheduler.folder)
    children[entry.job] = Child(entry, due_at, process, started=now, renewed=now, attempts=attempts, free_at_start=free)
    failpoint("after start")
    _log.info("%s: started for %s, process %d", entry.job, readable(due_at), process.pid)


def _attend(scheduler: Scheduler, children: dict[str, Child], entry: Entry) -> None:
    """Settle a child that has ended. Renew the claim of a running one, and end it when it takes too long."""
    child, now = children[entry.job], time.monotonic()
    if _has_ended(child.process):
        _settle(scheduler, child)
        del children[entry.job]
        return
    if child.asked_to_end is not None:
        if now - child.asked_to_end >= scheduler.settings.grace_seconds:
            _signal_group(child.process, signal.SIGKILL)
    elif now - child.started >= entry.timeout_minutes * 60:
        _ask_to_end(child, f"it was over its limit of {entry.timeout_minutes:g} minutes and was ended")
    elif (excess := _excess(scheduler, child)) is not None:
        _ask_to_end(child, excess)
    if now - child.renewed >= CLAIM_SECONDS / 6:
        child.renewed = now
        renew_due(scheduler.store, entry.job, child.due_at, scheduler.owner, seconds=CLAIM_SECONDS)


def _lack(scheduler: Scheduler, entry: Entry) -> str | None:
    """What the machine lacks for a job, by its settings and by what its last run needed; None: nothing."""
    needs = scheduler.remembered.section(NEEDS).get(entry.job, {})
    disk, memory = free_disk(scheduler.folder), available_memory()
    wanted = max(entry.free_disk_mb * MEGABYTE, int(needs.get("disk", 0)))
    if disk < wanted:
        return (
            f"too little room in {scheduler.folder}: {disk / MEGABYTE:,.0f} MB are free, the job needs "
            f"{wanted / MEGABYTE:,.0f} MB; `recsys bundles prune` makes room"
        )
    wanted = int(needs.get("memory", 0)) + scheduler.settings.reserve_memory_mb * MEGABYTE
    if needs and memory < wanted:
        return (
            f"too little memory: {memory / MEGABYTE:,.0f} MB are left, the job needed {wanted / MEGABYTE:,.0f} MB last "
            "time, with the reserve"
        )
    return None


def _put_off(scheduler: Scheduler, entry: Entry, due_at: int, attempts: int, lack: str) -> None:
    """Try a due time again later, or give it up, because the machine lacks something."""
    found = ProcessExit(process=scheduler.owner, error=lack, pause_seconds=_pause(attempts))
    limit, next_due = entry.max_attempts, entry.next_due
    outcome = settle_due(scheduler.store, entry.job, due_at, scheduler.owner, found, attempts=limit, next_due=next_due)
    _log.warning("%s: not started for %s (%s): %s", entry.job, readable(due_at), outcome, lack)


def _pause(attempts: int) -> float:
    """Seconds before the next attempt: twice as long each time, and never quite the same for all."""
    seconds = min(PAUSE_SECONDS * 2.0**attempts, MAX_PAUSE_SECONDS)
    return float(seconds * random.uniform(1.0, 1.1))


def _excess(scheduler: Scheduler, child: Child) -> str | None:
    """Watch what a job uses; return why it has to be ended, or None."""
    used, left = group_memory(child.process.pid), available_memory()
    child.most_memory = max(child.most_memory, used)
    child.most_disk = max(child.most_disk, child.free_at_start - free_disk(scheduler.folder))
    budget, reserve = child.entry.memory_mb, scheduler.settings.reserve_memory_mb
    if budget is not None and used > budget * MEGABYTE:
        return f"it was over its limit of {budget:,} MB of memory, with {used / MEGABYTE:,.0f} MB, and was ended"
    if left < reserve * MEGABYTE and used > reserve * MEGABYTE:
        return (
            f"the machine ran out of memory: {left / MEGABYTE:,.0f} MB were left and the job used "
            f"{used / MEGABYTE:,.0f} MB; it was ended before the kernel ended other processes"
        )
    return None


def _settle(scheduler: Scheduler, child: Child) -> None:
    _signal_group(child.process, signal.SIGKILL)  # processes that the job has left behind
    code = child.process.wait()
    failpoint("before settling")
    process_exit = ProcessExit(
        process=process_name(child.process.pid),
        error=child.reason or f"{DIED}its process ended with code {code} and without a word",
        counts=code != BUSY and not (child.reason or "").startswith(DIED),
        pause_seconds=0.0 if child.reason else _pause(child.attempts),
    )
    entry = child.entry
    outcome = settle_due(
        scheduler.store,
        entry.job,
        child.due_at,
        scheduler.owner,
        process_exit,
        attempts=entry.max_attempts,
        next_due=entry.next_due,
    )
    if outcome == "ended":
        needs = {"memory": child.most_memory, "disk": child.most_disk}
        scheduler.remembered.put(NEEDS, entry.job, needs)
    seconds, runs = time.monotonic() - child.started, list_runs(scheduler.store, 1, job=entry.job)
    run_id = runs[0].run_id if runs and runs[0].due_at == child.due_at else None
    line = f"{entry.job}: {outcome} for {readable(child.due_at)}, code {code}, {seconds:.0f} s"
    _log.info(line, extra={"run_id": run_id})


def _ask_to_end(child: Child, reason: str) -> None:
    child.reason, child.asked_to_end = reason, time.monotonic()
    _log.warning("%s: asking process %d to end", child.entry.job, child.process.pid)
    _signal_group(child.process, signal.SIGTERM)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process has ended. It is not reaped yet, so its id still names its group."""
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.returncode is None:
        os.killpg(process.pid, number)


@contextmanager
def _signals(wake: SimpleQueue[bool]) -> Iterator[None]:
    """End the scheduler on SIGTERM and SIGINT, and wake it when a child ends.

    Afterwards a second SIGTERM is ignored, because `timeout` and supervisors signal a process and then its group. A
    second Ctrl-C still ends a process that hangs.
    """
    answers = {signal.SIGTERM: False, signal.SIGINT: False, signal.SIGCHLD: True}
    before = {number: signal.signal(number, lambda *_, go=go: wake.put(go)) for number, go in answers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if number == signal.SIGTERM else handler)


@contextmanager
def _alarm_clock(entries: list[Entry], wake: SimpleQueue[bool]) -> Iterator[None]:
    """Wake the scheduler at every due time. APScheduler's jobs are made from the configuration at each start."""
    clock = BackgroundScheduler(timezone=UTC)
    for entry in (entry for entry in entries if entry.trigger is not None and not entry.late_by):
        clock.add_job(wake.put, entry.trigger, [True], id=entry.job, coalesce=True, misfire_grace_time=None)
    clock.start()
    try:
        yield
    finally:
        clock.shutdown(wait=False)


@contextmanager
def _alerts(
    opened: list[Store],
    config: Config,
    entries: list[Entry],
    sender: alerts.Sender,
    remembered: Remembered,
    poll_seconds: float,
) -> Iterator[None]:
    """Send alerts in a thread. It is not waited for, so that a receiver that hangs does not delay the end."""
    watched = alerts.Watch(
        store=lambda: _first(opened),
        settings=config.alerts,
        prefix=config.store.table_prefix,
        jobs=frozenset(entry.job for entry in entries),
        sender=sender,
        remembered=remembered,
    )
    Thread(target=alerts.watch, args=(watched,), kwargs={"poll_seconds": poll_seconds}, daemon=True).start()
    try:
        yield
    finally:
        sender.stop.set()


def _first(opened: list[Store]) -> Store | None:
    return opened[0] if opened else None
