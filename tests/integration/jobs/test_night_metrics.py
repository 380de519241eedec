"""The metrics of the night, from the scheduler's own port; the alert rules and the dashboard name what exists."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import urllib.request
from pathlib import Path

import pytest
import sqlalchemy as sa
from nights import Nights
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api import metrics as service
from jobs.schedule import exporter
from jobs.schedule.exporter import COUNTERS, GAUGES, NightMetrics
from recsys.config.settings import Config
from recsys.store.runs import add_step, finish_run, start_run
from recsys.store.schedule import pause_job, plan_due

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "monitoring"
HOUR = 3_600_000_000
CONFIG = Config.model_validate({"alerts": {"shop": "wine", "late_minutes": 60}})


def promtool(*words: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Debian's package prometheus is missing; `.ci/packages.sh` installs it")
        pytest.skip("promtool is not installed: Debian's package prometheus has it")
    return subprocess.run([program, *words], input=stdin, capture_output=True, text=True, check=False)


def text_of(metrics: NightMetrics) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    return generate_latest(registry).decode()


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Name and values of the labels beside the shop, in the order of their names -> value."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels["shop"] == "wine"
            labels = (value for name, value in sorted(sample.labels.items()) if name != "shop")
            found[sample.name, *labels] = sample.value
    return found


def fill(store) -> None:
    """A night that succeeded, then one that the gate refused, and a due time that has passed."""
    plan_due(store, "train", "entry", lambda now: now - 2 * HOUR)
    finish_run(store, start_run(store, "train", "c", owner="h:1"), "done")
    run_id = start_run(store, "train", "c", owner="h:1")
    counts = {"kinds": {"view": 900, "purchase": 30}, "newest_event_at": 5_000_000, "peak_mb": 700}
    add_step(store, run_id, "read", 2.5, counts)
    verdicts = [
        {"guard": "events", "outcome": "ok", "figure": 0.1, "bound": 0.3},
        {"guard": "prices", "outcome": "refuse", "figure": 9.0, "bound": 3.0},
    ]
    gate = {"candidate": 0.2, "popularity": 0.1, "reasons": ["x"]}
    finish_run(store, run_id, "refused", metrics={"gate": gate, "guards": {"night": "accepted", "verdicts": verdicts}})
    start_run(store, "tune", "c", owner="h:1")


def test_what_the_ledger_says_is_what_prometheus_reads(store):
    fill(store)
    outcomes = {("email", "failed"): 3}
    metrics = NightMetrics(CONFIG, lambda: store, ["train"], outcomes)
    found = samples(text_of(metrics))
    assert found["recsys_store_up",] == 1
    assert found["recsys_run_last_status", "train", "refused"] == 1
    assert found["recsys_run_last_status", "train", "done"] == 0
    success = found["recsys_run_last_success_timestamp_seconds", "train"]
    assert store.now() / 1e6 - 60 < success <= found["recsys_run_last_end_timestamp_seconds", "train"]
    assert found["recsys_run_last_duration_seconds", "train"] >= 0
    assert found["recsys_run_step_duration_seconds", "train", "read"] == 2.5
    assert found["recsys_run_step_peak_memory_bytes", "train", "read"] == 700e6
    assert (found["recsys_run_under_way", "train"], found["recsys_run_under_way", "tune"]) == (0, 1)
    assert (found["recsys_source_events", "view"], found["recsys_source_events", "purchase"]) == (900, 30)
    assert found["recsys_source_newest_event_timestamp_seconds",] == 5
    assert (found["recsys_ndcg20", "winner"], found["recsys_ndcg20", "popularity"]) == (0.2, 0.1)
    assert ("recsys_ndcg20", "live") not in found
    assert (found["recsys_guard_outcome", "events"], found["recsys_guard_outcome", "prices"]) == (0, 2)
    assert (found["recsys_guard_figure", "prices"], found["recsys_guard_bound", "prices"]) == (9, 3)
    assert found["recsys_schedule_overdue", "train"] == 1
    assert found["recsys_schedule_paused", "train"] == 0
    assert found["recsys_alerts_total", "email", "failed"] == 3
    checked = promtool("check", "metrics", stdin=text_of(metrics))
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_paused_job_is_paused_and_neither_late_nor_overdue(sqlite_store):
    fill(sqlite_store)
    pause_job(sqlite_store, "train")
    found = samples(text_of(NightMetrics(CONFIG, lambda: sqlite_store, ["train"], {})))
    assert (found["recsys_schedule_paused", "train"], found["recsys_schedule_overdue", "train"]) == (1, 0)


def test_while_the_database_is_away_the_last_values_go_on(sqlite_store, monkeypatch):
    monkeypatch.setattr(exporter, "CACHE_SECONDS", 0)
    fill(sqlite_store)
    answers = [sqlite_store]

    def lookup():
        if not answers:
            raise sa.exc.OperationalError("", None, Exception())
        return answers[0]

    metrics = NightMetrics(CONFIG, lookup, ["train"], {})
    before = samples(text_of(metrics))
    answers.clear()
    assert samples(text_of(metrics)) == before | {("recsys_store_up",): 0}
    assert samples(text_of(NightMetrics(CONFIG, lambda: None, ["train"], {}))) == {("recsys_store_up",): 0}


def test_the_scheduler_serves_them_from_its_own_port_and_says_when_that_is_taken(tmp_path):
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        nights = Nights(
            tmp_path,
            f"sqlite:///{tmp_path / 'own.db'}",
            f"metrics_port = {port}\nmetrics_host = '127.0.0.2'\n[alerts]\nshop = 'wine'\n",
        )
        refused = nights.start()
        assert refused.wait(60) != 0
        assert f"the metrics cannot be served at 127.0.0.2:{port}" in nights.log.read_text()
    try:
        scheduler = nights.start()
        nights.planned()
        due_at = nights.miss()
        nights.wait(nights.moved_on(due_at))
        done = ("recsys_run_last_status", "train", "done")
        found: dict[tuple[str, ...], float] = {}
        for _ in range(300):
            with urllib.request.urlopen(f"http://127.0.0.2:{port}/metrics") as answer:
                found = samples(answer.read().decode())
            if done in found:
                break
            threading.Event().wait(0.1)
        assert found[done] == 1
        assert nights.stop(scheduler) == 0
    finally:
        nights.close()


def existing() -> dict[str, set[str]]:
    """Every metric there is, with its labels: those of the scheduler, and those of the service."""
    scraped = {"instance", "job"}
    found = {name: {"shop", *labels, *scraped} for name, (_, labels) in GAUGES.items()}
    found |= {f"{name}_total": {"shop", *labels, *scraped} for name, (_, labels) in COUNTERS.items()}
    for one in (
        service.REQUESTS,
        service.SWAPS,
        service.AWAY,
        service.EVENTS,
        service.HITS,
        service.SHORT,
        service.KEPT,
    ):
        found[f"{one._name}_total"] = {*one._labelnames, *scraped}
    for gauge in (service.LIVE, service.CREATED, service.NEW_ITEMS, service.READY):
        found[gauge._name] = {*gauge._labelnames, "pid", *scraped}
    found[f"{service.LATENCY._name}_bucket"] = {*service.LATENCY._labelnames, "le", *scraped}
    return found | {"recsys_bundle_age_seconds": {"pid", *scraped}, "up": scraped}


def fault_of(query: str) -> str | None:
    """What a query names that does not exist: a metric, or a label of its metrics."""
    known, allowed = existing(), set[str]()
    named = re.findall(r"\b(recsys_\w+|up)\b", re.sub(r'"[^"]*"', '""', query))
    named = [name for name in named if name != "recsys_job"]
    for name in named:
        if name not in known:
            return f"there is no metric {name}"
        allowed |= known[name]
    labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", query))
    for group in re.findall(r"\b(?:by|on|ignoring)\s*\(([^)]*)\)", query):
        labels |= {label.strip() for label in group.split(",")}
    return f"no metric of it has {labels - allowed}" if labels - allowed else None if named else "it names no metric"


def queries() -> list[str]:
    rules = re.findall(r"expr: (?:>\n((?:\s{10}.*\n)+)|(.*)\n)", (MONITORING / "rules.yml").read_text())
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    return [" ".join((folded or line).split()) for folded, line in rules] + [
        target["expr"] for panel in panels for target in panel["targets"]
    ]


def test_every_query_of_the_rules_and_the_dashboard_is_of_metrics_and_labels_that_exist(tmp_path):
    found = queries()
    assert len(found) == (MONITORING / "rules.yml").read_text().count("expr:") + 18
    assert {query: fault for query in found if (fault := fault_of(query))} == {}
    assert fault_of('recsys_run_last_statuss{status="failed"}') == "there is no metric recsys_run_last_statuss"
    assert fault_of('recsys_ndcg20{modell="live"}') == "no metric of it has {'modell'}"
    file = tmp_path / "queries.yml"
    rules = [{"record": f"q{at}", "expr": query.replace("$shop", ".+")} for at, query in enumerate(found)]
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    checked = promtool("check", "rules", file)
    assert checked.returncode == 0, checked.stderr


def test_every_rule_fires_on_what_it_is_for_and_on_nothing_else():
    checked = promtool("test", "rules", MONITORING / "rules_test.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    names = set(re.findall(r"alert: (\w+)", (MONITORING / "rules.yml").read_text()))
    tested = re.findall(r"alertname: (\w+)", (MONITORING / "rules_test.yml").read_text())
    assert {name: tested.count(name) for name in names} == dict.fromkeys(names, 2)
