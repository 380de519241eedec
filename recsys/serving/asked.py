"""What a box ranks for: one question with everything that was read for it, and the means to answer it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from recsys.config.settings import Config
from recsys.data.arrays import Int32, Int64
from recsys.data.interactions import Histories
from recsys.data.ragged import Ragged
from recsys.serving.eligibility import Eligibility
from recsys.serving.history import Events
from recsys.serving.recommender import Hits
from recsys.serving.snapshot import Snapshot

T = TypeVar("T")
Scores = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Asked:
    """One question. Item rows are joint rows under which items are answered; see recsys.serving.fresh_items."""

    config: Config
    snapshot: Snapshot
    events: Events  # of the user and the visitor, and those that came with the question
    histories: Histories  # the same as the only history of a batch; its rows are those that histories have
    seeds: Int32  # [S] the items that the question names, in its order, each once; unknown ones are left out
    as_of: int  # microseconds UTC
    window_days: int | None  # None: the box's own
    eligibility: Eligibility
    # What a box found out and asks for again; the same for a question with other items eligible.
    memo: dict[str, Any] = field(default_factory=dict, compare=False)

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """The value of that name, computed for this question at most once."""
        if name not in self.memo:
            self.memo[name] = compute()
        value: T = self.memo[name]
        return value

    @property
    def excluded(self) -> Ragged:
        """The rows that may not come although they are allowed, as the only row of a batch."""
        return Ragged.of_one(self.eligibility.excluded)

    def places(self, rows: Int32, depth: int) -> tuple[Int32, Int64]:
        """The first `depth` of rows [N], best first, that may be answered: as they are answered, and their places in N.

        rows: of items, also under those that histories have. Looks no further than it takes.
        """
        view, found, places = self.snapshot.view, [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
        start, step, count = 0, depth + len(self.eligibility.excluded), 0
        most = min(depth, self.eligibility.eligible)  # where fewer are eligible, nobody looks for more
        while start < len(rows) and count < most:
            part = view.current_row(np.asarray(rows[start : start + step], np.int32))
            kept = np.flatnonzero(self.eligibility.keeps(view, part))
            found.append(part[kept])
            places.append(start + kept)
            count, start, step = count + len(kept), start + step, step * 4
        return np.concatenate(found)[:depth], np.concatenate(places)[:depth]

    def first(self, rows: Int32, scores: Scores, depth: int) -> Hits:
        """As `places`, as an answer: scores [N] of the rows."""
        found, places = self.places(rows, depth)
        return hits_of(found, scores[places])


def hits_of(rows: Int32, scores: Scores) -> Hits:
    """The answer of rows [N], best first, with their scores [N]."""
    return Hits(rows[None].astype(np.int32), scores[None].astype(np.float32), np.zeros((1, len(rows)), np.int8))


def no_hits() -> Hits:
    """The answer of a box that has nothing to say."""
    return hits_of(np.zeros(0, np.int32), np.zeros(0, np.float32))


def join(answers: Sequence[Hits]) -> Hits:
    """One answer after the other, without their padding; the reason of a hit is the position of its answer."""
    kept = [hits.rows[0] >= 0 for hits in answers]
    rows, scores = (
        np.concatenate([column[0][keep] for column, keep in zip(columns, kept, strict=True)])
        for columns in ([hits.rows for hits in answers], [hits.scores for hits in answers])
    )
    reasons = np.repeat(np.arange(len(answers)), [np.count_nonzero(keep) for keep in kept])
    return Hits(rows[None], scores[None], reasons[None].astype(np.int8))
