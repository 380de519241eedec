"""The user tower of the sequence model: transformer blocks over a history in its order.

Shapes: B users, T events of the longest, newest last and padded in front, D dim, H heads.
Source of the blocks: R. Xiong et al., "On layer normalization in the transformer architecture", ICML 2020; of the
biases by place and by time gap: J. Zhai et al., "Actions speak louder than words", ICML 2024.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_GAPS = 26  # buckets of time: 0, 1, 3, 7, … minutes, the last above 60 years
_MINUTES_PER_DAY = 1440.0
_WIDER = 4  # the hidden layer of a block, in D
_FAR = -1e9  # added to what must not be looked at; finite, so that a row of nothing but padding stays a number


@dataclass(frozen=True)
class TowerShape:
    """The sizes that fix a tower's parameters."""

    dim: int  # D
    blocks: int
    heads: int
    length: int  # L: no history is longer
    kinds: int  # of events
    dropout: float  # share of the numbers that are set to 0 while training


class SequenceTower(nn.Module):
    """History -> user vector of length 1, as of the moment of the next event.

    It starts as a plain model: the last event's item and the mean of all items.
    """

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape = shape
        self.kind = nn.Parameter(torch.zeros(shape.kinds, shape.dim))
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.blocks))

    def forward(self, vectors: Tensor, kinds: Tensor, ages_days: Tensor, mask: Tensor, last: bool = True) -> Tensor:
        """vectors [B, T, D], kinds [B, T], ages_days [B, T] at the moment asked for, mask [B, T] -> [B, D].

        last: False gives the vectors as of each of the events, before the next one: [B, T, D].
        """
        moments = functional.pad(ages_days[:, 1:], (0, 1))  # ages of the events that each one looks ahead to
        minutes = (ages_days[:, None, :] - moments[:, :, None]).clamp(min=0) * _MINUTES_PER_DAY
        gaps = torch.log2(minutes + 1).floor().clamp(max=_GAPS - 1).long()
        places = torch.arange(vectors.shape[1], device=vectors.device)
        behind = places[:, None] - places[None, :]
        hidden = (behind < 0)[None] | ~mask[:, None, :]
        state = functional.normalize(vectors, dim=-1) * math.sqrt(self.shape.dim) + self.kind[kinds]
        state = drop(state, self.shape.dropout, self.training)
        for block in self.blocks:
            only = last and block is self.blocks[-1]
            state = block(state, behind.clamp(min=0), gaps, hidden, only)
        found = functional.normalize(state, dim=-1)
        return found[:, -1] if last else found


class _Block(nn.Module):
    """Pre-norm attention with biases by place and by time gap, then a hidden layer."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape, dim = shape, shape.dim
        self.attention_norm, self.hidden_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.output, self.widen, self.narrow = (
            nn.Linear(dim, dim),
            nn.Linear(dim, _WIDER * dim),
            nn.Linear(_WIDER * dim, dim),
        )
        self.by_place = nn.Parameter(torch.zeros(shape.heads, shape.length))
        self.by_gap = nn.Parameter(torch.zeros(shape.heads, _GAPS))
        for layer in (self.query, self.key, self.value, self.output, self.widen, self.narrow):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.narrow.weight)
        with torch.no_grad():  # attention starts as the mean of what it looks at
            self.value.weight += torch.eye(dim)
            self.output.weight += torch.eye(dim)

    def forward(self, state: Tensor, behind: Tensor, gaps: Tensor, hidden: Tensor, last: bool) -> Tensor:
        """state [B, T, D] -> [B, T, D], or [B, 1, D] when only the last event's is asked for."""
        rate, training = self.shape.dropout, self.training
        normed = self.attention_norm(state)
        bias = self.by_place[:, behind][None] + self.by_gap[:, gaps].transpose(0, 1)
        bias = bias.masked_fill(hidden[:, None], _FAR)
        if last:
            state, bias = state[:, -1:], bias[:, :, -1:]
        query, key, value = (
            self._heads(layer(rows))
            for layer, rows in (
                (self.query, normed[:, -1:] if last else normed),
                (self.key, normed),
                (self.value, normed),
            )
        )
        weights = (query @ key.transpose(2, 3) / math.sqrt(query.shape[-1]) + bias).softmax(dim=-1)
        seen = (weights @ value).transpose(1, 2).flatten(2)
        state = state + drop(self.output(seen), rate, training)
        wide = drop(functional.gelu(self.widen(self.hidden_norm(state))), rate, training)
        return state + drop(self.narrow(wide), rate, training)

    def _heads(self, rows: Tensor) -> Tensor:
        """[B, T, D] -> [B, H, T, D / H]."""
        heads: Tensor = rows.unflatten(2, (self.shape.heads, -1)).transpose(1, 2)
        return heads


def drop(values: Tensor, rate: float, training: bool) -> Tensor:
    """Dropout in steps of 1/256: random bytes take a quarter of the time of torch's own random bits on a CPU."""
    kept = max(1, round(256 * (1 - rate)))
    if not training or kept == 256:
        return values
    bytes_ = torch.randint(0, 256, values.shape, dtype=torch.uint8, device=values.device)
    return values * ((bytes_ < kept) * (256 / kept))
