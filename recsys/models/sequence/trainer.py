"""The sequence model while it is trained: one table of items, read and searched for alike, below the user tower.

Shapes: I items, C candidates of a step, F feature tokens, B windows, T events, P events to foresee, D dim.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from recsys.config.settings import Section
from recsys.data.arrays import Array, Float32, Int64
from recsys.data.interactions import Histories, Interactions
from recsys.models.distributed import sharded
from recsys.models.distributed.arrays import arrays_of, matrix_of
from recsys.models.distributed.sharded import AdamState, TrainingState
from recsys.models.distributed.torchrun import GoesOn
from recsys.models.embedding_tables import jagged, make_tables, put_rows, rows_of
from recsys.models.losses import full_softmax, sampled_softmax
from recsys.models.negatives import Negatives, draw_by
from recsys.models.onnx_encoder import INPUTS, padded
from recsys.models.sequence.batches import Batch, batches, windows
from recsys.models.sequence.tower import SequenceTower, TowerShape

_TABLE_RATE = 0.05  # of the table's row-wise Adagrad
_TOWER_RATE = 0.001  # of the tower's Adam
_HEADS = 2
_EVENT_ARRAYS = ("offsets", "items", "kinds", "times", "values")  # of Interactions
_WARM_STEPS = 100  # in which the tower's learning rate rises to its value


class SequenceParams(Section):
    """What the training of the model and its vectors depend on."""

    dim: int
    length: int
    blocks: int
    dropout: float
    max_events_per_epoch: int
    batch_size: int
    full_softmax_items: int
    negatives: int
    temperature: float
    trend_weight: float
    recency_half_life_days: float
    epochs: int


@dataclass(frozen=True)
class TrainingSet:
    """What is learned from."""

    events: Interactions
    features: sparse.csr_array  # [I, F]: 1 / sqrt(tokens of the item)
    kind_weights: Float32  # by kind code: what foreseeing an event counts

    @property
    def arrays(self) -> dict[str, Array]:
        """The same as plain arrays, which several processes can read from a disk."""
        events = {name: getattr(self.events, name) for name in _EVENT_ARRAYS}
        return events | arrays_of("features", self.features) | {"kind_weights": self.kind_weights}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> "TrainingSet":
        """The training set from its `arrays`."""
        features = matrix_of("features", arrays)
        events = {name: arrays[name] for name in _EVENT_ARRAYS}
        return cls(Interactions(**events, item_count=features.shape[0]), features, arrays["kind_weights"])


class Trainer:
    """Table, tower and their optimizers."""

    def __init__(
        self,
        training_set: TrainingSet,
        start: Float32 | None,
        params: SequenceParams,
        device: torch.device,
        seed: int,
        precision: torch.dtype,
    ) -> None:
        """start: [I, D], directions in which the items stand at first; items without events stay out of it all.

        None in a group, where a checkpoint is loaded into `state` instead. precision: of the softmax's products.
        """
        self._training_set, self._params, self._device = training_set, params, device
        self._seed, self._precision, self._steps = seed, precision, torch.zeros((), dtype=torch.int64)
        events, dim = training_set.events, params.dim
        weight = np.bincount(events.items, training_set.kind_weights[events.kinds], minlength=events.item_count)
        has_events = np.bincount(events.items, minlength=events.item_count) > 0
        self._rows, self._negatives = np.flatnonzero(has_events), Negatives(draw_by(weight, has_events))
        self._windows = windows(events, params.length)
        tokens = max(1, training_set.features.shape[1])  # a table of no rows is not allowed
        shape = TowerShape(dim, params.blocks, _HEADS, params.length, len(training_set.kind_weights), params.dropout)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.tower = SequenceTower(shape).to(device)
            tables = make_tables(
                [("item", events.item_count, ["item"]), ("token", tokens, ["token"])],
                dim,
                _TABLE_RATE,
                sharded.birthplace(device),
            )
            whole, parts = sharded.shard(nn.ModuleDict({"item": tables}), device)
        self._tables, self._reader = parts["item"], sharded.replicate(self.tower, device)
        if start is not None:
            put_rows(tables, "item", start)
            put_rows(tables, "token", np.zeros((tokens, dim), np.float32))
        self._optimizer = torch.optim.AdamW(
            self.tower.parameters(), lr=_TOWER_RATE, betas=(0.9, 0.98), weight_decay=0.0
        )
        others = {"adam": AdamState(self.tower, self._optimizer), "steps": self._steps}
        self.state = TrainingState({"tables": whole, "tower": self.tower}, others)

    @property
    def item_vectors(self) -> Float32:
        """The vectors of all items, length 1; 0 where an item has no events: [I, D]."""
        rows = rows_of(self._tables, "item").cpu().numpy()
        tokens = rows_of(self._tables, "token").cpu().numpy()[: self._training_set.features.shape[1]]
        found = np.zeros_like(rows)
        sums = rows[self._rows] + self._training_set.features[self._rows] @ tokens
        found[self._rows] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        return found

    def train_epoch(self, epoch: int, goes_on: GoesOn) -> float:
        """Train epoch 1, 2, …: foresee each event once, or a sample of them; returns the mean loss.

        goes_on: called with the share done after each batch; False ends the epoch. Each epoch has a seed of its own, so
        that stopping after it and training up to it agree. In a group all draw the same, and each takes its own users'
        windows out of every batch.
        """
        generator = np.random.default_rng([self._seed, epoch])
        total, weights = 0.0, 0.0
        self.tower.train()
        with torch.random.fork_rng():
            torch.manual_seed(int(generator.integers(2**62)) + sharded.rank())
            sizes = self._params.batch_size, self._params.max_events_per_epoch
            for batch, done in batches(self._training_set.events, *self._windows, *sizes, generator):
                whole = float(self._weight(batch).sum())
                if whole > 0:
                    loss = self._loss(*self._own(batch), generator)
                    self._step(loss / whole * sharded.size())
                    total, weights = total + float(loss.detach()), weights + whole
                if not goes_on(done):
                    break
        return sharded.total(total) / max(weights, 1e-12)

    def _weight(self, batch: Batch) -> Float32:
        """What foreseeing each of the batch's events counts: [P]."""
        return self._training_set.kind_weights[batch.next_kinds][batch.mask]

    def _own(self, batch: Batch) -> tuple[Batch, Float32]:
        """The batch's windows of this process, and their weights; a window of weight 0 when there is none."""
        keep = sharded.own(batch.users)
        if keep.any():
            part = batch.where(keep)
            return part, self._weight(part)
        part = batch.where(np.arange(len(keep)) == 0)
        return part, np.zeros_like(self._weight(part))

    def _step(self, loss: Tensor) -> None:
        self._steps += 1
        for group in self._optimizer.param_groups:
            group["lr"] = _TOWER_RATE * min(1.0, int(self._steps) / _WARM_STEPS)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def _loss(self, batch: Batch, weight: Float32, generator: np.random.Generator) -> Tensor:
        """The weighted sum of the losses over the batch's events to foresee."""
        wanted = batch.next_items[batch.mask]
        whole = len(self._rows) <= self._params.full_softmax_items
        drawn = None if whole else self._negatives.take(self._params.negatives, generator)
        rows = self._rows if drawn is None else np.unique(np.concatenate([batch.items[batch.mask], wanted, drawn[0]]))
        places = self._tensor(np.searchsorted(rows, wanted))
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            vectors = self._item_vectors(rows)
            read = np.where(batch.mask, np.searchsorted(rows, batch.items), 0)
            users = self._reader(
                vectors[self._tensor(read)],
                self._tensor(batch.kinds),
                self._tensor(batch.ages_days),
                self._tensor(batch.mask),
                last=False,
            )[self._tensor(batch.mask)]
            users = users / self._params.temperature
        if drawn is None:
            rows_and_weights = (places, self._tensor(weight))
            return full_softmax(users.float(), vectors.float(), *rows_and_weights, precision=self._precision)
        negative, log_expected = self._tensor(np.searchsorted(rows, drawn[0])), self._tensor(drawn[1])
        return sampled_softmax(
            users.float(),
            vectors[places].float(),
            vectors[negative].float(),
            log_expected,
            (places, negative),
            self._tensor(weight),
            precision=self._precision,
        )

    def _item_vectors(self, rows: Int64) -> Tensor:
        """The rows of the table [C, D], what their features add included, length 1."""
        tokens = self._training_set.features[rows]
        ones = np.ones(len(rows), np.int64)
        pooled = self._tables(
            jagged(
                {
                    "item": (rows, ones, ones.astype(np.float32)),
                    "token": (tokens.indices, np.diff(tokens.indptr), tokens.data),
                },
                self._device,
            )
        ).to_dict()
        return functional.normalize(pooled["item"] + pooled["token"], dim=1)

    def _tensor(self, values: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(self._device)


@dataclass(frozen=True)
class TorchEncoder:
    """The tower as it stands, as a user encoder: while training goes on, nothing is exported."""

    name: ClassVar[str] = "torch"
    tower: SequenceTower

    def encode(self, history_vectors: Float32, histories: Histories) -> Float32:
        """See OnnxEncoder."""
        found = np.zeros((len(histories), history_vectors.shape[1]), np.float32)
        device = self.tower.kind.device
        self.tower.eval()
        with torch.inference_mode():
            for block in padded(history_vectors, histories, self.tower.shape.length):
                inputs = (torch.from_numpy(getattr(block, name)).to(device) for name in INPUTS)
                found[block.users] = self.tower(*inputs).cpu().numpy()
        return found
