"""Losses over all items: whole, or estimated from a sample of them."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_BLOCK_SCORES = 2**21  # that the whole softmax holds at a time: 8 MiB, which stay in the processor's cache


def sampled_softmax(positives: Tensor, corrected: Tensor) -> Tensor:
    """Cross-entropy of each positive against all items, the others estimated by N items drawn with replacement.

    positives: scores [B]. corrected: scores [B, N] of the drawn items, less log(N q), the log of how often each is
    expected among the N; -inf where the drawn item is the row's own positive, which does not count. Returns [B].

    An item drawn more often than others stands for fewer of them: exp(score) is divided by N q, the logQ correction,
    which makes the sum an unbiased estimate of the softmax's own over the other items. Source: Y. Bengio and
    J.-S. Senécal, "Adaptive importance sampling to accelerate training of a neural probabilistic language model", 2008.
    """
    return functional.softplus(torch.logsumexp(corrected, dim=1) - positives)


def corrected_scores(users: Tensor, drawn: Tensor, log_expected: Tensor, hits: tuple[Tensor, Tensor]) -> Tensor:
    """The scores [B, N] of users [B, D] and drawn items [N, D] as sampled_softmax wants them.

    log_expected: [N], log(N q). hits: row and column of each drawn item that is the row's own positive. One product
    with the correction inside, and writes to the few hits alone: passes over [B, N] cost more than the arithmetic.
    """
    scores = torch.addmm(-log_expected[None, :], users, drawn.T)
    return scores.index_put_(hits, scores.new_tensor(-torch.inf))


def full_softmax(
    users: Tensor, items: Tensor, positives: Tensor, weights: Tensor, *, precision: torch.dtype = torch.float32
) -> Tensor:
    """The weighted sum of each user's cross-entropy against all items: a scalar.

    users: [B, D]. items: [I, D]; a score is an inner product. positives: [B], rows of `items`. weights: [B].
    precision: of the factors of the products, which are summed in float32; the rest is float32.
    The gradient is computed on the way, a block of users at a time, so that no scores [B, I] are ever held.
    """
    return _FullSoftmax.apply(users, items, positives, weights, precision)  # type: ignore[no-any-return, no-untyped-call]


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, positives: Tensor, weights: Tensor, precision: torch.dtype
    ) -> Tensor:
        by_user, by_item = torch.zeros_like(users), torch.zeros_like(items)
        total = torch.zeros((), device=users.device)
        users, items = users.to(precision), items.to(precision)
        step = max(1, _BLOCK_SCORES // max(1, len(items)))
        for start in range(0, len(users), step):
            own, at = users[start : start + step], positives[start : start + step, None]
            weight = weights[start : start + step, None]
            scores = (own @ items.T).float()
            wanted = scores.gather(1, at)
            largest = scores.amax(dim=1, keepdim=True)
            shares = scores.sub_(largest).exp_()
            sums = shares.sum(dim=1, keepdim=True)
            total += ((sums.log() + largest - wanted) * weight).sum()
            shares.mul_(weight / sums).scatter_add_(1, at, -weight)
            shares = shares.to(precision)
            by_user[start : start + step] = shares @ items
            by_item += shares.T @ own
        ctx.save_for_backward(by_user, by_item)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        by_user, by_item = ctx.saved_tensors
        return by_user * gradients[0], by_item * gradients[0], None, None, None
