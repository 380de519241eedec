"""The answers of the box for_you for very many users: what `answer` lists without exploration, a block at a time.

Eligibility is decided once for everybody; what a user bought or may not get otherwise is left out for each.
Shapes: B users of a block, K places, N candidates, I joint rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from recsys.bundle.bundle import Bundle
from recsys.config.settings import Config
from recsys.data.arrays import Bool, Float32, Int32, Int64
from recsys.data.interactions import Histories
from recsys.data.ragged import Ragged
from recsys.index.bulk import BulkSearch
from recsys.serving import filters, recommender, rules
from recsys.serving.arrange import NO_GROUP
from recsys.serving.asked import Asked
from recsys.serving.eligibility import Eligibility, bought_rows, decide
from recsys.serving.history import events_of
from recsys.serving.popular import popular
from recsys.serving.recommender import Hits
from recsys.serving.ruled import values_of
from recsys.serving.snapshot import Snapshot
from recsys.store.changes import NewEvents

REASONS = ("personal", "popular")  # by the code of a hit's reason
_PERSONAL, _POPULAR = range(2)
_CANDIDATES = 2**22  # of all users that are ranked at once
_NO_ROWS = np.zeros(0, np.int32)


@dataclass(frozen=True)
class BulkQuery:
    """What is asked for every user."""

    k: int
    as_of: int  # microseconds UTC
    filters: Sequence[Any] = ()  # as those of Query
    exclude: Sequence[str] = ()  # ids of items
    max_per: Mapping[str, int] | None = None  # column -> how many items of a list may share a value in it
    allow_repurchase: bool | None = None  # None: as the configuration says


class BulkAnswers:
    """Answers one question for users, a block of them at a time."""

    def __init__(self, config: Config, snapshot: Snapshot, posted: NewEvents, query: BulkQuery) -> None:
        """posted: what the own tables have received since the extract, of everybody.

        Raises RefusedError for a filter or a cap that is wrong.
        """
        self._config, self._snapshot, self._query = config, snapshot, query
        self._posted = _ByUser(posted)
        caps = rules.parse({"max_per": dict(query.max_per or {})}, snapshot.columns).max_per
        self._eligibility = self._decide()
        self._caps = [(self._groups(column), limit) for column, limit in caps.items()]
        self._repeats = query.allow_repurchase
        if self._repeats is None:
            self._repeats = config.recommendations.allow_repurchase

    @property
    def eligible(self) -> int:
        """How many items may be listed to somebody who bought nothing."""
        return self._eligibility.eligible

    def answer(self, user_ids: Sequence[str], left_out: Ragged | None = None) -> Hits:
        """The k best items of each user [B, K], best first; reasons are positions in REASONS.

        left_out: joint rows that a single user must not get [B].
        """
        if not self.eligible:
            return _widened(_nothing(len(user_ids)), self._query.k)
        if not self._caps:
            return _widened(self._ranked(user_ids, left_out, self._query.k), self._query.k)
        depth = max(4 * self._query.k, 100)
        listed = self._capped(user_ids, left_out, depth)
        while depth < self.eligible and len(short := np.flatnonzero((listed.rows >= 0).sum(axis=1) < self._most)):
            depth *= 4
            for part in np.array_split(short, -(-len(short) * min(depth, self.eligible) // _CANDIDATES)):
                ids = [user_ids[b] for b in part]
                out = None if left_out is None else left_out.take(np.isin(np.arange(len(user_ids)), part))
                deeper = self._capped(ids, out, depth)
                listed.rows[part], listed.scores[part], listed.reasons[part] = vars(deeper).values()
        return listed

    def _capped(self, user_ids: Sequence[str], left_out: Ragged | None, depth: int) -> Hits:
        return _capped(self._ranked(user_ids, left_out, min(depth, self.eligible)), self._caps, self._query.k)

    @cached_property
    def _most(self) -> int:
        """How many items a list has at most under the caps."""
        allowed = [
            np.ones(len(bundle.catalog), np.bool_) if mask is None else mask
            for bundle, mask in zip(self._snapshot.view.bundles, self._eligibility.allowed, strict=True)
        ]
        found = [self._query.k, self.eligible]
        for groups, limit in self._caps:
            own = groups[np.concatenate(allowed)]
            sizes = np.bincount(own[own != NO_GROUP])
            found.append(int(np.minimum(sizes, limit).sum() + np.count_nonzero(own == NO_GROUP)))
        return min(found)

    def _decide(self) -> Eligibility:
        snapshot = self._snapshot
        parts = [
            filters.parse_short(one, snapshot.columns) if isinstance(one, str) else filters.parse(one, snapshot.columns)
            for one in self._query.filters
        ]
        found = decide(
            snapshot.view,
            snapshot.stock,
            filters.join(parts),
            bought=_NO_ROWS,
            excluded=snapshot.view.rows_of(list(self._query.exclude)),
        )
        if not len(found.excluded):
            return found
        masks = list[Bool | None]()
        for bundle, start, allowed in zip(snapshot.view.bundles, snapshot.view.starts, found.allowed, strict=True):
            mask = np.ones(len(bundle.catalog), np.bool_) if allowed is None else allowed.copy()
            own = found.excluded[(found.excluded >= start) & (found.excluded < start + len(mask))] - start
            mask[own] = False
            masks.append(mask)
        return replace(found, allowed=tuple(masks), excluded=_NO_ROWS)

    def _groups(self, column: str) -> Int64:
        """The code of what every joint row has in a column: int64 [I]; NO_GROUP where it has nothing."""
        view, numbers = self._snapshot.view, dict[Any, int]()
        rows = np.arange(sum(len(bundle.catalog) for bundle in view.bundles), dtype=np.int32)
        values = values_of(self._asked, column, rows)
        codes = (NO_GROUP if value is None else numbers.setdefault(value, len(numbers)) for value in values)
        return np.fromiter(codes, np.int64, len(rows))

    @cached_property
    def _asked(self) -> Asked:
        """The question of somebody of whom nothing is known."""
        snapshot, as_of = self._snapshot, self._query.as_of
        events = events_of(snapshot.log, snapshot.view, self._posted.of([]), [None], as_of)
        histories = events.histories(1, as_of, 1)
        return Asked(self._config, snapshot, events, histories, _NO_ROWS, as_of, None, self._eligibility)

    def _histories(self, user_ids: Sequence[str]) -> Histories:
        snapshot, as_of = self._snapshot, self._query.as_of
        events = events_of(snapshot.log, snapshot.view, self._posted.of(user_ids), user_ids, as_of)
        return events.histories(len(user_ids), as_of, self._config.events.history_length, snapshot.bought_codes)

    def _ranked(self, user_ids: Sequence[str], left_out: Ragged | None, depth: int) -> Hits:
        """The `depth` best items of each user: what fits the history, and then what is popular."""
        view, allowed = self._snapshot.view, self._eligibility.allowed
        histories, excluded = self._histories(user_ids), left_out
        if not self._repeats:
            bought = bought_rows(view, histories, self._snapshot.bought_codes)
            excluded = bought if left_out is None else bought.merge(left_out)
        hits = recommender.recommend(
            view,
            histories,
            depth,
            allowed=allowed,
            excluded=excluded,
            fill=False,
            searches=self._searches,
        )
        unknown = np.diff(histories.offsets) == 0  # they are shown what is popular, also where no vector is personal
        hits.rows[unknown], hits.scores[unknown], hits.reasons[unknown] = -1, -np.inf, -1
        self._fill(hits, excluded)
        return hits

    @cached_property
    def _searches(self) -> list[BulkSearch]:
        """The search of each of the view's bundles."""
        pairs = zip(self._snapshot.view.bundles, self._eligibility.allowed, strict=True)
        return [_search_of(bundle, allowed) for bundle, allowed in pairs]

    def _fill(self, hits: Hits, excluded: Ragged | None) -> None:
        """Put what is popular where a list is short and more may come."""
        short = np.flatnonzero(hits.rows[:, -1] < 0).tolist()
        if not short:
            return
        depth = hits.rows.shape[1]
        taken = [set(hits.rows[b].tolist()) | set(() if excluded is None else excluded.row(b).tolist()) for b in short]
        rows, scores = self._popular(depth + max(map(len, taken)))
        for b, out in zip(short, taken, strict=True):
            count = int(np.count_nonzero(hits.rows[b] >= 0))
            free = [at for at, row in enumerate(rows[: depth + len(out)].tolist()) if row not in out][: depth - count]
            stop = count + len(free)
            hits.rows[b, count:stop], hits.scores[b, count:stop] = rows[free], scores[free]
            hits.reasons[b, count:stop] = _POPULAR

    def _popular(self, depth: int) -> tuple[Int32, Float32]:
        """At least the `depth` most popular eligible items, where there are so many: rows and scores."""

        def rank() -> tuple[Int32, Float32]:
            found = popular(self._asked, depth)
            return found.rows[0], found.scores[0]

        known = self._asked.memo.get("popular")
        if known is None or len(known[0]) < min(depth, self.eligible):
            self._asked.memo["popular"] = rank()
        found: tuple[Int32, Float32] = self._asked.memo["popular"]
        return found


