"""Which of the rows that were read count: each event once, and no purchase that was taken back."""

import polars as pl

from recsys.config.settings import RETURN, Config
from recsys.data.returns import take_back
from recsys.source.findings import Finding
from recsys.source.order import EVENT, sort_events


def without_duplicates(events: pl.DataFrame, findings: list[Finding]) -> pl.DataFrame:
    """Sort the events and keep one of rows that are equal in every column, the value included."""
    # Of equal rows of several orders it is always the same one that counts.
    events = sort_events(events)
    # shift() puts a row of nulls before the first, which equals no event.
    is_again = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in EVENT)
    again = events.select(is_again.alias("again"))["again"]
    lost = int(again.sum())
    if not lost:
        return events
    advice = "the same user, item, kind, time and value: counted once"
    findings.append(Finding("warning", "duplicate", lost, events.height, (), advice, left_out=True))
    return events.filter(~again)


def without_returned(events: pl.DataFrame, config: Config, findings: list[Finding]) -> pl.DataFrame:
    """Remove the returns, and the purchases that they take back."""
    returns = int((events["kind"] == RETURN).sum())
    if not returns:
        return events
    user, item, kind, time = (events[name].to_numpy() for name in ("user", "item", "kind", "time"))
    left = take_back(user, item, kind, time, config.bought_codes)
    if taken := events.height - returns - int(left.kept.sum()):
        findings.append(note("purchase taken back by a return", taken, events.height, "left out"))
    if left.lone:
        advice = "no earlier purchase of the same user and item is left for it; left out"
        findings.append(note("return without an earlier purchase", left.lone, returns, advice))
    return events.filter(pl.Series(left.kept))


def with_numbered_orders(events: pl.DataFrame) -> pl.DataFrame:
    """The hashes of orders, where there are any, as numbers from 0 (Int64); -1 where a row has no order."""
    if "order" not in events.columns:
        return events
    numbers = pl.col("order").rank("dense").cast(pl.Int64) - 1
    return events.with_columns(order=numbers.fill_null(-1))


def note(reason: str, rows: int, of: int, advice: str) -> Finding:
    """A finding about rows that are left out on purpose."""
    return Finding("note", reason, rows, of, (), advice, left_out=True)
