"""A budget says when to end, and why."""

import time

import pytest

from recsys.models.budget import Budget

clock = [0.0]


@pytest.fixture(autouse=True)
def _hand_wound(monkeypatch):
    clock[0] = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])


def test_without_seconds_it_never_ends():
    budget = Budget()
    clock[0] = 1e12
    assert not budget.expired()
    assert budget.epoch(0.5, step="epoch 1")


def test_it_ends_when_its_seconds_are_over_and_stays_ended():
    budget = Budget(30)
    clock[0] = 30.0
    assert not budget.expired()
    clock[0] = 31.0
    assert not budget.stopped, "nobody has asked"
    assert budget.expired()
    assert budget.reason == "its 30 s were over"
    budget.deadline = 100.0
    assert budget.expired()
    assert not budget.epoch(0.1, step="epoch 1")


def test_the_first_reason_counts():
    budget = Budget()
    budget.stop("first")
    budget.stop("second")
    assert budget.reason == "first"


@pytest.mark.parametrize(("seconds", "goes_on"), [(99, False), (101, True)])
def test_an_epoch_that_would_end_too_late_is_not_waited_for(seconds, goes_on):
    budget = Budget(seconds)
    assert budget.epoch(0.0, step="epoch 1")
    clock[0] = 1.0
    assert budget.epoch(0.01, step="epoch 1"), "too early to tell"
    clock[0] = 10.0
    assert budget.epoch(0.1, step="epoch 1") is goes_on
    assert goes_on or budget.reason == "epoch 1 takes 90 s more, 89 s were left for it"


def test_a_slow_start_does_not_count_as_the_speed_of_an_epoch():
    budget = Budget(200)
    budget.progress("wait for workers", 0.0)
    clock[0] = 100.0  # at this speed the rest would never end
    assert budget.epoch(0.1, step="epoch 1")
    clock[0] = 110.0
    assert budget.epoch(0.3, step="epoch 1"), "35 s more"
    budget.progress("wait for workers", 0.0)  # one has died
    clock[0] = 150.0
    assert budget.epoch(0.3, step="epoch 1")
    clock[0] = 155.0
    assert budget.epoch(0.5, step="epoch 1")


def test_an_epoch_that_has_ended_is_kept_however_late():
    budget = Budget(10)
    assert budget.epoch(0.0, step="epoch 1")
    clock[0] = 11.0
    assert budget.epoch(1.0, step="epoch 1")
    assert budget.expired()


def test_an_epoch_over_a_sample_is_no_whole_one():
    budget = Budget()
    budget.epoch(1.0, step="epoch 1", is_whole=False)
    budget.epoch(0.9, step="epoch 2")
    assert not budget.has_seen_all_events
    budget.epoch(1.0, step="epoch 2")
    assert budget.has_seen_all_events


def test_progress_is_shown_for_epochs_and_other_steps():
    shown = []
    budget = Budget(progress=lambda step, share: shown.append((step, share)))
    budget.progress("choose", 0.5)
    budget.epoch(0.25, step="epoch 1")
    assert shown == [("choose", 0.5), ("epoch 1", 0.25)]
