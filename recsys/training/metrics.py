"""Full-ranking metrics of lists beside targets; every item is a candidate, none is sampled.

Shapes: B users, K = 20 places of a list, I items.
"""

import numpy as np
import numpy.typing as npt

from recsys.data.arrays import Bool, Float32, Int32, Int64, mean_or_zero
from recsys.data.targets import Targets

K = 20
CUTS = (5, 10, 20)


def ranking_metrics(rows: Int32, targets: Targets, *, item_counts: npt.NDArray[np.integer]) -> dict[str, float]:
    """Compute the metrics of the lists rows [B, 20] (-1 pads): means over the users, 0 when there is none.

    recall@k: share of the targets among the first k. hit_rate@k: share of users with a target among them.
    mrr@k: 1 / place of the first target, 0 beyond k. ndcg@k: discounted gain (1 / log2(place + 1) each) over the most
    that min(k, number of targets) places can give. coverage@20: share of the I items that are in any list.
    long_tail@20: share of the listed items outside the head, the fewest items that together have half of the training
    events. item_counts: training events of each item, of any kind, [I].
    """
    hits = _hits(rows, targets)
    metrics: dict[str, float] = {"users": len(targets)}
    for cut in CUTS:
        first = hits[:, :cut]
        metrics[f"ndcg@{cut}"] = mean_or_zero(_ndcg(hits, targets.counts, cut))
        metrics[f"recall@{cut}"] = mean_or_zero(first.sum(axis=1) / targets.counts)
        metrics[f"mrr@{cut}"] = mean_or_zero(np.where(first.any(axis=1), 1 / (first.argmax(axis=1) + 1), 0))
        metrics[f"hit_rate@{cut}"] = mean_or_zero(np.any(first, axis=1))
    listed = rows[rows >= 0]
    metrics[f"coverage@{K}"] = len(np.unique(listed)) / max(1, len(item_counts))
    metrics[f"long_tail@{K}"] = mean_or_zero(~head_items(item_counts)[listed])
    return metrics


def ndcg_per_user(rows: Int32, targets: Targets) -> Float32:
    """Compute NDCG@20 of each user, to compare two bundles user by user: float32 [B]."""
    return _ndcg(_hits(rows, targets), targets.counts, K).astype(np.float32)


def head_items(item_counts: npt.NDArray[np.integer]) -> Bool:
    """The fewest items that together have at least half of all events: bool [I]; ties by row."""
    order = np.argsort(-item_counts, kind="stable")
    before = np.cumsum(item_counts[order]) - item_counts[order]
    head = np.zeros(len(item_counts), np.bool_)
    head[order] = 2 * before < item_counts.sum()
    return head


def _hits(rows: Int32, targets: Targets) -> Bool:
    """Which places of the lists hold a target: bool [B, 20]."""
    if rows.shape != (len(targets), K):
        raise ValueError(
            f"lists are {rows.shape}; {len(targets)} users have targets, so [{len(targets)}, {K}] is allowed"
        )
    width = int(max(rows.max(initial=-1), targets.items.max(initial=-1))) + 1
    wanted = np.repeat(np.arange(len(targets)), targets.counts) * width + targets.items
    listed = np.arange(len(targets))[:, None] * width + rows
    return np.isin(listed, wanted) & (rows >= 0)


def _ndcg(hits: Bool, target_counts: Int64, cut: int) -> npt.NDArray[np.float64]:
    gains = 1 / np.log2(np.arange(2, cut + 2))
    best = np.concatenate([[0.0], np.cumsum(gains)])[np.minimum(target_counts, cut)]
    return np.asarray((hits[:, :cut] * gains).sum(axis=1) / best)
