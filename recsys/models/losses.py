"""Losses over all items, estimated from a sample of them."""

import torch
from torch import Tensor
from torch.nn import functional


def sampled_softmax(positives: Tensor, negatives: Tensor, log_expected: Tensor, hits: Tensor) -> Tensor:
    """Cross-entropy of each positive against all items, the others estimated by N items drawn with replacement.

    positives: scores [B]. negatives: scores [B, N] of the drawn items. log_expected: [N], log of how often each drawn
    item is expected among the N, that is log(N q). hits: bool [B, N], where the drawn item is the row's own positive;
    these do not count. Returns [B].

    An item drawn more often than others stands for fewer of them: exp(score) is divided by N q, the logQ correction,
    which makes the sum an unbiased estimate of the softmax's own over the other items. Source: Y. Bengio and
    J.-S. Senécal, "Adaptive importance sampling to accelerate training of a neural probabilistic language model", 2008.
    """
    corrected = (negatives - log_expected).masked_fill(hits, -torch.inf)
    return functional.softplus(torch.logsumexp(corrected, dim=1) - positives)
