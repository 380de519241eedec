"""Every request of docs/http.md is sent to a real server, and the answers that it shows look like the real ones."""

import json
import re
import subprocess
from contextlib import closing
from pathlib import Path

import httpx
from serving import said

from recsys.guards.verdicts import Verdict
from recsys.serving.boxes import BOXES
from recsys.store.migrate import open_store
from recsys.store.runs import add_step, finish_run, start_run

TEXT = (Path(__file__).parents[3] / "docs" / "http.md").read_text(encoding="utf-8")
FRONT_END = Path(__file__).parents[3] / "docs" / "front-end.md"
HOME = "http://127.0.0.1:8000"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shape(value):
    """Keys and types, without values; lists by their first entry."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value[:1]]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def send(server, commands):
    """What the last of the commands prints."""
    script = f"set -euo pipefail\n{commands.replace(HOME, server.url)}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def a_run(shop):
    """One row in the ledger, judged as the example says."""
    figures = {"users": 89, "ndcg@20": 0.21}
    metrics = {"winner": "mf", "gate": {"candidate": 0.29, "popularity": 0.21}}
    metrics["models"] = {"popularity": {"all": figures}, "mf": {"all": figures}}
    metrics["started"] = {"by": "hand", "user": "shop", "host": "shop-1", "version": "0.1.0", "settings": {}}
    metrics["guards"] = {"verdicts": [Verdict("same item", "ok", 0.31, 0.9, "31%", "look", (0.3,)).to_dict()]}
    found = {"severity": "note", "reason": "guest", "rows": 3, "of": 2000}
    with closing(open_store(f"sqlite:///{shop / 'recsys.db'}")) as store:
        run = start_run(store, "train", "1a2b3c4d", owner="test")
        add_step(store, run, "read", 0.2, {"findings": [found]})
        finish_run(store, run, "done", metrics=metrics, bundle="b")


def test_every_request_of_the_documentation_is_answered_as_it_says(serve, shop):
    a_run(shop)
    server = serve(RECSYS_REQUESTS__SHARE="1")
    blocks = BLOCK.findall(TEXT)
    asked = shown = 0
    for at, (language, text) in enumerate(blocks):
        if language != "bash":
            assert language == "json"
            continue
        printed = send(server, text)
        asked += 1
        following = blocks[at + 1] if at + 1 < len(blocks) else ("", "")
        is_fault = following[0] == "json" and "detail" in json.loads(following[1])
        assert ('"code":"' in printed.partition('"warnings"')[0]) == is_fault, f"{text}\n{printed}"
        if following[0] == "json":
            real, told = json.loads(printed), json.loads(following[1])
            assert list(real) == list(told)
            assert shape(real | {"warnings": []}) == shape(told | {"warnings": []})
            shown += 1
    assert (asked > 10, shown > 4) == (True, True)


def test_every_address_is_documented_with_a_request(serve):
    requests = set()
    for _, text in BLOCK.findall(TEXT):
        for command in re.findall(r"curl (.*?)(?=\ncurl|\Z)", text, re.DOTALL):
            address = re.search(re.escape(HOME) + r"(/[^\s\"?]*)", command)
            method = re.search(r"-X (\w+)", command)
            assert address is not None, command
            requests.add((method[1] if method else "POST" if " -d " in command else "GET", address[1]))
    paths = said(httpx.get(f"{serve().url}/openapi.json"))["paths"]
    for path, methods in paths.items():
        for method in methods:
            pattern = re.sub(r"\{\w+\}", "[^/]+", path)
            assert any(m == method.upper() and re.fullmatch(pattern, p) for m, p in requests), f"{method} {path}"
            assert re.sub(r"\{\w+\}", "{id}", path) in TEXT


def test_every_recipe_of_the_front_end_is_answered_with_items(serve):
    server = serve()
    for item, kind in (("P00024", "view"), ("P00031", "cart")):
        server.event(None, item, kind, visitor_id="v-81")
        server.event("1003", item, kind)
    text = FRONT_END.read_text(encoding="utf-8")
    recipes = re.findall(r"^`POST (\S+)`\n\n```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(recipes) == text.count("```json") == 7
    asked = set()
    for path, body in recipes:
        question, answer = json.loads(body), server.post(path, json.loads(body))
        lists = answer.get("boxes") or answer.get("answers") or [answer | {"box": path.rpartition("/")[2]}]
        for one in lists:
            asked.add(one["box"])
            assert "error" not in one, (path, one)
            known = [warning["code"] for warning in one["warnings"]]
            assert one["hits"] or one["box"] in ("buy_again", "price_drops", "recently_viewed"), (path, one, known)
            fields = question.get("fields") or question.get("questions", [{}])[0].get("fields", [])
            assert all(list(hit.get("fields", [])) == fields for hit in one["hits"]), (path, one)
    assert asked == set(BOXES) - {"popular", "looks_like"}  # this shop has no pictures


def test_the_typescript_of_the_front_end_is_the_one_that_is_compiled():
    shown = re.findall(r"^```ts\n(.*?)^```$", FRONT_END.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    compiled = (FRONT_END.parents[1] / "clients" / "typescript" / "check.ts").read_text(encoding="utf-8")
    assert len(shown) == 1
    assert shown[0] in compiled
