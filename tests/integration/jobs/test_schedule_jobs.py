"""Jobs beside the training: any command, after another one, within budgets, tried again when that may help, paused."""

import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from command_line import run_here
from nights import Nights
from tiny import saved

from jobs import ledger
from jobs.schedule.entries import planned
from jobs.schedule.remembered import Remembered
from jobs.schedule.resources import available_memory, free_disk, group_memory
from recsys.config.loading import load_config
from recsys.config.settings import Config
from recsys.data.times import from_datetime, to_datetime
from recsys.errors import BusyError, ConfigError
from recsys.store.runs import LATER
from recsys.store.schedule import NEVER, claim_due, list_due, pause_job, paused_jobs, plan_due, resume_job

HOUR = 3_600_000_000
DAY = 24 * HOUR


@pytest.fixture
def nights_with(tmp_path):
    opened = []

    def start(settings):
        opened.append(Nights(tmp_path, f"sqlite:///{tmp_path / 'own.db'}", settings))
        opened[0].start()
        others = settings.replace("[schedule.jobs.train]", "").count("[schedule.jobs.")
        opened[0].planned(jobs=1 + others)
        return opened[0]

    yield start
    for nights in opened:
        nights.close()


def ended(nights, job):
    return [run for run in nights.runs() if run.job == job and run.status != "running"]


def test_any_command_runs_after_another_job_and_its_outcome_is_in_the_ledger(nights_with):
    nights = nights_with(
        "[schedule.jobs.tidy]\ncommand = ['bundles', 'prune']\nafter = 'train'\n"
        "[schedule.jobs.look]\ncommand = ['source', 'check']\nafter = 'tidy'\n"
    )
    published = saved(nights.folder / "recsys-data", 9)
    due_at = nights.miss_job("train")
    nights.wait(lambda: len(ended(nights, "look")) == 1)
    assert [run.status for run in nights.ended(due_at)] == ["done"]
    (tidy,), (look,) = ended(nights, "tidy"), ended(nights, "look")
    assert (tidy.status, tidy.due_at) == ("done", ended(nights, "train")[0].finished_at)
    nights.wait(lambda: "look: ended" in nights.log.read_text())  # the scheduler's last word about it
    lines = nights.log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ [A-Z]+ \d+ ", line) for line in lines), lines
    for said in (f"run {tidy.run_id}: deleted: ", f"run {tidy.run_id}: tidy: ended", f"run {look.run_id}: refused: "):
        assert any(said in line for line in lines), lines
    assert len(list((nights.folder / "recsys-data" / "bundles").glob("*/manifest.json"))) == 7 < len(published)
    assert look.status == "refused"  # there are no events yet
    assert "`recsys source check` found errors" in look.error
    assert {due.job: due.due_at for due in list_due(nights.store)}["tidy"] == NEVER


def test_what_may_pass_is_tried_again_and_then_given_up_with_its_reason(nights_with):
    nights = nights_with("max_attempts = 2\n")
    nights.mode("away")
    due_at = nights.miss()
    nights.wait(nights.moved_on(due_at))
    *tried, last = nights.runs()
    reason = "SourceError: the shop's database does not answer"
    assert [run.error for run in tried] == [f"{LATER}{reason}"] * 2
    assert (last.status, last.error) == ("failed", f"given up after 2 attempts: {reason}")


def test_a_job_over_its_memory_is_ended(nights_with):
    nights = nights_with("[schedule.jobs.train]\nmemory_mb = 500\n")
    nights.mode("eat")
    due_at = nights.miss()
    nights.wait(nights.moved_on(due_at))
    (run,) = nights.runs()
    assert run.status == "failed"
    assert run.error.startswith("it was over its limit of 500 MB of memory, with ")


def test_a_job_does_not_start_without_the_room_it_needs(nights_with):
    nights = nights_with("max_attempts = 2\n[schedule.jobs.train]\nfree_disk_mb = 1000000000\n")
    due_at = nights.miss()
    nights.wait(nights.moved_on(due_at))
    (run,) = nights.runs()
    assert run.error.startswith("given up after 2 attempts: too little room in ")
    assert nights.notes() == []


def test_a_job_does_not_start_without_the_memory_that_its_last_run_needed(nights_with, tmp_path):
    Remembered(tmp_path / "recsys-data").put("needs", "train", {"memory": 1, "disk": 0})
    nights = nights_with("max_attempts = 1\nreserve_memory_mb = 1000000000\n")
    due_at = nights.miss()
    nights.wait(nights.moved_on(due_at))
    (run,) = nights.runs()
    assert run.error.startswith("given up after 1 attempts: too little memory: ")


def test_what_a_run_needed_is_remembered_for_the_next_night(nights_with):
    nights = nights_with("")
    nights.mode("sleep 2")
    due_at = nights.miss()
    nights.wait(nights.moved_on(due_at))
    file = nights.folder / "recsys-data" / "schedule.json"
    nights.wait(lambda: "needs" in json.loads(file.read_text()))
    assert json.loads(file.read_text())["needs"]["train"]["memory"] > 10_000_000


