"""Vectors of a large shop: those that training makes from a public set, multiplied to size, and how alike both are.

A real shop's vectors have long-tailed norms, falling singular values and users that look towards popular items; random
ones have none of it, so figures measured on them say nothing. Every new item mixes a trained item with one of its
nearest neighbors, adds a share of a third item's direction as noise, and keeps the first one's norm.
Shapes: I trained items, J multiplied items, D dim, B users.
"""

from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from benchmarks.accuracy import data_of
from benchmarks.forms import read
from recsys.config.settings import Config
from recsys.data.arrays import Float32, Int64
from recsys.data.interactions import Histories
from recsys.index.exact import norms_of, slices_of
from recsys.models.budget import Budget
from recsys.models.contract import ALL_TIME_DAYS
from recsys.models.mf.model import MfParams, Spectral
from recsys.models.vectors import Part, Vectors

NEIGHBORS = 10  # of which one is mixed in
OWN_SHARE = 0.7  # of an item's direction in a mix; the neighbor has the rest
NOISE = 0.7  # length of the noise beside a mix of length 1
NORM_SPREAD = 0.1  # standard deviation of the logarithm of what a norm is multiplied by
_BLOCK = 2**14
_SOME, _LISTS = 20_000, 200  # items and lists of the index that likeness measures


@dataclass(frozen=True)
class Multiplied:
    """A shop of J items and the histories of B users."""

    vectors: Vectors
    histories: Histories
    sources: Int64  # [J] the trained item of each


def train(folder: Path, dim: int) -> tuple[Vectors, Histories]:
    """Factorize a public set with middle settings, and take the histories of its test users. Takes half a minute."""
    config = Config()
    benchmark = read(folder, config=config, seed=0)
    data = data_of(benchmark, benchmark.known, benchmark.splits.holdout_start, config)
    params = MfParams(
        kind_exponent=1.0,
        half_life_days=ALL_TIME_DAYS,
        recency_exponent=0.0,
        recency_half_life_days=config.models.mf.recency_half_life_days[0],
        n_factors=dim,
        user_exponent=0.35,
        item_exponent=0.4,
        popularity_exponent=0.3,
        singular_exponent=0.25,
        iterations=4,
    )
    vectors = Spectral(data).vectors(params, Budget())
    as_of = benchmark.splits.holdout_start
    return vectors, benchmark.known.histories(benchmark.rows, as_of, config.events.history_length)


def multiply(vectors: Vectors, histories: Histories, count: int, *, seed: int = 0) -> Multiplied:
    """Make `count` items of the trained ones [I, D]; of each item in a history one of its copies takes the place."""
    random = np.random.default_rng(seed)
    trained = len(vectors.item_vectors)
    sources = np.concatenate([np.arange(trained), random.integers(0, trained, max(0, count - trained))])[:count]
    mixed_in = _neighbors(vectors.item_vectors, random)[sources, random.integers(0, NEIGHBORS, count)]
    noise_of = random.integers(0, trained, count)
    spread = np.exp(NORM_SPREAD * random.standard_normal((count, 1), np.float32))
    tables = [vectors.item_vectors, *(part.history_vectors for part in vectors.parts)]
    made = [_mixed(table, sources, mixed_in, noise_of, spread) for table in tables]
    parts = tuple(Part(table, part.encoder) for table, part in zip(made[1:], vectors.parts, strict=True))
    by_source = np.argsort(sources, kind="stable")
    starts = np.searchsorted(sources[by_source], np.arange(trained + 1))
    copies = np.diff(starts)[histories.items]
    at = starts[histories.items] + (random.random(len(copies)) * copies).astype(np.int64)
    items = by_source[at].astype(np.int32)
    moved = Histories(histories.offsets, items, histories.kinds, histories.ages_days)
    return Multiplied(Vectors(vectors.model, made[0], parts, None, {}), moved, sources)


def likeness(item_vectors: Float32, queries: Float32, *, seed: int = 0) -> dict[str, list[float]]:
    """What decides how hard vectors are to search, of items [I, D] and user vectors [B, D].

    "norms": quantiles of the norms / median; "singular": the 2nd, 8th, 32nd, 128th singular value / the first;
    "scores": medians of score(1) / score(20) and score(1) / score(100); "ivf": recall@20 of IVF over 20,000 of the
    items with 5 % of its lists read.
    """
    random = np.random.default_rng(seed)
    norms = norms_of(item_vectors)
    norms = norms[norms > 0] / np.median(norms[norms > 0])
    some = item_vectors[random.choice(len(item_vectors), min(_SOME, len(item_vectors)), replace=False)]
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh((some.T @ some).astype(np.float64))[::-1], 0))
    scores = np.concatenate([queries @ item_vectors[rows].T for rows in slices_of(*item_vectors.shape)], axis=1)
    best = -np.sort(np.partition(-scores, 99, axis=1)[:, :100], axis=1)
    ivf = faiss.IndexIVFFlat(faiss.IndexFlatIP(some.shape[1]), some.shape[1], _LISTS, faiss.METRIC_INNER_PRODUCT)
    ivf.train(some)
    ivf.add(some)
    ivf.nprobe = _LISTS // 20
    _, found = ivf.search(queries, 20)
    right = np.argsort(-(queries @ some.T), axis=1)[:, :20]
    recall = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(found.tolist(), right.tolist(), strict=True)])
    return {
        "norms": np.quantile(norms, [0.01, 0.1, 0.9, 0.99, 1.0]).tolist(),
        "singular": (singular[[1, 7, 31, min(127, len(singular) - 1)]] / singular[0]).tolist(),
        "scores": [float(np.median(best[:, 0] / best[:, at])) for at in (19, 99)],
        "ivf": [float(recall)],
    }


def _neighbors(item_vectors: Float32, random: np.random.Generator) -> Int64:
    """The nearest items of each by cosine, among some thousand of the items: [I, NEIGHBORS]."""
    unit = item_vectors / np.maximum(np.linalg.norm(item_vectors, axis=1, keepdims=True), np.float32(1e-12))
    some = random.choice(len(unit), min(4_096, len(unit)), replace=False)
    found = [
        np.argpartition(-(unit[start : start + 1024] @ unit[some].T), NEIGHBORS, axis=1)[:, :NEIGHBORS]
        for start in range(0, len(unit), 1024)
    ]
    return some[np.concatenate(found)]


def _mixed(table: Float32, sources: Int64, mixed_in: Int64, noise_of: Int64, spread: Float32) -> Float32:
    """Rows [J, D] with the norms of their sources times `spread`."""
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    unit = table / np.maximum(norms, np.float32(1e-12))
    made = np.empty((len(sources), table.shape[1]), np.float32)
    for start in range(0, len(sources), _BLOCK):
        rows = slice(start, start + _BLOCK)
        mix = np.float32(OWN_SHARE) * unit[sources[rows]] + np.float32(1 - OWN_SHARE) * unit[mixed_in[rows]]
        mix /= np.maximum(np.linalg.norm(mix, axis=1, keepdims=True), np.float32(1e-12))
        mix += np.float32(NOISE) * unit[noise_of[rows]]
        mix /= np.maximum(np.linalg.norm(mix, axis=1, keepdims=True), np.float32(1e-12))
        made[rows] = mix * norms[sources[rows]] * spread[rows]
    return made
