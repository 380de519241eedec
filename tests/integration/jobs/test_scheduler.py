"""The night: one run for each due time, never two, never none, whatever is killed; and nothing is left behind."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import sqlalchemy as sa
from nights import Nights, kill_quietly, running

from jobs import ledger
from recsys.config.loading import load_config
from recsys.store.runs import DIED


@pytest.fixture
def nights(database, tmp_path):
    opened = Nights(tmp_path, database)
    yield opened
    opened.close()


@pytest.fixture
def nights_on_sqlite(tmp_path):
    """For what is about processes: the claims behind it are tested on each database in test_schedule_store.py."""
    opened = Nights(tmp_path, f"sqlite:///{tmp_path / 'own.db'}")
    yield opened
    opened.close()


@pytest.fixture
def quick(tmp_path):
    """For what does not depend on the database: SQLite, and a limit that a slow start does not reach."""
    opened = Nights(tmp_path, f"sqlite:///{tmp_path / 'own.db'}", "timeout_minutes = 0.2\n")
    yield opened
    opened.close()


def test_the_first_start_plans_the_next_night_and_runs_nothing(nights_on_sqlite):
    nights = nights_on_sqlite
    scheduler = nights.start()
    due = nights.planned()
    assert due.entry == "0 2 * * * UTC"
    assert nights.store.now() < due.due_at <= nights.store.now() + 86_400_000_000
    assert due.due_at % 86_400_000_000 == 2 * 3_600_000_000
    assert nights.stop(scheduler) == 0
    assert nights.runs() == []


def test_nights_that_were_missed_are_made_up_for_by_one_run(nights_on_sqlite):
    nights = nights_on_sqlite
    first = nights.start()
    planned = nights.planned()
    assert nights.stop(first) == 0
    missed = nights.miss(3)
    scheduler = nights.start()
    nights.wait(nights.moved_on(missed))
    assert nights.stop(scheduler) == 0
    assert [(run.status, run.due_at) for run in nights.runs()] == [("done", missed)]
    assert nights.due().due_at == planned.due_at
    assert nights.due().owner is None


def test_two_schedulers_on_one_store_make_one_run_a_night(nights):
    for _ in range(2):
        nights.start()
    nights.planned()
    for _ in range(3):
        due_at = nights.miss()
        nights.wait(nights.moved_on(due_at))
        assert [run.status for run in nights.ended(due_at)] == ["done"]
    assert len(nights.runs()) == 3
    assert len([note for note in nights.notes() if note.startswith("run")]) == 3


def kill_at_random(nights, chance, kills):
    """Nights in which schedulers and jobs are killed with -9, until there were so many kills."""
    schedulers = [nights.start(), nights.start()]
    nights.planned()
    killed, moment = 0, 0.0

    def maybe_kill():
        nonlocal killed, moment
        if time.monotonic() < moment or killed >= kills:
            return False
        moment = time.monotonic() + chance.uniform(0, 2.5)
        killed += 1
        jobs = [int(note.split()[1]) for note in nights.notes() if note.startswith("run")]
        if jobs and running(jobs[-1]) and chance.random() < 0.5:
            kill_quietly(jobs[-1])
        else:
            at = chance.randrange(2)
            nights.kill(schedulers[at])
            schedulers[at] = nights.start()
        return True

    while killed < kills:
        due_at = nights.miss(chance.choice([1, 2, 5]))
        nights.mode(f"sleep {chance.uniform(0, 1.5):.2f}")
        nights.wait(nights.moved_on(due_at), meanwhile=maybe_kill)
        ended = nights.ended(due_at)
        assert [run.status for run in ended] == ["done"], (ended, nights.runs())
    for scheduler in schedulers:  # one that has only just been started is ended by the signal itself
        assert nights.stop(scheduler) in (0, -signal.SIGTERM)
    assert not [run for run in nights.runs() if run.status == "failed" and not run.error.startswith(DIED)]


# What is claimed is tested on each database in test_schedule_store.py, and many kills on each below.
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_kills_at_random_moments_leave_one_run_a_night(database, tmp_path):
    nights = Nights(tmp_path, database, "max_attempts = 1000\n")
    try:
        kill_at_random(nights, random.Random(7), kills=8)
    finally:
        nights.close()


@pytest.mark.slow
def test_many_kills_at_random_moments_leave_one_run_a_night(database, tmp_path):
    nights = Nights(tmp_path, database, "max_attempts = 1000\n")
    try:
        kill_at_random(nights, random.Random(), kills=100)
    finally:
        nights.close()


def test_a_job_does_not_outlive_a_scheduler_that_is_killed_and_is_run_again_on_return(nights_on_sqlite):
    nights = nights_on_sqlite
    nights.mode("sleep 600")
    scheduler = nights.start()
    nights.planned()
    due_at = nights.miss()
    nights.wait(lambda: bool(nights.notes()))
    job = int(nights.notes()[0].split()[1])
    assert running(job)
    nights.kill(scheduler)
    nights.wait(lambda: not running(job))
    nights.mode("at once")
    nights.start()
    nights.wait(nights.moved_on(due_at))
    assert [(run.status, run.error) for run in nights.runs()] == [
        ("failed", f"{DIED}it stopped without a word"),
        ("done", None),
    ]


def test_an_end_asked_for_ends_the_job_with_its_group_and_leaves_the_night_to_the_next_start(nights_on_sqlite):
    nights = nights_on_sqlite
    nights.mode("hang")
    scheduler = nights.start()
    nights.planned()
    due_at = nights.miss()
    nights.wait(lambda: len(nights.notes()) == 2)
    processes = [int(note.split()[1]) for note in nights.notes()]
    assert all(running(pid) for pid in processes)
    assert nights.stop(scheduler) == 0
    assert not any(running(pid) for pid in processes)
    assert [(run.status, run.error) for run in nights.runs()] == [("failed", f"{DIED}it was ended with its scheduler")]
    due = nights.due()
    assert (due.due_at, due.owner, due.attempts) == (due_at, None, 0)
    nights.mode("at once")
    nights.start()
    nights.wait(nights.moved_on(due_at))
    assert [run.status for run in nights.ended(due_at)] == ["done"]


@pytest.mark.parametrize("seconds", [0.0, 0.02])
def test_a_second_request_to_end_changes_nothing(quick, seconds):
    scheduler = quick.start()
    quick.planned()
    scheduler.send_signal(signal.SIGTERM)
    time.sleep(seconds)
    assert quick.stop(scheduler) == 0


def test_a_run_over_its_limit_is_ended_with_its_group_has_failed_and_is_not_tried_again(quick):
    quick.mode("hang")
    quick.start()
    quick.planned()
    due_at = quick.miss()
    quick.wait(quick.moved_on(due_at))
    assert [(run.status, run.error) for run in quick.runs()] == [
        ("failed", "it was over its limit of 0.2 minutes and was ended")
    ]
    processes = [int(note.split()[1]) for note in quick.notes()]
    assert len(processes) == 2
    assert not any(running(pid) for pid in processes)


@pytest.mark.parametrize(
    ("mode", "status", "error"),
    [("fail", "failed", "ValueError: no space left"), ("refuse", "refused", "the gate refused to publish")],
)
def test_a_failure_or_refusal_ends_the_night_without_another_try(quick, mode, status, error):
    quick.mode(mode)
    quick.start()
    quick.planned()
    due_at = quick.miss()
    quick.wait(quick.moved_on(due_at))
    assert [(run.status, run.error, run.due_at) for run in quick.runs()] == [(status, error, due_at)]


@pytest.mark.parametrize(
    ("mode", "died", "cause"), [("die", 3, "ended with code -9"), ("never begin", 0, "ended with code 7")]
)
def test_a_job_that_dies_every_time_is_given_up_in_the_ledger_after_three_attempts(nights_on_sqlite, mode, died, cause):
    nights_on_sqlite.mode(mode)
    nights_on_sqlite.start()
    nights_on_sqlite.planned()
    due_at = nights_on_sqlite.miss()
    nights_on_sqlite.wait(nights_on_sqlite.moved_on(due_at))
    *deaths, last = nights_on_sqlite.runs()
    assert len(deaths) == died
    assert all(run.status == "failed" and cause in run.error for run in deaths)
    assert last.status == "failed"
    assert last.error.startswith("given up after 3 attempts: died: ")
    assert cause in last.error
    assert last.due_at == due_at


def test_a_run_that_a_person_has_started_is_waited_for(quick):
    config = load_config(quick.folder / "recsys.toml")
    quick.start()
    quick.planned()
    with ledger.run(quick.store, "train", config):
        due_at = quick.miss()
        until = quick.log.stat().st_size
        time.sleep(1)  # some ten looks
        assert quick.log.stat().st_size == until
        assert [run.status for run in quick.runs()] == ["running"]
    quick.wait(quick.moved_on(due_at))
    assert [(run.status, run.due_at) for run in quick.runs()] == [("done", None), ("done", due_at)]


def test_an_entry_that_is_changed_moves_the_next_due_time_but_not_a_missed_one(quick):
    first = quick.start()
    assert quick.planned().due_at % 86_400_000_000 == 2 * 3_600_000_000
    quick.stop(first)
    settings = quick.folder / "recsys.toml"
    settings.write_text(settings.read_text().replace("0 2 * * *", "30 4 * * *"))
    second = quick.start()
    quick.wait(lambda: quick.due().entry == "30 4 * * * UTC")
    assert quick.due().due_at % 86_400_000_000 == 4.5 * 3_600_000_000
    quick.stop(second)
    missed = quick.miss()
    settings.write_text(settings.read_text().replace("30 4 * * *", "0 3 * * *"))
    quick.start()
    quick.wait(quick.moved_on(missed))
    assert [run.due_at for run in quick.runs()] == [missed]
    assert quick.due().due_at % 86_400_000_000 == 3 * 3_600_000_000


def test_a_launched_program_does_not_start_when_its_parent_is_gone(tmp_path):
    touch = [sys.executable, "-m", "recsys.process", "{parent}", "/usr/bin/touch", str(tmp_path / "ran")]
    stranger = [word.format(parent=1 if os.getpid() != 1 else 2) for word in touch]
    subprocess.run(stranger, check=True)
    assert not (tmp_path / "ran").exists()
    subprocess.run([word.format(parent=os.getpid()) for word in touch], check=True)
    assert (tmp_path / "ran").exists()


def test_the_command_refuses_an_empty_schedule_and_shows_a_planned_one(quick):
    command = [sys.executable, "-m", "jobs.cli", "schedule", "--config", str(quick.folder / "recsys.toml")]
    shown = subprocess.run([*command, "--show", "--json"], capture_output=True, text=True, check=True)
    assert '"entry": "0 2 * * * UTC"' in shown.stdout
    settings = quick.folder / "recsys.toml"
    settings.write_text(settings.read_text().replace("train = ", "# train = "))
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert 'nothing is scheduled; [schedule] allows train, as train = "0 2 * * *"' in refused.stderr


def test_a_store_that_comes_back_from_an_older_backup_is_worked_with_after_a_restart(quick):
    scheduler = quick.start()
    quick.planned()
    with quick.store.writing() as connection:
        connection.execute(sa.delete(quick.store.tables.due))
    quick.stop(scheduler)
    quick.start()
    assert quick.planned().attempts == 0


@pytest.mark.slow
def test_three_shops_on_one_host_share_a_database_and_no_night(database, tmp_path):
    shops = {}
    try:
        for name in ("wine", "books", "tea"):
            (tmp_path / name).mkdir()
            shops[name] = Nights(tmp_path / name, database, prefix=f"{name}_")
            shops[name].start()
        for nights in shops.values():
            nights.planned()
        shops["books"].mode("fail")
        due = {name: nights.miss() for name, nights in shops.items()}
        for name, nights in shops.items():
            nights.wait(nights.moved_on(due[name]))
        ended = {name: [run.status for run in nights.runs()] for name, nights in shops.items()}
        assert ended == {"wine": ["done"], "books": ["failed"], "tea": ["done"]}
        assert all((tmp_path / name / "recsys-data" / "schedule.json").exists() for name in shops)
        shops["wine"].kill(shops["wine"].schedulers[0])
        due = {name: nights.miss() for name, nights in shops.items()}
        for name in ("books", "tea"):
            shops[name].wait(shops[name].moved_on(due[name]))
        assert {name: len(nights.runs()) for name, nights in shops.items()} == {"wine": 1, "books": 2, "tea": 2}
    finally:
        for nights in shops.values():
            nights.close()
