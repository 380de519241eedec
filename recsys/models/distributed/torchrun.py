"""Trains tables with several processes, which torchrun starts, and starts again when one dies.

The job writes the training set and the start of the tables into a folder. The workers checkpoint the tables there
after every epoch, and the job reads them. A worker needs this folder only: no database and no configuration.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recsys.data.folder import exclusive_lock, read_text, replace_text
from recsys.errors import RecsysError
from recsys.models.budget import Budget
from recsys.models.contract import Workers
from recsys.models.distributed import sharded
from recsys.models.distributed.sharded import TrainingState

RESTARTS = 3  # of the workers, before training fails
WORK, PROGRESS, _LOG = "work.json", "progress", "log"
_POLL_SECONDS = 0.1
_LAST_SECONDS = 30.0  # for workers to end by themselves after the last epoch
# Else workers that are started again meet in the store of those before them, and gloo waits at addresses of the dead.
_FRESH_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
_SHOWN_LINES = 60  # of the log, when training failed

GoesOn = Callable[[float], bool]
"""Called with the share of an epoch that is done; False ends the epoch."""


@dataclass(frozen=True)
class WorkerTask:
    """A model while it is trained, here or by a worker."""

    state: TrainingState
    train_epoch: Callable[[int, GoesOn], float]  # epoch 1, 2, …; returns the mean loss


@dataclass(frozen=True)
class Work:
    """The work of the workers."""

    task: str  # dotted name of a function: (facts, arrays, device) -> WorkerTask
    facts: dict[str, Any]  # as JSON
    arrays: Mapping[str, npt.NDArray[np.generic]]


def train_together(
    workers: Workers,
    work: Work,
    state: TrainingState,
    epochs: int,
    device: torch.device,
    budget: Budget,
    step: Callable[[str], str],
) -> Generator[int]:
    """Train for so many epochs; yields each when it has ended, with `state` as it was after it.

    The workers are an epoch or two ahead. They end with the last epoch, with the budget, or when the iterator closes.
    step: "epoch 1", or what is waited for -> what people see as progress. Other trainings in the same folder wait.
    Raises RecsysError when the workers died too often or the folder cannot be written to.
    """
    if epochs == 0:
        return
    with _writing(workers.folder):
        workers.folder.mkdir(parents=True, exist_ok=True)

    def waits() -> bool:
        budget.progress(step("wait for another training"), 0.0)
        return not budget.expired()

    with exclusive_lock(workers.folder, waits) as is_ours:
        if not is_ours:
            return
        folder = workers.folder / "work"
        shutil.rmtree(folder, ignore_errors=True)  # of a job that was killed
        try:
            _write(folder, work, epochs, device)
            sharded.save(folder, 0, state)
            with _started(workers.count, folder) as process:
                for epoch in range(1, epochs + 1):
                    if not _wait(process, folder, epoch, budget, step):
                        return
                    sharded.load(folder, epoch, state)
                    sharded.forget(folder, epoch)
                    yield epoch
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LAST_SECONDS)  # workers on other machines are let go only then
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecsysError(f"the workers could not be given their work in {folder}: {error}") from error


def _write(folder: Path, work: Work, epochs: int, device: torch.device) -> None:
    with _writing(folder):
        folder.mkdir()
        for name, array in work.arrays.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
    # By the name, workers that outlived another training see that this is not theirs.
    name = secrets.token_hex(8)
    plan = {"name": name, "task": work.task, "facts": work.facts, "epochs": epochs, "device": device.type}
    replace_text(folder / WORK, json.dumps(plan))


@contextmanager
def _started(count: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run torchrun and its workers while the block lasts."""
    with _writing(folder), (folder / _LOG).open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  (the command is ours)
            _command(count, folder), stdout=log, stderr=log, env={**_FRESH_STORE, **os.environ}
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _command(count: int, folder: Path) -> list[str]:
    """The command: torchrun on this machine alone, unless PET_RDZV_ENDPOINT says where several machines meet."""
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    where = [] if "PET_RDZV_ENDPOINT" in os.environ else ["--standalone"]
    how = [f"--nproc-per-node={count}", f"--max-restarts={RESTARTS}", f"--log-dir={folder}"]
    worker = ["-m", "recsys.models.distributed.worker", str(folder)]
    return [sys.executable, "-m", "recsys.process", str(os.getpid()), *torchrun, *where, *how, *worker]


def _wait(
    process: subprocess.Popen[bytes], folder: Path, epoch: int, budget: Budget, step: Callable[[str], str]
) -> bool:
    """Wait until the epoch has ended; False when the budget ends first."""
    waits, trains = step("wait for workers"), step(f"epoch {epoch}")
    while sharded.newest(folder) < epoch:
        ended = process.poll() is not None
        if ended and sharded.newest(folder) < epoch:  # it may have written its last in between
            lines = (folder / _LOG).read_text(encoding="utf-8", errors="replace").splitlines()
            raise RecsysError(
                f"the workers failed in epoch {epoch}: torchrun ended with code {process.returncode}",
                detail="\n".join(lines[-_SHOWN_LINES:]),
            )
        at, _, done = read_text(folder / PROGRESS).partition(" ")
        if at == str(epoch):
            goes_on = budget.epoch(float(done), step=trains)
        else:  # they start, perhaps again, which must not count as the speed of the epoch
            budget.progress(waits, 0.0)
            goes_on = not budget.expired()
        if not goes_on:
            return False
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_SECONDS)
    budget.progress(waits, 1.0)
    return budget.epoch(1.0, step=trains)
