"""The two towers as torchrec tables with a fused optimiser, and one pass of training over them.

Shapes: I items, F feature tokens, P pairs of a user and an item, B pairs in a batch, N sampled negatives, D dim.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from recsys.config import TwoTowerSettings
from recsys.data import Float32
from recsys.models.losses import sampled_softmax
from recsys.models.tables import jagged, make_tables, put_rows, rows_of


@dataclass(frozen=True)
class Pairs:
    """What is learnt from: the weights of the users' histories and the features of the items."""

    weights: sparse.csr_array  # [U, I]: what an item counts in a user's history; each entry is a positive
    features: sparse.csr_array  # [I, F]: 1 / sqrt(tokens of the item)


class Towers:
    """User tower: the sum of the history's vectors. Item tower: the item's own vector and those of its features.

    Both end in vectors of length 1. The tables are torchrec's, and their gradient steps are part of the backward pass.
    """

    def __init__(self, pairs: Pairs, history: Float32, item: Float32, settings: TwoTowerSettings, device: torch.device):
        """Start from history vectors and item vectors [I, D]; what the features add starts at zero."""
        self._pairs, self._settings, self._device = pairs, settings, device
        dim, rate = history.shape[1], settings.learning_rate
        tokens = max(1, pairs.features.shape[1])  # a table of no rows is not allowed
        self.user_tower = make_tables([("history", len(history), ["history", "own"])], dim, rate, device)
        self.item_tower = make_tables([("item", len(item), ["item"]), ("token", tokens, ["token"])], dim, rate, device)
        put_rows(self.user_tower, "history", history)
        put_rows(self.item_tower, "item", item)
        put_rows(self.item_tower, "token", np.zeros((tokens, dim), np.float32))

    @property
    def history_vectors(self) -> Float32:
        """[I, D]."""
        return rows_of(self.user_tower, "history").cpu().numpy().copy()

    @property
    def item_vectors(self) -> Float32:
        """The item tower's output for every item, length 1 (0 where an item has learnt nothing): [I, D]."""
        rows = rows_of(self.item_tower, "item").cpu().numpy()
        tokens = rows_of(self.item_tower, "token").cpu().numpy()[: self._pairs.features.shape[1]]
        sums = rows + self._pairs.features @ tokens
        return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12), np.float32)

    def train_epoch(
        self,
        temperature: float,
        draw: npt.NDArray[np.float64],
        generator: np.random.Generator,
        report: Callable[[float], None],
    ) -> float:
        """One pass over the positives in random order, each with the probability of its weight; returns the mean loss.

        draw: the probabilities [I] with which negatives are drawn. report: is told the share done.
        """
        users, items, weights = _positives(self._pairs.weights)
        # Leaving out by weight costs less time than weighting every loss, and expects the same gradient.
        order = generator.permutation(np.flatnonzero(generator.random(len(users)) < weights))
        size, total = self._settings.batch_size, 0.0
        cumulated = np.cumsum(draw)
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            drawn = np.searchsorted(cumulated, generator.random(self._settings.negatives) * cumulated[-1], side="right")
            drawn = np.minimum(drawn, len(draw) - 1)
            loss = self._loss(users[batch], items[batch], weights[batch], drawn, draw, temperature)
            loss.sum().backward()
            total += float(loss.detach().sum())
            report(min(1.0, (start + size) / len(order)))
        return total / max(1, len(order))

    def _loss(
        self,
        users: npt.NDArray[np.int64],
        items: npt.NDArray[np.int64],
        weights: Float32,
        drawn: npt.NDArray[np.int64],
        draw: npt.NDArray[np.float64],
        temperature: float,
    ) -> Tensor:
        user_vectors = self._user_vectors(users, items, weights)
        item_vectors = self._item_vectors(np.concatenate([items, drawn]))
        positive, negative = item_vectors[: len(items)], item_vectors[len(items) :]
        log_expected = np.log(len(drawn) * draw[drawn] / draw.sum()).astype(np.float32)
        return sampled_softmax(
            (user_vectors * positive).sum(1) / temperature,
            user_vectors @ negative.T / temperature,
            torch.from_numpy(log_expected).to(self._device),
            torch.from_numpy(items[:, None] == drawn[None, :]).to(self._device),
        )

    def _user_vectors(self, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64], weights: Float32) -> Tensor:
        """Each history without the positive itself, else the tower would learn to find what it was given: [B, D]."""
        histories = self._pairs.weights[users]
        pooled = self.user_tower(
            jagged(
                {
                    "history": (histories.indices, np.diff(histories.indptr), histories.data),
                    "own": (items, np.ones(len(items), np.int64), weights),
                },
                self._device,
            )
        ).to_dict()
        return functional.normalize(pooled["history"] - pooled["own"], dim=1)

    def _item_vectors(self, items: npt.NDArray[np.int64]) -> Tensor:
        tokens = self._pairs.features[items]
        pooled = self.item_tower(
            jagged(
                {
                    "item": (items, np.ones(len(items), np.int64), np.ones(len(items), np.float32)),
                    "token": (tokens.indices, np.diff(tokens.indptr), tokens.data),
                },
                self._device,
            )
        ).to_dict()
        return functional.normalize(pooled["item"] + pooled["token"], dim=1)


def leave_one_out_positives(weights: sparse.csr_array) -> sparse.csr_array:
    """The rows with at least two items: without a second one, nothing is left of a history to learn from."""
    return sparse.csr_array(weights[np.diff(weights.indptr) > 1])


def _positives(weights: sparse.csr_array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Float32]:
    users = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    return users, weights.indices.astype(np.int64), weights.data.astype(np.float32)
