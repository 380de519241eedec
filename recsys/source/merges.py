"""Whose events are whose after merges and deletions, in a stream in which visitors are owners of their own."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from recsys.source.findings import Finding
from recsys.source.rows import IN_ORDER
from recsys.source.visitors import MARK
from recsys.store.visitors import Visitors


def merge(
    events: pl.DataFrame,
    names: pl.Series,
    links: Sequence[pl.DataFrame],
    known: Visitors,
    deleted: Mapping[str, int],
    findings: list[Finding],
) -> pl.DataFrame:
    """Give the events of merged visitors to their users, and remove those from before a deletion of either.

    names: of the users by number, sorted. links: which ids the rows name together, as `links_of` in those numbers.
    known, deleted: what the own tables say of visitors, whose users are all among the names, and of users (user id ->
    deleted_at, microseconds UTC).
    """
    if events.is_empty():
        return events
    gone = tombstones(known.deleted, deleted)
    seen = _seen(links, names)
    joined = pl.concat([gone, _joined_with_deleted(seen, known, gone)]).group_by("owner").agg(pl.col("until").max())
    events = without_deleted(events, joined, names, "event of a deleted user", findings)
    pairs = _merged_pairs(seen, names, known, gone)
    if pairs.is_empty():
        return events
    visitors, into = (names.search_sorted(pairs[column]) for column in ("visitor", "user"))
    count = int(events["user"].is_in(visitors.implode()).sum())
    if not count:
        return events
    advice = "the visitor is known as a user: it counts for the user"
    findings.append(Finding("note", "event of a merged visitor", count, events.height, (), advice))
    owners = np.arange(len(names), dtype=np.int32)
    owners[visitors.to_numpy()] = into.to_numpy()
    before = events["user"].to_numpy()
    after = pl.Series("user", owners[before], dtype=pl.Int32)
    events = events.with_columns(after, pl.col(IN_ORDER) & (pl.lit(after) == pl.lit(before)))
    return without_deleted(events, gone, names, "event of a guest before the deletion of the user", findings)


def tombstones(visitors: Mapping[str, int], users: Mapping[str, int]) -> pl.DataFrame:
    """The tombstones by the name of the owner: owner, until (microseconds UTC)."""
    owners = [*(MARK + visitor for visitor in visitors), *users]
    schema = {"owner": pl.String, "until": pl.Int64}
    return pl.DataFrame({"owner": owners, "until": [*visitors.values(), *users.values()]}, schema=schema)


def _seen(links: Sequence[pl.DataFrame], names: pl.Series) -> pl.DataFrame:
    """The pairs that rows name together: visitor, with MARK, and user; first and last, when they did."""
    schema = {"first": pl.Int64, "last": pl.Int64, "visitor": pl.String, "user": pl.String}
    if not links:
        return pl.DataFrame(schema=schema)
    seen = pl.concat(links).group_by("visitor", "user").agg(pl.col("first").min(), pl.col("last").max())
    return seen.with_columns(names.gather(seen[column]).alias(column) for column in ("visitor", "user")).select(*schema)


def _joined_with_deleted(seen: pl.DataFrame, known: Visitors, gone: pl.DataFrame) -> pl.DataFrame:
    """The tombstones that visitors get from users who were deleted after the rows named both, as `tombstones`.

    A visitor who the own tables say was merged with somebody else gets none.
    """
    joined = seen.join(gone.rename({"owner": "user"}), on="user").filter(pl.col("last") <= pl.col("until"))
    joined = joined.filter(~pl.col("visitor").is_in([MARK + visitor for visitor in known.merged]))
    return joined.select(owner="visitor", until="until")


def _merged_pairs(seen: pl.DataFrame, names: pl.Series, known: Visitors, gone: pl.DataFrame) -> pl.DataFrame:
    """The visitors, with MARK, and the user with whom each was merged.

    What the own tables say goes before the rows. Of the rows the first that names a visitor and a user counts, unless
    one of the two was deleted since. seen: as from `_seen`.
    """
    marked = [MARK + visitor for visitor in known.merged]
    schema = {"visitor": pl.String, "user": pl.String}
    merged = pl.DataFrame({"visitor": marked, "user": list(known.merged.values())}, schema=schema)
    for column in schema:
        seen = seen.join(gone.rename({"owner": column}), on=column, how="left")
        seen = seen.filter((pl.col("last") > pl.col("until")).fill_null(True)).drop("until")
    pairs = pl.concat([merged, seen.sort("first", "user").select("visitor", "user")])
    pairs = pairs.unique("visitor", keep="first", maintain_order=True)
    return pairs.filter(pl.col("visitor").is_in(names.implode()))


def without_deleted(
    events: pl.DataFrame, gone: pl.DataFrame, names: pl.Series, reason: str, findings: list[Finding]
) -> pl.DataFrame:
    """Remove the events of deleted users and visitors up to their deletion. gone: as from `tombstones`."""
    if gone.is_empty():
        return events
    until = pl.DataFrame({"owner": names}).join(gone, on="owner", how="left", maintain_order="left")["until"]
    keep = (events["time"] > until.gather(events["user"])).fill_null(True)
    if lost := events.height - int(keep.sum()):
        findings.append(Finding("note", reason, lost, events.height, (), "left out", left_out=True))
    return events.filter(keep)
