"""Failed, refused and overdue runs are told of once by webhook; a receiver that is away harms nothing."""

import re
import socket
import threading
from datetime import datetime

import pyarrow as pa
import pytest
import sqlalchemy as sa
from nights import Nights, receiver
from shops import GOOD, NOW, SECONDS, Shop
from tiny import quiet

from jobs import ledger, train
from jobs.schedule import alerts
from recsys.config.settings import AlertSettings, Config
from recsys.errors import RefusedError
from recsys.store.runs import list_runs
from recsys.store.schedule import plan_due

TRAIN = frozenset({"train"})


def run_that(store, ending):
    with pytest.raises(type(ending)), ledger.run(store, "train", Config()):
        raise ending


def settings(url=None, **others):
    return AlertSettings(webhook_url=url, **others)


@pytest.fixture
def tell(monkeypatch):
    """Without the seconds between the tries."""
    monkeypatch.setattr(alerts, "RETRY_SECONDS", (0.0, 0.0))
    return lambda store, what: alerts.send_alerts(store, what, TRAIN, threading.Event())


def test_a_failure_and_a_refusal_are_posted_once_and_a_success_is_not(store, tell):
    with ledger.run(store, "train", Config()):
        pass
    run_that(store, ValueError("no space left"))
    run_that(store, RefusedError("the gate refused to publish"))
    with receiver() as (url, posted):
        assert tell(store, settings(url))
        assert tell(store, settings(url))
    failed, refused = posted
    assert failed["text"] == "train: run 2 failed"
    assert (failed["job"], failed["status"], failed["run_id"]) == ("train", "failed", 2)
    assert (failed["error"], failed["bundle"], failed["due_at"]) == ("ValueError: no space left", None, None)
    assert failed["tables"] == "recsys_"
    assert datetime.fromisoformat(failed["started_at"]) <= datetime.fromisoformat(failed["finished_at"])
    assert (refused["status"], refused["error"]) == ("refused", "the gate refused to publish")


def test_what_the_check_found_is_in_the_ledger_and_in_the_alert_without_ids(store, tell, tmp_path):
    shop = Shop(tmp_path)
    shop.add("events", [*GOOD, ("anna@example.com", "i1", "wish", SECONDS, 1.0)])
    config = shop.config()
    with pytest.raises(RefusedError, match="no event is of "), ledger.run(store, "train", config) as record:
        train.read(config, store, record, now=NOW, progress=quiet)
    with receiver() as (url, posted):
        assert tell(store, settings(url))
    (read,) = list_runs(store)[0].steps
    found = {finding["reason"]: finding for finding in read["counts"]["findings"]}
    assert found["unknown kind"] == {"severity": "warning", "reason": "unknown kind", "rows": 1, "of": 601}
    assert found["no event to judge by"]["severity"] == "error"
    assert posted[0]["findings"] == read["counts"]["findings"]
    assert "anna" not in f"{list_runs(store)} {posted}"


def test_an_interrupted_run_is_told_of_only_when_it_was_scheduled(store, tell, monkeypatch):
    run_that(store, KeyboardInterrupt())
    plan_due(store, "train", "0 2 * * * UTC", lambda _: 7)
    monkeypatch.setenv(ledger.DUE, "train 7")
    run_that(store, KeyboardInterrupt())
    with receiver() as (url, posted):
        assert tell(store, settings(url))
    assert [(message["run_id"], message["error"]) for message in posted] == [(2, "interrupted")]


def test_what_a_library_says_of_a_value_is_posted_nowhere(sqlite_store, tell):
    run_that(sqlite_store, pa.ArrowInvalid("could not parse 'anna@example.com'"))
    with receiver() as (url, posted):
        assert tell(sqlite_store, settings(url))
    assert posted[0]["error"] == "ArrowInvalid; its own words are where the run was started"


def test_an_answer_that_is_no_success_is_tried_again(sqlite_store, tell):
    run_that(sqlite_store, ValueError("x"))
    with receiver(500, 302) as (url, posted):
        assert tell(sqlite_store, settings(url))
    assert [message["run_id"] for message in posted] == [1]


def test_what_could_not_be_posted_is_posted_later_and_the_address_is_in_no_log(sqlite_store, tell, caplog):
    run_that(sqlite_store, ValueError("x"))
    with receiver(500, 500, 500) as (url, posted):
        assert not tell(sqlite_store, settings(url))
        assert posted == []
        assert tell(sqlite_store, settings(url))
        assert len(posted) == 1
    run_that(sqlite_store, ValueError("x"))
    assert not tell(sqlite_store, settings(url))  # nobody listens there anymore
    assert "the receiver answered 500" in caplog.text
    assert "try 3 of 3: ConnectionRefusedError" in caplog.text
    assert "s3cr3t" not in caplog.text
    assert "127.0.0.1" not in caplog.text


def test_two_who_tell_at_once_tell_once(store, tell):
    for _ in range(5):
        run_that(store, ValueError("x"))
    with receiver() as (url, posted):
        threads = [threading.Thread(target=tell, args=(store, settings(url))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(message["run_id"] for message in posted) == [1, 2, 3, 4, 5]


def test_a_job_without_success_for_too_long_is_told_of_once_until_it_succeeds(store, tell):
    plan_due(store, "train", "0 2 * * * UTC", lambda now: now + 1)
    plan_due(store, "retired", "0 2 * * * UTC", lambda now: now + 1)
    due, runs, old = store.tables.due, store.tables.runs, store.now() - 40 * 3_600_000_000
    with receiver() as (url, posted):
        late = settings(url, max_age_hours=30)
        assert tell(store, late)
        assert posted == []  # it was planned a moment ago
        with store.writing() as connection:
            connection.execute(sa.update(due).values(planned_at=old))
        assert tell(store, late)
        assert tell(store, late)
        assert [(m["job"], m["status"], m["finished_at"]) for m in posted] == [("train", "overdue", None)]
        with ledger.run(store, "train", Config()):
            pass
        with store.writing() as connection:  # the alert was long ago, and the success is fresh
            connection.execute(sa.update(due).values(alerted_at=old))
        assert tell(store, late)
        assert len(posted) == 1
        with store.writing() as connection:
            connection.execute(sa.update(runs).values(finished_at=old))
        assert tell(store, late)
    assert posted[1]["error"] == "no successful run for 30 hours"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", posted[1]["finished_at"])


def test_the_scheduler_posts_what_its_runs_come_to(tmp_path):
    with receiver() as (url, posted):
        nights = Nights(tmp_path, f"sqlite:///{tmp_path / 'own.db'}", f"[alerts]\nwebhook_url = '{url}'\n")
        try:
            nights.mode("refuse")
            nights.start()
            nights.planned()
            due_at = nights.miss()
            nights.wait(nights.moved_on(due_at))
            nights.wait(lambda: len(posted) == 1)
        finally:
            nights.close()
    assert (posted[0]["status"], posted[0]["error"]) == ("refused", "the gate refused to publish")
    assert posted[0]["due_at"] is not None
    assert "s3cr3t" not in nights.log.read_text()


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
