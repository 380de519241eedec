"""Events without a user, the visits: how they are told from others, and how many are kept to train from.

Among the owners of events a visitor's name begins with MARK, which no id may hold.
"""

import numpy as np
import polars as pl

from recsys.config.settings import EventSettings
from recsys.data.arrays import Int32
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.source.findings import Finding

MARK = "\x00"
ORDER = ["time", "user", "item", "kind"]  # of visits, so that the same ones are kept each time


def owners_of(rows: pl.DataFrame) -> pl.Series:
    """The owner of each row: the user, else the visitor with MARK before the id."""
    owner = pl.when(is_visit()).then(pl.lit(MARK) + pl.col("visitor_id")).otherwise(pl.col("user_id"))
    return rows.select(owner).to_series()


def is_visit() -> pl.Expr:
    """Whether a row has no user."""
    return pl.col("user_id").is_null() | (pl.col("user_id") == "")


def links_of(rows: pl.DataFrame) -> pl.DataFrame:
    """The pairs that rows name together on a day: visitor, with MARK, and user; first and last, when they did."""
    both = rows.filter(~is_visit(), pl.col("visitor_id") != "")
    day = pl.col("time").floordiv(MICROSECONDS_PER_DAY).alias("day")
    pairs = both.group_by("user_id", "visitor_id", day).agg(first=pl.col("time").min(), last=pl.col("time").max())
    return pairs.select("first", "last", visitor=pl.lit(MARK) + pl.col("visitor_id"), user="user_id")


def newest(visits: pl.DataFrame, most: int) -> pl.DataFrame:
    """The newest `most` visits."""
    return visits if visits.height <= most else visits.sort(ORDER).tail(most)


def split(
    events: pl.DataFrame, names: pl.Series, settings: EventSettings, findings: list[Finding], *, lost: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Take apart the events of users, and of visitors those that train. lost: visits that were left out before.

    The events are sorted by user, and users are numbered by `names`, in whose order visitors come first.
    """
    visitors = int(names.str.starts_with(MARK).sum())
    first = int(np.searchsorted(events["user"].to_numpy(), visitors))
    visits, events = events.head(first), events.slice(first)
    times = [time for time in (visits["time"].max(), events["time"].max()) if isinstance(time, int)]
    since = max(times, default=0) - round(settings.visitor_days * MICROSECONDS_PER_DAY)
    kept = newest(visits.filter(pl.col("time") >= since), settings.max_visitor_events)
    if lost := lost + visits.height - kept.height:
        advice = "[events] visitor_days and max_visitor_events keep the newest"
        findings.append(Finding("note", "old event of a visitor", lost, lost + kept.height, (), advice, left_out=True))
    return events, kept


def rows_of(visits: pl.DataFrame) -> tuple[Int32, int]:
    """Number the visitors of visits: a row for each event, and how many visitors there are."""
    owners, rows = np.unique(visits["user"].to_numpy(), return_inverse=True)
    return rows.astype(np.int32), len(owners)
