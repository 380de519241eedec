"""The last reading on disk: the rows of each stream as they came from the database, and what the database said of them.

A reading is a folder `readings/<number>`, complete or absent; `readings/CURRENT` names the newest. The next night keeps
its rows but for the days that changed since. It is a copy of what the source holds: removing it costs a full read.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys.data.arrays import Int32
from recsys.data.folder import (
    current,
    failpoint,
    read_manifest,
    read_text,
    remove_folder,
    replace_text,
    set_current,
    verify,
    write_folder,
)
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.errors import RecsysError
from recsys.source.days import Span, Sums
from recsys.source.merges import without_deleted
from recsys.source.rows import COUNTS, IN_ORDER, ROWS, EventStream, IdEncoder

FORMAT = 2
_TRAINED = "TRAINED"  # a file: the reading of which the newest bundle was made, and how
_LINKS = {"first": pl.Int64, "last": pl.Int64, "visitor": pl.Int32, "user": pl.Int32}
_FRAMES: dict[str, dict[str, Any]] = {"rows": ROWS, "visits": ROWS, "links": _LINKS, "counts": COUNTS}
_USERS = {"rows": ("user",), "visits": ("user",), "links": ("visitor", "user")}  # columns of codes of users
_ITEMS = {"rows": ("item",), "visits": ("item",)}


@dataclass(frozen=True)
class Facts:
    """What is known of a stream beside its rows. Times are microseconds UTC."""

    fingerprint: str  # of the query, its columns, and the settings that decide what becomes of a row
    read_at: int
    full_at: int  # when all of it was read
    unit: Any = None  # of numbers, and form of days, as the TimeReader decided
    day: str | None = None
    doubt: str | None = None
    why_not: str | None = None  # why days cannot be told
    lost_visits: int = 0
    complete_after: int | None = None


@dataclass(frozen=True)
class Part:
    """One stream of a reading: its frames as EventStream holds them."""

    facts: Facts
    sums: Sums  # empty where days cannot be told
    rows: pl.DataFrame
    visits: pl.DataFrame
    links: pl.DataFrame
    counts: pl.DataFrame


@dataclass(frozen=True)
class LastReading:
    """A reading on disk. Its frames are memory-mapped."""

    name: str
    digest: str  # of items, users, deletions and merges
    users: pl.Series  # id of each code, sorted
    items: pl.Series
    parts: Mapping[str, Part]  # their rows are in the order of events

    def encoders(self) -> tuple[IdEncoder, IdEncoder]:
        """Encoders of users and items that know all ids of the reading, by their codes."""
        encoders = IdEncoder(), IdEncoder()
        for encoder, ids in zip(encoders, (self.users, self.items), strict=True):
            encoder.encode(ids)
        return encoders


def part_of(stream: EventStream, facts: Facts, sums: Sums) -> Part:
    """What a stream holds, before its rows are taken."""
    frames = {name: getattr(stream, name) for name in ("visits", "links", "counts")} | {"rows": stream.parts}
    found = {
        name: pl.concat(frames[name], how="diagonal") if frames[name] else pl.DataFrame(schema=schema)
        for name, schema in _FRAMES.items()
    }
    keys = [name for name in COUNTS if name not in ("rows", "naive")]
    found["counts"] = found["counts"].group_by(keys).agg(pl.col("rows", "naive").sum()).sort(keys)
    return Part(facts, sums, **found)


def restore(stream: EventStream, part: Part, without: Sequence[Span]) -> None:
    """Fill a stream with the rows of a part, but for those of some days."""
    time = pl.col("time")
    rows = part.rows.filter(_outside(time, without)) if without else part.rows
    stream.parts.append(rows.with_columns(pl.lit(True).alias(IN_ORDER)))
    stream.visits.append(part.visits.filter(_outside(time, without)))
    stream.links.append(part.links.filter(_outside(pl.col("first"), without)))
    day = pl.col("day").cast(pl.Int64) * MICROSECONDS_PER_DAY
    stream.tally(part.counts.filter(pl.col("day").is_null() | _outside(day, without)))
    stream.lost_visits, stream.complete_after = part.facts.lost_visits, part.facts.complete_after
    stream.doubt = part.facts.doubt
    for kept in (*stream.parts, *stream.visits):
        stream.widen(kept["time"])


def save(
    folder: Path, parts: Mapping[str, Part], users: pl.Series, items: pl.Series, digest: str, gone: pl.DataFrame
) -> str:
    """Write a reading, make it the newest, and remove those before; return its name.

    users, items: the ids by their numbers, sorted. gone: tombstones, as from `tombstones`; what the owners did before
    is left out. So are ids that no row has.
    Raises RecsysError, with the last reading as it was, when it cannot be written.
    """
    parent = folder / "readings"
    kept = {name: _without_deleted(part, gone, users) for name, part in parts.items()}
    user_rows, user_ids = _compact(users, _columns(kept, _USERS))
    item_rows, item_ids = _compact(items, _columns(kept, _ITEMS))

    def fill(target: Path) -> dict[str, Any]:
        for stem, ids in (("users", user_ids), ("items", item_ids)):
            _write(target / f"{stem}.arrow", pl.DataFrame({"id": ids}))
        for name, part in kept.items():
            for stem in _FRAMES:
                _write(target / f"{name}_{stem}.arrow", _renumbered(getattr(part, stem), stem, user_rows, item_rows))
            _write(target / f"{name}_days.arrow", _frame_of(part.sums))
            failpoint("in readings")
        facts = {name: asdict(part.facts) for name, part in kept.items()}
        return {"format": FORMAT, "digest": digest, "parts": facts}

    name = f"{max((int(path.name) for path in parent.glob('[0-9]*')), default=0) + 1:08d}"
    write_folder(parent, name, fill)
    failpoint("before readings")
    set_current(parent, name)
    for old in parent.glob("[0-9]*"):
        if old.name != name:
            remove_folder(old)
    return name


def open_last(folder: Path) -> LastReading | None:
    """The newest reading; None where there is none that this version can use. It can always be read anew."""
    parent = folder / "readings"
    try:
        name = current(parent)
        if name is None:
            return None
        manifest = read_manifest(parent / name)
        if manifest.get("format") != FORMAT:
            return None
        verify(parent / name)
    except RecsysError:
        return None
    place = parent / name

    def opened(stem: str) -> pl.DataFrame:
        return pl.scan_ipc(place / f"{stem}.arrow").collect()

    parts = {
        each: Part(Facts(**facts), _sums_of(opened(f"{each}_days")), **{s: opened(f"{each}_{s}") for s in _FRAMES})
        for each, facts in manifest["parts"].items()
    }
    return LastReading(name, manifest["digest"], opened("users")["id"], opened("items")["id"], parts)


def note_trained(folder: Path, reading: str, made: str) -> None:
    """Remember of which reading the newest bundle was made, and how: a text without blanks."""
    replace_text(folder / "readings" / _TRAINED, f"{reading} {made}\n")


def is_trained(folder: Path, reading: str, made: str) -> bool:
    """Whether the newest bundle was made of this reading, and in this way."""
    return read_text(folder / "readings" / _TRAINED).split() == [reading, made]


def digest_of(frames: Sequence[pl.DataFrame], texts: Sequence[str]) -> str:
    """A digest of the content of frames, in their order, and of texts."""
    digest = hashlib.sha256(repr(texts).encode())
    for frame in frames:
        digest.update(repr(frame.schema).encode())
        digest.update(frame.hash_rows(0).to_numpy().tobytes())
    return digest.hexdigest()


def _without_deleted(part: Part, gone: pl.DataFrame, names: pl.Series) -> Part:
    rows, visits = (without_deleted(frame, gone, names, "", []) for frame in (part.rows, part.visits))
    return replace(part, rows=rows, visits=visits)


def _columns(parts: Mapping[str, Part], of: Mapping[str, Sequence[str]]) -> list[pl.Series]:
    """Columns of codes: of each part those that are named by their frames."""
    return [getattr(part, stem)[name] for part in parts.values() for stem, names in of.items() for name in names]


def _compact(ids: pl.Series, used: Sequence[pl.Series]) -> tuple[Int32 | None, pl.Series]:
    """The new code of each old one, and the ids by new code: only those that are used. None: all of them are."""
    is_used = np.zeros(len(ids), np.bool_)
    for codes in used:
        is_used[codes.to_numpy()] = True
    if is_used.all():
        return None, ids
    return (np.cumsum(is_used) - 1).astype(np.int32), ids.filter(pl.Series(is_used))


def _renumbered(frame: pl.DataFrame, stem: str, users: Int32 | None, items: Int32 | None) -> pl.DataFrame:
    codes = [(name, users) for name in _USERS.get(stem, ())] + [(name, items) for name in _ITEMS.get(stem, ())]
    found = [pl.Series(name, rows[frame[name].to_numpy()]) for name, rows in codes if rows is not None]
    return frame.with_columns(found)


def _write(path: Path, frame: pl.DataFrame) -> None:
    frame.write_ipc(path, compression="uncompressed")


def _frame_of(sums: Sums) -> pl.DataFrame:
    rows, totals = zip(*sums.values(), strict=True) if sums else ((), ())
    schema = {"day": pl.Int64, "rows": pl.Int64, "sum": pl.Int64}
    return pl.DataFrame({"day": list(sums), "rows": rows, "sum": totals}, schema=schema).sort("day")


def _sums_of(frame: pl.DataFrame) -> Sums:
    return {day: (rows, total) for day, rows, total in frame.iter_rows()}


def _outside(time: pl.Expr, spans: Sequence[Span]) -> pl.Expr:
    """Whether a time (microseconds) lies in none of the spans."""
    outside = pl.lit(True)
    for span in spans:
        inside = pl.lit(True)
        if span.first is not None:
            inside &= time >= span.first * MICROSECONDS_PER_DAY
        if span.end is not None:
            inside &= time < span.end * MICROSECONDS_PER_DAY
        outside &= ~inside
    return outside
