"""The page's files as they are served and packed, and what its endpoints answer."""

import shutil
import subprocess
import sys
import time
import zipfile
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from serving import ids, said

from recsys.bundle import bundle as bundles
from recsys.campaigns.report import STYLE_HASH
from recsys.config.loading import load_config
from recsys.data.extract import open_extract
from recsys.data.folder import read_manifest, write_manifest
from recsys.guards.verdicts import Verdict
from recsys.store.migrate import open_store
from recsys.store.runs import add_step, finish_run, start_run

ROOT = Path(__file__).parents[3]
STATIC = ROOT / "api" / "static"
FILES = {"/": "page.html"} | {f"/static/{file.name}": file.name for file in STATIC.iterdir() if file.suffix != ".html"}


def test_every_file_comes_whole_with_its_tag_and_what_protects_it(serve):
    http = serve().http
    assert len(FILES) == len(list(STATIC.iterdir()))
    for address, name in FILES.items():
        answer = http.get(address)
        assert (answer.status_code, answer.content) == (200, (STATIC / name).read_bytes())
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert policy["style-src"] == f"'self' {STYLE_HASH}"  # of the report of a campaign
        assert policy["img-src"] == "'self' http: https:"
        tag = answer.headers["ETag"].removeprefix("W/")  # weak where the answer was compressed
        for held in (tag, f"W/{tag}", f'"other", {tag}'):
            again = http.get(address, headers={"If-None-Match": held})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["ETag"].removeprefix("W/") == tag
        assert http.get(address, headers={"If-None-Match": '"other"'}).status_code == 200
        head = http.head(address)
        assert (head.status_code, head.content, head.headers["ETag"].removeprefix("W/")) == (200, b"", tag)
    for address in ("/static/", "/static/page.html", "/static/..%2Fpage.py", "/static/../page.py", "/page.html"):
        assert http.get(address).status_code == 404


