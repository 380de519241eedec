"""Epochs end with the budget, and training ends when they no longer help."""

from contextlib import closing

import pytest
from torch import nn

from recsys.models.budget import Budget
from recsys.models.distributed.sharded import TrainingState
from recsys.models.distributed.torchrun import WorkerTask
from recsys.models.epochs import EarlyStopping, train_epochs


def trained(budget, epochs=range(1, 4), at_share=lambda _epoch: None):
    """The epochs that were begun, and those that were yielded."""
    begun, ended = [], []

    def train_epoch(epoch, goes_on):
        begun.append(epoch)
        at_share(epoch)
        goes_on(1.0)
        return 0.0

    task = WorkerTask(TrainingState({"tables": nn.Linear(1, 1)}), train_epoch)
    with closing(train_epochs(task, epochs, budget, step=str)) as found:
        ended.extend(found)
    return begun, ended


def test_every_epoch_is_trained_and_told_of():
    assert trained(Budget()) == ([1, 2, 3], [1, 2, 3])
    assert trained(Budget(), range(3, 5)) == ([3, 4], [3, 4])


def test_no_epoch_begins_when_the_time_is_over():
    assert trained(Budget(-1)) == ([], [])


def test_an_epoch_that_was_stopped_is_not_yielded():
    budget = Budget()
    assert trained(budget, at_share=lambda epoch: epoch == 2 and budget.stop("enough")) == ([1, 2], [1])


@pytest.mark.parametrize(
    ("scores", "patience", "best", "last"),
    [([0.1, 0.3, 0.2, 0.2, 0.4], 2, 2, 4), ([0.1, 0.3, 0.2, 0.2, 0.4], 3, 5, 5), ([0.3, 0.3, 0.3], 1, 1, 2)],
)
def test_training_stops_when_epochs_no_longer_help(scores, patience, best, last):
    stopping = EarlyStopping(patience)
    for epoch, score in enumerate(scores, start=1):
        stopping.keep(epoch, score, f"epoch {epoch}")
        if not stopping.goes_on:
            break
    assert (stopping.best_epoch, stopping.epoch, stopping.best) == (best, last, f"epoch {best}")
