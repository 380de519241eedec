"""Losses over all items, estimated from a sample of them."""

import torch
from torch import Tensor
from torch.nn import functional


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
