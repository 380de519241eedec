"""Questions that the baskets of a later time answer: some of their items ask for the rest.

Shapes: Q questions, K places of a list, I items.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.data.arrays import Float32, Int32
from recsys.data.ragged import Ragged
from recsys.related.baskets import Baskets

K = 10
_DISCOUNTS = 1 / np.log2(np.arange(2, K + 2))
_IDEAL = np.concatenate([[0], np.cumsum(_DISCOUNTS)])
_ERRORS = 1.0  # standard errors by which what costs more has to be better


@dataclass(frozen=True)
class Questions:
    """Q questions: which items ask, and which are wanted; each item once, no item in both."""

    asked: Ragged  # [Q] item rows
    wanted: Ragged  # [Q] item rows

    def __len__(self) -> int:
        return len(self.asked)


@dataclass(frozen=True)
class Quality:
    """How lists did: recall@10 and NDCG@10 of each question, float32 [Q] each."""

    recall: Float32
    ndcg: Float32

    @property
    def figures(self) -> dict[str, float]:
        """The means; 0 where there is no question."""
        return {name: round(float(values.mean()), 4) if len(values) else 0.0 for name, values in self._named}

    @property
    def _named(self) -> tuple[tuple[str, Float32], ...]:
        return (("recall@10", self.recall), ("ndcg@10", self.ndcg))


def ask(baskets: Baskets, *, share: float, most: int, seed: int) -> Questions:
    """At most `most` questions, one a basket drawn by the seed: a share of its items, at least one, asks for the rest.

    share: 0 means a single item.
    """
    random = np.random.default_rng(seed)
    drawn = np.arange(len(baskets))
    if len(drawn) > most:
        drawn = np.sort(random.choice(drawn, most, replace=False))
    asked, wanted = [], []
    for basket in drawn.tolist():
        items = random.permutation(baskets.items[baskets.offsets[basket] : baskets.offsets[basket + 1]])
        count = max(1, int(len(items) * share))
        asked.append(items[:count])
        wanted.append(items[count:])
    return Questions(ragged(asked), ragged(wanted))


def judge(lists: npt.NDArray[np.integer], wanted: Ragged) -> Quality:
    """Compare lists with what was wanted: item rows [Q, K or fewer], -1 pads. Nothing wanted counts 0."""
    width = int(max(lists.max(initial=-1), wanted.values.max(initial=-1))) + 1
    keys = wanted.owners * width + wanted.values
    rows = np.where(lists < 0, -1, np.arange(len(lists))[:, None] * width + lists)
    hits = np.isin(rows[:, :K], keys)
    counts = np.diff(wanted.offsets)
    recall = hits.sum(axis=1) / np.maximum(counts, 1)
    ndcg = (hits * _DISCOUNTS[: hits.shape[1]]).sum(axis=1) / np.maximum(_IDEAL[np.minimum(counts, K)], 1e-9)
    return Quality(recall.astype(np.float32), ndcg.astype(np.float32))


def is_better(candidate: Quality, than: Quality) -> bool:
    """Whether NDCG@10 is higher by more than a standard error of the difference over the questions."""
    gains = candidate.ndcg - than.ndcg
    return len(gains) > 1 and float(gains.mean()) > _ERRORS * float(gains.std(ddof=1)) / np.sqrt(len(gains))


def fill(lists: Int32, popular: Int32, asked: Ragged) -> Int32:
    """Fill short lists [Q, K] with popular items that do not ask and are not listed: int32 [Q, K]."""
    is_short = np.asarray((lists < 0).any(axis=1))
    short, width = lists[is_short], lists.shape[1]
    if not len(short):
        return lists.copy()
    listed = Ragged(np.concatenate([[0], np.cumsum((short >= 0).sum(axis=1))]).astype(np.int64), short[short >= 0])
    out = listed.merge(asked.take(is_short))
    most = popular[: np.diff(out.offsets).max() + width]  # enough for each: so many may be out
    place = np.full(max(int(popular.max(initial=-1)), int(out.values.max(initial=-1))) + 1, -1, np.int64)
    place[most] = np.arange(len(most))
    free = np.ones((len(short), len(most) + 1), np.bool_)
    free[out.owners, place[out.values]] = False  # -1: the last one, which stands for all others
    number = np.cumsum(free[:, :-1], axis=1) + np.diff(listed.offsets)[:, None]
    rows, columns = np.nonzero(free[:, :-1] & (number <= width))
    filled = np.full_like(short, -1)
    filled[listed.owners, np.arange(len(listed.values)) - listed.offsets[listed.owners]] = listed.values
    filled[rows, number[rows, columns] - 1] = most[columns]
    result = lists.copy()
    result[is_short] = filled
    return result


def ragged(rows: list[npt.NDArray[np.integer]]) -> Ragged:
    """Rows of different lengths as one."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    values = np.concatenate(rows) if rows else np.zeros(0)
    return Ragged(offsets, values.astype(np.int32))
