"""The jobs of a schedule: when each is due, what it runs, and what it may use."""

import hashlib
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

from jobs.output import Output, Table
from recsys.config.cron import parse_cron, time_zone
from recsys.config.settings import RECORDED, Config, JobSettings, ScheduleSettings
from recsys.data.times import from_datetime, readable, to_datetime
from recsys.errors import ConfigError, NotFoundError
from recsys.progress import Progress
from recsys.store.migrate import open_store
from recsys.store.schedule import NEVER, list_due, pause_job, paused_jobs, resume_job

_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True)
class Entry:
    """A job and when it is due."""

    job: str
    text: str  # what the due times follow from; when it changes, the next one is computed again
    trigger: OrTrigger | None  # None: it is due after another job
    every_hour: bool
    command: tuple[str, ...]
    after: str | None = None
    late_by: timedelta = timedelta()  # this shop's part of the jitter
    timeout_minutes: float = 360.0
    max_attempts: int = 3
    memory_mb: int | None = None
    free_disk_mb: int = 0

    def next_due(self, after: int) -> int:
        """Compute the first due time after a moment; both microseconds UTC.

        A local time that the change to summer time skips is due an hour later. One that the change back repeats
        counts once, unless the entry is for every hour.
        """
        if self.trigger is None:
            return NEVER
        moment = to_datetime(after) - self.late_by
        while True:
            found: datetime = self.trigger.get_next_fire_time(None, moment + timedelta(microseconds=1))
            moment = found.astimezone(UTC)
            again = moment.astimezone(found.tzinfo).fold == 1
            if self.every_hour or not again:
                return from_datetime(moment + self.late_by)


def planned(config: Config, path: Path, commands: dict[str, Sequence[str]]) -> list[Entry]:
    """Read the entries of the configuration. Raises ConfigError when there are none.

    commands: the command line of a job, instead of `recsys …`.
    """
    settings = config.schedule
    jobs = dict(settings.jobs)
    if settings.train is not None:
        jobs["train"] = jobs.get("train", JobSettings()).model_copy(update={"at": settings.train})
    if not jobs:
        raise ConfigError(
            'nothing is scheduled; [schedule] allows train, as train = "0 2 * * *", and [schedule.jobs.NAME]'
        )
    shop = f"{config.store.table_prefix} {config.storage.path}"
    return [_entry(name, job, settings, path, shop, commands) for name, job in sorted(jobs.items())]


def show(config: Config, path: Path) -> Output:
    """Show the jobs with their entries and due times, as the next start of the scheduler plans them."""
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        waiting, paused, now = {due.job: due for due in list_due(store)}, paused_jobs(store), store.now()
    rows = []
    for entry in planned(config, path, {}):
        due = waiting.get(entry.job)
        is_kept = due is not None and (due.entry == entry.text or due.due_at <= now)
        due_at = due.due_at if due is not None and is_kept else entry.next_due(now)
        when = f"after {entry.after}" if due_at == NEVER else readable(due_at)
        state = "paused" if entry.job in paused else "running" if due and due.free_at > now and due.owner else ""
        rows.append([entry.job, entry.text, when, due.attempts if due else 0, state])
    columns = ["job", "entry", "due_at", "attempts", "state"]
    return Output([dict(zip(columns, row, strict=True)) for row in rows], [Table("Schedule (UTC)", columns, rows)])


def pause(config: Config, *, path: Path, job: str, progress: Progress) -> Output:
    """Start no further run of a job, in no scheduler of this shop, until it is resumed."""
    _find(config, path, job)
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        pause_job(store, job)
    progress("schedule", 1.0)
    return Output({"job": job, "paused": True}, [f"{job} is paused; `recsys schedule resume {job}` lets it run again"])


def resume(config: Config, *, path: Path, job: str, progress: Progress) -> Output:
    """Let a paused job run again. Due times that passed meanwhile are not made up for."""
    entry = _find(config, path, job)
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        was_paused = resume_job(store, job, entry.next_due)
    progress("schedule", 1.0)
    due_at = readable(entry.next_due(time.time_ns() // 1000)) if entry.trigger else f"after {entry.after}"
    note = f"{job} runs again; next: {due_at}" if was_paused else f"{job} was not paused"
    return Output({"job": job, "paused": False, "was_paused": was_paused}, [note])


def _find(config: Config, path: Path, job: str) -> Entry:
    entries = {entry.job: entry for entry in planned(config, path, {})}
    if job not in entries:
        raise NotFoundError(f"no job {job!r} is scheduled; there are {', '.join(entries)}")
    return entries[job]


def _entry(
    name: str, job: JobSettings, settings: ScheduleSettings, path: Path, shop: str, commands: dict[str, Sequence[str]]
) -> Entry:
    words, file = job.command or (name,), str(path.resolve())
    own = (sys.executable, "-m", "jobs.cli", *words, "--config", file)
    if name not in RECORDED:
        own = (sys.executable, "-m", "jobs.schedule.command", name, file, *words)
    cron = None if job.at is None else parse_cron(job.at)
    late_by = timedelta(minutes=job.jitter_minutes * _share(f"{shop} {name}"))
    jitter = f" +{late_by.total_seconds():.0f} s" if late_by else ""
    return Entry(
        job=name,
        text=f"{job.at} {settings.zone}{jitter}" if cron else f"after {job.after}",
        trigger=_trigger(job.at, settings) if job.at else None,
        every_hour=cron is not None and cron.every_hour,
        command=tuple(commands.get(name, own)),
        after=job.after,
        late_by=late_by,
        timeout_minutes=job.timeout_minutes or settings.timeout_minutes,
        max_attempts=job.max_attempts or settings.max_attempts,
        memory_mb=job.memory_mb,
        free_disk_mb=job.free_disk_mb or 0,
    )


def _share(text: str) -> float:
    """A number in [0, 1) that a text always has, so that a shop's due times stay where they are."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest()) / 2**32


def _trigger(text: str, settings: ScheduleSettings) -> OrTrigger:
    """A trigger for each hour of the entry: one for several leaves out an hour that the clock skips."""
    cron = parse_cron(text)
    shared = {
        "minute": _listed(cron.minutes),
        "day": _listed(cron.days),
        "month": _listed(cron.months),
        "day_of_week": ",".join(_WEEKDAYS[day] for day in cron.weekdays),  # by name: APScheduler counts from Monday
        "second": "0",
        "timezone": time_zone(settings.zone),
    }
    hours = ["*"] if cron.every_hour else map(str, cron.hours)
    return OrTrigger([CronTrigger(hour=hour, **shared) for hour in hours])


def _listed(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))