def test_the_files_name_nobody_else_and_hold_no_script_within_html():
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text
        assert "https://" not in text
        for risky in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "localStorage",
            "cookie",
        ):
            assert risky not in text, f"{file.name}: {risky}"
        assert len(text.splitlines()) <= 400
    page = (STATIC / "page.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1
    assert " on" not in page.replace(" one", "")
    assert "style=" not in page


def test_an_installed_wheel_serves_the_page(tmp_path):
    source = tmp_path / "source"
    for room in ("api", "recsys", "jobs", "migrations"):
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path,
        source,
    ]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=300)
    with zipfile.ZipFile(next(tmp_path.glob("recsys-*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    program = "from api.routes import page; print(page.__file__, len(page._FILES['page.html'].body))"
    place = str(tmp_path / "installed")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": place},
        cwd=place,
        capture_output=True,
        text=True,
        check=True,
    )
    file, size = done.stdout.split()
    assert file.startswith(place)
    assert int(size) == (STATIC / "page.html").stat().st_size


def test_status_tells_what_is_served_and_what_is_on_disk(server, shop):
    live = bundles.load(shop / "recsys-data")
    status = said(server.http.get("/v1/status"))
    serving = status["serving"]
    assert status["database"] == "there"
    assert (serving["version"], serving["model"], serving["dim"]) == (live.version, "mf", 16)
    assert (serving["items"], serving["new_items"]) == (200, 0)
    assert 0 < serving["age_seconds"] < time.time() - live.manifest["created_at"] / 1e6 + 1
    assert serving["index"] == live.manifest["index"]
    assert serving["index"]["recall@20"]["plain"] >= 0.99
    assert serving["columns"]["price"] == "number"
    assert serving["data"]["events"] == live.manifest["data"]["events"]
    (bundle,) = status["bundles"]
    assert (bundle["version"], bundle["live"], bundle["pinned"]) == (live.version, True, False)
    gate = live.manifest["metrics"]["gate"]
    assert bundle["ndcg@20"] == {"candidate": gate["candidate"], "popularity": gate["popularity"], "live": None}
    server.post("/v1/items", {"item_id": "new", "title": "New"})
    server.similar("new")
    assert said(server.http.get("/v1/status"))["serving"]["new_items"] == 1


def test_every_time_of_status_ends_with_z_also_of_a_bundle_that_wrote_utc_otherwise(serve, shop):
    place = shop / "recsys-data" / "bundles" / bundles.load(shop / "recsys-data").version
    manifest = read_manifest(place)
    fresh = {name: manifest["data"][name] for name in ("first", "last")}
    assert all(text.endswith("Z") for text in fresh.values())
    manifest["data"] |= {name: text.replace("Z", "+00:00") for name, text in fresh.items()}
    write_manifest(place, manifest)
    status = serve().http.get("/v1/status")
    assert "+00:00" not in status.text
    data = status.json()["serving"]["data"]
    assert {name: data[name] for name in ("first", "last")} == fresh


def test_status_answers_without_any_bundle(serve, shop):
    shutil.rmtree(shop / "recsys-data")
    server = serve(is_ready=False)
    server.wait("/v1/health/live")
    status = said(server.http.get("/v1/status"))
    assert (status["serving"], status["bundles"]) == (None, [])
    assert server.http.get("/v1/users/u/history").json()["code"] == "not_ready"


def test_runs_are_listed_newest_first_with_what_came_of_them(server, database):
    with closing(open_store(database)) as store:
        for number in range(3):
            run = start_run(store, "train", "1a2b3c4d", owner="test")
            found = {"severity": "warning", "reason": "duplicate", "rows": 2, "of": 5}
            add_step(store, run, "read", 1.5, {"events": 3, "findings": [found]})
            add_step(store, run, "guards of lists", 0.1, {"movers": [{"item_id": "P1", "before": 0.02, "now": 0.3}]})
            gate = {"candidate": 0.3 + number, "popularity": 0.2, "events": 5}
            metrics = {"winner": "mf", "gate": gate, "models": {"mf": {"all": {"ndcg@20": 0.3}, "new_users": {}}}}
            kept = Verdict("events", "warn", 0.4, 0.3, "fewer", "look", (0.1,)).to_dict()
            metrics |= {"guards": {"verdicts": [kept]}, "started": {"by": "schedule", "host": "h"}, "cause": "network"}
            finish_run(store, run, "done", metrics=metrics, bundle=f"b{number}")
        finish_run(store, start_run(store, "train", "1a2b3c4d", owner="test"), "failed", error="a\nb")
        start_run(store, "audience", "1a2b3c4d", owner="test")
    runs = said(server.http.get("/v1/runs"))["runs"]
    assert [(run["job"], run["status"]) for run in runs] == [
        ("audience", "running"),
        ("train", "failed"),
        *[("train", "done")] * 3,
    ]
    assert (runs[0]["seconds"], runs[0]["finished_at"]) == (None, None)
    assert (runs[1]["error"], runs[1]["winner"], runs[1]["models"]) == ("a\nb", None, {})
    assert runs[1]["ndcg@20"] == {"candidate": None, "popularity": None, "live": None}
    assert (runs[2]["bundle"], runs[2]["ndcg@20"]["candidate"]) == ("b2", 2.3)
    assert runs[2]["models"] == {"mf": {"ndcg@20": 0.3}}
    assert runs[2]["steps"] == [{"name": "read", "seconds": 1.5}, {"name": "guards of lists", "seconds": 0.1}]
    assert (runs[1]["movers"], runs[2]["movers"]) == ([], [{"item_id": "P1", "before": 0.02, "now": 0.3}])
    assert runs[2]["findings"] == [{"severity": "warning", "reason": "duplicate", "rows": 2, "of": 5}]
    assert runs[2]["guards"] == [
        {"guard": "events", "outcome": "warn", "figure": 0.4, "bound": 0.3, "earlier": [0.1], "text": "fewer"}
    ]
    assert (runs[2]["cause"], runs[2]["started"]["by"], runs[2]["started"]["forced"]) == ("network", "schedule", None)
    assert (runs[1]["guards"], runs[1]["findings"], runs[1]["started"]["user"]) == ([], [], None)
    assert datetime.fromisoformat(runs[2]["started_at"]).timestamp() == pytest.approx(time.time(), abs=300)
    assert said(server.http.get("/v1/runs?limit=2"))["runs"] == runs[:2]
    for wrong in ("limit=0", "limit=101", "limit=x", "more=1"):
        assert server.http.get(f"/v1/runs?{wrong}").status_code == 422


def test_a_history_is_what_was_read_and_what_came_since_newest_first(server, shop):
    extract = open_extract(shop / "recsys-data")
    row = max(range(len(extract.users)), key=lambda at: extract.events.offsets[at + 1] - extract.events.offsets[at])
    user = extract.users.id_of(row)
    mine = slice(extract.events.offsets[row], extract.events.offsets[row + 1])
    stored = [
        (extract.items.id_of(item), extract.kinds[kind], time)
        for item, kind, time in zip(
            extract.events.items[mine], extract.events.kinds[mine], extract.events.times[mine].tolist(), strict=True
        )
    ]

    stored.sort(key=lambda event: (-event[2], event[0], event[1]))

    def history(**query):
        return said(server.http.get(f"/v1/users/{user}/history", params=query))

    def shown(events):
        return [
            (event["item_id"], event["kind"], round(datetime.fromisoformat(event["occurred_at"]).timestamp() * 1e6))
            for event in events
        ]

    assert shown(history(limit=500)["events"]) == stored[:500]
    assert shown(history(limit=3)["events"]) == stored[:3]
    server.event(user, "P00005", kind="cart")
    server.event(user, "unknown")
    server.post("/v1/items", {"item_id": "new", "title": "New lamp"})
    server.event(user, "new", kind="view")
    events = history(limit=4, fields="title,price")["events"]
    listed = [(event["item_id"], event["kind"], event["known"]) for event in events[:3]]
    assert listed == [("new", "view", True), ("unknown", "purchase", False), ("P00005", "cart", True)]
    assert shown(events)[3] == stored[0]
    assert events[0]["fields"] == {"title": "New lamp", "price": None}
    assert events[1]["fields"] == {}
    assert events[2]["fields"]["title"]
    for wrong in ("limit=0", "limit=501", "fields=secret", "k=1"):
        assert server.http.get(f"/v1/users/{user}/history?{wrong}").status_code == 422
    assert history(limit=1)["bundle"] == server.user(user)["bundle"]
    for wrong in ("x", "12", "12-", "-1-1"):
        assert server.http.get(f"/v1/users/{user}/history?cursor={wrong}").status_code == 422
    assert said(server.http.delete(f"/v1/users/{user}"))["user_id"] == user
    assert history()["events"] == []
    server.event(user, "P00007", kind="view")
    assert ids({"hits": history()["events"]}) == ["P00007"]


def test_a_history_is_as_long_as_the_configured_one(serve, shop):
    settings = load_config(shop / "recsys.toml", {})
    server = serve(RECSYS_EVENTS__HISTORY_LENGTH="4")
    assert settings.events.history_length > 4
    for number in range(6):
        server.event("u", f"P{number:05d}", kind="view")
    events = said(server.http.get("/v1/users/u/history"))["events"]
    assert ids({"hits": events}) == ["P00005", "P00004", "P00003", "P00002"]


def test_the_pages_of_a_history_have_each_event_once_whatever_comes_between(server):
    at_once = [{"user_id": "p", "kind": "view", "item_id": f"P{number:05d}"} for number in range(5)]
    server.post("/v1/events", [event | {"occurred_at": "2026-01-02T00:00:00Z"} for event in at_once])
    server.post("/v1/events", [event | {"occurred_at": "2026-01-01T00:00:00Z"} for event in at_once[:2]])
    everything = said(server.http.get("/v1/users/p/history"))
    assert (len(everything["events"]), everything["next_cursor"]) == (7, None)
    events, query = [], {"limit": 2}
    for _ in range(4):
        page = said(server.http.get("/v1/users/p/history", params=query))
        events += page["events"]
        query["cursor"] = page["next_cursor"]
        server.event("p", "P00009", kind="cart")
    assert (events, query["cursor"]) == (everything["events"], None)
    assert said(server.http.get("/v1/users/p/history", params={"cursor": "1-1"}))["events"] == []
