"""Each incident of a job is told once, and its end; a receiver that is away harms nothing."""

import json
import re
import socket
import threading
from contextlib import closing
from datetime import datetime
from itertools import count

import pyarrow as pa
import pytest
import sqlalchemy as sa
from nights import Nights, receiver
from shops import GOOD, NOW, SECONDS, Shop
from tiny import quiet

from jobs import ledger, train
from jobs.schedule import alerts
from jobs.schedule.channels import open_channels
from jobs.schedule.messages import remedy
from jobs.schedule.remembered import Remembered
from recsys.config.settings import AlertSettings, Config
from recsys.errors import RefusedError
from recsys.store.migrate import open_store
from recsys.store.runs import DIED, finish_run, list_runs, start_run
from recsys.store.schedule import list_due, plan_due

HOUR = 3_600_000_000


def settings(url=None, **others):
    return AlertSettings(webhook_url=url, **others)


class Night:
    """A job with runs in the ledger, and what a scheduler tells of them."""

    def __init__(self, store, folder, what=None):
        self.store, self.folder = store, folder
        self.times = count(1)
        self.begin(what or settings())
        plan_due(store, "train", "0 2 * * * UTC", lambda now: now + HOUR)

    def begin(self, what):
        """A scheduler starts, with no more than what is on disk."""
        self.sender = alerts.Sender(open_channels(what), threading.Event())
        jobs, remembered = frozenset({"train"}), Remembered(self.folder)
        self.watch = alerts.Watch(lambda: self.store, what, "recsys_", jobs, self.sender, remembered)

    def run(self, status, error=None, *, by_hand=False):
        due_at = None if by_hand else next(self.times)
        if due_at is not None:
            self.due(due_at=due_at)
        run_id = start_run(self.store, "train", "c", owner="night-host:7", due_at=due_at)
        if status != "running":
            finish_run(self.store, run_id, status, error=error)

    def due(self, **values):
        with self.store.writing() as connection:
            connection.execute(sa.update(self.store.tables.due).values(**values))

    def tell(self):
        return alerts.tell(self.watch, self.store)


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    """Without the seconds between the tries."""
    monkeypatch.setattr(alerts, "RETRY_SECONDS", (0.0, 0.0))


def told(posted):
    return [(message["status"], message["run_id"]) for message in posted]


def test_an_incident_is_told_once_with_reason_shop_host_and_remedy_and_its_end_once(store, tmp_path):
    with receiver() as (url, posted):
        night = Night(store, tmp_path, settings(url, shop="Wine"))
        night.run("done")
        assert night.tell()
        assert posted == []
        for _ in range(3):  # three nights of the same
            night.run("refused", "the gate refused to publish:\n  NDCG@20 fell")
            assert night.tell()
        night.begin(night.watch.settings)  # a restart tells nothing again
        assert night.tell()
        assert told(posted) == [("refused", 2)]
        night.run("done")
        night.run("done")
        for _ in range(2):
            assert night.tell()
        night.run("failed", "SourceError: the query of items failed")
        assert night.tell()
    assert told(posted) == [("refused", 2), ("recovered", 5), ("failed", 7)]
    refused = posted[0]
    assert refused["text"] == "[Wine] train refused on night-host: the gate refused to publish: NDCG@20 fell"
    assert (refused["shop"], refused["host"], refused["tables"]) == ("Wine", "night-host", "recsys_")
    assert refused["error"] == "the gate refused to publish:\n  NDCG@20 fell"
    assert "`recsys runs show 2`" in refused["remedy"]
    assert "recsys source check" in posted[2]["remedy"]
    assert datetime.fromisoformat(refused["started_at"]) <= datetime.fromisoformat(refused["finished_at"])
    assert refused["succeeded_at"] is not None


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("SourceError: the query of items failed at db (X 28P01): authentication", "password"),
        ("SourceError: the query of items failed at db (X 42501): permission", "GRANT SELECT"),
        ("given up after 3 attempts: SourceError: the query of items failed at db (X): network", "recsys doctor"),
        ("SourceError: the query of items failed at db (X 42703): missing column name", "adapt it"),
        ("SourceError: the query of items failed at db (X 57014): time limit; it took longer", "lock"),
        ("SourceError: the query of items returns no row", "recsys source check"),
        ("the guards refuse the night:\n  available items: 0 items are available", "--force"),
    ],
)
def test_what_to_do_fits_the_cause(error, says):
    assert says in remedy("failed", error, 7)


