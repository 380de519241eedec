"""A run that memory runs out for ends by itself, and the ledger says why."""

import subprocess
import sys
from contextlib import closing

import pytest

from jobs import memory_watch
from jobs.ledger import run
from jobs.memory_watch import watching_memory
from jobs.schedule import resources
from jobs.schedule.resources import available_memory
from recsys.config.loading import load_config
from recsys.store.migrate import open_store
from recsys.store.runs import list_runs

ENDS = """
import sys, time
from pathlib import Path
from jobs import ledger, memory_watch
from recsys.config.loading import load_config
from recsys.store.migrate import open_store

memory_watch.available_memory = lambda: 100_000_000
memory_watch.own_memory = lambda _place: 700_000_000
config = load_config(Path(sys.argv[1]))
with ledger.run(open_store(config.store.url, config.store.table_prefix), "train", config):
    time.sleep(60)
"""


def test_a_run_ends_by_itself_and_leaves_its_reason_and_no_lease(tmp_path):
    settings = tmp_path / "recsys.toml"
    settings.write_text(f"[store]\nurl = 'sqlite:///{tmp_path / 'own.db'}'\n")
    config = load_config(settings)
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        done = subprocess.run([sys.executable, "-c", ENDS, str(settings)], capture_output=True, text=True, check=False)
        reason = "memory ran out: 100 MB were left, this run used 700 MB and ended by itself"
        assert done.returncode == 1
        assert reason in done.stderr
        (found,) = list_runs(store)
        assert (found.status, found.metrics["cause"]) == ("failed", "memory")
        assert found.error.startswith(reason)
        with run(store, "train", config):  # the lease is free
            pass


def test_a_run_that_uses_less_than_the_reserve_goes_on(monkeypatch):
    monkeypatch.setattr(memory_watch, "available_memory", lambda: 100_000_000)
    monkeypatch.setattr(memory_watch, "own_memory", lambda _place: 200_000_000)
    monkeypatch.setattr(memory_watch, "WATCH_SECONDS", 0.001)
    told = []
    with watching_memory(256, told.append):
        subprocess.run([sys.executable, "-c", ""], check=True)
    assert told == []


@pytest.mark.parametrize(
    ("own", "files", "left"),
    [
        (
            "0::/shop.slice/train.service",
            {
                "shop.slice/train.service/memory.max": "4000000",
                "shop.slice/train.service/memory.current": "1500000",
                "shop.slice/train.service/memory.stat": "anon 900000\ninactive_file 500000",
            },
            3_000_000,
        ),
        (
            "0::/shop.slice/train.service",
            {
                "shop.slice/train.service/memory.max": "max",
                "shop.slice/memory.max": "2000000",
                "shop.slice/memory.current": "1500000",
                "shop.slice/memory.stat": "inactive_file 0",
            },
            500_000,
        ),
        (
            "5:pids:/\n4:memory:/docker/abc\n0::/",  # in a container the path is the host's
            {
                "memory/memory.limit_in_bytes": "4000000",
                "memory/memory.usage_in_bytes": "3500000",
                "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 500000",
            },
            1_000_000,
        ),
    ],
)
def test_the_limit_of_a_control_group_counts(tmp_path, monkeypatch, own, files, left):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(resources, "_GROUPS", tmp_path)
    monkeypatch.setattr(resources, "_OWN_GROUP", tmp_path / "own")
    assert available_memory() == left
