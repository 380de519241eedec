"""Train the members on torch: linear models by L-BFGS, the small network by Adam.

Both learn the same loss, that of a zero-inflated lognormal: whether a customer buys, and how much who buys. Shapes: B
rows, C columns, H hidden.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from recsys.data.arrays import Bool, Float64, Int64
from recsys.propensity.scorer import Member, standardize

_AMOUNT_RIDGE = 10.0  # penalty of squared weights of the amount, as many rows count
_ITERATIONS = 100
HIDDEN, _DROPOUT = 32, 0.2
_EPOCHS, _STEPS_AN_EPOCH, _LEAST_BATCH = 12, 64, 256
_LEARNING_RATE, _WEIGHT_DECAY = 2e-3, 1e-2


@dataclass(frozen=True)
class Examples:
    """Customers at moments of the past, and what they did within the window after."""

    features: Float64  # [B, F]
    bought: Bool  # [B]
    amounts: Float64  # [B]


class Rows(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Examples as tensors, fetched a batch at a time."""

    def __init__(self, features: Tensor, bought: Tensor, amounts: Tensor) -> None:
        self.tensors = (features, bought, amounts)

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, at: int) -> tuple[Tensor, Tensor, Tensor]:
        features, bought, amounts = self.tensors
        return features[at], bought[at], amounts[at]

    def __getitems__(self, at: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """A whole batch at once: the loader asks for it where there is one."""
        features, bought, amounts = self.tensors
        return features[at], bought[at], amounts[at]


class TwoPart(nn.Module):
    """Log-odds of buying and mean of log(amount) from standardized columns; without a hidden layer it is linear."""

    def __init__(self, columns: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(columns, hidden) if hidden else None
        self.dropout = nn.Dropout(_DROPOUT)
        self.output = nn.Linear(columns + hidden, 2)
        self.log_spread = nn.Parameter(torch.zeros(()))

    def forward(self, rows: Tensor) -> Tensor:
        """[B, C] -> [B, 2]."""
        if self.hidden is not None:
            rows = torch.cat([rows, self.dropout(torch.relu(self.hidden(rows)))], dim=1)
        found: Tensor = self.output(rows)
        return found

    def loss(self, rows: Tensor, bought: Tensor, log_amounts: Tensor) -> Tensor:
        """The mean negative log-likelihood. log_amounts [B]: NaN where nothing or nothing known was paid."""
        found = self(rows)
        loss = nn.functional.binary_cross_entropy_with_logits(found[:, 0], bought)
        paid = torch.isfinite(log_amounts)
        off = torch.where(paid, log_amounts.nan_to_num() - found[:, 1], 0.0) * torch.exp(-self.log_spread)
        return loss + (0.5 * off**2 + self.log_spread * paid).mean()


def train_linear(examples: Examples, columns: Int64, *, ridge: float, device: torch.device) -> Member:
    """Fit a logistic regression and a linear one of log(amount), by L-BFGS to the end. ridge: penalty of the first.

    The same examples give the same member; there is nothing random.
    """
    mean, scale, tensors = _prepare(examples, columns, device)
    module = _start(TwoPart(len(columns), 0).to(device, torch.float64), examples)
    penalties = torch.tensor([[ridge], [_AMOUNT_RIDGE]], dtype=torch.float64, device=device) / len(examples.bought)
    optimizer = torch.optim.LBFGS(
        module.parameters(), max_iter=_ITERATIONS, tolerance_grad=1e-6, history_size=20, line_search_fn="strong_wolfe"
    )
    (batch,) = DataLoader(Rows(*tensors), batch_size=len(tensors[0]), collate_fn=_as_is)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = module.loss(*batch) + 0.5 * (penalties * module.output.weight**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return _member(module, columns, mean, scale)


def train_network(examples: Examples, columns: Int64, *, seed: int, device: torch.device) -> Member:
    """Train the small network. The same examples, seed and device give the same member."""
    mean, scale, tensors = _prepare(examples, columns, device, torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        torch.manual_seed(seed)
        module = _start(TwoPart(len(columns), HIDDEN).to(device), examples)
        optimizer = torch.optim.AdamW(module.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        batch = max(_LEAST_BATCH, len(tensors[0]) // _STEPS_AN_EPOCH)
        loader = DataLoader(Rows(*tensors), batch, shuffle=True, generator=generator, collate_fn=_as_is)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, _LEARNING_RATE, epochs=_EPOCHS, steps_per_epoch=len(loader)
        )
        for _ in range(_EPOCHS):
            for rows in loader:
                optimizer.zero_grad()
                module.loss(*rows).backward()
                optimizer.step()
                schedule.step()
    return _member(module.eval(), columns, mean, scale)


def _as_is(batch: Any) -> Any:
    return batch


def _prepare(
    examples: Examples, columns: Int64, device: torch.device, kind: torch.dtype = torch.float64
) -> tuple[Float64, Float64, tuple[Tensor, Tensor, Tensor]]:
    rows = examples.features[:, columns]
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    paid = examples.bought & (examples.amounts > 0)
    logs = np.where(paid, np.log(np.where(paid, examples.amounts, 1.0)), np.nan)
    arrays = (standardize(rows, mean, scale), examples.bought.astype(np.float64), logs)
    tensors = tuple(torch.tensor(array, dtype=kind, device=device) for array in arrays)
    return mean, scale, tensors  # type: ignore[return-value]


def _start(module: TwoPart, examples: Examples) -> TwoPart:
    """Begin at the answer for all alike, with weights of 0 to the output, so that the levels need not be learned."""
    paid = np.log(examples.amounts[examples.bought & (examples.amounts > 0)])
    share = (examples.bought.sum() + 0.5) / (len(examples.bought) + 1)
    with torch.no_grad():
        module.output.weight.zero_()
        module.output.bias[0] = float(np.log(share / (1 - share)))
        module.output.bias[1] = float(paid.mean()) if len(paid) else 0.0
        module.log_spread.fill_(float(np.log(max(paid.std(), 1e-3))) if len(paid) > 1 else 0.0)
    return module


def _member(module: TwoPart, columns: Int64, mean: Float64, scale: Float64) -> Member:
    def array(tensor: Tensor) -> Float64:
        return np.asarray(tensor.detach().cpu().numpy(), np.float64)

    return Member(
        columns=columns,
        mean=mean,
        scale=scale,
        hidden=np.zeros((len(columns), 0)) if module.hidden is None else array(module.hidden.weight).T,
        hidden_bias=np.zeros(0) if module.hidden is None else array(module.hidden.bias),
        output=array(module.output.weight).T,
        output_bias=array(module.output.bias),
        spread=float(np.exp(array(module.log_spread))),
    )
