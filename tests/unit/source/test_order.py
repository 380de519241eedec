"""New events are put between ordered ones as if all had been sorted."""

import numpy as np
import polars as pl
import pytest

from recsys.source.order import EVENT, number_by_id, sort_events
from recsys.source.rows import IN_ORDER, EventStream, IdEncoder


def some_events(count: int, seed: int) -> pl.DataFrame:
    """Few users, times and values, so that many events are equal in some columns and in all."""
    draw = np.random.default_rng(seed).integers
    columns = {name: draw(0, most, count) for name, most in (("user", 40), ("item", 5), ("kind", 2), ("time", 6))}
    values = pl.Series("value", draw(0, 3, count), dtype=pl.Float32)
    orders = pl.Series("order", draw(0, 4, count), dtype=pl.UInt64)
    frame = pl.DataFrame(columns).with_columns(values.set(values == 0, None), orders.set(orders == 0, None))
    return frame.cast({"user": pl.Int32, "item": pl.Int32, "kind": pl.Int8})


@pytest.mark.parametrize(("old", "new"), [(500, 0), (500, 1), (500, 60), (50, 500), (0, 20)])
@pytest.mark.parametrize("has_orders", [True, False])
def test_new_events_come_between_ordered_ones_as_if_all_were_sorted(old: int, new: int, has_orders: bool) -> None:
    keys = [*EVENT, *(["order"] if has_orders else [])]
    columns = list(dict.fromkeys(["user", "item", "kind", "time", "value", *keys]))
    for seed in range(5):
        ordered, rest = (some_events(count, seed + count).select(columns) for count in (old, new))
        if seed == 3:
            rest = rest.with_columns(user=pl.lit(39, pl.Int32))
        ordered = ordered.sort(keys)
        marked = [
            part.with_columns(pl.lit(is_old).alias(IN_ORDER)) for part, is_old in ((ordered, True), (rest, False))
        ]
        assert sort_events(pl.concat(marked[::-1])).equals(pl.concat([ordered, rest]).sort(keys))


def test_users_and_items_are_numbered_by_their_ids_in_all_streams() -> None:
    users, items = IdEncoder(), IdEncoder()
    streams = [EventStream(users, items, {}, 0) for _ in range(2)]
    for stream, (user_ids, item_ids) in zip(streams, ((["u3", "u1"], ["b", "a"]), (["u2"], ["c"])), strict=True):
        row = {"user": users.encode(pl.Series(user_ids)), "item": items.encode(pl.Series(item_ids))}
        rest = {"kind": pl.Series([0] * len(user_ids), dtype=pl.Int8), "time": [5] * len(user_ids)}
        stream.parts = [pl.DataFrame(row | rest).with_columns(value=pl.lit(1.0, pl.Float32))]
    numbered = number_by_id(streams, users, items)
    assert (numbered.users.to_list(), numbered.items.to_list()) == (["u1", "u2", "u3"], ["a", "b", "c"])
    assert [stream.take().select("user", "item", IN_ORDER).rows() for stream in streams] == [
        [(0, 0, True), (2, 1, True)],
        [(1, 2, True)],
    ]
