"""Due times in the store: one claim at a time, moved on by an ended run only; and a store that goes and comes back."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from nights import Nights

from recsys.errors import RefusedError
from recsys.store.database import database_url
from recsys.store.leases import acquire_lease, release_lease
from recsys.store.runs import DIED, finish_run, list_runs, start_run
from recsys.store.schedule import ProcessExit, claim_due, list_due, plan_due, renew_due, settle_due

HOUR = 3_600_000_000


def later(moment: int) -> int:
    return moment + HOUR


def due_now(store) -> int:
    """The due time of a job that is due since a moment."""
    plan_due(store, "train", "entry", lambda now: now - 1)
    return list_due(store)[0].due_at


def claim(store, owner="a", seconds=60.0):
    return claim_due(store, "train", owner, seconds=seconds, next_due=later)


def settle(store, due_at, owner="a", attempts=2, **ending):
    what = ProcessExit(process="host:1", error=f"{DIED}killed", **ending)
    return settle_due(store, "train", due_at, owner, what, attempts=attempts, next_due=later)


def test_of_many_who_claim_a_due_time_one_gets_it(store):
    due_at = due_now(store)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: claim(store, f"owner {n}"), range(24)))
    assert [c for c in claims if c is not None] == [due_at]


def test_what_is_planned_at_once_by_many_is_planned_once(store):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: plan_due(store, "train", "entry", lambda now: now + n), range(16)))
    assert len(list_due(store)) == 1


def test_a_claim_that_expired_goes_to_the_next_and_its_owner_cannot_renew_or_settle(store):
    due_at = due_now(store)
    assert claim(store, "a", seconds=0) == due_at
    assert renew_due(store, "train", due_at, "a", seconds=0)
    assert claim(store, "b") == due_at
    assert not renew_due(store, "train", due_at, "a", seconds=60)
    assert settle(store, due_at, "a") == "lost"
    assert renew_due(store, "train", due_at, "b", seconds=60)


def test_nothing_is_claimed_while_a_run_holds_the_lease(store):
    due_at = due_now(store)
    fencing = acquire_lease(store, "train", "somebody")
    assert claim(store) is None
    release_lease(store, "train", fencing)
    assert claim(store) == due_at


@pytest.mark.parametrize("status", ["done", "failed", "refused"])
def test_a_due_time_whose_run_has_ended_moves_on_and_cannot_be_run_again(store, status):
    due_at = due_now(store)
    run_id = start_run(store, "train", "hash", owner="host:1", due_at=due_at)
    finish_run(store, run_id, status, error=None if status == "done" else "because")
    with pytest.raises(RefusedError, match="has ended already"):
        start_run(store, "train", "hash", owner="host:2", due_at=due_at)
    assert claim(store) is None
    assert list_due(store)[0].due_at >= due_at + HOUR
    with pytest.raises(RefusedError, match="has ended already"):  # a late process for a night that is over
        start_run(store, "train", "hash", owner="host:2", due_at=due_at)


def test_a_run_that_was_killed_is_no_end(store):
    due_at = due_now(store)
    assert claim(store) == due_at
    start_run(store, "train", "hash", owner="host:1", due_at=due_at)
    assert settle(store, due_at) == "again"
    assert [(run.status, run.error) for run in list_runs(store)] == [("failed", "died: killed")]
    assert list_due(store)[0].attempts == 1
    assert claim(store) == due_at
    assert settle(store, due_at) == "given up"
    assert list_runs(store, 1)[0].error == "given up after 2 attempts: died: killed"


def test_a_running_run_of_another_process_is_not_buried(store):
    due_at = due_now(store)
    claim(store)
    start_run(store, "train", "hash", owner="host:2", due_at=due_at)
    assert settle(store, due_at, counts=False) == "again"
    assert [run.status for run in list_runs(store)] == ["running"]
    assert list_due(store)[0].attempts == 0


def test_a_clock_that_was_set_back_does_not_bring_a_due_time_again(store):
    plan_due(store, "train", "entry", lambda now: now - 1)
    ahead = store.now() + 10 * HOUR
    with store.writing() as connection:  # claimed by a clock that was ten hours ahead
        connection.execute(sa.update(store.tables.due).values(due_at=ahead, owner="a", free_at=ahead))
    finish_run(store, start_run(store, "train", "hash", owner="host:1", due_at=ahead), "done")
    assert settle(store, ahead) == "ended"
    assert list_due(store)[0].due_at == ahead + HOUR


class Cable:
    """A TCP connection to a database that can be pulled out and plugged in again."""

    def __init__(self, host: str, port: int) -> None:
        self.target, self.plugged, self.ends = (host, port), True, []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.server.accept()
            except OSError:
                return
            if not self.plugged:
                near.close()
                continue
            far = socket.create_connection(self.target)
            self.ends += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        self._cut(one, other)

    def _cut(self, *ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def pull(self) -> None:
        self.plugged = False
        self._cut(*self.ends)

    def close(self) -> None:
        self.server.close()
        self.pull()
        for end in self.ends:
            end.close()


@pytest.fixture
def cable(database) -> Iterator[tuple[Cable, str]]:
    url = database_url(database)
    if url.drivername == "sqlite":
        pytest.skip("a file has no cable")
    made = Cable(url.host or "127.0.0.1", url.port or {"mysql": 3306}.get(url.get_backend_name(), 5432))
    yield made, url.set(host="127.0.0.1", port=made.port).render_as_string(hide_password=False)
    made.close()


def test_a_store_that_is_away_for_a_while_costs_no_night(cable, database, tmp_path):
    wire, url = cable
    nights = Nights(tmp_path, database)
    settings = tmp_path / "recsys.toml"
    settings.write_text(settings.read_text().replace(database, url))
    try:
        scheduler = nights.start()
        nights.planned()
        wire.pull()
        due_at = nights.miss()
        nights.wait(lambda: "train: OperationalError; trying again" in nights.log.read_text())
        assert scheduler.poll() is None
        assert nights.runs() == []
        wire.plugged = True
        nights.wait(nights.moved_on(due_at))
        assert [run.status for run in nights.ended(due_at)] == ["done"]
        assert nights.stop(scheduler) == 0
        assert "Traceback" not in nights.log.read_text()
    finally:
        nights.close()