def test_a_run_that_is_tried_again_is_told_only_when_it_is_given_up(store, tmp_path):
    with receiver() as (url, posted):
        night = Night(store, tmp_path, settings(url))
        night.run("failed", f"{DIED}its process ended with code -9 and without a word")
        assert night.tell()
        assert posted == []
        night.run("failed", f"given up after 3 attempts: {DIED}its process ended with code -9")
        assert night.tell()
    assert told(posted) == [("failed", 2)]
    assert "kernel" in posted[0]["remedy"]


def test_runs_by_hand_are_told_only_where_that_is_wanted_and_an_interrupted_one_never(store, tmp_path):
    with receiver() as (url, posted):
        night = Night(store, tmp_path, settings(url))
        night.run("failed", "interrupted", by_hand=True)
        night.run("failed", "ValueError: no space left", by_hand=True)
        assert night.tell()
        assert posted == []
        night.begin(settings(url, by_hand=True))
        assert night.tell()
        assert told(posted) == [("failed", 2)]
        night.run("done", by_hand=True)  # an operator has mended it
        assert night.tell()
    assert told(posted)[1:] == [("recovered", 3)]


def test_what_ended_long_ago_floods_nobody_after_a_restart(store, tmp_path):
    with receiver() as (url, posted):
        night = Night(store, tmp_path, settings(url))
        for _ in range(30):
            night.run("failed", "ValueError: x")
        with store.writing() as connection:
            connection.execute(sa.update(store.tables.runs).values(finished_at=store.now() - 25 * HOUR))
        assert night.tell()
        assert posted == []


