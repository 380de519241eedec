"""Train the members on torch: linear models by Newton's method, the small network by Adam.

Both learn the same loss, that of a zero-inflated lognormal: whether a customer buys, and how much who buys. Shapes: B
rows, C columns, H hidden.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from recsys.data.arrays import Bool, Float64, Int64
from recsys.propensity.scorer import Member, standardize

_AMOUNT_RIDGE = 10.0  # penalty of squared weights of the amount, as many rows count
_TOLERANCE = 1e-6  # of the gradient, for each row
_ALTERNATIONS = 20  # between the weights of the amount and its spread: each brings several digits
_LEAST_SPREAD = 1e-3
HIDDEN, _DROPOUT = 32, 0.2
_EPOCHS, _STEPS_AN_EPOCH, _LEAST_BATCH = 6, 16, 256
_LEARNING_RATE, _WEIGHT_DECAY = 5e-3, 1e-2


@dataclass(frozen=True)
class Examples:
    """Customers at moments of the past, and what they did within the window after."""

    features: Float64  # [B, F]
    bought: Bool  # [B]
    amounts: Float64  # [B]


class TwoPart(nn.Module):
    """Log-odds of buying and mean of log(amount) from standardized columns: linear, and through a hidden layer."""

    def __init__(self, columns: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(columns, hidden)
        self.dropout = nn.Dropout(_DROPOUT)
        self.output = nn.Linear(columns + hidden, 2)
        self.log_spread = nn.Parameter(torch.zeros(()))

    def forward(self, rows: Tensor) -> Tensor:
        """[B, C] -> [B, 2]."""
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
    """Fit a logistic regression and a linear one of log(amount), to the optimum. ridge: penalty of the first.

    The same examples give the same member; there is nothing random.
    """
    mean, scale, (rows, bought, logs) = _prepare(examples, columns, device)
    rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
    paid = torch.isfinite(logs)
    amount, spread = _fit_amount(rows[paid], logs[paid])
    output = np.column_stack([_fit_buying(rows, bought, ridge), amount])
    return Member(
        columns=columns,
        mean=mean,
        scale=scale,
        hidden=np.zeros((len(columns), 0)),
        hidden_bias=np.zeros(0),
        output=output[:-1],
        output_bias=output[-1],
        spread=spread,
    )


def _fit_buying(rows: Tensor, bought: Tensor, ridge: float) -> Float64:
    """Weights of a logistic regression [C], and its level: a few passes over rows [B, C + 1], the last column ones."""
    penalty = _penalty(rows, ridge)

    def loss(at: Float64) -> tuple[float, Float64]:
        weights = torch.as_tensor(at, device=rows.device)
        odds = rows @ weights
        value = nn.functional.binary_cross_entropy_with_logits(odds, bought, reduction="sum")
        value += 0.5 * (penalty * weights**2).sum()
        gradient = rows.T @ (torch.sigmoid(odds) - bought) + penalty * weights
        return float(value), gradient.cpu().numpy()

    def curvature(at: Float64) -> Float64:
        chance = torch.sigmoid(rows @ torch.as_tensor(at, device=rows.device))
        matrix = (rows * (chance * (1 - chance))[:, None]).T @ rows + torch.diag(penalty)
        return np.asarray(matrix.cpu().numpy())

    start = np.zeros(rows.shape[1])
    share = (float(bought.sum()) + 0.5) / (len(bought) + 1)
    start[-1] = np.log(share / (1 - share))
    options = {"gtol": _TOLERANCE * len(bought)}
    return np.asarray(minimize(loss, start, jac=True, hess=curvature, method="trust-exact", options=options).x)


def _fit_amount(rows: Tensor, logs: Tensor) -> tuple[Float64, float]:
    """Weights of log(amount) [C], and its level, from rows that paid [B, C + 1]; and the spread around it."""
    weights, spread = rows.new_zeros(rows.shape[1]), 1.0
    products, towards, penalty = rows.T @ rows, rows.T @ logs, torch.diag(_penalty(rows, _AMOUNT_RIDGE))
    for _ in range(_ALTERNATIONS if len(rows) else 0):
        weights = torch.linalg.solve(products + spread**2 * penalty, towards)
        spread = max(float((logs - rows @ weights).square().mean().sqrt()), _LEAST_SPREAD)
    return weights.cpu().numpy(), spread


def _penalty(rows: Tensor, ridge: float) -> Tensor:
    """Of each column; the last one, the level, has none."""
    penalty = rows.new_full((rows.shape[1],), ridge)
    penalty[-1] = 0.0
    return penalty


def train_network(examples: Examples, columns: Int64, *, seed: int, device: torch.device) -> Member:
    """Train the small network. The same examples, seed and device give the same member."""
    mean, scale, tensors = _prepare(examples, columns, device, torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        torch.manual_seed(seed)
        module = _start(TwoPart(len(columns), HIDDEN).to(device), examples)
        optimizer = torch.optim.AdamW(module.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY, fused=True)
        count = len(tensors[0])
        batch = max(_LEAST_BATCH, count // _STEPS_AN_EPOCH)
        steps = _EPOCHS * -(-count // batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
        for _ in range(_EPOCHS):
            order = torch.randperm(count, generator=generator).to(device)
            for rows in zip(*(tensor[order].split(batch) for tensor in tensors), strict=True):
                optimizer.zero_grad()
                module.loss(*rows).backward()
                optimizer.step()
                schedule.step()
    return _member(module.eval(), columns, mean, scale)


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
        hidden=array(module.hidden.weight).T,
        hidden_bias=array(module.hidden.bias),
        output=array(module.output.weight).T,
        output_bias=array(module.output.bias),
        spread=float(np.exp(array(module.log_spread))),
    )
