"""The two towers as torchrec tables with a fused optimizer, and how an epoch trains them.

Shapes: I items, F feature tokens, P pairs of a user and an item, B pairs in a batch, N sampled negatives, D dim.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from recsys.config.settings import Section
from recsys.data.arrays import Array, Bool, Float32, Int64
from recsys.models.distributed import sharded
from recsys.models.distributed.arrays import arrays_of, matrix_of
from recsys.models.distributed.sharded import TrainingState
from recsys.models.distributed.torchrun import GoesOn
from recsys.models.embedding_tables import jagged, make_tables, put_rows, rows_of
from recsys.models.losses import sampled_softmax
from recsys.models.negatives import Negatives

_RUN = 8  # positives of a user that come one after the other, with one sum of the history


class TwoTowerParams(Section):
    """What the training of the towers and their vectors depend on."""

    half_life_days: float  # of a history's events
    recency_half_life_days: float
    trend_weight: float
    temperature: float
    normalize_items: bool  # item vectors have length 1 like the users'; else their length is learned
    epochs: int
    dim: int
    max_events_per_epoch: int
    batch_size: int
    negatives: int
    learning_rate: float


@dataclass(frozen=True)
class Pairs:
    """The training set: the weights of the users' histories and the features of the items."""

    weights: sparse.csr_array  # [U, I]: what an item counts in a user's history; each entry is a positive
    features: sparse.csr_array  # [I, F]: 1 / sqrt(tokens of the item)

    @property
    def arrays(self) -> dict[str, Array]:
        """The pairs as plain arrays, which several processes can read from a disk."""
        return arrays_of("weights", self.weights) | arrays_of("features", self.features)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> "Pairs":
        """The pairs from their `arrays`."""
        return cls(matrix_of("weights", arrays), matrix_of("features", arrays))


class Towers:
    """User tower: the sum of the history's vectors. Item tower: the item's own vector and those of its features.

    User vectors have length 1. The tables are torchrec's, and their gradient steps are part of the backward pass. In a
    group of processes each holds a share of the tables and learns from the users of its own.
    """

    def __init__(
        self,
        pairs: Pairs,
        start: tuple[Float32, Float32] | None,
        params: TwoTowerParams,
        draw: npt.NDArray[np.float64],
        device: torch.device,
        *,
        seed: int = 0,
        precision: torch.dtype = torch.float32,
    ):
        """Start from history vectors and item vectors [I, D]; what the features add starts at zero.

        start: None in a group, where a checkpoint is loaded into `state` instead. draw: in what proportion negatives
        are drawn, [I]; all 0 when there is nothing to learn from. precision: of the softmax's products.
        """
        self.pairs, self._params, self._draw, self._device = pairs, params, draw, device
        self._seed, self._precision = seed, precision
        items, tokens = pairs.features.shape
        tokens = max(1, tokens)  # a table of no rows is not allowed
        made = params.dim, params.learning_rate, sharded.birthplace(device)
        history = make_tables([("history", items, ["history", "own"])], *made)
        item = make_tables([("item", items, ["item"]), ("token", tokens, ["token"])], *made, weighted=False)
        self.tables, parts = sharded.shard(nn.ModuleDict({"user": history, "item": item}), device)
        self.user_tower, self.item_tower = parts["user"], parts["item"]
        if start is not None:
            put_rows(history, "history", start[0])
            put_rows(item, "item", start[1])
            put_rows(item, "token", np.zeros((tokens, params.dim), np.float32))
        self.state = TrainingState({"tables": self.tables})

    @property
    def history_vectors(self) -> Float32:
        """[I, D]."""
        return rows_of(self.user_tower, "history").cpu().numpy().copy()

    @property
    def item_vectors(self) -> Float32:
        """The item tower's output for every item: [I, D]."""
        rows = rows_of(self.item_tower, "item").cpu().numpy()
        tokens = rows_of(self.item_tower, "token").cpu().numpy()[: self.pairs.features.shape[1]]
        sums = np.asarray(rows + self.pairs.features @ tokens, np.float32)
        if not self._params.normalize_items:
            return sums
        return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12), np.float32)

    def train_epoch(self, epoch: int, goes_on: GoesOn) -> float:
        """Train epoch 1, 2, …: positives in random order, each with the chance of its weight; return the mean loss.

        goes_on: called with the share done after each batch; False ends the epoch. Each epoch has a seed of its own. In
        a group all draw the same, and each takes its own users' positives out of every batch.
        """
        if not self._draw.any():
            return 0.0
        generator = np.random.default_rng([self._seed, epoch])
        users, items, weights = _positives(self.pairs.weights)
        # Leaving out by weight costs less time than weighting every loss, and expects the same gradient.
        kept = generator.random(len(users)) < weights
        order = shuffle_in_runs(users, kept, self._params.max_events_per_epoch, generator)
        size, total = self._params.batch_size, 0.0
        negatives = Negatives(self._draw)
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            batch = batch[sharded.own(users[batch])]
            drawn = negatives.take(self._params.negatives, generator)
            loss = self._loss(users[batch], items[batch], weights[batch], drawn)
            (loss * sharded.size()).backward()
            total += float(loss.detach())
            if not goes_on(min(1.0, (start + size) / len(order))):
                break
        return sharded.total(total) / max(1, len(order))

    def _loss(
        self,
        users: Int64,
        items: Int64,
        weights: Float32,
        negatives: tuple[Int64, Float32],
    ) -> Tensor:
        drawn, log_expected = negatives
        user_vectors = self._user_vectors(users, items, weights) / self._params.temperature
        item_vectors = self._item_vectors(np.concatenate([items, drawn]))
        positive, negative = item_vectors[: len(items)], item_vectors[len(items) :]
        numbers = torch.from_numpy(items).to(self._device), torch.from_numpy(drawn).to(self._device)
        return sampled_softmax(
            user_vectors,
            positive,
            negative,
            torch.from_numpy(log_expected).to(self._device),
            numbers,
            user_vectors.new_ones(len(items)),
            precision=self._precision,
        )

    def _user_vectors(self, users: Int64, items: Int64, weights: Float32) -> Tensor:
        """Each history without the positive itself, else the tower would learn to return its input: [B, D].

        A history is summed once for a run of the same user.
        """
        first = np.diff(users, prepend=-1) != 0
        histories = self.pairs.weights[users[first]]
        lengths = np.zeros(len(users), np.int64)
        lengths[: np.count_nonzero(first)] = np.diff(histories.indptr)
        pooled = self.user_tower(
            jagged(
                {
                    "history": (histories.indices, lengths, histories.data),
                    "own": (items, np.ones(len(items), np.int64), weights),
                },
                self._device,
            )
        ).to_dict()
        run = torch.from_numpy(np.cumsum(first) - 1).to(self._device)
        return functional.normalize(pooled["history"][run] - pooled["own"], dim=1)

    def _item_vectors(self, items: Int64) -> Tensor:
        tokens = self.pairs.features[items]
        one_each = np.ones(len(items), np.int64)
        pooled = self.item_tower(
            jagged(
                {"item": (items, one_each, None), "token": (tokens.indices, np.diff(tokens.indptr), None)}, self._device
            )
        ).to_dict()
        own = pooled["item"] + pooled["token"] * torch.from_numpy(_row_values(tokens)).to(self._device)[:, None]
        return functional.normalize(own, dim=1) if self._params.normalize_items else own


