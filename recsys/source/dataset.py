"""The training data: interactions, items and users, read with the configured queries and checked.

Without queries the own tables are the source. Events posted to the service are added from the own tables; an event in
both streams counts once. Rows left out are counted by reason, and too many of them refuse the run.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from recsys.config.settings import RETURN, Config
from recsys.data.arrays import Int32
from recsys.data.catalog import Catalog
from recsys.data.extract import Recent
from recsys.data.interactions import Interactions
from recsys.data.nobody import no_visitors
from recsys.data.vocabulary import Vocabulary
from recsys.errors import RecsysError, RefusedError
from recsys.progress import Progress
from recsys.source.catalog import Entries, build_catalog
from recsys.source.contract import IDS
from recsys.source.counted import note, with_numbered_orders, without_duplicates, without_returned
from recsys.source.evaluation_check import evaluation_findings
from recsys.source.findings import EXAMPLES, Finding, Severity, SourceReport
from recsys.source.kinds import not_taken
from recsys.source.merges import merge
from recsys.source.order import Numbered
from recsys.source.people import consent_of
from recsys.source.readings import is_trained, open_last
from recsys.source.results import Results, keep, number, read_queries
from recsys.source.rows import IN_ORDER
from recsys.source.visitors import rows_of, split
from recsys.store.database import Store

_MINUTE = 60_000_000


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
    recent: Recent  # which of the own events that came shortly before are
    how: dict[str, dict[str, Any]]  # how much was read of each stream of events, and why
    reading: str | None = None  # what the next night goes on from


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
    reading = read_queries(config, store, now, progress)
    return _checked(_derive(reading, _in_order(reading, progress), progress), is_evaluated, tell)


def load_news(
    config: Config,
    store: Store,
    *,
    now: int,
    progress: Progress,
    is_full: bool = False,
    is_evaluated: bool = False,
    trained: str | None = None,
    tell: Callable[[SourceReport], None] = lambda _report: None,
    note: Callable[[dict[str, Any]], None] = lambda _how: None,
) -> Dataset | None:
    """As `load`, but read only what is new since the last reading, and keep the reading for the next night.

    None: nothing is new since the newest bundle was made in the way that `trained` stands for, as `note_trained` noted.
    is_full: read everything. note: is called with what was read, and why.
    Raises as `load`; also RecsysError when the reading cannot be kept.
    """
    folder = config.storage.path
    last = open_last(folder)
    reading = read_queries(config, store, now, progress, last=last, is_kept=True, is_full=is_full)
    note(reading.how)
    is_new = last is None or reading.is_new_after(last)
    if last is not None and not is_new and trained is not None and is_trained(folder, last.name, trained):
        return None
    numbered = _in_order(reading, progress)
    if last is not None and not is_new:
        name = last.name
    else:
        progress("keep what was read", 0.0)
        name = keep(folder, reading, numbered)
        progress("keep what was read", 1.0)
    return _checked(replace(_derive(reading, numbered, progress), reading=name), is_evaluated, tell)


def _in_order(reading: Results, progress: Progress) -> Numbered:
    progress("put events in order", 0.0)
    numbered = number(reading)
    progress("put events in order", 1.0)
    return numbered


def _checked(loaded: Dataset, is_evaluated: bool, tell: Callable[[SourceReport], None]) -> Dataset:
    tell(loaded.report)
    if any(is_evaluated or not finding.is_of_evaluation for finding in loaded.report.errors):
        raise RefusedError(loaded.report.refusal())
    return loaded


def check(config: Config, store: Store, *, now: int, progress: Progress) -> SourceReport:
    """Read and check the source. A source that cannot be read is a finding too."""
    try:
        reading = read_queries(config, store, now, progress)
        return _derive(reading, _in_order(reading, progress), progress).report
    except RecsysError as error:
        return SourceReport({}, {}, {}, None, None, (Finding("error", "cannot be read", 0, 0, (), error.in_full),))


def _derive(reading: Results, numbered: Numbered, progress: Progress) -> Dataset:
    """Make the training data of what was read, the same whatever the order in which it came."""
    progress("check events", 0.0)
    config = reading.config
    findings = [*_findings_of_rows(reading, config), *reading.findings]
    events = _add_own(reading.main.take(), reading, config, findings)
    streams = [read.rows for read in reading.streams.values()]
    links = [part for stream in streams for part in stream.links]
    known = reading.visitors.without(no_visitors(config.source.guest_ids))
    user_ids, item_ids = numbered.users, numbered.items
    events = merge(events, user_ids, links, known, reading.deleted, findings)
    events = without_duplicates(events, findings)
    events = with_numbered_orders(without_returned(events, config, findings))
    lost = sum(stream.lost_visits for stream in streams)
    everything = events, visits = split(events, user_ids, config.events, findings, lost=lost)
    users, user_rows = _user_rows(events, user_ids, reading.users)
    extra, item_rows = _item_rows(everything, item_ids, reading.items, config, findings)
    catalog = build_catalog(reading.items.frame, extra)
    owners = user_rows[events["user"].to_numpy()]
    interactions = _interactions(events, owners, item_rows, len(users), len(catalog))
    visitors, visitor_count = rows_of(visits)
    visiting = _interactions(visits, visitors, item_rows, visitor_count, len(catalog))
    findings += _too_little(interactions, visiting) or evaluation_findings(
        interactions, config, user_id=lambda row: str(users[row]), item_id=catalog.ids.id_of
    )
    progress("check events", 1.0)
    return Dataset(
        events=interactions,
        visits=visiting,
        users=Vocabulary.from_ids(users.to_list()),
        catalog=catalog,
        consent=None if reading.users is None else consent_of(reading.users.frame, users),
        report=_report(reading, interactions, visiting, catalog, findings, config),
        kinds=tuple(config.events.weights),
        new_kinds=reading.new_kinds,
        watermark=reading.watermark,
        recent=reading.recent,
        how=reading.how,
    )


def _findings_of_rows(reading: Results, config: Config) -> list[Finding]:
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


def _add_own(events: pl.DataFrame, reading: Results, config: Config, findings: list[Finding]) -> pl.DataFrame:
    """Add the events posted to the service, without those that the source has too."""
    if reading.own is None or reading.own.read == 0:
        return events
    own = reading.own
    rows = own.take().drop(IN_ORDER, strict=False)  # they are not yet where they belong
    findings += not_taken(own)
    findings += own.findings(own.read, config.source.max_bad_share)
    tolerance = round(config.events.dedup_window_minutes * _MINUTE)
    beside = events.filter(pl.col("user").is_in(rows["user"].unique().implode()))
    twin = rows.sort("time").join_asof(
        beside.select("user", "item", "kind", "time", source_time="time").sort("time"),
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


def _user_rows(events: pl.DataFrame, ids: pl.Series, users: Entries | None) -> tuple[pl.Series, Int32]:
    """Return the ids of the users by row, and the row of each number (-1: no event is left)."""
    is_known = np.bincount(events["user"].to_numpy(), minlength=len(ids)) > 0
    known = ids.filter(pl.Series(is_known))
    if users is None:
        return known, np.where(is_known, np.cumsum(is_known) - 1, -1).astype(np.int32)
    known = pl.concat([known.rename("user_id"), users.frame["user_id"]]).unique().sort()
    return known, _rows_of(ids, known)


def _item_rows(
    parts: Iterable[pl.DataFrame], ids: pl.Series, items: Entries, config: Config, findings: list[Finding]
) -> tuple[list[str], Int32]:
    """Return the ids of items that the catalog lacks, and the row of each number."""
    is_seen = np.zeros(len(ids), np.bool_)
    for part in parts:
        is_seen[part["item"].to_numpy()] = True
    seen = ids.filter(pl.Series(is_seen))
    catalog = items.frame["item_id"]
    extra = seen.filter(~seen.is_in(catalog.implode()))
    is_given = config.source.interactions is not None and config.source.items is not None
    if len(extra) and (len(catalog) or is_given):  # a query that returns nothing lists nothing
        findings.append(_unlisted(extra, len(seen), config))
    return extra.to_list(), _rows_of(ids, pl.concat([catalog.rename("id"), extra.rename("id")]))


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
    reading: Results,
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
