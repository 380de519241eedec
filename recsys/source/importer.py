"""Import of files into the service's own tables; importing a file again adds nothing.

Every row is checked before the first is written, and each table is written in one transaction, the events last: a file
that is refused or a process that dies leaves no half of them.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import polars as pl

from recsys.config.settings import RETURN, Config
from recsys.errors import ConfigError, RefusedError
from recsys.progress import Progress
from recsys.source.catalog import normalize_items, normalize_users
from recsys.source.contract import IDS, NEEDED, ORDER, VISITOR
from recsys.source.events import normalize_events, require
from recsys.source.files import FileRows, expand, read_files
from recsys.source.findings import UNREADABLE_ROW, Finding, left_out
from recsys.source.headers import KNOWN_COLUMNS, NUMBERS, Columns, map_columns, with_points
from recsys.source.ids import refuse_rounded
from recsys.source.merges import tombstones
from recsys.source.prepared import Prepared
from recsys.source.presets import PRESETS
from recsys.source.reviews import normalize_reviews
from recsys.source.rows import EventStream, IdEncoder
from recsys.source.times import TimeReader
from recsys.source.unread import keep_readable
from recsys.source.visitors import is_visit, owners_of
from recsys.store.database import Store, count_rows
from recsys.store.events import import_events
from recsys.store.items import upsert_items
from recsys.store.reviews import upsert_reviews
from recsys.store.users import read_deletions, upsert_users
from recsys.store.visitors import read_visitors

What = Literal["events", "items", "users", "reviews"]
DUPLICATE = "duplicate row"
DELETED_REVIEW = "review of a deleted user"
DELETED = "event of a deleted user"  # or of a deleted visitor

_KEYS: dict[str, str] = {"events": "user_id", "items": "item_id", "users": "user_id", "reviews": "item_id"}
_NORMALIZE = {"items": normalize_items, "users": normalize_users, "reviews": normalize_reviews}
_CONTENT = ("owner", "item_id", "event", "time", "value")


@dataclass(frozen=True)
class Understood:
    """What files hold, before anything is written: rows = the rows of `table` + the sum of left_out."""

    what: str
    rows: int  # of the files, with those that cannot be parsed
    left_out: dict[str, int]  # reason -> rows
    findings: tuple[Finding, ...]  # why rows were left out, with examples
    recognized: dict[str, dict[str, str]]  # file -> what -> found
    table: pl.DataFrame  # events: user_id, item_id, kind (a code), time, value, event_id; items and users: as stored
    items: pl.DataFrame | None = None  # a catalog that a preset derived from the events
    gone: Collection[str] = ()  # ids of events that a return took back whole
    name: str = ""  # what messages call the files
    unread: pl.DataFrame | None = None  # as in `Entries`

    @property
    def refusal(self) -> str | None:
        """Why the files are not imported: a fault that more rows have than are allowed."""
        errors = [f"  {finding}" for finding in self.findings if finding.severity == "error"]
        return "\n".join([f"{self.name} is not imported:", *errors]) if errors else None


@dataclass(frozen=True)
class Imported:
    """The result of an import: rows = inserted + already_there + the sum of left_out."""

    what: str
    rows: int  # of the files
    inserted: int
    already_there: int  # events: unchanged; items and users: replaced
    corrected: int  # events of an earlier import that a return in these files reduced or removed
    left_out: dict[str, int]  # reason -> rows
    findings: tuple[Finding, ...]  # why rows were left out, with examples
    items: int  # catalog rows that a preset derived from the events
    recognized: dict[str, dict[str, str]]  # file -> what -> found

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return asdict(self)


def import_files(
    config: Config,
    store: Store,
    paths: Sequence[Path],
    *,
    what: What | None = None,
    preset: str | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
    progress: Progress,
) -> Imported:
    """Read files into the own tables. Unusable rows are left out and counted by reason.

    paths: files, or patterns such as `orders-*.csv`. The other arguments: as in `understand`.
    Raises SourceError when a file cannot be read or lacks a column, RefusedError when more of the rows than
    `[source] max_bad_share` have the same fault; nothing is written then.
    """
    now = store.now()
    found = understand(config, paths, what=what, preset=preset, columns=columns, now=now, progress=progress)
    if found.refusal:
        raise RefusedError(found.refusal)
    if found.what == "events":
        return _write_events(config, store, found, now, progress)
    return _write_table(store, found, progress)


def understand(
    config: Config,
    paths: Sequence[Path],
    *,
    what: What | None,
    preset: str | None,
    columns: Mapping[str, str],
    now: int,
    progress: Progress,
) -> Understood:
    """Read files and check every row; write nothing.

    what: "events" (columns user_id, item_id, event, timestamp and, optionally, value, visitor_id and order_id), "items"
    (item_id and any others), "users" (user_id, email_consent and any others) or "reviews" (item_id, user_id, rating,
    title, text, time, language); None: what the preset reads, or events.
    preset: a name of PRESETS, for files of another form. columns: our name -> theirs, beside those of the
    configuration; when all of theirs are numbers, they are places in files without a header. now: microseconds UTC.
    Raises as `import_files`, except for rows with faults: see `refusal`.
    """
    if what is not None and what not in _KEYS:
        raise ConfigError(f"{what!r} cannot be imported; allowed are {', '.join(_KEYS)}")
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"there is no preset {preset!r}; allowed are {', '.join(PRESETS)}")
    mapped = Columns(columns, config.imports.columns)
    files = expand(paths)
    name = files[0].name if len(files) == 1 else f"{len(files)} files"
    progress(f"read {name}", 0.0)
    known = {*mapped.theirs, *columns, *chain.from_iterable(KNOWN_COLUMNS.values())}
    read = read_files(files, known, has_header=not mapped.are_places, max_expanded_mib=config.imports.max_expanded_mib)
    progress(f"read {name}", 1.0)
    wanted = () if preset else KNOWN_COLUMNS[what or "events"]
    rows, renamed = map_columns(read.rows, mapped, wanted, name)
    rows, with_commas = with_points(rows, () if preset else NUMBERS)
    for column in {*IDS[:2], VISITOR} & set(rows.columns):
        refuse_rounded(rows[column], name)
    prepared = PRESETS[preset](rows, name) if preset else Prepared(rows, time_format=config.source.time_format)
    if preset and what not in (None, prepared.what):
        raise ConfigError(f"the preset {preset!r} reads {prepared.what}, not {what}")
    read = read.recognizing(name, {"columns": renamed, "decimal comma": ", ".join(with_commas)})
    kind = what or prepared.what
    if kind == "events":
        return _understand_events(config, prepared, read, name, now)
    return _understand_table(config, kind, prepared, read, name)


def _understand_events(config: Config, prepared: Prepared, read: FileRows, name: str, now: int) -> Understood:
    kept, findings = _validate(config, prepared, read, name, now)
    findings += [Finding("note", note, rows, _rows(prepared, read)) for note, rows in prepared.notes.items()]
    events = _with_ids(kept)
    reasons = {**prepared.left_out, **{finding.reason: finding.rows for finding in findings if finding.left_out}}
    reasons[DUPLICATE] = kept.height - events.height
    return Understood(
        what="events",
        rows=_rows(prepared, read),
        left_out={reason: count for reason, count in reasons.items() if count},
        findings=tuple(findings),
        recognized=read.recognized,
        table=events,
        items=prepared.items,
        gone=set(_ids(prepared.gone)) - set(events["event_id"]),
        name=name,
    )


def _write_events(config: Config, store: Store, found: Understood, now: int, progress: Progress) -> Imported:
    alive = _without_deleted(found.table, store)
    deleted = found.table.height - alive.height
    names = kind_names(config)
    table = alive.select(
        "event_id",
        "item_id",
        "value",
        *([ORDER] if ORDER in alive.columns else ()),
        user_id=pl.when(~is_visit()).then(pl.col("user_id")),
        visitor_id=pl.when(pl.col("visitor_id") != "").then(pl.col("visitor_id")),
        kind=pl.col("kind").replace_strict(names, return_dtype=pl.String),
        occurred_at="time",
        received_at=pl.lit(now, pl.Int64),
    )
    reduced = alive.filter("reduced").select("event_id", "value").iter_rows() if "reduced" in alive.columns else ()
    if found.items is not None:
        upsert_items(store, found.items.to_arrow(), progress=progress)
    inserted, corrected = import_events(
        store, table.to_arrow(), reduced=dict(reduced), gone=found.gone, progress=progress
    )
    return Imported(
        what="events",
        rows=found.rows,
        inserted=inserted,
        already_there=alive.height - inserted,
        corrected=corrected,
        left_out=found.left_out | ({DELETED: deleted} if deleted else {}),
        findings=found.findings,
        items=0 if found.items is None else found.items.height,
        recognized=found.recognized,
    )


def _rows(prepared: Prepared, read: FileRows) -> int:
    """The number of rows to account for."""
    return read.unread + (read.rows.height if prepared.of is None else prepared.of)


def _validate(
    config: Config, prepared: Prepared, read: FileRows, name: str, now: int
) -> tuple[pl.DataFrame, list[Finding]]:
    """Return the rows that count, and a finding for each reason why others do not."""
    require(prepared.rows.columns, NEEDED, name)
    codes = config.events.words
    words = {word: codes[kind] for word, kind in prepared.kinds.items() if kind in codes} | codes
    times = TimeReader(config.source.timezone, prepared.time_format, strict=True)
    batch = normalize_events(prepared.rows, times, name)
    if "key" in prepared.rows.columns:
        batch = replace(batch, frame=batch.frame.with_columns(prepared.rows["key"], prepared.rows["reduced"]))
    stream = EventStream(IdEncoder(), IdEncoder(), words, now, guests=config.source.guest_ids)
    kept = stream.validate_rows(batch)
    return kept, [
        *_unparsed(config, prepared, read),
        *stream.findings(_rows(prepared, read), config.source.max_bad_share),
    ]


def _unparsed(config: Config, prepared: Prepared, read: FileRows) -> list[Finding]:
    counts, shown = {UNREADABLE_ROW: read.unread}, {UNREADABLE_ROW: list(read.examples)}
    return left_out(counts, shown, _rows(prepared, read), config.source.max_bad_share)


def _with_ids(events: pl.DataFrame) -> pl.DataFrame:
    """Keep each row once. Its id is a hash of its content, so another import recognizes it."""
    content = ["key"] if "key" in events.columns else list(_CONTENT)
    events = events.with_columns(owners_of(events).alias("owner"))
    texts = pl.concat_str([pl.col(column).cast(pl.String).fill_null("") for column in content], separator="\x1f")
    ids = pl.Series(_ids(events.select(texts).to_series()), dtype=pl.String)
    return events.with_columns(event_id=ids).unique("event_id", keep="first", maintain_order=True)


def _ids(texts: Iterable[str]) -> list[str]:
    return [hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for text in texts]


def kind_names(config: Config) -> dict[int, str]:
    """Map the codes of an import's kinds to their names; a return has the first of the shop's words for it."""
    return dict(enumerate(config.events.weights)) | dict.fromkeys([RETURN], next(iter(config.events.returns), ""))


def _without_deleted(events: pl.DataFrame, store: Store) -> pl.DataFrame:
    gone = tombstones(read_visitors(store).deleted, read_deletions(store))
    joined = events.join(gone, on="owner", how="left", maintain_order="left")
    return joined.filter((pl.col("time") > pl.col("until")).fill_null(True)).drop("until")


def _understand_table(config: Config, what: str, prepared: Prepared, read: FileRows, name: str) -> Understood:
    rows = prepared.rows
    require(rows.columns, (_KEYS[what],), name)
    settings = config.source.model_copy(update={"time_format": prepared.time_format})
    entries = _NORMALIZE[what](rows, name, settings)
    findings = (*_unparsed(config, prepared, read), *entries.findings)
    lost = {**prepared.left_out, **{finding.reason: finding.rows for finding in findings if finding.left_out}}
    return Understood(
        what=what,
        rows=_rows(prepared, read),
        left_out=lost,
        findings=findings,
        recognized=read.recognized,
        table=entries.frame,
        name=name,
        unread=entries.unread,
    )


def _write_table(store: Store, found: Understood, progress: Progress) -> Imported:
    before = count_rows(store)[found.what]
    if found.what == "reviews":
        written = upsert_reviews(store, found.table.to_arrow(), progress=progress)
        lost = {DELETED_REVIEW: found.table.height - written} if written < found.table.height else {}
        found = replace(found, left_out=found.left_out | lost)
    else:
        is_items = found.what == "items"
        write, table = (upsert_items, store.tables.items) if is_items else (upsert_users, store.tables.users)
        written = write(store, *keep_readable(store, table, found.table, found.unread), progress=progress)
    inserted = count_rows(store)[found.what] - before
    return Imported(
        what=found.what,
        rows=found.rows,
        inserted=inserted,
        already_there=written - inserted,
        corrected=0,
        left_out=found.left_out,
        findings=found.findings,
        items=0,
        recognized=found.recognized,
    )
