"""The scheduler: runs each job once per due time, in a process of its own, even when processes are killed.

* The configuration holds the cron entries, the table of due times what is still to run, and the ledger what has ended.
* The scheduler claims a due time, starts the job, ends it when it takes too long, and settles the outcome.
* A kill may interrupt any of these steps. The next scheduler, or another one on the same store, continues there.
"""

import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

from jobs.ledger import DUE, process_name
from jobs.output import Output, Table
from jobs.schedule import alerts
from jobs.schedule.channels import open_channels
from jobs.schedule.exporter import NightMetrics, serving_metrics
from jobs.schedule.remembered import Remembered
from recsys.config.cron import parse_cron, time_zone
from recsys.config.settings import Config, ScheduleSettings
from recsys.data.times import from_datetime, readable, to_datetime
from recsys.errors import ConfigError, RecsysError, RefusedError
from recsys.store.database import Store, database_url
from recsys.store.migrate import open_store
from recsys.store.runs import DIED
from recsys.store.schedule import ProcessExit, claim_due, list_due, plan_due, renew_due, settle_due
from recsys.store.shop import check_shop

JOBS = ("train",)  # the keys of [schedule] that are cron entries; each is a command of `recsys` too
POLL_SECONDS = 5.0  # between two checks of the due times
CLAIM_SECONDS = 60.0
PAUSE_SECONDS = 60.0  # between a process that died and the next one
REFUSED = 3  # the exit code of a job that finds another run under way
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A job and when it is due."""

    job: str
    text: str  # the cron entry and its zone; when it changes, the next due time is computed again
    trigger: CronTrigger
    every_hour: bool
    command: tuple[str, ...]

    def next_due(self, after: int) -> int:
        """Compute the first due time after a moment; both microseconds UTC.

        A local time that the change to summer time skips is due an hour later. One that the change back repeats
        counts once, unless the entry is for every hour.
        """
        moment = to_datetime(after)
        while True:
            found: datetime = self.trigger.get_next_fire_time(None, moment + timedelta(microseconds=1))
            moment = found.astimezone(UTC)
            again = moment.astimezone(self.trigger.timezone).fold == 1
            if self.every_hour or not again:
                return from_datetime(moment)


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


@dataclass(frozen=True)
class Scheduler:
    """One scheduler: its store, its settings, and its name as an owner of claims."""

    store: Store
    settings: ScheduleSettings
    owner: str


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
    _log_lines()
    entries = planned(config, path, commands or {})
    database_url(config.store.url)
    wake: SimpleQueue[bool] = SimpleQueue()  # True: check what is due; False: end
    opened: list[Store] = []
    sender = alerts.Sender(open_channels(config.alerts), Event())
    metrics = NightMetrics(config, lambda: _first(opened), [entry.job for entry in entries], sender.outcomes)
    with (
        serving_metrics(config, metrics),
        _signals(wake),
        _alarm_clock(entries, wake),
        _alerts(opened, config, entries, sender, poll_seconds),
    ):
        if not _open(config, opened, wake, poll_seconds):
            return
        scheduler = Scheduler(opened[0], config.schedule, f"{process_name(os.getpid())}:{uuid.uuid4().hex}")
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


def show(config: Config, path: Path) -> Output:
    """Show the jobs with their entries and due times."""
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        waiting = {due.job: due for due in list_due(store)}
    rows = []
    for entry in planned(config, path, {}):
        due = waiting.get(entry.job)
        rows.append([entry.job, entry.text, readable(due.due_at if due else None), due.attempts if due else 0])
    columns = ["job", "entry", "due_at", "attempts"]
    return Output([dict(zip(columns, row, strict=True)) for row in rows], [Table("Schedule (UTC)", columns, rows)])


def planned(config: Config, path: Path, commands: dict[str, Sequence[str]]) -> list[Entry]:
    """Read the entries of the configuration. Raises ConfigError when there are none."""
    zone = time_zone(config.schedule.zone)
    entries = []
    for job in JOBS:
        text = getattr(config.schedule, job)
        if text is None:
            continue
        cron = parse_cron(text)
        trigger = CronTrigger(
            minute=_listed(cron.minutes),
            hour=_listed(cron.hours),
            day=_listed(cron.days),
            month=_listed(cron.months),
            day_of_week=",".join(_WEEKDAYS[day] for day in cron.weekdays),  # by name: APScheduler counts from Monday
            second="0",
            timezone=zone,
        )
        own = (sys.executable, "-m", "jobs.cli", job, "--config", str(path.resolve()))
        command = tuple(commands.get(job, own))
        entries.append(Entry(job, f"{text} {config.schedule.zone}", trigger, cron.every_hour, command))
    if not entries:
        raise ConfigError(f'nothing is scheduled; [schedule] allows {", ".join(JOBS)}, as train = "0 2 * * *"')
    return entries


def _log_lines() -> None:
    """Send the jobs' log, from INFO on, to the error stream, with times in UTC."""
    lines = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    lines.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(lines)
    ours = logging.getLogger("jobs")
    ours.handlers, ours.propagate = [handler], False  # the root logger would add the lines of every library
    ours.setLevel(logging.INFO)


