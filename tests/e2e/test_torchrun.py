"""Several processes train what one trains, with the tables shared out; one that dies is started again."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from key_checks import SINGLE, changed, loaded
from model_contracts import checkerboard
from road import quiet
from torch import nn
from torch.distributed.checkpoint import state_dict_loader

from jobs import candidates
from jobs.candidates import Night
from recsys.errors import RecsysError
from recsys.evaluation import validation_score
from recsys.models import MODELS, Workers, sharded, torchrun, two_tower
from recsys.models.sharded import Progress
from recsys.models.torchrun import Work, train_together
from recsys.names import resolve

TIME = {"recency_half_life_days": 10.0, "demand": 0.0}
CHOSEN = {
    "two_tower": TIME
    | {"half_life_days": 90.0, "temperature": 0.2, "unit_items": True, "epochs": 2}
    | {"dim": 16, "batch_size": 64, "negatives": 32, "learning_rate": 0.1},
    "sequence": TIME
    | {"temperature": 0.1, "epochs": 2, "dim": 16, "length": 8, "blocks": 1, "dropout": 0.0}
    | {"batch_size": 64, "full_softmax_items": 0, "negatives": 16},
}


def learnt(model: str, workers: Workers | None, report=quiet) -> np.ndarray:
    """The vectors of the items and, beside them, of users of one item each."""
    data = replace(checkerboard(cold=4), workers=workers)
    found = resolve(MODELS[model])(data, CHOSEN[model], score=None, seed=0, device="cpu", report=report)
    items = len(found.item_vectors)
    return np.concatenate([found.item_vectors, found.encode(tiny.histories(*([(item, 0)] for item in range(items))))])


def test_a_group_of_one_comes_to_the_same_bits(tmp_path):
    np.testing.assert_array_equal(learnt("two_tower", Workers(1, tmp_path)), learnt("two_tower", None))


def learnt_with_a_kill(model, folder, monkeypatch, look) -> np.ndarray:
    """By two workers, of which one is killed in mid-epoch; `look` is called when the last epoch has ended."""
    logs = []

    def report(step: str, done: float) -> None:
        if "epoch 2" in step and (folder / "work" / "epoch-2" / ".metadata").exists():
            logs.append((folder / "work" / "log").read_text())
            look()

    with monkeypatch.context() as patch:
        patch.setenv("RECSYS_CRASH_AT", "epoch 2, worker 1, restart 0")
        found = learnt(model, Workers(2, folder), report)
    assert "failed (exitcode: -9) local_rank: 1" in logs[-1]
    assert logs[-1].count("worker 0 begins with epoch 1") == logs[-1].count("worker 0 begins with epoch 2") == 1
    assert not (folder / "work").exists()
    return found


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_two_processes_learn_what_one_learns_though_one_is_killed_in_mid_epoch(tmp_path, monkeypatch):
    # The tables say little about the size of the gradients, as Adagrad divides by it; what it has summed up does.
    name = "optimiser of tables.state.user.embedding_bags.history.weight.history.momentum1"
    state = {name: torch.zeros(checkerboard(cold=4).events.item_count)}

    def look() -> None:
        state_dict_loader.load(state, checkpoint_id=tmp_path / "work" / "epoch-2", no_dist=True)

    found = learnt_with_a_kill("two_tower", tmp_path, monkeypatch, look)
    np.testing.assert_allclose(found, learnt("two_tower", None), atol=1e-5)
    chosen = CHOSEN["two_tower"]
    alone = two_tower._Model(checkerboard(cold=4), chosen, 0, torch.device("cpu"), quiet).trained(chosen)
    summed = alone.user_tower.fused_optimizer().state_dict()["state"]["history.weight"]["history.weight.momentum_1"]
    np.testing.assert_allclose(state[name], summed, rtol=1e-4)
    assert summed.max() > 0


def test_the_sequence_model_goes_on_with_its_tower_s_optimiser_after_a_kill(tmp_path, monkeypatch):
    found = learnt_with_a_kill("sequence", tmp_path, monkeypatch, lambda: None)
    np.testing.assert_allclose(found, learnt("sequence", None), atol=1e-5)


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
                Workers(1, tmp_path),
                work,
                Progress({"tables": nn.Linear(1, 1)}),
                1,
                torch.device("cpu"),
                lambda _: lambda _: None,
            )
        )
    assert "none_such" in failed.value.in_full
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda", "nccl")])
def test_processes_talk_through_what_their_devices_have(device, backend):
    assert sharded.backend_for(torch.device(device)) == backend
