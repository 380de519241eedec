"""Choose the index of a bundle by measuring kinds and settings with real user vectors, with and without filters.

Half of the users choose the settings, the other half judges them: whoever chooses looks better than they are.
Shapes: I items, D dim, B queries, K top-k.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import faiss
import numpy as np

from recsys.data.arrays import Bool, Float32
from recsys.index import by_norm, fastscan, flat
from recsys.index import registry as indexes
from recsys.index.exact import Items, norms_of, slices_of
from recsys.index.fastscan import FastScanIndex, FastScanSettings
from recsys.index.registry import EXACT, BuiltIndex, Index

AUTO = "auto"  # the kind that stands for this choice

FILTERS = {"plain": 1.0, "filtered": 0.5, "5%": 0.05, "0.1%": 0.001}  # the share of the items that a query may find
KS = (20, 100)

_SMALL = 2_000_000  # numbers in the item vectors, up to which an exact scan takes less than a millisecond
_CANDIDATES = (200, 350, 500, 800, 1200)
_DIMS_PER_CODE = (2, 4)
_FINE_FROM = 256  # dimensions from which codes of more than the fewest are worth a try
_USERS = 128  # who choose, and as many who judge
_TIMED = 64
_MARGIN = 0.4  # share of the missing recall that may be missing with those who choose
_BOUND_MARGIN = 0.02  # beyond the largest cosine that was seen


@dataclass(frozen=True)
class _Truth:
    """What exact search finds for B queries."""

    queries: Float32  # [B, D]
    masks: dict[str, Bool | None]  # by the name of the filter
    worst: dict[tuple[str, int], Float32]  # by filter and K: the last score that is right, [B]
    cosine: float  # the largest of a query and an item

    def recall(self, index: Index, k: int) -> dict[str, float]:
        """The share of right items among the k best, by filter, asked one by one as a service is."""
        return {name: self._recall(index, name, k) for name in self.masks}

    def lack(self, index: Index, least: dict[int, float]) -> str | None:
        """The first filter and K whose recall is less than the least for that K; None when all have enough."""
        for k, name in ((k, name) for k in KS for name in self.masks):
            if (share := self._recall(index, name, k)) < least[k]:
                return f"recall@{k} {name} {share:.4f}"
        return None

    def _recall(self, index: Index, name: str, k: int) -> float:
        mask, worst, found = self.masks[name], self.worst[name, k], 0
        count = min(k, len(index) if mask is None else int(np.count_nonzero(mask)))
        if not count or not len(self.queries):
            return 1.0
        for b in range(len(self.queries)):
            scores, _ = index.search(self.queries[b : b + 1], count, allowed=mask)
            # Any item as good as the last of the best is right: which of equals comes first is no question of recall.
            found += int(np.count_nonzero(scores[0] >= worst[b] - 1e-5 * abs(worst[b])))
        return found / (len(self.queries) * count)


def build(kind: str, item_vectors: Float32, queries: Float32, *, min_recall: float) -> BuiltIndex:
    """Build the index of a kind, or of the kind that is chosen, over item vectors [I, D].

    queries: user vectors [B, D]. See `registry.build` for what is raised.
    """
    if kind != AUTO:
        return indexes.build(kind, item_vectors, queries, min_recall=min_recall)
    if item_vectors.size <= _SMALL or not len(queries):
        built = indexes.build(EXACT, item_vectors, queries, min_recall=min_recall)
        return replace(built, facts={"reason": "exact search of so few items takes less than a millisecond"})
    with _one_thread():
        items = Items(item_vectors, norms=norms_of(item_vectors))
        found = _fastest(items, queries, min_recall)
        if found is None:
            return _exact(item_vectors, queries, min_recall)
        return found


def build_directions(items: Items, *, min_recall: float, seed: int = 0) -> BuiltIndex | None:
    """Build an index for search by direction, judged with some of the items as queries; None where exact search serves.

    items: made with `cosine`.
    """
    if items.vectors.size <= _SMALL or not items.vectors.any():
        return None
    with _one_thread():
        known = np.flatnonzero(norms_of(items.vectors))
        rows = np.random.default_rng(seed).choice(known, min(2 * _USERS, len(known)), replace=False)
        return _fastest(items, items.take(rows), min_recall)


def _fastest(items: Items, queries: Float32, min_recall: float) -> BuiltIndex | None:
    """The fastest quantized index whose recall is enough and that beats an exact scan; None when there is none."""
    choosing = _truth(items, queries[0 : 2 * _USERS : 2])
    judging = _truth(items, queries[1 : 2 * _USERS : 2]) if len(queries) > 1 else choosing
    exact = _milliseconds(items.scan, choosing.queries[:8])
    least = {KS[0]: 1 - _MARGIN * (1 - min_recall), KS[1]: min_recall}
    bound = min(1.0, choosing.cosine + _BOUND_MARGIN)
    tried, found = list[dict[str, Any]](), list[tuple[FastScanIndex, dict[str, dict[str, float]]]]()
    for dims in _DIMS_PER_CODE if items.dim >= _FINE_FROM else _DIMS_PER_CODE[:1]:
        index = fastscan.build_from(items, FastScanSettings(dims, _CANDIDATES[0], bound))
        for candidates in _CANDIDATES:
            index = index.tuned(FastScanSettings(dims, candidates, bound))
            lack = choosing.lack(index, least)
            tried.append({"dims_per_code": dims, "candidates": candidates, "lacks": lack})
            if lack is None:
                found.append((index, {name: _timed(index, choosing, name) for name in FILTERS}))
                break  # more candidates take longer
    for index, milliseconds in sorted(found, key=lambda each: _mean(each[1])):
        recall = judging.recall(index, KS[0])
        if min(recall.values()) >= min_recall and milliseconds["plain"]["mean"] < exact["mean"]:
            facts = {
                "reason": "the fastest whose recall is enough",
                "settings": asdict(index.settings),
                "recall@100": judging.recall(index, KS[1]),
                "milliseconds": milliseconds,
                "exact_milliseconds": exact,
                "megabytes": round(index.size / 1e6, 1),
                "tried": tried,
            }
            return BuiltIndex(index, "fastscan", recall, facts)
    return None


def _exact(item_vectors: Float32, queries: Float32, min_recall: float) -> BuiltIndex:
    """The faster of both exact kinds."""
    sample = np.ascontiguousarray(queries[:_TIMED:4], np.float32)
    times = {}
    for kind, module in (("by_norm", by_norm), (EXACT, flat)):
        index = module.build(item_vectors)
        times[kind] = _milliseconds(lambda query, index=index: index.search(query[None], KS[0]), sample)
        del index
    kind = min(times, key=lambda name: times[name]["mean"])
    built = indexes.build(kind, item_vectors, queries, min_recall=min_recall)
    reason = "no other kind's recall is enough, and of the exact ones this is the fastest"
    return replace(built, facts={"reason": reason, "milliseconds": {"plain": times[kind]}, "tried": times})


def _truth(items: Items, queries: Float32) -> _Truth:
    """Search exactly, with and without filters, in blocks of items."""
    queries = np.ascontiguousarray(queries, np.float32)
    random = np.random.default_rng(0)
    masks = {name: None if share == 1 else random.random(len(items)) < share for name, share in FILTERS.items()}
    norms = np.ones(len(items), np.float32) if items.scales is not None else norms_of(items.vectors)
    lengths = np.maximum(np.linalg.norm(queries, axis=1), np.float32(1e-30))
    best = {name: np.full((len(queries), 0), -np.inf, np.float32) for name in FILTERS}
    cosine = 0.0
    for part in slices_of(len(items), max(items.dim, 2 * len(queries))):
        products = queries @ items.vectors[part].T
        if items.scales is not None:
            products *= items.scales[part]
        cosine = max(cosine, float((products / np.maximum(norms[part], np.float32(1e-30)) / lengths[:, None]).max()))
        for name, mask in masks.items():
            among = products if mask is None else products[:, mask[part]]
            among = np.concatenate([best[name], among], axis=1)
            keep = min(max(KS), among.shape[1])
            best[name] = np.partition(among, among.shape[1] - keep, axis=1)[:, among.shape[1] - keep :]
    worst = dict[tuple[str, int], Float32]()
    for name, scores in best.items():
        ordered = -np.sort(-scores, axis=1)
        for k in KS:
            worst[name, k] = ordered[:, min(k, ordered.shape[1]) - 1] if ordered.shape[1] else ordered
    return _Truth(queries, masks, worst, cosine)


def _timed(index: Index, truth: _Truth, name: str) -> dict[str, float]:
    mask = truth.masks[name]
    return _milliseconds(lambda query: index.search(query[None], KS[0], allowed=mask), truth.queries[:_TIMED])


def _milliseconds(search: Any, queries: Float32) -> dict[str, float]:
    """Processor time of one query: mean, median and 99th percentile. Other work on the machine counts little so."""
    times = []
    for query in queries:
        started = time.thread_time()
        search(query)
        times.append((time.thread_time() - started) * 1e3)
    p50, p99 = np.quantile(times, [0.5, 0.99])
    return {"mean": round(float(np.mean(times)), 3), "p50": round(float(p50), 3), "p99": round(float(p99), 3)}


def _mean(milliseconds: dict[str, dict[str, float]]) -> float:
    return float(np.mean([times["mean"] for times in milliseconds.values()]))


@contextmanager
def _one_thread() -> Iterator[None]:
    """A service answers each question in one thread, so time is measured in one."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
