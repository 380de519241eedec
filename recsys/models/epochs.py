"""Epochs of training, in this process or by a group of workers, and when they no longer help."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import torch

from recsys.models.budget import Budget
from recsys.models.contract import Workers
from recsys.models.distributed.torchrun import Work, WorkerTask, train_together

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """Workers that train instead of this process."""

    workers: Workers
    work: Work
    device: torch.device


def train_epochs(
    task: WorkerTask, epochs: range, budget: Budget, *, step: Callable[[str], str], group: Group | None = None
) -> Generator[int]:
    """Train the epochs, and yield each when it has ended; ends early with the budget, or when it is closed.

    Each epoch has a seed of its own, so that stopping after it and training up to it agree. step: "epoch 1" -> what
    people see as progress. group: trains the epochs from the first on.
    """
    if group is None:
        for epoch in epochs:
            if budget.expired():
                return
            task.train_epoch(epoch, partial(budget.epoch, step=step(f"epoch {epoch}")))
            if budget.stopped:
                return
            yield epoch
        return
    together = train_together(group.workers, group.work, task.state, len(epochs), group.device, budget, step)
    with closing(together) as ended:
        yield from ended


@dataclass
class EarlyStopping(Generic[T]):
    """Keeps the result of the best epoch, and says when epochs no longer help."""

    patience: int  # epochs without a better score that end training
    best: T | None = None
    best_score: float = -1.0
    best_epoch: int = 0
    epoch: int = 0  # the last one

    def keep(self, epoch: int, score: float, result: T) -> None:
        """Take the result of an epoch for the best if it is."""
        self.epoch = epoch
        if score > self.best_score:
            self.best, self.best_score, self.best_epoch = result, score, epoch

    @property
    def goes_on(self) -> bool:
        """Whether another epoch may help."""
        return self.epoch - self.best_epoch < self.patience
