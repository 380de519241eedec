"""What made an item come: what each item of the history adds to its score, or taste and content to its likeness.

Shapes: K items of an answer, N distinct items of one history, D dim, Dp a part's dim.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.data.arrays import Float32, Int32
from recsys.data.interactions import Histories
from recsys.models.vectors import UserEncoder, WeightedSum
from recsys.serving.asked import Asked
from recsys.serving.fresh_items import CatalogView
from recsys.serving.recommender import encode, history_vectors, item_vectors
from recsys.serving.similar import likeness_of

SHOWN = 5  # items of the history that are named
MAX_LEFT_OUT = 50  # items of a history that a network is asked without, the newest


def explain(asked: Asked, hits: Mapping[int, dict[str, Any]]) -> None:
    """Add an `explanation` to the hits of joint rows that come from a history, and to those that are similar."""
    personal = {row: hit for row, hit in hits.items() if hit["reason"] in ("personal", "visitor")}
    if personal:
        found = contributions(asked.snapshot.view, asked.histories, [*personal])
        for at, hit in enumerate(personal.values()):
            hit["explanation"] = found.told(asked.snapshot.view, at)
    similar = {row: hit for row, hit in hits.items() if hit["reason"] == "similar"}
    if similar:
        likeness = likeness_of(asked, np.array([*similar], np.int32))
        for at, hit in enumerate(similar.values()):
            parts = [
                {"part": name, "share": share, "likeness": float(each[at]), "contribution": share * float(each[at])}
                for name, share, each in likeness
            ]
            score = sum(float(share * each[at]) for _, share, each in likeness)
            hit["explanation"] = {"method": "exact", "history": [], "parts": parts, "score": score, "rest": 0.0}


@dataclass(frozen=True)
class Contributions:
    """What the items of a history add to the scores of items."""

    items: Int32  # [N] joint rows of the history's items
    shares: Float32  # [K, N]
    scores: Float32  # [K] the inner products
    is_exact: bool  # whether the shares add up to the scores, but for what is the same for everybody

    def told(self, view: CatalogView, at: int) -> dict[str, Any]:
        """The largest contributions to one of the items, in words; `rest` is what the history did not add."""
        shares = self.shares[at]
        order = np.argsort(-np.abs(shares), kind="stable")[:SHOWN]
        return {
            "method": "exact" if self.is_exact else "leave_one_out",
            "history": [
                {"item_id": _id_of(view, int(self.items[row])), "contribution": float(shares[row])}
                for row in order
                if shares[row]
            ],
            "parts": [],
            "score": float(self.scores[at]),
            "rest": float(self.scores[at] - shares.sum()) if self.is_exact else None,
        }


def contributions(view: CatalogView, history: Histories, rows: Sequence[int]) -> Contributions:
    """Take the scores of items for the only history apart by the items of the history.

    rows: joint rows [K] of the items. A weighted sum (matrix factorization, two towers) is taken apart exactly: the
    user vector is a sum over the history's items, and the score an inner product with it. Of a network the contribution
    of an item is how much the score falls when the history lacks it (leave one out): these do not add up.
    """
    used, at = np.unique(history.items, return_inverse=True)
    small = Histories(history.offsets, at.astype(np.int32), history.kinds, history.ages_days)
    targets = item_vectors(view, np.asarray(rows, np.int32))
    shares, start, is_exact = np.zeros((len(rows), len(used)), np.float32), 0, True
    for part, vectors in zip(view.main.vectors.parts, history_vectors(view, used), strict=True):
        terms = _terms(part.encoder, vectors, small)
        is_exact &= isinstance(part.encoder, WeightedSum) or not terms.any()
        shares += targets[:, start : start + vectors.shape[1]] @ terms.T
        start += vectors.shape[1]
    scores = (targets @ encode(view, history).T)[:, 0]
    return Contributions(used.astype(np.int32), shares, scores, is_exact)


def _terms(encoder: UserEncoder, vectors: Float32, history: Histories) -> Float32:
    """What each of the N items of the history adds to a part's user vector: [N, Dp]."""
    if isinstance(encoder, WeightedSum):
        return encoder.terms(vectors, history)
    last = np.full(len(vectors), -1)
    np.maximum.at(last, history.items, np.arange(len(history.items)))
    asked = np.argsort(-last, kind="stable")[:MAX_LEFT_OUT]
    kept = history.items[None, :] != asked[:, None]
    events = np.nonzero(kept)[1]
    offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int64)
    without = Histories(offsets, history.items[events], history.kinds[events], history.ages_days[events])
    terms = np.zeros_like(vectors)
    terms[asked] = encoder.encode(vectors, history) - encoder.encode(vectors, without)
    return terms


def _id_of(view: CatalogView, row: int) -> str:
    bundle, own = view.place(row)
    return bundle.catalog.ids.id_of(own)