def test_a_run_that_does_not_end_or_begin_in_time_is_told_once_and_its_success_is_told(store, tmp_path):
    with receiver() as (url, posted):
        night = Night(store, tmp_path, settings(url, late_minutes=60))
        night.due(due_at=store.now() - HOUR // 2)
        assert night.tell()
        assert posted == []
        night.due(due_at=(due_at := store.now() - 2 * HOUR))
        for _ in range(2):
            assert night.tell()
        assert told(posted) == [("missing", None)]
        assert "no run has begun 60 minutes" in posted[0]["error"]
        run_id = start_run(store, "train", "c", owner="h:1", due_at=due_at)
        finish_run(store, run_id, "done")
        night.due(due_at=store.now() + HOUR)
        for _ in range(2):
            assert night.tell()
        assert told(posted)[1:] == [("recovered", 1)]
        night.due(due_at=(due_at := store.now() - 2 * HOUR))
        start_run(store, "train", "c", owner="h:1", due_at=due_at)
        for _ in range(2):
            assert night.tell()
    assert told(posted)[2:] == [("late", 2)]


def test_a_job_without_success_for_too_long_is_told_once_and_again_each_time_it_has_been_as_long(store, tmp_path):
    with receiver() as (url, posted):
        night = Night(store, tmp_path, settings(url, max_age_hours=30))
        old = store.now() - 40 * HOUR
        assert night.tell()
        assert posted == []  # it was planned a moment ago
        night.due(planned_at=old)
        for _ in range(2):
            assert night.tell()
        assert [(m["job"], m["status"], m["succeeded_at"]) for m in posted] == [("train", "overdue", None)]
        night.run("done")
        night.due(alerted_at=old)
        assert night.tell()
        assert told(posted)[1:] == [("recovered", 1)]
        with store.writing() as connection:
            connection.execute(sa.update(store.tables.runs).values(finished_at=old, alerted_at=None))
        assert night.tell()
        assert told(posted)[2:] == [("overdue", None)]
        night.run("failed", "ValueError: x")
        assert night.tell()
        night.due(alerted_at=None)
        assert night.tell()  # the failure was told a moment ago: that is the same incident
    assert told(posted)[3:] == [("failed", 2)]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", posted[2]["succeeded_at"])


def test_what_the_check_found_is_in_the_ledger_and_in_the_alert_without_ids(store, tmp_path):
    shop = Shop(tmp_path)
    shop.add("events", [*GOOD, ("anna@example.com", "i1", "wish", SECONDS, 1.0)])
    config = shop.config()
    with pytest.raises(RefusedError, match="no event is of "), ledger.run(store, "train", config) as record:
        train.read(config, store, record, now=NOW, progress=quiet)
    with receiver() as (url, posted):
        assert Night(store, tmp_path, settings(url, by_hand=True)).tell()
    (read,) = list_runs(store)[0].steps
    found = {finding["reason"]: finding for finding in read["counts"]["findings"]}
    assert found["unknown kind"] == {"severity": "warning", "reason": "unknown kind", "rows": 1, "of": 601}
    assert found["no event to judge by"]["severity"] == "error"
    assert posted[0]["findings"] == read["counts"]["findings"]
    assert "anna" not in f"{list_runs(store)} {posted}"


def test_what_a_library_says_of_a_value_is_posted_nowhere(sqlite_store, tmp_path):
    with pytest.raises(pa.ArrowInvalid), ledger.run(sqlite_store, "train", Config()):
        raise pa.ArrowInvalid("could not parse 'anna@example.com'")
    with receiver() as (url, posted):
        assert Night(sqlite_store, tmp_path, settings(url, by_hand=True)).tell()
    assert posted[0]["error"] == "ArrowInvalid; its own words are where the run was started"


def test_an_answer_that_is_no_success_is_tried_again(sqlite_store, tmp_path):
    with receiver(500, 302) as (url, posted):
        night = Night(sqlite_store, tmp_path, settings(url))
        night.run("failed", "ValueError: x")
        assert night.tell()
    assert told(posted) == [("failed", 1)]
    assert night.sender.outcomes == {("webhook", "failed"): 2, ("webhook", "sent"): 1}


def test_what_one_channel_does_not_take_is_sent_there_later_and_to_no_other_twice(sqlite_store, tmp_path, caplog):
    page = tmp_path / "page"
    page.write_text(f"#!/bin/sh\necho >> {tmp_path}/pages\n")
    page.chmod(0o755)
    with receiver(500, 500, 500) as (url, posted):
        night = Night(sqlite_store, tmp_path, settings(url, command=(str(page),)))
        night.run("failed", "ValueError: x")
        assert not night.tell()
        assert posted == []
        assert night.tell()
        assert night.tell()
        assert len(posted) == 1
    assert (tmp_path / "pages").read_text() == "\n"
    night.run("done")
    assert not night.tell()  # nobody listens there anymore
    assert "the receiver answered 500" in caplog.text
    assert "try 3 of 3: ConnectionRefusedError" in caplog.text
    assert "s3cr3t" not in caplog.text
    assert "127.0.0.1" not in caplog.text


def test_two_who_tell_at_once_tell_once(store, tmp_path):
    with receiver() as (url, posted):
        nights = [Night(store, tmp_path, settings(url)) for _ in range(4)]
        nights[0].run("failed", "ValueError: x")
        threads = [threading.Thread(target=night.tell) for night in nights]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert told(posted) == [("failed", 1)]


def test_while_the_database_is_away_that_and_late_runs_are_told_once_and_its_return(sqlite_store, tmp_path):
    with receiver() as (url, posted):
        night = Night(sqlite_store, tmp_path, settings(url, late_minutes=60, max_age_hours=30, away_minutes=5))
        night.run("done")
        night.due(due_at=sqlite_store.now() + HOUR)
        assert night.tell()
        away = sqlite_store.now() / 1e6
        assert alerts.tell_away(night.watch, away, now=away + 60)
        assert posted == []
        for later in (360, 400, 2.5 * 3600, 3 * 3600):
            night.begin(night.watch.settings)  # a scheduler that is restarted knows what was told
            assert alerts.tell_away(night.watch, away, now=away + later)
        assert [(m["job"], m["status"]) for m in posted] == [("schedule", "away"), ("train", "missing")]
        assert "has not answered since" in posted[0]["error"]
        assert "database is away" in posted[1]["error"]
        due_at = list_due(sqlite_store)[0].due_at
        for _ in range(2):
            assert night.tell()
        assert [(m["job"], m["status"]) for m in posted][2:] == [("schedule", "recovered")]
        with closing(open_store(sqlite_store.engine.url.render_as_string())) as again, again.reading() as connection:
            told_at = connection.execute(sa.select(again.tables.due.c.alerted_at)).scalar_one()
        assert told_at is not None  # the missing run is not told again by the ledger
        assert due_at == list_due(sqlite_store)[0].due_at


def test_while_the_database_is_away_a_job_becomes_overdue(sqlite_store, tmp_path):
    with receiver() as (url, posted):
        night = Night(sqlite_store, tmp_path, settings(url, max_age_hours=30))
        night.run("done")
        assert night.tell()
        now = sqlite_store.now() / 1e6
        for later in (29, 31, 32):
            assert alerts.tell_away(night.watch, now, now=now + later * 3600)
    assert [(m["job"], m["status"]) for m in posted] == [("schedule", "away"), ("train", "overdue")]


def test_a_scheduler_that_starts_while_the_database_is_away_tells_it_and_ends_when_asked(tmp_path):
    with receiver() as (url, posted):
        nights = Nights(
            tmp_path, f"sqlite:///{tmp_path / 'own.db'}", f"[alerts]\nwebhook_url = '{url}'\naway_minutes = 0.001\n"
        )
        (tmp_path / "recsys.toml").write_text(
            (tmp_path / "recsys.toml")
            .read_text()
            .replace(f"sqlite:///{tmp_path / 'own.db'}", "postgresql://u@127.0.0.1:1/x")
        )
        try:
            scheduler = nights.start()
            for _ in range(600):
                if posted or scheduler.poll() is not None:
                    break
                threading.Event().wait(0.1)
            assert [(m["job"], m["status"]) for m in posted] == [("schedule", "away")], nights.log.read_text()
            assert nights.stop(scheduler) == 0
        finally:
            nights.close()


def test_the_scheduler_posts_what_its_runs_come_to(tmp_path):
    with receiver() as (url, posted):
        settings = f"[alerts]\nwebhook_url = '{url}'\n[log]\nform = 'json'\n"
        nights = Nights(tmp_path, f"sqlite:///{tmp_path / 'own.db'}", settings)
        try:
            nights.mode("refuse")
            nights.start()
            nights.planned()
            due_at = nights.miss()
            nights.wait(nights.moved_on(due_at))
            nights.wait(lambda: len(posted) == 1)
            nights.mode("at once")
            due_at = nights.miss()
            nights.wait(lambda: len(posted) == 2)
        finally:
            nights.close()
    assert told(posted) == [("refused", 1), ("recovered", 2)]
    assert posted[0]["error"] == "the gate refused to publish"
    assert posted[0]["due_at"] is not None
    log = nights.log.read_text()
    assert "s3cr3t" not in log
    assert json.loads(log.splitlines()[0])["logger"] == "jobs.schedule.scheduler"


def test_a_receiver_that_never_answers_keeps_neither_the_night_nor_the_end_waiting(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        nights = Nights(tmp_path, f"sqlite:///{tmp_path / 'own.db'}", f"[alerts]\nwebhook_url = '{url}'\n")
        try:
            nights.mode("fail")
            scheduler = nights.start()
            nights.planned()
            for _ in range(2):
                due_at = nights.miss()
                nights.wait(nights.moved_on(due_at))
            assert nights.stop(scheduler) == 0
            assert [run.status for run in nights.runs()] == ["failed", "failed"]
        finally:
            nights.close()