class _ByUser:
    """What was posted, to be had for some users without looking at everybody's."""

    def __init__(self, posted: NewEvents) -> None:
        self._posted = posted
        self._places: dict[str, list[int]] = {}
        for place, (owner, is_visitor) in enumerate(zip(posted.owners, posted.visitors, strict=True)):
            if not is_visitor:
                self._places.setdefault(owner, []).append(place)

    def of(self, user_ids: Sequence[str]) -> NewEvents:
        """The events of these users, and their deletions."""
        posted = self._posted
        at = [place for user in user_ids for place in self._places.get(user, ())]
        return NewEvents(
            owners=[posted.owners[place] for place in at],
            visitors=[False] * len(at),
            items=[posted.items[place] for place in at],
            kinds=[posted.kinds[place] for place in at],
            times=[posted.times[place] for place in at],
            deleted={user: posted.deleted[user] for user in user_ids if user in posted.deleted},
        )


def _search_of(bundle: Bundle, allowed: Bool | None) -> BulkSearch:
    return BulkSearch(
        bundle.vectors.item_vectors, bundle.with_vector if allowed is None else bundle.with_vector & allowed
    )


def _nothing(users: int) -> Hits:
    """Lists without a place."""
    none = (users, 0)
    return Hits(np.zeros(none, np.int32), np.zeros(none, np.float32), np.zeros(none, np.int8))


