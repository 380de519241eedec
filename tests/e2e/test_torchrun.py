"""Several processes train what one trains, with the tables shared out; one that dies is started again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from key_checks import SINGLE, changed, loaded
from model_contracts import checkerboard
from road import quiet
from torch import nn

from jobs import candidates
from jobs.candidates import Night
from recsys.errors import RecsysError
from recsys.evaluation import validation_score
from recsys.models import Workers, sharded, torchrun, two_tower
from recsys.models.torchrun import Work, train_together

CHOSEN = {
    **{"half_life_days": 90.0, "recency_half_life_days": 10.0, "demand": 0.0, "temperature": 0.2, "unit_items": True},
    **{"epochs": 2, "dim": 16, "batch_size": 64, "negatives": 32, "learning_rate": 0.1},
}


def learnt(workers: Workers | None, report=quiet) -> np.ndarray:
    """The vectors of the items and those of the histories, side by side."""
    data = replace(checkerboard(cold=4), workers=workers)
    found = two_tower.train(data, CHOSEN, score=None, seed=0, device="cpu", report=report)
    return np.concatenate([found.item_vectors, found.parts[0].history_vectors], axis=1)


@pytest.fixture(scope="module")
def alone() -> np.ndarray:
    return learnt(None)


@pytest.fixture(scope="module")
def by_two(tmp_path_factory) -> np.ndarray:
    return learnt(Workers(2, tmp_path_factory.mktemp("two")))


def test_a_group_of_one_comes_to_the_same_bits(alone, tmp_path):
    np.testing.assert_array_equal(learnt(Workers(1, tmp_path)), alone)


def test_two_processes_learn_what_one_learns(alone, by_two):
    np.testing.assert_allclose(by_two, alone, atol=1e-5)


def test_a_worker_killed_in_mid_epoch_is_started_again_and_comes_to_the_same_bits(by_two, tmp_path, monkeypatch):
    monkeypatch.setenv("RECSYS_CRASH_AT", "epoch 2, worker 1, restart 0")
    logs = []

    def report(step: str, done: float) -> None:
        if done == 1:
            logs.append((tmp_path / "work" / "log").read_text())

    np.testing.assert_array_equal(learnt(Workers(2, tmp_path), report), by_two)
    assert "failed (exitcode: -9) local_rank: 1" in logs[-1]
    assert not (tmp_path / "work").exists()


def test_two_processes_are_as_accurate_as_one_within_the_spread_of_seeds(shop):
    single = {**SINGLE, "RECSYS_MODELS__TWO_TOWER__EPOCHS": "4", "RECSYS_MODELS__TWO_TOWER__DEMANDS": "[0.5]"}

    def quality(seed: int, processes: int) -> float:
        config = changed(shop, "training.seed", str(seed), **single, RECSYS_TRAINING__PROCESSES=str(processes))
        night = Night(config, loaded(config), None, quiet)
        splits, score = night.splits, validation_score(night.loaded.catalog, night.splits, config)
        return score(candidates.fit(night, "two_tower", splits.fit, splits.validation_start, score=score))

    one = [quality(seed, 1) for seed in range(4)]
    assert not (shop / "recsys-data" / "training").exists()
    two = quality(0, 2)
    assert (shop / "recsys-data" / "training").exists(), "workers were started"
    assert abs(two - one[0]) <= np.ptp(one)


def test_workers_that_fail_again_and_again_fail_the_job_with_their_last_words(tmp_path, monkeypatch):
    monkeypatch.setattr(torchrun, "RESTARTS", 0)
    work = Work("recsys.models.two_tower:none_such", {}, {})
    with pytest.raises(RecsysError, match="in epoch 1: torchrun ended with code 1") as failed:
        next(
            train_together(
                Workers(1, tmp_path), work, nn.Linear(1, 1), 1, torch.device("cpu"), lambda _: lambda _: None
            )
        )
    assert "none_such" in failed.value.in_full
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda", "nccl")])
def test_processes_talk_through_what_their_devices_have(device, backend):
    assert sharded.backend_for(torch.device(device)) == backend