def _listed(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))


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
        if (going_on or children) and not _woken(wake, poll_seconds) and going_on:
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
    due_at = claim_due(scheduler.store, entry.job, scheduler.owner, seconds=CLAIM_SECONDS, next_due=entry.next_due)
    if due_at is None:
        return
    process = subprocess.Popen(  # noqa: S603  (our own command)
        [sys.executable, "-m", "recsys.process", str(os.getpid()), *entry.command],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, DUE: f"{entry.job} {due_at}"},
    )
    now = time.monotonic()
    children[entry.job] = Child(entry, due_at, process, started=now, renewed=now)
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
    elif now - child.started >= scheduler.settings.timeout_minutes * 60:
        _ask_to_end(child, f"it was over its limit of {scheduler.settings.timeout_minutes:g} minutes and was ended")
    if now - child.renewed >= CLAIM_SECONDS / 6:
        child.renewed = now
        renew_due(scheduler.store, entry.job, child.due_at, scheduler.owner, seconds=CLAIM_SECONDS)


def _settle(scheduler: Scheduler, child: Child) -> None:
    _signal_group(child.process, signal.SIGKILL)  # processes that the job has left behind
    code = child.process.wait()
    process_exit = ProcessExit(
        process=process_name(child.process.pid),
        error=child.reason or f"{DIED}its process ended with code {code} and without a word",
        counts=code != REFUSED and not (child.reason or "").startswith(DIED),
        pause_seconds=0.0 if child.reason else PAUSE_SECONDS,
    )
    entry = child.entry
    outcome = settle_due(
        scheduler.store,
        entry.job,
        child.due_at,
        scheduler.owner,
        process_exit,
        attempts=scheduler.settings.max_attempts,
        next_due=entry.next_due,
    )
    seconds = time.monotonic() - child.started
    _log.info("%s: %s for %s, code %d, %.0f s", entry.job, outcome, readable(child.due_at), code, seconds)


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
    for entry in entries:
        clock.add_job(wake.put, entry.trigger, [True], id=entry.job, coalesce=True, misfire_grace_time=None)
    clock.start()
    try:
        yield
    finally:
        clock.shutdown(wait=False)


@contextmanager
def _alerts(
    opened: list[Store], config: Config, entries: list[Entry], sender: alerts.Sender, poll_seconds: float
) -> Iterator[None]:
    """Send alerts in a thread. It is not waited for, so that a receiver that hangs does not delay the end."""
    watched = alerts.Watch(
        store=lambda: _first(opened),
        settings=config.alerts,
        prefix=config.store.table_prefix,
        jobs=frozenset(entry.job for entry in entries),
        sender=sender,
        remembered=Remembered(config.storage.path),
    )
    Thread(target=alerts.watch, args=(watched,), kwargs={"poll_seconds": poll_seconds}, daemon=True).start()
    try:
        yield
    finally:
        sender.stop.set()


def _first(opened: list[Store]) -> Store | None:
    return opened[0] if opened else None
