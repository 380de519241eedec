"""Where there is no GPU, torch's meta device stands for one: losses, products and the sequence tower stay there."""

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recsys.errors import ConfigError
from recsys.models.device import pick_device, pick_precision
from recsys.models.losses import full_softmax, sampled_softmax
from recsys.models.mf.sparse_rows import SparseRows
from recsys.models.mf.svd import _through_users
from recsys.models.sequence.tower import SequenceTower, TowerShape

THERE = torch.device("meta")


class Elsewhere(TorchDispatchMode):
    """Collects the operations that made a tensor on another device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        self.found += [
            str(function) for one in tree_leaves(made) if isinstance(one, torch.Tensor) and one.device != THERE
        ]
        return made


@pytest.fixture
def elsewhere():
    with Elsewhere() as mode:
        yield mode.found


def numbers(*shape, device=THERE):
    return torch.ones(*shape, device=device, requires_grad=True)


def test_what_is_computed_elsewhere_is_noticed(elsewhere):
    numbers(2, 3)[torch.arange(2, device="cpu")].sum().backward()
    assert elsewhere == ["aten.arange.default"]


def test_the_factorisation_stays_where_its_matrix_is(elsewhere):
    matrix = sparse.csr_array(np.eye(4, 3, dtype=np.float32))
    pair = (SparseRows.from_scipy(matrix, THERE), SparseRows.from_scipy(matrix.T.tocsr(), THERE))
    directions = torch.ones(3, 2, device=THERE)
    elsewhere.clear()  # the matrix came from there
    assert _through_users([pair], directions).shape == (3, 2)
    assert elsewhere == []


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_softmax_over_all_items_and_its_gradient_stay_there(elsewhere, precision):
    places = torch.zeros(5, dtype=torch.int64, device=THERE)
    full_softmax(numbers(5, 8), numbers(7, 8), places, numbers(5).detach(), precision=precision).backward()
    assert elsewhere == []


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_sampled_softmax_and_its_gradient_stay_there(elsewhere, precision):
    items = tuple(torch.zeros(n, dtype=torch.int64, device=THERE) for n in (5, 9))
    facts = numbers(9).detach(), items, numbers(5).detach()
    sampled_softmax(numbers(5, 8), numbers(5, 8), numbers(9, 8), *facts, precision=precision).backward()
    assert elsewhere == []


@pytest.mark.parametrize("last", [True, False])
def test_the_sequence_tower_and_its_gradient_stay_there(elsewhere, last):
    tower = SequenceTower(TowerShape(dim=8, blocks=2, heads=2, length=6, kinds=3, dropout=0.2)).to(THERE)
    kinds, ages = torch.zeros(2, 4, dtype=torch.int64, device=THERE), torch.ones(2, 4, device=THERE)
    mask = torch.ones(2, 4, dtype=torch.bool, device=THERE)
    elsewhere.clear()  # the parameters came from there
    tower(numbers(2, 4, 8), kinds, ages, mask, last=last).sum().backward()
    assert elsewhere == []


def test_the_gpu_is_taken_where_there_is_one_and_named_where_not(monkeypatch):
    for there, asked, found in (
        (True, "auto", "cuda"),
        (True, "cuda", "cuda"),
        (True, "cpu", "cpu"),
        (False, "auto", "cpu"),
    ):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert pick_device(asked).type == found
    with pytest.raises(ConfigError, match="finds no GPU"):
        pick_device("cuda")
    assert pick_precision(torch.device("cuda")) == torch.bfloat16
