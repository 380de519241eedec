"""Several processes train what one trains, with the tables shared out; one that dies is started again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from key_checks import SINGLE, changed, loaded
from model_contracts import checkerboard
from tiny import quiet
from torch import nn
from torch.distributed.checkpoint import FileSystemWriter, state_dict_loader

from recsys.data import folder as folders
from recsys.errors import RecsysError
from recsys.models.budget import Budget
from recsys.models.contract import Workers, fit
from recsys.models.distributed import sharded, torchrun, worker
from recsys.models.distributed.sharded import TrainingState
from recsys.models.distributed.torchrun import WORK, GoesOn, Work, WorkerTask, train_together
from recsys.models.sequence import model as sequence
from recsys.models.sequence.trainer import SequenceParams
from recsys.models.two_tower import model as two_tower
from recsys.models.two_tower.towers import TwoTowerParams
from recsys.process import LAUNCHED
from recsys.training import pipeline
from recsys.training.evaluation import ValidationScore
from recsys.training.pipeline import TrainingRun

TIME = {"recency_half_life_days": 10.0, "trend_weight": 0.0, "max_events_per_epoch": 400}  # of 750: passes are samples
CHOSEN = {
    "two_tower": TIME
    | {"half_life_days": 90.0, "temperature": 0.2, "normalize_items": True, "epochs": 2}
    | {"dim": 256, "batch_size": 64, "negatives": 16, "learning_rate": 0.1},  # room for a cut by columns
    "sequence": TIME
    | {"temperature": 0.1, "epochs": 2, "dim": 16, "length": 8, "blocks": 1, "dropout": 0.0}
    | {"batch_size": 64, "full_softmax_items": 0, "negatives": 16},
}


def trained(model: str, workers: Workers | None, report=quiet) -> np.ndarray:
    """The vectors of the items and, beside them, of users of one item each."""
    data = replace(checkerboard(cold=4), workers=workers)
    found = fit(model, data, CHOSEN[model], Budget(progress=report))
    items = len(found.item_vectors)
    return np.concatenate([found.item_vectors, found.encode(tiny.histories(*([(item, 0)] for item in range(items))))])


def test_a_group_of_one_comes_to_the_same_bits(tmp_path):
    steps = []

    def report(step: str, done: float) -> None:
        if step not in steps:
            steps.append(step)

    np.testing.assert_array_equal(trained("two_tower", Workers(1, tmp_path), report), trained("two_tower", None))
    names = ["wait for workers", "epoch 1", "epoch 2"]
    assert steps == [f"two_tower: {name}, temperature 0.2" for name in names]


def trained_by_two(model, folder, look, monkeypatch, *, is_killed) -> np.ndarray:
    """By two workers, of which one may be killed in mid-epoch; `look` is called when the last epoch has ended."""
    logs = []

    def report(step: str, done: float) -> None:
        if "epoch 2" in step and (folder / "work" / "epoch-2" / ".metadata").exists():
            logs.append((folder / "work" / "log").read_text())
            look()

    with monkeypatch.context() as patch:
        if is_killed:
            patch.setenv("RECSYS_CRASH_AT", "epoch 2, worker 1, restart 0")
        found = trained(model, Workers(2, folder), report)
    # Which of them torchrun names depends on whether the other has noticed, or been ended too, by the time it looks.
    died = re.findall(r"failed \(exitcode: (-?\d+)\) local_rank: (\d)", logs[-1])
    assert len(died) == is_killed
    assert {*died} <= {(str(-signal.SIGKILL), "1"), ("1", "0"), (str(-signal.SIGTERM), "0")}
    begun = [logs[-1].count(f"worker 0 begins with epoch {epoch}") for epoch in (1, 2)]
    assert begun == [1, is_killed]
    assert not (folder / "work").exists()
    return found


def alone_two_tower() -> nn.Module:
    """The table of histories after one process has trained it."""
    params = TwoTowerParams(**CHOSEN["two_tower"])
    towers = two_tower._Model(checkerboard(cold=4)).towers(params)
    for epoch in range(1, params.epochs + 1):
        towers.train_epoch(epoch, lambda _done: True)
    return towers.user_tower


def alone_sequence() -> nn.Module:
    """The table of items after one process has trained it."""
    params = SequenceParams(**CHOSEN["sequence"])
    trainer = sequence._Model(checkerboard(cold=4)).trainer(params)
    for epoch in range(1, params.epochs + 1):
        trainer.train_epoch(epoch, lambda _done: True)
    return trainer._tables


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize(
    ("model", "module", "table", "alone", "is_killed"),
    [
        ("two_tower", "user", "history", alone_two_tower, True),
        pytest.param("sequence", "item", "item", alone_sequence, False, marks=pytest.mark.slow),
        pytest.param("sequence", "item", "item", alone_sequence, True, marks=pytest.mark.slow),
    ],
)
def test_two_processes_learn_what_one_learns_though_one_is_killed_in_mid_epoch(
    model, module, table, alone, is_killed, tmp_path, monkeypatch
):
    # The tables say little about the size of the gradients, as Adagrad divides by it; what it has summed up does. That
    # one process reads what two have written says that the number may change in between.
    name = f"optimizer of tables.state.{module}.embedding_bags.{table}.weight.{table}.momentum1"
    state = {name: torch.zeros(checkerboard(cold=4).events.item_count)}

    def look() -> None:
        state_dict_loader.load(state, checkpoint_id=tmp_path / "work" / "epoch-2", no_dist=True)

    # A sum of products in bfloat16 is rounded to it, so that what two add up would differ in the third digit.
    for module_of in (sequence, two_tower):
        monkeypatch.setattr(module_of, "pick_precision", lambda _device: torch.float32)
    found = trained_by_two(model, tmp_path, look, monkeypatch, is_killed=is_killed)
    np.testing.assert_allclose(found, trained(model, None), atol=1e-5)
    summed = alone().fused_optimizer().state_dict()["state"][f"{table}.weight"][f"{table}.weight.momentum_1"]
    np.testing.assert_allclose(state[name], summed, rtol=1e-4)
    assert summed.max() > 0


def processes(folder: Path) -> dict[int, str]:
    """What trains there, torchrun and its workers: process ids and command lines."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            found[int(path.parent.name)] = path.read_text().replace("\0", " ")
    return {pid: line for pid, line in found.items() if f"recsys.models.distributed.worker {folder}/work" in line}


