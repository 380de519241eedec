import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from recsys.errors import NotFoundError, RefusedError
from recsys.store.leases import acquire_lease, holding_lease, release_lease, renew_lease
from recsys.store.migrate import open_store
from recsys.store.runs import add_step, finish_run, list_runs, start_run

LEASES = [f"job {n}" for n in range(25)]


def take_all(url: str, owner: str) -> dict[str, int]:
    """Try to take every lease, as fast as one process can."""
    store = open_store(url)
    taken = {name: acquire_lease(store, name, owner) for name in LEASES}
    store.close()
    return {name: fencing for name, fencing in taken.items() if fencing is not None}


def test_processes_that_race_for_a_lease_get_it_once(database):
    open_store(database).close()
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        runs = [pool.submit(take_all, database, f"host:{n}") for n in range(3)]
        taken = [run.result() for run in runs]
    assert sorted(name for part in taken for name in part) == sorted(LEASES)
    assert {fencing for part in taken for fencing in part.values()} == {1}


def test_a_held_lease_is_given_to_nobody_not_even_its_owner(store):
    assert acquire_lease(store, "train", "a") == 1
    assert acquire_lease(store, "train", "b") is None
    assert acquire_lease(store, "train", "a") is None
    assert acquire_lease(store, "audience", "b") == 1


def test_fencing_numbers_grow_with_every_owner(store):
    numbers = []
    for owner in ("a", "b", "a", "c"):
        fencing = acquire_lease(store, "train", owner)
        numbers.append(fencing)
        release_lease(store, "train", fencing)
    numbers.append(acquire_lease(store, "train", "d", seconds=0))  # expires at once
    numbers.append(acquire_lease(store, "train", "e"))
    assert numbers == [1, 2, 3, 4, 5, 6]


def test_an_owner_that_expired_cannot_publish(store):
    fencing = acquire_lease(store, "train", "slow", seconds=0)
    with pytest.raises(RefusedError, match="expired"), holding_lease(store, "train", fencing):
        pytest.fail("published without a lease")


def test_an_owner_that_was_overtaken_cannot_publish_and_its_successor_can(store):
    old = acquire_lease(store, "train", "slow", seconds=0)
    new = acquire_lease(store, "train", "quick")
    lost = f"number {old} is lost: number {new} holds it"
    with pytest.raises(RefusedError, match=lost), holding_lease(store, "train", old):
        pytest.fail("published with an outdated fencing number")
    with holding_lease(store, "train", new):
        published = True
    assert published


def test_an_owner_that_gave_the_lease_back_cannot_publish(store):
    fencing = acquire_lease(store, "train", "a")
    release_lease(store, "train", fencing)
    with pytest.raises(RefusedError, match="nobody holds it"), holding_lease(store, "train", fencing):
        pytest.fail("published after release")


def test_a_number_that_was_never_given_out_cannot_publish(store):
    with pytest.raises(RefusedError, match="nobody holds it"), holding_lease(store, "train", 1):
        pytest.fail("published without ever holding the lease")


def test_renewing_keeps_the_lease(store):
    fencing = acquire_lease(store, "train", "a", seconds=0)
    assert renew_lease(store, "train", fencing)
    assert acquire_lease(store, "train", "b") is None
    with holding_lease(store, "train", fencing):
        pass


def test_a_lease_that_is_lost_cannot_be_renewed_or_released(store):
    old = acquire_lease(store, "train", "a", seconds=0)
    new = acquire_lease(store, "train", "b")
    assert not renew_lease(store, "train", old)
    release_lease(store, "train", old)
    assert acquire_lease(store, "train", "c") is None
    assert renew_lease(store, "train", new)
    release_lease(store, "train", new)
    assert not renew_lease(store, "train", new)


def test_a_renewal_is_a_sign_of_life_of_the_run(store):
    fencing = acquire_lease(store, "train", "a")
    start_run(store, "train", "hash", owner="a", fencing=fencing)
    (started,) = list_runs(store)
    while store.now() <= started.started_at:
        pass
    renew_lease(store, "train", fencing)
    (renewed,) = list_runs(store)
    assert renewed.heartbeat_at > started.heartbeat_at == started.started_at


def test_nobody_takes_the_lease_while_its_owner_publishes_even_when_it_expires(store, database):
    fencing = acquire_lease(store, "train", "a", seconds=3)
    started = store.now()
    taken = []
    other = open_store(database)
    waiting = threading.Thread(target=lambda: taken.append(acquire_lease(other, "train", "b")))
    with holding_lease(store, "train", fencing):
        while other.now() < started + 3_500_000:
            time.sleep(0.05)
        waiting.start()
        waiting.join(0.5)
        assert taken == []
    waiting.join()
    other.close()
    assert taken == [2]


