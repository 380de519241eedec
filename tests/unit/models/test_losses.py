"""The sampled softmax estimates the full one, whatever the items were drawn by."""

import numpy as np
import pytest
import torch

from recsys.models import losses
from recsys.models.losses import sampled_softmax

ITEMS, DRAWN, ROUNDS = 30, 400, 300


def gradients(sign):
    """The gradient by the scores [1, ITEMS] of the full softmax, and the mean of the sampled one's."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1, ITEMS, generator=generator) * 1.5
    draw = torch.linspace(1, 12, ITEMS)  # known, and far from uniform
    draw = draw / draw.sum()
    full = scores.clone().requires_grad_()
    torch.nn.functional.cross_entropy(full, torch.tensor([3])).backward()
    sampled = scores.clone().requires_grad_()
    for _ in range(ROUNDS):
        drawn = torch.multinomial(draw, DRAWN, replacement=True, generator=generator)
        log_expected = sign * torch.log(DRAWN * draw[drawn])
        # A user of one dimension, 1, has the items' numbers as scores.
        one, items = torch.ones(1, 1), (torch.tensor([3]), drawn)
        loss = sampled_softmax(one, sampled[:, [3]], sampled[0, drawn, None], log_expected, items, one[0])
        (loss / ROUNDS).backward()
    return full.grad.numpy()[0], sampled.grad.numpy()[0]


def test_the_expected_gradient_is_the_full_softmax_s():
    full, sampled = gradients(sign=1)
    np.testing.assert_allclose(sampled, full, atol=0.004)


def test_the_correction_with_the_wrong_sign_is_far_off():
    full, sampled = gradients(sign=-1)
    assert np.abs(sampled - full).max() > 0.1


def test_a_drawn_positive_does_not_count_against_itself():
    assert loss_of_one([[1.0], [0.0]], [7, 8]) == pytest.approx(float(np.log1p(np.exp(-1.0))))


def test_only_hits_leave_nothing_to_lose():
    assert loss_of_one([[0.5]], [7]) == 0


def loss_of_one(drawn, items):
    """Of a user whose positive is item 7, with a score of 1."""
    one, numbers = torch.ones(1, 1), (torch.tensor([7]), torch.tensor(items))
    return float(sampled_softmax(one, one, torch.tensor(drawn), torch.zeros(len(items)), numbers, one[0]))


@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_the_sampled_softmax_is_the_sum_of_its_rows_whatever_the_blocks(precision, tolerance, monkeypatch):
    monkeypatch.setattr(losses, "_BLOCK_SCORES", 3 * ITEMS)  # so that the seven users come in three blocks
    generator = torch.Generator().manual_seed(0)
    users, positives, drawn = (torch.randn(n, 5, generator=generator).requires_grad_() for n in (7, 7, ITEMS))
    wanted_items, drawn_items, weights = torch.arange(7) * 4, torch.arange(ITEMS), torch.linspace(0, 2, 7)
    log_expected = torch.randn(ITEMS, generator=generator)
    scores = (users @ drawn.T - log_expected).masked_fill(wanted_items[:, None] == drawn_items, -torch.inf)
    scores = torch.cat([(users * positives).sum(1, keepdim=True), scores], dim=1)
    expected = (torch.nn.functional.cross_entropy(scores, wanted_items * 0, reduction="none") * weights).sum()
    wanted = torch.autograd.grad(expected * 3, (users, positives, drawn))
    numbers = wanted_items, drawn_items
    found = sampled_softmax(users, positives, drawn, log_expected, numbers, weights, precision=precision)
    assert found.item() == pytest.approx(expected.item(), rel=tolerance)
    for mine, theirs in zip(torch.autograd.grad(found * 3, (users, positives, drawn)), wanted, strict=True):
        assert torch.linalg.norm(mine - theirs) < tolerance * torch.linalg.norm(theirs)


@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_the_full_softmax_is_torch_s_own_weighted_and_summed_block_by_block(precision, tolerance, monkeypatch):
    monkeypatch.setattr(losses, "_BLOCK_SCORES", 3 * ITEMS)  # so that the seven users come in three blocks
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randn(n, 5, generator=generator).requires_grad_() for n in (7, ITEMS))
    positives, weights = torch.arange(7) * 4, torch.linspace(0, 2, 7)
    expected = (torch.nn.functional.cross_entropy(users @ items.T, positives, reduction="none") * weights).sum()
    wanted = torch.autograd.grad(expected * 3, (users, items))
    found = losses.full_softmax(users, items, positives, weights, precision=precision)
    assert found.item() == pytest.approx(expected.item(), rel=tolerance)
    for mine, theirs in zip(torch.autograd.grad(found * 3, (users, items)), wanted, strict=True):
        assert torch.linalg.norm(mine - theirs) < tolerance * torch.linalg.norm(theirs)
