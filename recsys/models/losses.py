"""Softmax losses over all items, or estimated from a sample of them."""

from typing import Any

import torch
from torch import Tensor

_BLOCK_SCORES = 2**21  # that a softmax holds at a time: 8 MiB, which stay in the processor's cache


def sampled_softmax(
    users: Tensor,
    positives: Tensor,
    drawn: Tensor,
    log_expected: Tensor,
    items: tuple[Tensor, Tensor],
    weights: Tensor,
    *,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Estimate the weighted sum of each user's cross-entropy against all items by N items drawn with replacement.

    users, positives: [B, D]; a score is an inner product. drawn: [N, D]. log_expected: [N], log(N q), the log of how
    often each is expected among the N. items: which items the positives [B] and the drawn [N] are; a row's own positive
    does not count against itself. weights: [B]. Returns a scalar. Precision and gradient are as those of full_softmax,
    except that the positives' own scores are float32.

    An item drawn more often than others stands for fewer of them: exp(score) is divided by N q, the logQ correction,
    which makes the sum an unbiased estimate of the softmax's own over the other items. Source: Y. Bengio and
    J.-S. Senécal, "Adaptive importance sampling to accelerate training of a neural probabilistic language model", 2008.
    """
    of_all = users, positives, drawn, log_expected, *items, weights
    return _SampledSoftmax.apply(*of_all, precision)  # type: ignore[no-any-return, no-untyped-call]


class _SampledSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        positives: Tensor,
        drawn: Tensor,
        log_expected: Tensor,
        wanted: Tensor,
        others: Tensor,
        weights: Tensor,
        precision: torch.dtype,
    ) -> Tensor:
        own_scores = (users * positives).sum(1, keepdim=True)
        by_user, by_drawn, by_own = torch.empty_like(users), torch.zeros_like(drawn), torch.empty_like(own_scores)
        total = torch.zeros((), device=users.device)
        narrow, drawn = users.to(precision), drawn.to(precision)
        step = max(1, _BLOCK_SCORES // max(1, len(drawn)))
        for start in range(0, len(users), step):
            block = slice(start, start + step)
            own, positive, weight = narrow[block], own_scores[block], weights[block, None]
            scores = (own @ drawn.T).float().sub_(log_expected)
            scores.masked_fill_(wanted[block, None] == others, -torch.inf)
            largest = torch.maximum(scores.amax(dim=1, keepdim=True), positive)
            shares, share = scores.sub_(largest).exp_(), (positive - largest).exp()
            sums = shares.sum(dim=1, keepdim=True) + share
            total += ((sums.log() + largest - positive) * weight).sum()
            by_own[block] = (share / sums - 1) * weight
            shares = shares.mul_(weight / sums).to(precision)
            by_user[block] = shares @ drawn
            by_drawn += shares.T @ own
        ctx.save_for_backward(by_user.addcmul_(by_own, positives), by_own * users, by_drawn)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return *(gradient * gradients[0] for gradient in ctx.saved_tensors), None, None, None, None, None


def full_softmax(
    users: Tensor, items: Tensor, positives: Tensor, weights: Tensor, *, precision: torch.dtype = torch.float32
) -> Tensor:
    """Compute the weighted sum of each user's cross-entropy against all items: a scalar.

    users: [B, D]. items: [I, D]; a score is an inner product. positives: [B], rows of `items`. weights: [B].
    precision: to which the products and their factors are rounded; their sums, and the rest, are float32.
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