def test_a_lease_does_not_believe_the_clock_of_its_host(store, monkeypatch):
    fencing = acquire_lease(store, "train", "a")
    monkeypatch.setattr(time, "time", lambda: 32_503_680_000.0)
    monkeypatch.setattr(time, "time_ns", lambda: 32_503_680_000_000_000_000)
    assert acquire_lease(store, "train", "b") is None
    with holding_lease(store, "train", fencing):
        pass


KILLED = """
import os, signal, sys
from recsys.store.leases import acquire_lease, holding_lease
from recsys.store.migrate import open_store
from recsys.store.runs import start_run
store = open_store(sys.argv[1])
fencing = acquire_lease(store, "train", "killed", seconds=3)
start_run(store, "train", "hash", owner="killed", fencing=fencing)
with holding_lease(store, "train", fencing):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_owner_that_was_killed_while_publishing_blocks_nobody_beyond_its_seconds(store, database):
    killed = subprocess.run([sys.executable, "-c", KILLED, database], env=os.environ, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while (fencing := acquire_lease(store, "train", "next")) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert fencing == 2
    (died,) = list_runs(store)
    assert (died.status, died.owner) == ("failed", "killed")
    assert died.error.startswith("died")
    assert died.finished_at is not None


def test_only_older_runs_of_the_same_job_are_given_up_for_dead(store):
    other = start_run(store, "audience", "h", owner="a", fencing=acquire_lease(store, "audience", "a"))
    without_lease = start_run(store, "train", "h", owner="a")
    done = start_run(store, "train", "h", owner="a", fencing=acquire_lease(store, "train", "a", seconds=0))
    finish_run(store, done, "done")
    dead = start_run(store, "train", "h", owner="b", fencing=acquire_lease(store, "train", "b", seconds=0))
    alive = start_run(store, "train", "h", owner="c", fencing=acquire_lease(store, "train", "c"))
    found = {run.run_id: (run.status, run.error) for run in list_runs(store)}
    assert found[other] == ("running", None)
    assert found[without_lease] == ("running", None)
    assert found[done] == ("done", None)
    assert found[alive] == ("running", None)
    assert found[dead][0] == "failed"


def test_a_run_given_up_for_dead_stays_so_when_it_comes_back(store):
    run_id = start_run(store, "train", "h", owner="a", fencing=acquire_lease(store, "train", "a", seconds=0))
    acquire_lease(store, "train", "b")
    finish_run(store, run_id, "done", bundle="never published")
    (run,) = list_runs(store)
    assert (run.status, run.bundle) == ("failed", None)


def test_a_run_is_kept_with_its_steps_metrics_error_and_bundle(store):
    run_id = start_run(store, "train", "abcd1234", owner="host:1", fencing=acquire_lease(store, "train", "host:1"))
    add_step(store, run_id, "read", 1.25, {"events": 10})
    add_step(store, run_id, "fit", 2.5, {})
    finish_run(store, run_id, "refused", metrics={"ndcg@20": 0.25}, error="the gate said “no” 😀", bundle="b1")
    (run,) = list_runs(store)
    assert (run.run_id, run.job, run.config_hash, run.owner) == (run_id, "train", "abcd1234", "host:1")
    assert run.steps == [
        {"name": "read", "seconds": 1.25, "counts": {"events": 10}},
        {"name": "fit", "seconds": 2.5, "counts": {}},
    ]
    assert (run.status, run.metrics, run.bundle) == ("refused", {"ndcg@20": 0.25}, "b1")
    assert run.error == "the gate said “no” 😀"
    assert run.started_at <= run.heartbeat_at <= run.finished_at


def test_runs_are_listed_newest_first_and_no_more_than_asked(store):
    ids = [start_run(store, "train", "h", owner="a") for _ in range(5)]
    assert [run.run_id for run in list_runs(store, 3)] == ids[::-1][:3]


def test_a_run_that_does_not_exist_is_named(sqlite_store):
    with pytest.raises(NotFoundError, match="17"):
        add_step(sqlite_store, 17, "read", 1.0, {})
    with pytest.raises(NotFoundError, match="17"):
        finish_run(sqlite_store, 17, "done")


def test_an_unknown_outcome_is_refused(sqlite_store):
    run_id = start_run(sqlite_store, "train", "h", owner="a")
    with pytest.raises(ValueError, match="done, failed, refused"):
        finish_run(sqlite_store, run_id, "running")
