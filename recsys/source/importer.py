"""Import of files into the service's own tables; importing a file again adds nothing.

Every row is judged before the first is written, and each table is written in one transaction, the events last: a file
that is refused or a process that dies leaves no half of them.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from recsys.config.settings import RETURN, Config
from recsys.errors import ConfigError, RefusedError
from recsys.progress import Progress
from recsys.source.catalog import normalize_items, normalize_users
from recsys.source.contract import NEEDED
from recsys.source.events import EventBatch, normalize_events, require
from recsys.source.files import read_file
from recsys.source.findings import Finding, left_out
from recsys.source.presets import PRESETS, Prepared
from recsys.source.rows import EventStream, IdEncoder
from recsys.store.database import Store, count_rows
from recsys.store.events import import_events
from recsys.store.items import upsert_items
from recsys.store.users import read_deletions, upsert_users

What = Literal["events", "items", "users"]
DUPLICATE = "duplicate row"
DELETED = "event of a deleted user"

_KEYS: dict[str, str] = {"events": "user_id", "items": "item_id", "users": "user_id"}
_CONTENT = ("user_id", "item_id", "event", "time", "value")


@dataclass(frozen=True)
class Imported:
    """The result of an import: rows = inserted + already_there + the sum of left_out."""

    what: str
    rows: int  # of the file
    inserted: int
    already_there: int  # events: unchanged; items and users: replaced
    corrected: int  # events of an earlier import that a return in this file reduced or removed
    left_out: dict[str, int]  # reason -> rows
    findings: tuple[Finding, ...]  # why rows were left out, with examples
    items: int  # catalog rows that a preset derived from the events

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return asdict(self)


def import_file(
    config: Config, store: Store, path: Path, *, what: What, preset: str | None, progress: Progress
) -> Imported:
    """Read a file into the own tables. Unusable rows are left out and counted by reason.

    what: "events" (columns user_id, item_id, event, timestamp and, optionally, value), "items" (item_id and any others)
    or "users" (user_id, email_consent and any others). preset: a name of PRESETS, for events of another form.
    Raises SourceError when the file cannot be read or lacks a column, RefusedError when more of its rows than
    `[source] max_bad_share` have the same fault; nothing is written then.
    """
    if what not in _KEYS:
        raise ConfigError(f"{what!r} cannot be imported; allowed are {', '.join(_KEYS)}")
    if preset is not None and (preset not in PRESETS or what != "events"):
        raise ConfigError(f"there is no preset {preset!r} for {what}; allowed, for events, are {', '.join(PRESETS)}")
    progress(f"read {path.name}", 0.0)
    rows = read_file(path)
    progress(f"read {path.name}", 1.0)
    if what != "events":
        return _import_table(config, store, rows, what, path.name, progress)
    prepared = PRESETS[preset](rows, path.name) if preset else Prepared(rows, time_format=config.source.time_format)
    return _import_events(config, store, prepared, rows.height, path.name, progress)


def _import_events(
    config: Config, store: Store, prepared: Prepared, rows: int, name: str, progress: Progress
) -> Imported:
    now = store.now()
    kept, findings = _validate(config, prepared, rows, name, now)
    reasons = {**prepared.left_out, **{finding.reason: finding.rows for finding in findings}}
    events = _with_ids(kept)
    gone = set(_ids(prepared.gone)) - set(events["event_id"])
    reasons[DUPLICATE] = kept.height - events.height
    alive = _without_deleted(events, store)
    reasons[DELETED] = events.height - alive.height
    names = dict(enumerate(config.events.weights)) | dict.fromkeys([RETURN], next(iter(config.events.returns), ""))
    table = alive.select(
        "event_id",
        "user_id",
        "item_id",
        "value",
        kind=pl.col("kind").replace_strict(names, return_dtype=pl.String),
        occurred_at="time",
        received_at=pl.lit(now, pl.Int64),
    )
    reduced = alive.filter("reduced").select("event_id", "value").iter_rows() if "reduced" in alive.columns else ()
    if prepared.items is not None:
        upsert_items(store, prepared.items.to_arrow(), progress=progress)
    inserted, corrected = import_events(store, table.to_arrow(), reduced=dict(reduced), gone=gone, progress=progress)
    return Imported(
        what="events",
        rows=rows,
        inserted=inserted,
        already_there=alive.height - inserted,
        corrected=corrected,
        left_out={reason: count for reason, count in reasons.items() if count},
        findings=tuple(findings),
        items=0 if prepared.items is None else prepared.items.height,
    )


def _validate(config: Config, prepared: Prepared, rows: int, name: str, now: int) -> tuple[pl.DataFrame, list[Finding]]:
    """Return the rows that count, and a finding for each reason why others do not."""
    require(prepared.rows.columns, NEEDED, name)
    codes = config.events.words
    words = {word: codes[kind] for word, kind in prepared.kinds.items() if kind in codes} | codes
    batch = normalize_events(prepared.rows, config.source.timezone, name, prepared.time_format)
    if "key" in prepared.rows.columns:
        batch = EventBatch(batch.frame.with_columns(prepared.rows["key"], prepared.rows["reduced"]), batch.naive)
    stream = EventStream(IdEncoder(), IdEncoder(), words, now)
    kept = stream.validate_rows(batch)
    findings = left_out(stream.reasons, stream.examples, rows, config.source.max_bad_share)
    if errors := [finding for finding in findings if finding.severity == "error"]:
        raise RefusedError(f"{name} is not imported:\n" + "\n".join(f"  {finding}" for finding in errors))
    return kept, findings


def _with_ids(events: pl.DataFrame) -> pl.DataFrame:
    """Keep each row once. Its id is a hash of its content, so another import recognizes it."""
    content = ["key"] if "key" in events.columns else list(_CONTENT)
    texts = pl.concat_str([pl.col(column).cast(pl.String).fill_null("") for column in content], separator="\x1f")
    ids = pl.Series(_ids(events.select(texts).to_series()), dtype=pl.String)
    return events.with_columns(event_id=ids).unique("event_id", keep="first", maintain_order=True)


def _ids(texts: Iterable[str]) -> list[str]:
    return [hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for text in texts]


def _without_deleted(events: pl.DataFrame, store: Store) -> pl.DataFrame:
    deletions = read_deletions(store)
    gone = pl.DataFrame(
        {"user_id": list(deletions), "until": list(deletions.values())},
        schema={"user_id": pl.String, "until": pl.Int64},
    )
    joined = events.join(gone, on="user_id", how="left", maintain_order="left")
    return joined.filter((pl.col("time") > pl.col("until")).fill_null(True)).drop("until")


def _import_table(
    config: Config, store: Store, rows: pl.DataFrame, what: str, name: str, progress: Progress
) -> Imported:
    require(rows.columns, (_KEYS[what],), name)
    zone, form = config.source.timezone, config.source.time_format
    found = normalize_items(rows, name, zone, form) if what == "items" else normalize_users(rows, name)
    before = count_rows(store)[what]
    write = upsert_items if what == "items" else upsert_users
    written = write(store, found.frame.to_arrow(), progress=progress)
    inserted = count_rows(store)[what] - before
    lost = {finding.reason: finding.rows for finding in found.findings if finding.left_out}
    return Imported(what, rows.height, inserted, written - inserted, 0, lost, found.findings, 0)