def test_a_training_that_ends_early_leaves_no_worker_and_lets_others_in(tmp_path):
    seen: list[str] = []

    def report(step: str, _done: float) -> None:
        if len(processes(tmp_path)) > 1:
            seen.append(step)
            budget.stop("somebody has seen enough")

    budget = Budget(progress=report)
    assert list(together(tmp_path, 1, budget)) == []
    assert seen
    assert processes(tmp_path) == {}
    assert not (tmp_path / "work").exists()
    with folders.exclusive_lock(tmp_path, lambda: False) as is_ours:
        assert is_ours
        assert list(together(tmp_path, 1, Budget(-1))) == [], "who waits gives up when the time is over"


def test_no_worker_outlives_a_torchrun_that_is_killed_while_the_worker_imports(tmp_path):
    def report(_step: str, _done: float) -> None:
        found = processes(tmp_path)
        for pid, line in found.items():
            if "torch.distributed.run" not in line and "libtorch" in Path(f"/proc/{pid}/maps").read_text():
                [torchrun] = found.keys() - {pid}
                os.kill(pid, signal.SIGSTOP)  # so that it cannot end by itself
                os.kill(torchrun, signal.SIGKILL)

    with pytest.raises(RecsysError, match="torchrun ended with code -9"):
        trained("two_tower", Workers(1, tmp_path), report)
    end_by = time.monotonic() + 10
    while (left := processes(tmp_path)) and time.monotonic() < end_by:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == {}


def test_a_worker_whose_parent_died_before_it_could_ask_to_be_told_ends_by_itself(tmp_path):
    command = [sys.executable, "-m", "recsys.models.distributed.worker", str(tmp_path)]
    assert subprocess.run(command, env={**os.environ, LAUNCHED: "1"}, check=False).returncode == 0