def _widened(hits: Hits, k: int) -> Hits:
    """The same lists with k places."""
    missing = k - hits.rows.shape[1]
    if missing <= 0:
        return hits
    places = ((0, 0), (0, missing))
    return Hits(
        np.pad(hits.rows, places, constant_values=-1),
        np.pad(hits.scores, places, constant_values=-np.inf),
        np.pad(hits.reasons, places, constant_values=-1),
    )


def _capped(hits: Hits, caps: Sequence[tuple[Int64, int]], k: int) -> Hits:
    """The first k candidates [B, N] of each user that no cap forbids."""
    users, depth = hits.rows.shape
    chosen, count = np.full((users, k), -1, np.int64), np.zeros(users, np.int64)
    taken = [np.full((users, k), NO_GROUP, np.int64) for _ in caps]
    for at in range(depth):
        rows = hits.rows[:, at]
        is_free = (rows >= 0) & (count < k)
        for (groups, limit), own in zip(caps, taken, strict=True):
            group = groups[rows]
            is_free &= (group == NO_GROUP) | ((own == group[:, None]).sum(axis=1) < limit)
        b = np.flatnonzero(is_free)
        chosen[b, count[b]] = at
        for (groups, _), own in zip(caps, taken, strict=True):
            own[b, count[b]] = groups[rows[b]]
        count[b] += 1
        if (count == k).all():
            break
    columns = zip(vars(hits).values(), (-1, -np.inf, -1), strict=True)
    return Hits(*(_taken(values, chosen, none) for values, none in columns))


def _taken(values: Any, chosen: Int64, none: float) -> Any:
    """The chosen values of each row, and `none` where there is none."""
    found = np.take_along_axis(values, np.maximum(chosen, 0), axis=1)
    found[chosen < 0] = none
    return found
