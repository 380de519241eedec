"""Tells of failed and refused runs, and of a job without a successful run for too long: in the log and by webhook.

Alerts are read from the ledger, so one that a kill, a restart or a dead receiver kept from being posted is posted
later, and runs that a person started are told of as well, unless Ctrl-C ended them. A lease keeps
two schedulers from telling twice.
"""

import json
import logging
import time
from contextlib import closing
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from recsys.config.settings import AlertSettings
from recsys.store.database import Store
from recsys.store.leases import acquire_lease, release_lease, renew_lease
from recsys.store.runs import Run
from recsys.store.schedule import Overdue, list_overdue_jobs, list_unalerted_runs, mark_alerted

LEASE = "alerts"
LEASE_SECONDS = 300.0  # longer than all tries of one alert
TELL_SECONDS = 86_400.0  # a run that ended longer ago is no news
TIMEOUT_SECONDS = 10.0
RETRY_SECONDS = (1.0, 5.0)  # between the tries
PAUSE_SECONDS = 300.0  # after an alert that could not be posted
MAX_ERROR_LENGTH = 2_000

_log = logging.getLogger(__name__)


def watch(store: Store, settings: AlertSettings, jobs: frozenset[str], stop: Event, *, look_seconds: float) -> None:
    """Tell of what is new every `look_seconds` until `stop` is set. Nothing that fails here reaches a job."""
    pause = 0.0
    while not stop.wait(pause):
        pause = look_seconds
        try:
            if not tell(store, settings, jobs, stop):
                pause = max(pause, PAUSE_SECONDS)
        except Exception as error:  # the database is away: what was not told stays so
            _log.warning("alerts: the ledger could not be read: %s", type(error).__name__)


def tell(store: Store, settings: AlertSettings, jobs: frozenset[str], stop: Event) -> bool:
    """Tell once of all that is new. False when something could not be posted; it is new again the next time."""
    if not _news(store, settings, jobs):
        return True
    fencing = acquire_lease(store, LEASE, "alerts", LEASE_SECONDS)
    if fencing is None:
        return True  # another scheduler is telling
    try:
        for what in _news(store, settings, jobs):
            message = _message(what, store.prefix, settings)
            _log.warning("alert: %s", message["text"])
            if settings.webhook_url is not None and not _post(settings.webhook_url.get_secret_value(), message, stop):
                return False
            mark_alerted(store, what)
            if not renew_lease(store, LEASE, fencing, LEASE_SECONDS):
                return True
        return True
    finally:
        release_lease(store, LEASE, fencing)


def _news(store: Store, settings: AlertSettings, jobs: frozenset[str]) -> list[Run | Overdue]:
    found: list[Run | Overdue] = [*list_unalerted_runs(store, seconds=TELL_SECONDS)]
    if settings.max_age_hours is not None:
        found += [late for late in list_overdue_jobs(store, seconds=settings.max_age_hours * 3600) if late.job in jobs]
    return found


def _message(what: Run | Overdue, prefix: str, settings: AlertSettings) -> dict[str, Any]:
    """The JSON that is posted. `text` is what Slack and Mattermost show."""
    if isinstance(what, Run):
        text = f"{what.job}: run {what.run_id} {what.status}"
        values = {
            "status": what.status,
            "run_id": what.run_id,
            "error": what.error[:MAX_ERROR_LENGTH] if what.error else None,
            "bundle": what.bundle,
            "started_at": _iso(what.started_at),
            "finished_at": _iso(what.finished_at),
            "due_at": _iso(what.due_at),
        }
    else:
        text = f"{what.job}: no successful run for {settings.max_age_hours:g} hours"
        values = {
            "status": "overdue",
            "run_id": None,
            "error": f"no successful run for {settings.max_age_hours:g} hours",
            "bundle": None,
            "started_at": None,
            "finished_at": _iso(what.succeeded_at),
            "due_at": None,
        }
    return {"text": text, "tables": prefix, "job": what.job, **values}


def _iso(microseconds: int | None) -> str | None:
    if microseconds is None:
        return None
    return f"{datetime.fromtimestamp(microseconds // 1_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _post(url: str, message: dict[str, Any], stop: Event) -> bool:
    """Post with a few tries. False, and a line in the log without the address, when none came through."""
    for attempt, pause in enumerate((*RETRY_SECONDS, None), 1):
        fault = _try_post(url, message)
        if fault is None:
            return True
        _log.warning("alert: webhook, try %d of %d: %s", attempt, len(RETRY_SECONDS) + 1, fault)
        if pause is None or stop.wait(pause):
            break
    return False


def _try_post(url: str, message: dict[str, Any]) -> str | None:
    """What went wrong, without the address; None when the receiver took it (2xx). Redirects are not followed."""
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