def shuffle_in_runs(users: Int64, kept: Bool, most: int, generator: np.random.Generator) -> Int64:
    """Draw at most so many of the kept positives, in random order but for runs of up to _RUN of a user: positions.

    users: [P], ascending. A run's history is summed once: the look-ups fall by the length of the run. Runs are drawn
    first, so that the positives of the other users need not be sorted.
    """
    at = np.flatnonzero(kept)
    counts = np.bincount(users[at])
    runs = -(-counts // _RUN)  # of each user
    owners, ends = np.repeat(np.arange(len(runs)), runs), np.cumsum(runs)
    lengths = np.full(len(owners), _RUN)
    lengths[ends[counts > 0] - 1] += (counts - _RUN * runs)[counts > 0]
    order = generator.permutation(len(owners))
    order = order[: np.searchsorted(np.cumsum(lengths[order]), most) + 1]
    rank = np.full(len(owners), -1)
    rank[order] = np.arange(len(order))
    asked = np.zeros(len(runs), np.bool_)
    asked[owners[order]] = True
    at = generator.permutation(at[asked[users[at]]])
    at = at[np.argsort(users[at], kind="stable")]  # each user's positives together, in random order
    counts = np.where(asked, counts, 0)
    place = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)
    comes = rank[(ends - runs)[users[at]] + place // _RUN]
    at, comes = at[comes >= 0], comes[comes >= 0]
    return np.asarray(at[np.argsort(comes, kind="stable")][:most], np.int64)


def leave_one_out_positives(weights: sparse.csr_array) -> sparse.csr_array:
    """Keep the rows with at least two items: without a second one, no history is left beside the positive."""
    return sparse.csr_array(weights[np.diff(weights.indptr) > 1])


def _positives(weights: sparse.csr_array) -> tuple[Int64, Int64, Float32]:
    users = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    return users, weights.indices.astype(np.int64), weights.data.astype(np.float32)


def _row_values(features: sparse.csr_array) -> Float32:
    """The value that all entries of a row share, 0 for an empty row: [B]."""
    values = np.zeros(features.shape[0], np.float32)
    filled = np.diff(features.indptr) > 0
    values[filled] = features.data[features.indptr[:-1][filled]]
    return values
