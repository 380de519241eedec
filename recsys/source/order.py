"""Events in their order, with users and items numbered by their ids.

The rows of the last reading are in that order already. The new ones are put between them, which takes a small part of
the time that sorting all of them takes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from recsys.data.arrays import Int32, Int64
from recsys.source.rows import IN_ORDER, EventStream, IdEncoder

EVENT = ["user", "time", "kind", "item", "value"]  # what makes an event; also the order in which they lie
_FEW = 0.2  # of all rows: more than that are sorted together with the others


@dataclass(frozen=True)
class Numbered:
    """The ids by number, in their order: String, of users (visitors with MARK among them) and of items."""

    users: pl.Series
    items: pl.Series


def number_by_id(streams: Iterable[EventStream], users: IdEncoder, items: IdEncoder) -> Numbered:
    """Turn the codes of streams into the places of the ids among all, and put their rows in order."""
    user_ids, user_numbers = _places(users)
    item_ids, item_numbers = _places(items)

    def numbered(frame: pl.DataFrame) -> pl.DataFrame:
        numbers = {"user": user_numbers, "visitor": user_numbers, "item": item_numbers}
        return frame.with_columns(
            pl.Series(name, places[frame[name].to_numpy()], dtype=pl.Int32)
            for name, places in numbers.items()
            if name in frame.columns
        )

    for stream in streams:
        stream.visits = [numbered(part) for part in stream.visits]
        stream.links = [numbered(part) for part in stream.links]
        stream.parts = [sort_events(numbered(pl.concat(stream.parts, how="diagonal")))] if stream.parts else []
        stream.is_in_order = True
    return Numbered(user_ids, item_ids)


def _places(encoder: IdEncoder) -> tuple[pl.Series, Int32]:
    """The ids in their order, and the place of each code among them."""
    ids = encoder.ids
    order = ids.arg_sort()
    places = np.empty(len(ids), np.int32)
    places[order.to_numpy()] = np.arange(len(ids), dtype=np.int32)
    return ids.gather(order), places


def sort_events(events: pl.DataFrame) -> pl.DataFrame:
    """Sort events by what makes them and, where there are any, by their orders.

    Those of which the column IN_ORDER says so are in order among themselves. The column is dropped.
    """
    keys = [*EVENT, *(["order"] if "order" in events.columns else [])]
    if IN_ORDER not in events.columns:
        return events.sort(keys)
    is_in_order = events[IN_ORDER].fill_null(False)
    events = events.drop(IN_ORDER)
    rest = events.filter(~is_in_order)
    if not rest.height:
        return events
    if rest.height > _FEW * events.height:
        return events.sort(keys)
    return _put_between(events.filter(is_in_order), rest.sort(keys), keys)


def _put_between(ordered: pl.DataFrame, rest: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Put rows between ordered ones where they belong. Both are in order."""
    owners, of_rest = ordered["user"].to_numpy(), rest["user"].to_numpy()
    ends = np.cumsum(np.bincount(owners, minlength=int(of_rest.max()) + 1))
    is_beside = np.zeros(len(ends), np.bool_)
    is_beside[of_rest] = True
    at = np.flatnonzero(is_beside[owners])
    beside = ordered[at].with_columns(at=pl.Series(at, dtype=pl.Int64))
    # Stable, so that of equal ordered rows the first comes first, and nothing is put between them and what is less.
    both = pl.concat([beside, rest.with_columns(at=pl.lit(None, pl.Int64))]).sort(keys, maintain_order=True)
    following = both.select("user", pl.col("at").fill_null(strategy="backward"), is_new=pl.col("at").is_null())
    new = following.filter("is_new")
    # The next ordered row may be another user's: a row lies at the end of its own user's rows at most.
    end = ends[new["user"].to_numpy()]
    places = np.minimum(new["at"].fill_null(ordered.height).to_numpy(), end)
    return pl.concat([ordered, rest], rechunk=True)[_merged(places, ordered.height)]


def _merged(places: Int64, count: int) -> Int64:
    """The rows in their order when those after the first `count` are put before the `places` of these."""
    return np.insert(np.arange(count), places, np.arange(count, count + len(places)))