def unlearning(facts, arrays, device) -> WorkerTask:
    """Learns nothing, and puts other work into the folder in epoch 4."""

    def train_epoch(epoch: int, goes_on: GoesOn) -> float:
        if epoch == 4:
            (Path(facts["folder"]) / WORK).write_text("{}")
        return 0.0

    return WorkerTask(TrainingState({"tables": nn.Linear(1, 1)}), train_epoch)


def test_workers_wait_for_the_job_and_leave_the_work_of_another_alone(tmp_path, monkeypatch):
    alone = {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0, "TORCHELASTIC_RESTART_COUNT": 0}
    for name, value in alone.items():
        monkeypatch.setenv(name, str(value))
    there = []

    def take(_seconds: float) -> None:
        there.append(sorted(sharded._complete(tmp_path)))
        sharded.forget(tmp_path, there[-1][-1])

    monkeypatch.setattr(worker.time, "sleep", take)
    facts = {"folder": str(tmp_path)}
    plan = {"task": "test_torchrun:unlearning", "facts": facts, "epochs": 5, "device": "cpu"}
    (tmp_path / WORK).write_text(json.dumps(plan))
    sharded.save(tmp_path, 0, TrainingState({"tables": nn.Linear(1, 1)}))
    worker.work(tmp_path)
    assert there == [[0, 1], [1, 2], [2, 3]]
    assert sharded.newest(tmp_path) == 3


def test_ctrl_c_while_a_checkpoint_is_written_stays_ctrl_c(tmp_path, monkeypatch):
    def interrupted(*_arguments) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FileSystemWriter, "write_data", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sharded.save(tmp_path, 0, TrainingState({"tables": nn.Linear(1, 1)}))


@pytest.mark.slow  # that two learn the same as one, to the last digits, is tested above
def test_two_processes_are_as_accurate_as_one_within_the_spread_of_seeds(shop):
    single = {**SINGLE, "RECSYS_MODELS__TWO_TOWER__EPOCHS": "4", "RECSYS_MODELS__TWO_TOWER__TREND_WEIGHTS": "[0.5]"}

    def quality(seed: int, processes: int) -> float:
        config = changed(shop, "training.seed", str(seed), **single, RECSYS_TRAINING__PROCESSES=str(processes))
        run = TrainingRun(config, loaded(config))
        splits, score = run.splits, ValidationScore(run.dataset.catalog, run.splits, config)
        data = pipeline.training_data(run, splits.fit, splits.validation_start)
        return score(pipeline.tune(run, "two_tower", data, score, Budget()))

    one = [quality(seed, 1) for seed in range(4)]
    assert not (shop / "recsys-data" / "training").exists()
    two = quality(0, 2)
    assert (shop / "recsys-data" / "training").exists(), "workers were started"
    assert abs(two - one[0]) <= np.ptp(one)


def together(folder: Path, epochs: int, budget: Budget | None = None) -> Generator[int]:
    """The epochs of a training whose workers find nothing to train."""
    work, state = Work("recsys.models.two_tower.model:none_such", {}, {}), TrainingState({"tables": nn.Linear(1, 1)})
    return train_together(Workers(1, folder), work, state, epochs, torch.device("cpu"), budget or Budget(), str)


def test_workers_that_fail_again_and_again_fail_the_job_with_their_last_words(tmp_path, monkeypatch):
    monkeypatch.setattr(torchrun, "RESTARTS", 0)
    with pytest.raises(RecsysError, match="in epoch 1: torchrun ended with code 1") as failed:
        next(together(tmp_path, 1))
    assert "none_such" in failed.value.in_full
    assert not (tmp_path / "work").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RecsysError, match=f"in {tmp_path}/file/training: .*Not a directory"):
        next(together(tmp_path / "file" / "training", 1))


def test_nothing_is_started_for_no_epochs(tmp_path):
    assert list(together(tmp_path / "training", 0)) == []
    assert not (tmp_path / "training").exists()


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda", "nccl")])
def test_processes_talk_through_what_their_devices_have(device, backend):
    assert sharded.backend_for(torch.device(device)) == backend
