"""Validation of events: rows that count become numbers, the others are counted by reason.

Ids become int32 codes batch by batch, so memory holds the text of one batch and of each distinct id.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from recsys.data.nobody import no_visitors
from recsys.data.times import rfc3339
from recsys.source import findings as check
from recsys.source.contract import CLASSES, IDS, ORDER, class_of
from recsys.source.events import EventBatch
from recsys.source.findings import EXAMPLES, OFFSET, Finding, left_out
from recsys.source.visitors import is_visit, links_of, newest, owners_of
from recsys.store.tables import MAX_ID_LENGTH

_DAY = 86_400_000_000
_GUEST = "is of a guest"
_BLOB, _REAL = CLASSES.index("blob"), CLASSES.index("real")
_SHARED = "has an id of all guests"
IN_ORDER = "is in order"  # a column: these rows are in the order of events among themselves
ROWS = {"user": pl.Int32, "item": pl.Int32, "kind": pl.Int8, "time": pl.Int64, "value": pl.Float32}
COUNTS = {
    "day": pl.Int32,  # since 1970, in UTC; null: the time cannot be read
    "word": pl.String,  # the event
    "reason": pl.String,  # why the rows are left out; null: they count
    "classes": pl.Int64,
    "shared": pl.Boolean,
    "rows": pl.Int64,
    "naive": pl.Int64,
}


@dataclass
class IdEncoder:
    """Encodes ids as 0, 1, … in order of appearance, over any number of batches."""

    categories: pl.Categories = field(default_factory=pl.Categories.random)
    keeper: pl.Series = field(init=False)  # polars drops the codes with the last column that uses them
    count: int = 0  # of codes

    def __post_init__(self) -> None:
        self.keeper = pl.Series([], dtype=pl.Categorical(self.categories))

    def encode(self, ids: pl.Series) -> pl.Series:
        """Return the codes (Int32) of ids (String, no nulls); new ids get new codes."""
        codes = ids.cast(pl.Categorical(self.categories)).to_physical().cast(pl.Int32)
        highest = codes.max()
        if isinstance(highest, int):
            self.count = max(self.count, highest + 1)
        return codes

    @property
    def ids(self) -> pl.Series:
        """The id of each code: String."""
        # A sixth of the time of Categories.to_series(), which goes through Python for each.
        codes = pl.int_range(0, self.count, dtype=pl.UInt32, eager=True).alias("")
        return codes.cat.to(pl.Categorical(self.categories)).cast(pl.String)


@dataclass
class EventStream:
    """One stream of events: `add` the batches, then read the counts and `take` the rows."""

    users: IdEncoder
    items: IdEncoder
    kinds: Mapping[str, int]  # the stream's words -> codes of kinds
    now: int  # microseconds UTC
    most_visits: int = 0  # how many events of visitors are held at the end, the newest
    guests: Sequence[str] = ()  # ids that stand for nobody in particular, of users and of visitors
    read: int = 0
    lost_visits: int = 0  # events of visitors that were left out, since there are more of them
    complete_after: int | None = None  # microseconds UTC: of later visits none was left out
    shared_visitors: int = 0  # events of users whose visitor id was one of all guests
    naive: int = 0
    words: Counter[str] = field(default_factory=Counter)  # the stream's words and their number of rows
    reasons: Counter[str] = field(default_factory=Counter)  # why rows were left out
    examples: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    classes: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # SQLite's, by column
    parts: list[pl.DataFrame] = field(default_factory=list)
    visits: list[pl.DataFrame] = field(default_factory=list)  # of visitors
    links: list[pl.DataFrame] = field(default_factory=list)  # see links_of, with codes of owners
    counts: list[pl.DataFrame] = field(default_factory=list)  # of what was read, in the columns of COUNTS
    doubt: str | None = None  # what the times look like, where they can hardly be times
    first: int | None = None  # of the times that count, microseconds UTC
    last: int | None = None
    is_in_order: bool = False  # the rows are in the order of events, but for the visits

    def add(self, batch: EventBatch) -> None:
        """Validate every row; keep those that count, as numbers."""
        kept = self.validate_rows(batch)
        has_visitors = kept["visitor_id"].null_count() < kept.height
        rows = pl.DataFrame(
            {
                "user": self.users.encode(owners_of(kept) if has_visitors else kept["user_id"]),
                "item": self.items.encode(kept["item_id"]),
                "kind": kept["kind"],
                "time": kept["time"],
                "value": kept["value"].cast(pl.Float32),
            }
        )
        if ORDER in kept.columns and kept[ORDER].null_count() < kept.height:
            known = pl.when(pl.col(ORDER).is_not_null()).then(pl.col(ORDER).hash(0))
            rows = rows.with_columns(order=kept.select(known).to_series())
        if has_visitors:
            rows = self._apart(rows, kept)
        self.parts.append(rows)

    def validate_rows(self, batch: EventBatch) -> pl.DataFrame:
        """Return the rows that count, with the code of their kind; count the others by reason."""
        frame = batch.frame.with_columns(kind=_kind_codes(batch.frame["event"], self.kinds))
        frame = self._without_guests(frame)
        self.doubt = self.doubt or batch.doubt
        faults = _faults(self.now)
        if frame["classes"].null_count() == frame.height:  # of no SQLite, or text in every row
            del faults[check.FLOAT_ID]
        if _GUEST in frame.columns:
            faults = {check.GUEST: pl.col(_GUEST), **faults}
        is_bad = frame.select(pl.any_horizontal(faults.values()).fill_null(False)).to_series()
        if not is_bad.any():
            self.tally(_count(frame))
            return self._counted(frame.drop(_GUEST, _SHARED, strict=False))
        reason = pl.coalesce(pl.when(fault).then(pl.lit(reason)) for reason, fault in faults.items())
        bad = frame.filter(is_bad).with_columns(reason=reason)
        kept = frame.filter(~is_bad)
        self.tally(pl.concat([_count(kept), _count(bad)]))
        for each in bad["reason"].unique():
            self._show(each, bad)
        return self._counted(kept.drop(_GUEST, _SHARED, strict=False))

    def tally(self, counts: pl.DataFrame) -> None:
        """Add to the counts what was read, in the columns of COUNTS."""
        self.counts.append(counts)
        self.read += int(counts["rows"].sum())
        self.naive += int(counts["naive"].sum())
        self.shared_visitors += int(counts.filter("shared")["rows"].sum())
        for name, counter in (("word", self.words), ("reason", self.reasons)):
            for value, rows in counts.drop_nulls(name).group_by(name).agg(pl.col("rows").sum()).iter_rows():
                counter[value] += rows
        classes = counts.group_by(pl.col("classes").fill_null(0)).agg(pl.col("rows").sum())
        for column in IDS:
            for at, rows in classes.select(class_of(pl.col("classes"), column), "rows").iter_rows():
                self.classes[column][CLASSES[at]] += rows

    def _without_guests(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Take ids off that stand for nobody in particular. The column _GUEST says which rows then have no owner."""
        has_visitors = frame["visitor_id"].null_count() < frame.height
        is_guest = pl.col("user_id").is_in(self.guests)
        if has_visitors:
            is_shared = pl.col("visitor_id").is_in(sorted(no_visitors(self.guests)))
            shared = frame.select(is_shared.fill_null(False)).to_series()
            frame = frame.with_columns(visitor_id=frame["visitor_id"].set(shared, None))
            is_users = (pl.lit(shared) & ~is_visit() & ~is_guest).fill_null(False)
            frame = frame.with_columns(is_users.alias(_SHARED))
            is_guest |= is_visit() & pl.lit(shared)
        elif not self.guests:
            return frame
        is_guest = is_guest.fill_null(False)
        has_visitor = pl.col("visitor_id").is_not_null()
        user = pl.when(is_guest & has_visitor).then(None).otherwise("user_id")
        return frame.with_columns((is_guest & ~has_visitor).alias(_GUEST), user_id=user)

    def findings(self, rows: int, limit: float) -> list[Finding]:
        """Why events are left out or refused. rows: of which they are a share. limit: `[source] max_bad_share`."""
        found = []
        if doubt := self._doubt():
            found = [Finding("error", check.NO_TIMES, self.read, rows, (), f"{doubt}; {check.TIMES}")]
        if guests := self.reasons[check.GUEST]:
            found.append(Finding("note", check.GUEST, guests, rows, (), check.GUESTS, left_out=True))
        if shared := self.shared_visitors:
            found.append(Finding("note", check.SHARED_VISITOR, shared, rows, (), check.SHARED))
        return found + left_out(self.reasons, self.examples, rows, limit)

    def _doubt(self) -> str | None:
        if self.doubt or self.first is None or self.last is None:
            return self.doubt
        if self.last >= _DAY:
            return None
        return f"{rfc3339(self.first, utc=OFFSET)} to {rfc3339(self.last, utc=OFFSET)}, all within one day of 1970"

    def _counted(self, kept: pl.DataFrame) -> pl.DataFrame:
        self.widen(kept["time"])
        return kept

    def widen(self, times: pl.Series) -> None:
        """Let the times of events that count reach over these too (microseconds)."""
        first, last = times.min(), times.max()
        if isinstance(first, int) and isinstance(last, int):
            self.first = first if self.first is None else min(first, self.first)
            self.last = last if self.last is None else max(last, self.last)

    def take(self) -> pl.DataFrame:
        """Hand over the rows that count: user, item (codes, Int32), kind (Int8), time (Int64), value (Float32 or null).

        Where a row has an order, there is a column `order` too: a hash of its id (UInt64 or null). A visitor is a user
        whose name begins with MARK. IN_ORDER says which rows are in order. The stream no longer holds the rows.
        """
        parts = [part.with_columns(pl.lit(self.is_in_order).alias(IN_ORDER)) for part in self.parts] + self.visits
        rows = pl.concat(parts, how="diagonal") if parts else pl.DataFrame(schema=ROWS)
        self.parts.clear()
        self.visits.clear()
        return rows

    def _apart(self, rows: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
        """Hold the links and the visits apart, of these about the newest; return the rows of users."""
        links = links_of(kept)
        if links.height:
            codes = [self.users.encode(links[name]).alias(name) for name in ("visitor", "user")]
            self.links.append(links.with_columns(codes))
        mask = kept.select(is_visit()).to_series()
        self.visits.append(rows.filter(mask))
        held = sum(part.height for part in self.visits)
        if held > 2 * self.most_visits:
            self.visits = [newest(pl.concat(self.visits, how="diagonal"), self.most_visits)]
            self.lost_visits += held - self.visits[0].height
            oldest = self.visits[0]["time"].min() if self.most_visits else self.now + _DAY
            assert isinstance(oldest, int)
            self.complete_after = oldest
        return rows.filter(~mask)

    def _show(self, reason: str, bad: pl.DataFrame) -> None:
        shown = self.examples[reason]
        if len(shown) < EXAMPLES:
            rows = bad.filter(pl.col("reason") == reason).head(EXAMPLES - len(shown))
            shown += [_describe(row) for row in rows.iter_rows(named=True)]


def _count(frame: pl.DataFrame) -> pl.DataFrame:
    """Count rows by day and by all that the findings tell apart, in the columns of COUNTS."""
    keys = {
        "day": pl.col("time").floordiv(_DAY).cast(pl.Int32),
        "word": pl.col("event"),
        "reason": pl.col("reason") if "reason" in frame.columns else pl.lit(None, pl.String),
        "classes": pl.col("classes").cast(pl.Int64),
        "shared": pl.col(_SHARED) if _SHARED in frame.columns else pl.lit(False),
    }
    kept = frame.select("naive", **keys)
    rows, naive = pl.len().cast(pl.Int64).alias("rows"), pl.col("naive").sum().cast(pl.Int64)
    return kept.group_by(*keys).agg(rows, naive).select(*COUNTS)


def _kind_codes(words: pl.Series, kinds: Mapping[str, int]) -> pl.Series:
    return words.replace_strict(list(kinds), list(kinds.values()), default=None, return_dtype=pl.Int8)


def _faults(now: int) -> dict[str, pl.Expr]:
    """Map each reason to whether a row has that fault. A row counts under the first."""
    user, item, time = pl.col("user_id"), pl.col("item_id"), pl.col("time")
    visitor = pl.col("visitor_id")
    is_bytes = pl.any_horizontal(class_of(pl.col("classes"), column) == _BLOB for column in IDS)
    is_float = pl.any_horizontal(
        (class_of(pl.col("classes"), column) == _REAL) & pl.col(column).str.contains("e+", literal=True)
        for column in IDS[:2]
    )
    return {
        check.BYTES_ID: is_bytes.fill_null(False),
        check.NO_USER: is_visit() & (visitor.is_null() | (visitor == "")),
        check.NO_ITEM: item.is_null() | (item == ""),
        check.FLOAT_ID: is_float.fill_null(False),
        check.BAD_ID: pl.any_horizontal(_unusable(each).fill_null(False) for each in (user, visitor, item)),
        check.NO_KIND: pl.col("event").is_null(),
        check.UNKNOWN_KIND: pl.col("kind").is_null(),
        check.UNREADABLE_TIME: time.is_null() & pl.col("raw_time").is_not_null(),
        check.NO_TIME: time.is_null(),
        check.EARLY_TIME: time < 0,
        check.FUTURE_TIME: time > now + _DAY,
    }


def _unusable(ids: pl.Expr) -> pl.Expr:
    # An id of at most 255 bytes has at most 255 characters, and counting characters is slower.
    too_long = (ids.str.len_bytes() > MAX_ID_LENGTH) & (ids.str.len_chars() > MAX_ID_LENGTH)
    return too_long | ids.str.contains("\x00", literal=True)


def _describe(row: Mapping[str, object]) -> str:
    time = row["raw_time"] if row["time"] is None else rfc3339(int(str(row["time"])), utc=OFFSET)
    owner = {"user_id": row["user_id"]} | ({} if row["visitor_id"] is None else {"visitor_id": row["visitor_id"]})
    values = owner | {"item_id": row["item_id"], "event": row["event"], "timestamp": time}
    return " ".join(f"{name}={_short(value)}" for name, value in values.items())


def _short(value: object) -> str:
    text = repr(value) if isinstance(value, str) and (not value.isprintable() or " " in value) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
