"""The results of a source's queries: its events, read in full or where they changed, its items and its users."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from recsys.config.settings import Config
from recsys.data.extract import Recent
from recsys.progress import Progress
from recsys.source.catalog import NO_ITEMS, Entries, read_items, read_users
from recsys.source.findings import Finding
from recsys.source.incremental import Read, Stream, read_stream
from recsys.source.kinds import posted_kinds
from recsys.source.known import KNOWN
from recsys.source.merges import tombstones
from recsys.source.order import Numbered, number_by_id
from recsys.source.reader import Reader, open_reader
from recsys.source.readings import LastReading, digest_of, save
from recsys.source.rows import EventStream, IdEncoder
from recsys.store.database import Store
from recsys.store.events import recent_events
from recsys.store.tables import own_queries
from recsys.store.users import read_deletions
from recsys.store.visitors import Visitors, read_visitors

SETTLED = 15 * 60 * 1_000_000  # microseconds: an own event is committed within that time after it was stamped
_MAIN, _OWN = "interactions", "own events"


@dataclass(frozen=True)
class Results:
    """The results of the queries, and what the own tables say of owners."""

    config: Config  # with the kinds that were posted
    new_kinds: dict[str, float]
    findings: list[Finding]  # of these kinds
    streams: dict[str, Read]  # the source's, and where that is the shop's database, those posted to the service
    items: Entries
    users: Entries | None
    visitors: Visitors
    deleted: dict[str, int]
    mapping: dict[str, Any]
    watermark: int
    recent: Recent

    @property
    def main(self) -> EventStream:
        """Events of the source."""
        return self.streams[_MAIN].rows

    @property
    def own(self) -> EventStream | None:
        """Events posted to the service, where the source is the shop's database."""
        return self.streams[_OWN].rows if _OWN in self.streams else None

    @property
    def how(self) -> dict[str, dict[str, Any]]:
        """How much was read of each stream, and why."""
        return {name: read.how for name, read in self.streams.items()}

    @cached_property
    def digest(self) -> str:
        """Of all that is read in full each night."""
        frames = [self.items.frame, *([] if self.users is None else [self.users.frame])]
        owners = sorted(self.visitors.merged.items()), sorted(self.visitors.deleted.items())
        return digest_of(frames, [repr(owners), repr(sorted(self.deleted.items()))])

    def is_new_after(self, last: LastReading) -> bool:
        """Whether anything differs from an earlier reading."""
        is_other = self.digest != last.digest or self.streams.keys() != last.parts.keys()
        return is_other or any(read.is_new for read in self.streams.values())


def number(results: Results) -> Numbered:
    """Put the events of the streams in order, with users and items numbered by their ids."""
    users, items = results.main.users, results.main.items
    users.encode(pl.Series(list(results.visitors.merged.values()), dtype=pl.String))  # they may have no event yet
    return number_by_id([read.rows for read in results.streams.values()], users, items)


def keep(folder: Path, results: Results, numbered: Numbered) -> str:
    """Write a reading for the next night, after its rows were numbered, and return its name."""
    parts = {name: read.part() for name, read in results.streams.items()}
    gone = tombstones(results.visitors.deleted, results.deleted)
    return save(folder, parts, numbered.users, numbered.items, results.digest, gone)


def read_queries(
    config: Config,
    store: Store,
    now: int,
    progress: Progress,
    *,
    last: LastReading | None = None,
    is_kept: bool = False,
    is_full: bool = False,
) -> Results:
    """Run the queries. Arguments are those of `read_stream`; last: the reading to go on from.

    Raises SourceError when the source cannot be read.
    """
    new_kinds, findings = posted_kinds(config, store)
    config = config.with_kinds(new_kinds)
    source, words = config.source, config.events.words
    watermark = store.now()
    since = watermark - SETTLED
    # Before they are read: what is committed in between comes twice until the next night, and nothing is missing.
    recent = Recent.of(recent_events(store, received_after=since, received_until=watermark), since)
    own_events, own_items, own_users = own_queries(store.tables, received_until=watermark)
    identity = own_queries(store.tables)[0]
    is_own = source.interactions is None
    queries = (own_events, own_items, own_users) if is_own else (source.interactions, source.items, source.users)
    encoders = last.encoders() if last else (IdEncoder(), IdEncoder())

    def read(reader: Reader, name: str, query: str, kinds: Mapping[str, int], *, own: bool) -> Read:
        def empty() -> EventStream:
            return EventStream(*encoders, kinds, now, config.events.max_visitor_events, source.guest_ids)

        stream = Stream(name, query, identity if own else query, own, empty)
        part = last.parts.get(name) if last else None
        return read_stream(
            reader, stream, config, now=now, progress=progress, previous=part, is_kept=is_kept, is_full=is_full
        )

    with closing(open_shop(config, store)) as shop:
        streams = {_MAIN: read(shop, _MAIN, str(queries[0]), words, own=is_own)}
        progress("read items", 0.0)
        items = read_items(shop, queries[1], "items", source, own=is_own) if queries[1] else NO_ITEMS
        users = read_users(shop, queries[2], "users", source, own=is_own) if queries[2] else None
    mapping: dict[str, Any] = {_MAIN: streams[_MAIN].mapping}
    mapping["items"] = {c: c if c in ("item_id", *KNOWN) else "attribute" for c in items.frame.columns if queries[1]}
    mapping["users"] = {c: c for c in users.frame.columns} if users else {}
    if is_own:
        users = users if users and users.frame.height else None
    else:
        kinds = _own_kinds(config, streams[_MAIN].rows)
        with closing(open_own(store)) as service:
            streams[_OWN] = read(service, _OWN, own_events, {kind: words[kind] for kind in kinds}, own=True)
        mapping["own kinds"] = {kind: kind for kind in kinds}
    visitors, deleted = read_visitors(store), read_deletions(store)
    return Results(config, new_kinds, findings, streams, items, users, visitors, deleted, mapping, watermark, recent)


def _own_kinds(config: Config, main: EventStream) -> tuple[str, ...]:
    """The kinds that are taken from events posted to the service."""
    if config.events.own_kinds is not None:
        return config.events.own_kinds
    words = config.events.words
    delivered = {words[word] for word in main.words if word in words}
    known = (*config.events.weights, *config.events.returns)
    return tuple(kind for kind in known if words[kind] not in delivered)


def open_shop(config: Config, store: Store) -> Reader:
    """Open the database that the queries are for. Raises ConfigError and SourceError as `open_reader` does."""
    source = config.source
    if source.interactions is None or source.url is None:
        return open_own(store)
    return open_reader(source.url, source.dialect, own_file=store.file, seconds=source.query_timeout_seconds)


def open_own(store: Store) -> Reader:
    """Open the own tables for reading."""
    return open_reader(store.engine.url, own_file=store.file)
