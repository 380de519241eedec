"""What an alert says: reason, shop, host and what to do about it."""

import socket
from typing import Any

from recsys.config.settings import AlertSettings
from recsys.data.times import rfc3339
from recsys.store.incidents import Incident

MAX_ERROR_LENGTH = 2_000
_HEADLINE_LENGTH = 200

# What a reason contains -> what to do about it; the first that fits. The reason itself may say it already. {run} is the
# number of the run after a blank, where it is known.
_REMEDIES = (
    ("belongs to another shop", "The reason says which key to change."),
    (
        "the gate refused",
        "The live bundle stays. `recsys runs show{run}` has the figures; look for what changed in the shop's data "
        "before you loosen [gate].",
    ),
    (
        "the guards refuse",
        "The live bundle stays. Each line of the reason says where to look. If the change was meant, "
        "`recsys train --force REASON` publishes it once.",
    ),
    (
        "): authentication",
        "The shop's database refused the account of [source] url: has its password changed? `recsys doctor` tries it.",
    ),
    ("): permission", "Let the account of [source] url read the tables of the query again: GRANT SELECT."),
    ("): network", "See whether the shop's database runs and this machine reaches it: `recsys doctor`."),
    (
        "): missing",
        "The shop's tables are not what the query in [source] names: adapt it, and try it with `recsys source check`.",
    ),
    ("): time limit", "See who holds a lock in the shop's database, or raise [source] query_timeout_seconds."),
    ("check of the source", "`recsys source check` shows the rows; mend the query or the data."),
    ("could not be written", "Make room in [storage] path: `recsys bundles prune`, fewer keep_bundles, a larger disk."),
    ("No space left", "Make room in [storage] path: `recsys bundles prune`, fewer keep_bundles, a larger disk."),
    ("limit of", "Give the job more with timeout_minutes or memory_mb in [schedule], or less to do."),
    ("memory", "Give the machine more memory, or the job less to do at that hour."),
    (
        "given up after",
        "The log of `recsys schedule` has what the process wrote; the kernel's log says if it killed it.",
    ),
    ("SourceError", "`recsys source check` repeats the query and shows the message of the shop's database."),
    ("AwayError", "Start the database; `recsys doctor` says what does not answer."),
    ("ConfigError", "`recsys doctor` checks the configuration."),
)
_OTHERWISE = {
    "failed": "`recsys runs show{run}` and the log of `recsys schedule` say more; `recsys doctor` checks the machine.",
    "refused": "The live bundle stays. `recsys runs show{run}` shows why.",
    "overdue": "See whether `recsys schedule` runs and what `recsys schedule --show` and `recsys runs` list.",
    "missing": "See whether another run holds the job (`recsys runs`) and what `recsys schedule --show` lists.",
    "late": "`recsys runs show{run}` shows the step that it is in; timeout_minutes in [schedule] ends it.",
    "away": "Start the database that [store] url names; `recsys doctor` says what does not answer.",
    "recovered": "Nothing.",
    "test": "Nothing: this is a test.",
}


def remedy(kind: str, error: str | None, run_id: int | None) -> str:
    """What to do about it."""
    fitting = (text for sign, text in _REMEDIES if kind in ("failed", "refused") and sign in (error or ""))
    return next(fitting, _OTHERWISE[kind]).replace("{run}", "" if run_id is None else f" {run_id}")


def describe(incident: Incident, settings: AlertSettings, prefix: str) -> dict[str, Any]:
    """Build the message about an incident."""
    run, hours, minutes = incident.run, settings.max_age_hours or 0, settings.late_minutes or 0
    error = {
        "overdue": f"no successful run for {hours:g} hours",
        "late": f"the run has not ended {minutes:g} minutes after it was due",
        "missing": f"no run has begun {minutes:g} minutes after it was due",
        "recovered": "a run has succeeded",
    }.get(incident.kind, run.error if run else None)
    host = None if run is None else run.owner.partition(":")[0]
    found = [] if run is None else [f for step in run.steps for f in step["counts"].get("findings", ())]
    return message(
        settings,
        prefix,
        job=incident.job,
        status=incident.kind,
        error=error,
        host=host,
        run_id=None if run is None else run.run_id,
        findings=found,
        bundle=None if run is None else run.bundle,
        started_at=None if run is None else run.started_at,
        finished_at=None if run is None else run.finished_at,
        due_at=incident.due_at,
        succeeded_at=incident.succeeded_at,
    )


def message(
    settings: AlertSettings,
    prefix: str,
    *,
    job: str,
    status: str,
    error: str | None,
    host: str | None = None,
    findings: list[dict[str, Any]] | None = None,
    run_id: int | None = None,
    bundle: str | None = None,
    **times: int | None,
) -> dict[str, Any]:
    """Build a message: the values that are posted as JSON. Times come in microseconds UTC and leave as RFC 3339."""
    shop, host = settings.shop or prefix.rstrip("_"), host or socket.gethostname()
    first, *others = (error or "no reason is known").splitlines()
    reason = f"{first} {others[0].strip()}" if first.endswith(":") and others else first
    moments = ("started_at", "finished_at", "due_at", "succeeded_at")
    return {
        "text": f"[{shop}] {job} {status} on {host}: {reason[:_HEADLINE_LENGTH]}",
        "shop": shop,
        "host": host,
        "tables": prefix,
        "job": job,
        "status": status,
        "run_id": run_id,
        "error": error[:MAX_ERROR_LENGTH] if error else None,
        "remedy": remedy(status, error, run_id),
        "findings": findings or [],
        "bundle": bundle,
        **{name: rfc3339(times.get(name), whole_seconds=True) for name in moments},
    }
