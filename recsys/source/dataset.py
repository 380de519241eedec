"""The training data: interactions, items and users, read with the configured queries and checked.

Without queries the own tables are the source. Events posted to the service are added from the own tables; an event in
both streams counts once. Rows left out are counted by reason, and too many of them refuse the run.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from recsys.config.settings import RETURN, Config
from recsys.data.arrays import Int32
from recsys.data.catalog import Catalog
from recsys.data.interactions import Interactions
from recsys.data.nobody import no_visitors
from recsys.data.vocabulary import Vocabulary
from recsys.errors import RecsysError, RefusedError
from recsys.progress import Progress
from recsys.source.catalog import NO_ITEMS, Entries, build_catalog, consent_of, read_items, read_users
from recsys.source.contract import IDS
from recsys.source.counted import note, with_numbered_orders, without_duplicates, without_returned
from recsys.source.evaluation_check import evaluation_findings
from recsys.source.events import read_events
from recsys.source.findings import EXAMPLES, Finding, Severity, SourceReport
from recsys.source.kinds import not_taken, posted_kinds
from recsys.source.known import KNOWN
from recsys.source.merges import merge
from recsys.source.reader import Reader, open_reader
from recsys.source.rows import EventStream, IdEncoder
from recsys.source.visitors import rows_of, split
from recsys.store.database import Store
from recsys.store.tables import own_queries
from recsys.store.users import read_deletions
from recsys.store.visitors import read_visitors

_READ_AS = {
    "user_id": "user",
    "visitor_id": "visitor",
    "item_id": "item",
    "event": "kind",
    "timestamp": "time",
    "value": "value",
    "order_id": "order",
}
_MINUTE = 60_000_000
_EXPECTED_ROWS = 2_000_000  # the total is unknown: the bar is at a half after so many


@dataclass(frozen=True)
class Dataset:
    """The training data: U users, V visitors, I items, E events."""

    events: Interactions  # of the users
    visits: Interactions  # events of visitors, who are no users: to train from, in V rows without ids
    users: Vocabulary  # [U], by id; with a query of users also those without events
    catalog: Catalog  # [I], in the catalog's order, then items that only occur in events, by id
    consent: pa.BooleanArray | None  # [U], null where unknown; None without a query of users
    report: SourceReport
    kinds: tuple[str, ...]  # the name of each kind code
    new_kinds: dict[str, float]  # those of them that were posted and have no weight in the configuration: their weights
    watermark: int  # own events received until then (microseconds UTC) are included


def load(
    config: Config,
    store: Store,
    *,
    now: int,
    progress: Progress,
    is_evaluated: bool = False,
    tell: Callable[[SourceReport], None] = lambda _report: None,
) -> Dataset:
    """Read and check the source. now: microseconds UTC, to find times in the future.

    is_evaluated: the last days have to evaluate models, so findings about them refuse too. tell: is called with
    the report, also when it refuses.
    Raises RefusedError with the findings when a check fails, SourceError when the source cannot be read.
    """
    loaded = _load(config, store, now, progress)
    tell(loaded.report)
    if any(is_evaluated or not finding.is_of_evaluation for finding in loaded.report.errors):
        raise RefusedError(loaded.report.refusal())
    return loaded


def check(config: Config, store: Store, *, now: int, progress: Progress) -> SourceReport:
    """Read and check the source. A source that cannot be read is a finding too."""
    try:
        return _load(config, store, now, progress).report
    except RecsysError as error:
        return SourceReport({}, {}, {}, None, None, (Finding("error", "cannot be read", 0, 0, (), error.in_full),))


def read_consent(config: Config, store: Store, user_ids: Sequence[str]) -> pa.BooleanArray | None:
    """Read whether each of the users may be mailed now: true, false, or null where unknown. [B] -> [B].

    None when the shop has no consent of any user. Raises SourceError when its users cannot be read.
    """
    is_own = config.source.interactions is None
    query = own_queries(store.tables)[2] if is_own else config.source.users
    if query is None:
        return None
    with closing(_open_shop(config, store)) as shop:
        users = read_users(shop, query, "users", config.source, own=is_own).frame
    if users["email_consent"].null_count() == users.height:
        return None
    return consent_of(users, pl.Series(user_ids, dtype=pl.String))


@dataclass(frozen=True)
class _Reading:
    """The results of the queries."""

    main: EventStream  # events of the source
    own: EventStream | None  # events posted to the service, where the source is the shop's database
    items: Entries
    users: Entries | None
    mapping: dict[str, Any]
    watermark: int


def _load(config: Config, store: Store, now: int, progress: Progress) -> Dataset:
    new_kinds, findings_of_kinds = posted_kinds(config, store)
    config = config.with_kinds(new_kinds)
    reading = _read(config, store, now, progress)
    progress("put events in order", 0.0)
    findings = [*_findings_of_rows(reading, config), *findings_of_kinds]
    codes = reading.main
    events = _add_own(codes.take(), reading, config, findings)
    streams = [stream for stream in (codes, reading.own) if stream]
    links = [part for stream in streams for part in stream.links]
    known = read_visitors(store).without(no_visitors(config.source.guest_ids))
    events = merge(events, codes.users, links, known, read_deletions(store), findings)
    events = without_duplicates(events, findings)
    events = with_numbered_orders(without_returned(events, config, findings))
    lost = sum(stream.lost_visits for stream in streams)
    everything = events, visits = split(events, codes.users.ids, config.events, findings, lost=lost)
    users, user_rows = _user_rows(events, codes.users, reading.users)
    extra, item_rows = _item_rows(pl.concat(everything), codes.items, reading.items, config, findings)
    catalog = build_catalog(reading.items.frame, extra)
    owners = user_rows[events["user"].to_numpy()]
    interactions = _interactions(events, owners, item_rows, len(users), len(catalog))
    visitors, visitor_count = rows_of(visits)
    visiting = _interactions(visits, visitors, item_rows, visitor_count, len(catalog))
    findings += _too_little(interactions, visiting) or evaluation_findings(
        interactions, config, user_id=lambda row: str(users[row]), item_id=catalog.ids.id_of
    )
    progress("put events in order", 1.0)
    return Dataset(
        events=interactions,
        visits=visiting,
        users=Vocabulary.from_ids(users.to_list()),
        catalog=catalog,
        consent=None if reading.users is None else consent_of(reading.users.frame, users),
        report=_report(reading, interactions, visiting, catalog, findings, config),
        kinds=tuple(config.events.weights),
        new_kinds=new_kinds,
        watermark=reading.watermark,
    )


def _read(config: Config, store: Store, now: int, progress: Progress) -> _Reading:
    source = config.source
    words = config.events.words
    watermark = store.now()
    own_events, own_items, own_users = own_queries(store.tables, received_until=watermark)
    is_own = source.interactions is None
    queries = (own_events, own_items, own_users) if is_own else (source.interactions, source.items, source.users)
    with closing(_open_shop(config, store)) as shop:
        most, guests = config.events.max_visitor_events, source.guest_ids
        main = EventStream(IdEncoder(), IdEncoder(), words, now, most, guests)
        mapping = {
            "interactions": _read_stream(shop, str(queries[0]), "interactions", config, main, progress, own=is_own)
        }
        progress("read items", 0.0)
        items = read_items(shop, queries[1], "items", source, own=is_own) if queries[1] else NO_ITEMS
        users = read_users(shop, queries[2], "users", source, own=is_own) if queries[2] else None
    mapping["items"] = {c: c if c in ("item_id", *KNOWN) else "attribute" for c in items.frame.columns if queries[1]}
    mapping["users"] = {c: c for c in users.frame.columns} if users else {}
    if is_own:
        users = users if users and users.frame.height else None
        return _Reading(main, None, items, users, mapping, watermark)
    delivered = {word for word in main.words if word in words}
    kinds = config.events.own_kinds
    if kinds is None:
        known = (*config.events.weights, *config.events.returns)
        kinds = tuple(kind for kind in known if words[kind] not in {words[word] for word in delivered})
    own = EventStream(main.users, main.items, {kind: words[kind] for kind in kinds}, now, most, guests)
    with closing(_open_own(store)) as service:
        _read_stream(service, own_events, "own events", config, own, progress, own=True)
    mapping["own kinds"] = {kind: kind for kind in kinds}
    return _Reading(main, own, items, users, mapping, watermark)


def _open_shop(config: Config, store: Store) -> Reader:
    source = config.source
    if source.interactions is None or source.url is None:
        return _open_own(store)
    return open_reader(source.url, source.dialect, own_file=store.file, seconds=source.query_timeout_seconds)


def _open_own(store: Store) -> Reader:
    return open_reader(store.engine.url, own_file=store.file)


def _read_stream(
    reader: Reader, query: str, name: str, config: Config, rows: EventStream, progress: Progress, *, own: bool
) -> dict[str, str]:
    progress(f"read {name}", 0.0)
    zone, form = config.source.timezone, config.source.time_format
    for batch in read_events(reader, query, name, zone, form, own=own):
        rows.add(batch)
        progress(f"read {name}", rows.read / (rows.read + _EXPECTED_ROWS))
    progress(f"read {name}", 1.0)
    return {column: _READ_AS.get(column, "not read") for column in reader.query(query, name).columns}


def _findings_of_rows(reading: _Reading, config: Config) -> list[Finding]:
    main, zone = reading.main, config.source.timezone
    findings = [] if config.source.interactions else not_taken(main)
    findings += main.findings(main.read, config.source.max_bad_share)
    findings += [*reading.items.findings, *(reading.users.findings if reading.users else ())]
    for column in IDS:
        classes = main.classes[column]
        numbers = classes["integer"] + classes["real"]
        if numbers and classes["text"]:
            advice = f"{classes['text']:,} are text; 17850 and '17850' count as one id"
            findings.append(Finding("warning", f"{column} of mixed type", numbers, main.read, (), advice))
    if main.naive:
        advice = f"taken as {zone}" if zone else "taken as UTC; [source] timezone names another"
        findings.append(Finding("note", "time without a zone", main.naive, main.read, (), advice))
    return findings


def _add_own(events: pl.DataFrame, reading: _Reading, config: Config, findings: list[Finding]) -> pl.DataFrame:
    """Add the events posted to the service, without those that the source has too."""
    if reading.own is None or reading.own.read == 0:
        return events
    own = reading.own
    rows = own.take()
    findings += not_taken(own)
    findings += own.findings(own.read, config.source.max_bad_share)
    tolerance = round(config.events.dedup_window_minutes * _MINUTE)
    twin = rows.sort("time").join_asof(
        events.select("user", "item", "kind", "time", source_time="time").sort("time"),
        on="time",
        by=["user", "item", "kind"],
        strategy="nearest",
        tolerance=tolerance,
        check_sortedness=False,
    )
    fresh = twin.filter(pl.col("source_time").is_null()).drop("source_time")
    if twice := rows.height - fresh.height:
        advice = f"within {config.events.dedup_window_minutes:g} minutes; the source's row counts"
        findings.append(note("event in both streams", twice, rows.height, advice))
    return pl.concat([events, fresh.select(rows.columns)], how="diagonal")


def _user_rows(events: pl.DataFrame, codes: IdEncoder, users: Entries | None) -> tuple[pl.Series, Int32]:
    """Return the ids of the users by row, and the row of each code (-1: no event is left)."""
    known = codes.ids.gather(events["user"].unique())
    if users is not None:
        known = pl.concat([known.rename("user_id"), users.frame["user_id"]]).unique()
    known = known.sort()
    return known, _rows_of(codes.ids, known)


def _item_rows(
    events: pl.DataFrame, codes: IdEncoder, items: Entries, config: Config, findings: list[Finding]
) -> tuple[list[str], Int32]:
    """Return the ids of items that the catalog lacks, and the row of each code."""
    seen = codes.ids.gather(events["item"].unique())
    catalog = items.frame["item_id"]
    extra = seen.filter(~seen.is_in(catalog.implode())).sort()
    is_given = config.source.interactions is not None and config.source.items is not None
    if len(extra) and (len(catalog) or is_given):  # a query that returns nothing lists nothing
        findings.append(_unlisted(extra, len(seen), config))
    return extra.to_list(), _rows_of(codes.ids, pl.concat([catalog.rename("id"), extra.rename("id")]))


def _unlisted(extra: pl.Series, seen: int, config: Config) -> Finding:
    """The finding about items of events that the catalog lacks. seen: the number of items that have events."""
    examples = tuple(f"item_id={identifier!r}" for identifier in extra.head(EXAMPLES))
    allowed = config.recommendations.allow_unlisted
    severity: Severity = "note"
    advice = "kept, without attributes" if allowed else "they train and are not recommended"
    if 2 * len(extra) > seen:
        severity, advice = "warning", f"{advice}; are the ids of both queries the same ones?"
    if len(extra) == seen and not allowed:
        severity, advice = (
            "error",
            "nothing that has events could be recommended; the query of items must return the ids of events",
        )
    if not allowed:
        advice += "; [recommendations] allow_unlisted recommends them too"
    return Finding(severity, "item without catalog row", len(extra), seen, examples, advice)


def _rows_of(ids: pl.Series, vocabulary: pl.Series) -> Int32:
    """Return the position of each id in a vocabulary, -1 where it is missing."""
    table = pl.DataFrame({"id": vocabulary}).with_row_index("row")
    rows = pl.DataFrame({"id": ids}).join(table, on="id", how="left", maintain_order="left")["row"]
    return rows.cast(pl.Int32).fill_null(-1).to_numpy()


def _interactions(events: pl.DataFrame, users: Int32, items: Int32, user_count: int, item_count: int) -> Interactions:
    return Interactions.from_rows(
        users,
        items[events["item"].to_numpy()],
        events["kind"].to_numpy(),
        events["time"].to_numpy(),
        events["value"].fill_null(np.nan).to_numpy(),
        user_count=user_count,
        item_count=item_count,
        orders=events["order"].to_numpy() if "order" in events.columns else None,
    )


def _too_little(events: Interactions, visits: Interactions) -> list[Finding]:
    if len(events) == 0:
        advice = "the source has no event that counts; there is nothing to learn"
        if len(visits):
            advice = f"the source has {len(visits):,} events of visitors and none of a user; models are judged by users"
        return [Finding("error", "no events", 0, 0, (), advice)]
    found = []
    for what, count in _present(events).items():
        if count < 2:
            advice = f"all events are of one {what}; there is nothing to compare"
            found.append(Finding("error", f"only one {what}", len(events), len(events), (), advice))
    return found


def _present(events: Interactions) -> dict[str, int]:
    """Count the users and items that have events."""
    items = np.bincount(events.items, minlength=events.item_count)
    return {"user": int(np.count_nonzero(np.diff(events.offsets))), "item": int(np.count_nonzero(items))}


def _report(
    reading: _Reading,
    events: Interactions,
    visits: Interactions,
    catalog: Catalog,
    findings: list[Finding],
    config: Config,
) -> SourceReport:
    main, names = reading.main, dict(enumerate(config.events.weights)) | {RETURN: "return"}
    kinds = {
        word: {"kind": names[main.kinds[word]] if word in main.kinds else None, "rows": rows}
        for word, rows in main.words.most_common()
    }
    present = _present(events)
    counts = {
        "rows": main.read + (reading.own.read if reading.own else 0),
        "events": len(events),
        "users": present["user"],
        "items": present["item"],
        "catalog": int(np.count_nonzero(catalog.is_listed)),
        "visitors": visits.user_count,
        "visitor_events": len(visits),
    }
    first, last = (int(events.times.min()), int(events.times.max())) if len(events) else (None, None)
    order: list[Severity] = ["error", "warning", "note"]
    ordered = sorted(findings, key=lambda finding: order.index(finding.severity))
    return SourceReport(reading.mapping, kinds, counts, first, last, tuple(ordered))
