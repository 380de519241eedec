"""Alerts about failed and refused runs, and about a job without a successful run for too long.

An alert goes to the log and to a webhook. Alerts are read from the ledger, so one that could not be posted is posted
later. Runs that a person started count too, unless Ctrl-C ended them. A lease keeps two schedulers from alerting twice.
"""

import json
import logging
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from recsys.config.settings import AlertSettings
from recsys.data.times import rfc3339
from recsys.store.database import Store
from recsys.store.leases import acquire_lease, release_lease, renew_lease
from recsys.store.runs import Run
from recsys.store.schedule import Overdue, list_overdue_jobs, list_unalerted_runs, mark_alerted

LEASE = "alerts"
LEASE_SECONDS = 300.0  # longer than all tries of one alert
RECENT_SECONDS = 86_400.0  # a run that ended longer ago gets no alert
TIMEOUT_SECONDS = 10.0
RETRY_SECONDS = (1.0, 5.0)  # between the tries
PAUSE_SECONDS = 300.0  # after an alert that could not be posted
MAX_ERROR_LENGTH = 2_000

_log = logging.getLogger(__name__)


def watch(store: Store, settings: AlertSettings, jobs: frozenset[str], stop: Event, *, poll_seconds: float) -> None:
    """Send new alerts every `poll_seconds` until `stop` is set. A failure here reaches no job."""
    pause = 0.0
    while not stop.wait(pause):
        pause = poll_seconds
        try:
            if not send_alerts(store, settings, jobs, stop):
                pause = max(pause, PAUSE_SECONDS)
        except Exception as error:  # the database is away: the alerts are sent later
            _log.warning("alerts: the ledger could not be read: %s", type(error).__name__)


def send_alerts(store: Store, settings: AlertSettings, jobs: frozenset[str], stop: Event) -> bool:
    """Send every new alert once; return False when one could not be posted. It is sent again the next time."""
    if not _new_alerts(store, settings, jobs):
        return True
    fencing = acquire_lease(store, LEASE, "alerts", LEASE_SECONDS)
    if fencing is None:
        return True  # another scheduler sends them
    try:
        for subject in _new_alerts(store, settings, jobs):
            message = _message(subject, store.prefix, settings)
            _log.warning("alert: %s", message["text"])
            if settings.webhook_url is not None and not _post(settings.webhook_url.get_secret_value(), message, stop):
                return False
            mark_alerted(store, subject)
            if not renew_lease(store, LEASE, fencing, LEASE_SECONDS):
                return True
        return True
    finally:
        release_lease(store, LEASE, fencing)


def _new_alerts(store: Store, settings: AlertSettings, jobs: frozenset[str]) -> list[Run | Overdue]:
    found: list[Run | Overdue] = [*list_unalerted_runs(store, seconds=RECENT_SECONDS)]
    if settings.max_age_hours is not None:
        found += [late for late in list_overdue_jobs(store, seconds=settings.max_age_hours * 3600) if late.job in jobs]
    return found


def _message(subject: Run | Overdue, prefix: str, settings: AlertSettings) -> dict[str, Any]:
    """Build the JSON that is posted. Slack and Mattermost show `text`."""
    if isinstance(subject, Run):
        text = f"{subject.job}: run {subject.run_id} {subject.status}"
        values = {
            "status": subject.status,
            "run_id": subject.run_id,
            "error": subject.error[:MAX_ERROR_LENGTH] if subject.error else None,
            "findings": [finding for step in subject.steps for finding in step["counts"].get("findings", ())],
            "bundle": subject.bundle,
            "started_at": rfc3339(subject.started_at, whole_seconds=True),
            "finished_at": rfc3339(subject.finished_at, whole_seconds=True),
            "due_at": rfc3339(subject.due_at, whole_seconds=True),
        }
    else:
        text = f"{subject.job}: no successful run for {settings.max_age_hours:g} hours"
        values = {
            "status": "overdue",
            "run_id": None,
            "error": f"no successful run for {settings.max_age_hours:g} hours",
            "findings": [],
            "bundle": None,
            "started_at": None,
            "finished_at": rfc3339(subject.succeeded_at, whole_seconds=True),
            "due_at": None,
        }
    return {"text": text, "tables": prefix, "job": subject.job, **values}


def _post(url: str, message: dict[str, Any], stop: Event) -> bool:
    """Post with a few tries; return False when all failed. The log does not name the address."""
    for attempt, pause in enumerate((*RETRY_SECONDS, None), 1):
        fault = _try_post(url, message)
        if fault is None:
            return True
        _log.warning("alert: webhook, try %d of %d: %s", attempt, len(RETRY_SECONDS) + 1, fault)
        if pause is None or stop.wait(pause):
            break
    return False


def _try_post(url: str, message: dict[str, Any]) -> str | None:
    """Post once; return what went wrong, without the address, or None on 2xx. Redirects are not followed."""
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    body = json.dumps(message).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "recsys"}
    start = time.monotonic()
    try:
        with closing(kind(str(parts.hostname), parts.port, timeout=TIMEOUT_SECONDS)) as connection:
            connection.request("POST", path, body, headers)
            status = connection.getresponse().status
    except (OSError, HTTPException, ValueError) as error:  # ValueError: a host or path that cannot be sent
        return f"{type(error).__name__} after {time.monotonic() - start:.1f} s"
    return None if 200 <= status < 300 else f"the receiver answered {status}"