def test_a_paused_job_is_due_for_nobody_until_it_is_resumed(store):
    plan_due(store, "train", "entry", lambda now: now - HOUR)

    def claim():
        return claim_due(store, "train", "a", seconds=60, next_due=lambda now: now + HOUR)

    pause_job(store, "train")
    pause_job(store, "train")
    assert list(paused_jobs(store)) == ["train"]
    assert claim() is None
    assert resume_job(store, "train", lambda now: now + HOUR)
    assert not resume_job(store, "train", lambda now: now + HOUR)
    assert paused_jobs(store) == {}
    assert claim() is None  # what passed meanwhile is not made up for
    assert list_due(store)[0].due_at > store.now()
    with store.writing() as connection:
        connection.execute(sa.update(store.tables.due).values(due_at=1))
    assert claim() == 1


def test_the_schedule_is_shown_as_it_is_right_after_a_change(tmp_path):
    settings = tmp_path / "recsys.toml"

    def shown():
        return {
            row["job"]: row for row in json.loads(run_here("schedule", "--show", "--json", "--config", settings).stdout)
        }

    settings.write_text("[schedule]\ntrain = '0 2 * * *'\n")
    store = Nights(tmp_path, f"sqlite:///{tmp_path / 'recsys.db'}").store
    settings.write_text("[schedule]\ntrain = '0 2 * * *'\n")
    config = load_config(settings, {})
    for entry in planned(config, settings, {}):
        plan_due(store, entry.job, entry.text, entry.next_due)
    assert shown()["train"]["due_at"].endswith("02:00:00")
    settings.write_text(
        "[schedule]\ntrain = '30 4 * * *'\n[schedule.jobs.tidy]\ncommand = ['bundles']\nafter = 'train'\n"
    )
    assert shown()["train"]["due_at"].endswith("04:30:00")
    assert shown()["tidy"]["due_at"] == "after train"
    assert run_here("schedule", "pause", "train", "--config", settings).returncode == 0
    assert shown()["train"]["state"] == "paused"
    assert "train runs again; next: " in run_here("schedule", "resume", "train", "--config", settings).stdout
    assert shown()["train"]["state"] == ""
    assert (
        "no job 'trian' is scheduled; there are tidy, train"
        in run_here("schedule", "pause", "trian", "--config", settings).stderr
    )
    store.close()


def test_a_run_by_hand_that_meets_another_one_ends_with_a_code_of_its_own(tmp_path):
    settings = tmp_path / "recsys.toml"
    nights = Nights(tmp_path, f"sqlite:///{tmp_path / 'own.db'}")
    with ledger.run(nights.store, "train", Config()):
        done = run_here("train", "--config", settings)
        with pytest.raises(BusyError), ledger.run(nights.store, "train", Config()):
            pass
    nights.close()
    assert done.returncode == 4
    assert done.stderr.startswith("busy: another run of 'train' is under way")


def test_jitter_moves_a_job_by_a_part_of_its_own_and_always_the_same(tmp_path):
    def entry(prefix, jitter):
        values = {"schedule": {"jobs": {"train": {"at": "@daily", "jitter_minutes": jitter}}}}
        config = Config.model_validate({**values, "store": {"table_prefix": prefix}})
        return planned(config, tmp_path / "recsys.toml", {})[0]

    now = from_datetime(to_datetime(0) + timedelta(days=20_000, hours=12))
    offsets = {prefix: entry(prefix, 60).next_due(now) % DAY for prefix in ("wine_", "books_", "toys_")}
    assert len(set(offsets.values())) == 3
    assert all(0 <= offset < HOUR for offset in offsets.values())
    first = entry("wine_", 60).next_due(now)
    assert [entry("wine_", 60).next_due(first + at) - first for at in (-1, 0)] == [0, DAY]
    assert entry("wine_", 0).next_due(now) % DAY == 0


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[schedule.jobs.tidy]\ncommand = ['bundles']\n", r"\[schedule.jobs.tidy\] needs one of at and after"),
        ("[schedule.jobs.tidy]\nat = '@daily'\nafter = 'train'\n", "needs one of at and after"),
        ("[schedule.jobs.tidy]\nat = '@dayly'\n", "@hourly, @daily, @weekly, @monthly"),
        ("[schedule.jobs.tidy]\nafter = 'tran'\n", "after = 'tran': allowed are train"),
        ("[schedule.jobs.tune]\nat = '@daily'\ncommand = ['bundles']\n", "choose another name"),
    ],
)
def test_a_job_that_could_never_run_is_refused(tmp_path, text, fault):
    settings = tmp_path / "recsys.toml"
    settings.write_text(text)
    with pytest.raises(ConfigError, match=fault):
        load_config(settings, {})


def test_the_memory_of_a_group_is_that_of_all_its_processes():
    program = "import time; eaten = bytearray(b'x' * 50_000_000); print('ready', flush=True); time.sleep(600)"
    shell = f'{sys.executable} -c "{program}" & {sys.executable} -c "{program}" & wait'
    group = subprocess.Popen(["/bin/sh", "-c", shell], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert group.stdout is not None
        assert group.stdout.read(12).count(b"ready") == 2
        assert 100_000_000 < group_memory(group.pid) < 250_000_000
    finally:
        subprocess.run(["/bin/kill", "-9", "--", f"-{group.pid}"], check=True)
        group.communicate()
    assert group_memory(group.pid) == 0
    assert available_memory() > 0
    assert free_disk(Path("/tmp/none/of/these")) > 0
