"""Trains tables with several processes: torchrun starts them, starts them again when one dies, and they do the work.

The job writes what is learnt from and the tables' start into a folder; the workers checkpoint the tables there after
every epoch, from where the job takes them. So a worker needs nothing but the folder, and no database or configuration.
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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recsys.data.folder import exclusive_lock, read_text, replace_text
from recsys.errors import RecsysError
from recsys.models.contract import Workers
from recsys.models.distributed import sharded
from recsys.models.distributed.sharded import Progress

RESTARTS = 3  # of the workers, before a training is given up
WORK, PROGRESS, _LOG = "work.json", "progress", "log"
_POLL_SECONDS = 0.1
_LAST_SECONDS = 30.0  # for workers to end by themselves after the last epoch
# Else workers that are started again meet in the store of those before them, and gloo waits at addresses of the dead.
_FRESH_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
_TOLD_LINES = 60  # of the log, when it failed

Report = Callable[[float], None]


@dataclass(frozen=True)
class WorkerTask:
    """A model as a worker trains it."""

    progress: Progress
    train_epoch: Callable[[int, Report], float]  # epoch 1, 2, …, and what is told the share done


@dataclass(frozen=True)
class Work:
    """What the workers are given."""

    pupil: str  # dotted name of a function: (facts, arrays, device) -> Pupil
    facts: dict[str, Any]  # as JSON
    arrays: Mapping[str, npt.NDArray[np.generic]]


def train_together(
    workers: Workers, work: Work, progress: Progress, epochs: int, device: torch.device, report: Callable[[str], Report]
) -> Generator[int]:
    """Train for so many epochs; yields each when it has ended, with `progress` as it was after it.

    The workers are an epoch or two ahead, and end with the last or when the iterator is closed. report: is given
    "epoch 1" and so on, or what is waited for. Other trainings in the same folder wait. Raises RecsysError when the
    workers died too often or the folder cannot be written to.
    """
    if epochs == 0:
        return
    with _writing(workers.folder):
        workers.folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(workers.folder, partial(report("wait for another training"), 0.0)):
        folder = workers.folder / "work"
        shutil.rmtree(folder, ignore_errors=True)  # of a job that was killed
        try:
            _write(folder, work, epochs, device)
            sharded.save(folder, 0, progress)
            with _started(workers.count, folder) as process:
                for epoch in range(1, epochs + 1):
                    _wait(process, folder, epoch, report)
                    sharded.load(folder, epoch, progress)
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
    # The training's name is for workers that outlived theirs: they must not take this one for it.
    name = secrets.token_hex(8)
    plan = {"name": name, "pupil": work.pupil, "facts": work.facts, "epochs": epochs, "device": device.type}
    replace_text(folder / WORK, json.dumps(plan))


@contextmanager
def _started(count: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Torchrun with its workers, which are ended with the block."""
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
    """Torchrun on this machine alone, unless its own environment (PET_RDZV_ENDPOINT) says where several meet."""
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    where = [] if "PET_RDZV_ENDPOINT" in os.environ else ["--standalone"]
    how = [f"--nproc-per-node={count}", f"--max-restarts={RESTARTS}", f"--log-dir={folder}"]
    worker = ["-m", "recsys.models.distributed.worker", str(folder)]
    return [sys.executable, "-m", "recsys.process", str(os.getpid()), *torchrun, *where, *how, *worker]


def _wait(process: subprocess.Popen[bytes], folder: Path, epoch: int, report: Callable[[str], Report]) -> None:
    """Until the epoch has ended."""
    waits, told = report("wait for workers"), report(f"epoch {epoch}")
    while sharded.newest(folder) < epoch:
        ended = process.poll() is not None
        if ended and sharded.newest(folder) < epoch:  # it may have written its last in between
            lines = (folder / _LOG).read_text(encoding="utf-8", errors="replace").splitlines()
            raise RecsysError(
                f"the workers failed in epoch {epoch}: torchrun ended with code {process.returncode}",
                detail="\n".join(lines[-_TOLD_LINES:]),
            )
        at, _, done = read_text(folder / PROGRESS).partition(" ")
        if at == str(epoch):
            told(float(done))
        else:  # they start, perhaps again: what is slow about that must not count as the epoch's speed
            waits(0.0)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_SECONDS)
    waits(1.0)
    told(1.0)
