"""Alerts: what went wrong with a job, once for each incident, and that it is over.

What is told is read from the ledger, so nothing is lost while a channel does not answer, and a lease keeps two
schedulers from telling it twice. While the service's database is away, the scheduler tells that, and of runs that are
late or overdue by what it remembers.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

from jobs.schedule.channels import Channel, Message
from jobs.schedule.messages import describe, message
from jobs.schedule.remembered import Remembered
from recsys.config.settings import AlertSettings
from recsys.data.folder import failpoint
from recsys.data.times import readable
from recsys.store.database import Store
from recsys.store.incidents import Incident, last_successes, list_incidents, mark_due_told, mark_told
from recsys.store.leases import acquire_lease, release_lease, renew_lease
from recsys.store.schedule import list_due

LEASE = "alerts"
LEASE_SECONDS = 300.0  # longer than all tries of one alert on all channels
RECENT_SECONDS = 86_400.0  # a run that ended longer ago gets no alert
RETRY_SECONDS = (1.0, 5.0)  # between the tries
PAUSE_SECONDS = 300.0  # after an alert that a channel did not take
_STORE = "store"  # stands for the database among what was told while it was away
_DUE, _TOLD, _SUCCEEDED = "due", "told", "succeeded"  # sections of what is remembered

_log = logging.getLogger(__name__)


@dataclass
class Sender:
    """The channels, and what they took. An alert that one channel took is not sent there again."""

    channels: dict[str, Channel]
    stop: Event
    taken: set[tuple[str, str]] = field(default_factory=set)
    outcomes: dict[tuple[str, str], int] = field(default_factory=dict)  # (channel, sent or failed) -> how many

    def send(self, key: str, what: Message) -> bool:
        """Log an alert and send it to every channel; return False when one did not take it."""
        waiting = [name for name in self.channels if (key, name) not in self.taken]
        if len(waiting) == len(self.channels):
            _log.warning("alert: %s", what["text"], extra={"run_id": what["run_id"]})
        taken = [self._deliver(key, name, what) for name in waiting]  # each of them, whatever became of the others
        return all(taken)

    def _deliver(self, key: str, name: str, what: Message) -> bool:
        for attempt, pause in enumerate((*RETRY_SECONDS, None), 1):
            fault = self.channels[name](what)
            outcome = (name, "failed" if fault else "sent")
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
            if fault is None:
                self.taken.add((key, name))
                return True
            _log.warning("alert: %s, try %d of %d: %s", name, attempt, len(RETRY_SECONDS) + 1, fault)
            if pause is None or self.stop.wait(pause):
                break
        return False


@dataclass(frozen=True)
class Watch:
    """What the alerts of one scheduler need."""

    store: Callable[[], Store | None]  # None: it could not be opened yet
    settings: AlertSettings
    prefix: str  # of the own tables
    jobs: frozenset[str]
    sender: Sender
    remembered: Remembered


def watch(alerts: Watch, *, poll_seconds: float) -> None:
    """Send new alerts every `poll_seconds` until the sender is stopped. A failure here reaches no job."""
    pause, away_since = poll_seconds, 0.0
    while not alerts.sender.stop.wait(pause):
        try:
            store = alerts.store()
            all_sent = store is not None and tell(alerts, store)
            is_away = store is None
        except Exception as error:  # the database is away
            _log.debug("alerts: %s", type(error).__name__, exc_info=True)
            is_away = True
        if not is_away:
            pause, away_since = poll_seconds if all_sent else max(poll_seconds, PAUSE_SECONDS), 0.0
            continue
        away_since = away_since or time.time()
        sent = tell_away(alerts, away_since, now=time.time())
        pause = poll_seconds if sent else max(poll_seconds, PAUSE_SECONDS)


def tell(alerts: Watch, store: Store) -> bool:
    """Send every new alert once; return False when a channel did not take one. It is sent again the next time."""
    _remember(alerts, store)
    if not _tell_return(alerts):
        return False
    if not _incidents(alerts, store):
        return True
    fencing = acquire_lease(store, LEASE, "alerts", LEASE_SECONDS)
    if fencing is None:
        return True  # another scheduler sends them
    try:
        is_sent = True
        for incident in _incidents(alerts, store):
            failpoint("before alert")
            if alerts.sender.send(incident.key, describe(incident, alerts.settings, alerts.prefix)):
                failpoint("after alert")
                mark_told(store, incident)
            else:
                is_sent = False
            if not renew_lease(store, LEASE, fencing, LEASE_SECONDS):
                return True
        return is_sent
    finally:
        release_lease(store, LEASE, fencing)


def tell_away(alerts: Watch, since: float, *, now: float) -> bool:
    """Tell that the database is away, and which runs are late or overdue by then; return False as `tell` does.

    since, now: seconds since 1970 by this machine's clock.
    """
    settings, told = alerts.settings, alerts.remembered.section(_TOLD)
    all_sent = True
    if now - since >= settings.away_minutes * 60 and _STORE not in told:
        error = f"the service's database has not answered since {readable(round(since * 1e6))} UTC"
        what = message(settings, alerts.prefix, job="schedule", status="away", error=error)
        all_sent &= _send_once(alerts, _STORE, round(since * 1e6), what)
    for job, due_at in alerts.remembered.section(_DUE).items():
        late = settings.late_minutes is not None and now - due_at / 1e6 >= settings.late_minutes * 60
        key = f"late {job}"
        if job in alerts.jobs and late and told.get(key) != due_at:
            error = f"no run has ended {settings.late_minutes:g} minutes after it was due; the database is away"
            what = message(settings, alerts.prefix, job=job, status="missing", error=error, due_at=due_at)
            all_sent &= _send_once(alerts, key, due_at, what)
    for job, at in alerts.remembered.section(_SUCCEEDED).items():
        overdue = settings.max_age_hours is not None and now - at / 1e6 >= settings.max_age_hours * 3600
        key = f"overdue {job}"
        if job in alerts.jobs and overdue and told.get(key) != at and f"late {job}" not in told:
            error = f"no successful run for {settings.max_age_hours:g} hours; the database is away"
            what = message(settings, alerts.prefix, job=job, status="overdue", error=error, succeeded_at=at)
            all_sent &= _send_once(alerts, key, at, what)
    return all_sent


def _send_once(alerts: Watch, key: str, moment: int, what: Message) -> bool:
    if not alerts.sender.send(f"{key} {moment}", what):
        return False
    alerts.remembered.put(_TOLD, key, moment)
    return True


def _remember(alerts: Watch, store: Store) -> None:
    """Copy what is needed while the database is away, and hand over what was told meanwhile."""
    due = {row.job: row.due_at for row in list_due(store) if row.job in alerts.jobs}
    for job, moment in alerts.remembered.section(_TOLD).items():
        kind, _, name = job.partition(" ")
        if name in due and (kind == "overdue" or due[name] == moment):
            mark_due_told(store, name, due[name])
        if name:
            alerts.remembered.put(_TOLD, job, None)
    succeeded = {job: at for job, at in last_successes(store).items() if job in alerts.jobs}
    for section, values in ((_DUE, due), (_SUCCEEDED, succeeded)):
        for job in {*values, *alerts.remembered.section(section)}:
            alerts.remembered.put(section, job, values.get(job))


def _tell_return(alerts: Watch) -> bool:
    """Tell that the database is back, when people were told that it was away."""
    since = alerts.remembered.section(_TOLD).get(_STORE)
    if since is None:
        return True
    error = f"the service's database answers again; it was away since {readable(since)} UTC"
    what = message(alerts.settings, alerts.prefix, job="schedule", status="recovered", error=error)
    if not alerts.sender.send(f"back {since}", what):
        return False
    alerts.remembered.put(_TOLD, _STORE, None)
    return True


def _incidents(alerts: Watch, store: Store) -> list[Incident]:
    late, age = alerts.settings.late_minutes, alerts.settings.max_age_hours
    return list_incidents(
        store,
        alerts.jobs,
        recent_seconds=RECENT_SECONDS,
        by_hand=alerts.settings.by_hand,
        late_seconds=None if late is None else late * 60,
        max_age_seconds=None if age is None else age * 3600,
    )
