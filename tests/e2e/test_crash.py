"""Killed with -9 at the named points: the live bundle loads, nothing half-written is live, the next run succeeds."""

import signal
import sqlite3
from contextlib import closing

import pytest
import sqlalchemy as sa
from road import parsed

from recsys.bundle import bundle as bundles
from recsys.store.migrate import open_store

POINTS = ("after fit", "in save", "before publish", "in publish")


def expire_leases(store):
    """As if the time had passed for which a dead owner blocks others: 60 seconds for a run."""
    with store.writing() as connection:
        connection.execute(sa.update(store.tables.leases).values(expires_at=0))


def expire_leases_of(folder):
    with closing(open_store(f"sqlite:///{folder / 'recsys.db'}")) as store:
        expire_leases(store)


def remove_newest_view(folder):
    """So that a night has something new to read."""
    with closing(sqlite3.connect(folder / "shop.db")) as connection, connection:
        connection.execute("DELETE FROM page_views WHERE id = (SELECT max(id) FROM page_views)")


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_leaves_the_last_good_state_live(trained_shop, recsys, recsys_apart, point):
    folder, settings = trained_shop / "recsys-data", trained_shop / "recsys.toml"
    before = bundles.load(folder).version
    remove_newest_view(trained_shop)
    killed = recsys_apart("train", "--config", settings, RECSYS_CRASH_AT=point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    live = bundles.load(folder)
    assert live.version == before
    assert parsed(recsys("recommend", "1001", "--config", settings, "--json"))[0]["bundle"] == before
    busy = recsys("train", "--config", settings)
    assert busy.returncode == 4
    assert "another run" in busy.stderr
    expire_leases_of(trained_shop)
    done = parsed(recsys("train", "--config", settings, "--json"))
    assert bundles.load(folder).version == done["bundle"] != before
    runs = parsed(recsys("runs", "--config", settings, "--json"))
    assert [run["status"] for run in runs[:2]] == ["done", "failed"]
    assert not list(folder.glob("bundles/.tmp*"))
