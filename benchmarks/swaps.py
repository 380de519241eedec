"""Swap the bundle twenty times under load: `python -m benchmarks.swaps`.

Two bundles of the same items, with another order and other vectors, take turns while wrk sends requests. wrk compares
every answer with the expected one of the bundle that the answer names, computed before by the engine. The next swap
follows when every worker has made the last one. Prints a table in Markdown. Exits with 1 when a request failed, or an
answer is not that of its bundle.
"""

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.serve_shop import USERS, make_shop, random_histories, random_vectors
from benchmarks.serving import serving
from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.bundle.bundle import Bundle, assemble
from recsys.config.settings import IndexSettings
from recsys.data import extract
from recsys.data.catalog import Catalog
from recsys.data.vocabulary import Vocabulary
from recsys.models.vectors import Part
from recsys.serving.eligibility import bought_rows, stock_of
from recsys.serving.fresh_items import CatalogView
from recsys.serving.recommender import recommend

ASKED = 500  # users
K = 10
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HISTORY = 500  # the default of [events] history_length
LUA = """
local expected, users, at = dofile("%(table)s")
wrong, at = 0, 0
request = function()
   at = at + 1
   local user = users[at %% #users + 1]
   local body = string.format('{"user_id": "%%s", "k": %(k)d, "as_of": "%(as_of)s"}', user)
   local headers = {["Content-Type"] = "application/json", ["X-Request-ID"] = user, ["X-API-Key"] = "%(key)s"}
   return wrk.format("POST", "/v1/recommendations", headers, body)
end
response = function(status, headers, body)
   local ids = {}
   for id in body:gmatch('"item_id":"(.-)"') do ids[#ids + 1] = id end
   local told = expected[body:match('"bundle":"(.-)"')]
   if status ~= 200 or told == nil or told[body:match('"request_id":"(.-)"')] ~= table.concat(ids, " ") then
      wrong = wrong + 1
   end
end
local threads = {}
setup = function(thread) threads[#threads + 1] = thread end
done = function(summary, latency, requests)
   local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
   failed = failed + summary.errors.timeout
   print(string.format("FOUND %%d %%d %%d %%.1f %%.1f", summary.requests, failed, threads[1]:get("wrong"),
      latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--connections", type=int, default=16)
    arguments = parser.parse_args()
    print("| items | workers | swaps | requests | failed | not of their bundle | p50, ms | p99, ms |")
    print("|---|---|---|---|---|---|---|---|")
    bad = 0
    for workers in arguments.workers:
        with tempfile.TemporaryDirectory(prefix="recsys-bench-") as name:
            folder = Path(name)
            _, key = make_shop(folder, random_vectors(arguments.items), random_histories(arguments.items))
            script = prepare(folder, key)
            with serving(folder, workers=workers, core=None, key=key) as (url, _):
                load = [
                    "wrk",
                    "-t1",
                    f"-c{arguments.connections}",
                    "-d600s",
                    "--timeout",
                    "30s",
                    "-s",
                    str(script),
                    url,
                ]
                wrk = subprocess.Popen(load, stdout=subprocess.PIPE, text=True)
                swap(folder / "data", url, workers, arguments.swaps, key)
                wrk.send_signal(signal.SIGINT)  # it then says what it found
                printed, _ = wrk.communicate()
        found = re.search(r"FOUND (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)", printed)
        if found is None:
            sys.exit(f"wrk printed something unexpected:\n{printed}")
        requests, failed, wrong = (int(found[at]) for at in (1, 2, 3))
        figures = f"{requests:,} | {failed} | {wrong} | {found[4]} | {found[5]}"
        print(f"| {arguments.items:,} | {workers} | {arguments.swaps} | {figures} |", flush=True)
        bad += failed + wrong
    sys.exit(1 if bad else 0)


def prepare(folder: Path, key: str) -> Path:
    """Save the other bundle and what both have to answer; returns wrk's script."""
    with (folder / "recsys.toml").open("a") as file:
        file.write("\n[api]\npoll_seconds = 0.2\n")
    first = bundles.load(folder / "data")
    second = bundles.load(folder / "data", bundles.save(turned(first), folder / "data", facts={"config_hash": "1" * 8}))
    events = extract.open_extract(folder / "data")
    users = [f"u{row}" for row in range(0, USERS, USERS // ASKED)]
    told = {bundle.version: expected(bundle, events, users) for bundle in (first, second)}
    rows = ",".join(
        f"[{json.dumps(version)}]={{{','.join(f'{user}={json.dumps(ids)}' for user, ids in answers.items())}}}"
        for version, answers in told.items()
    )
    table = folder / "expected.lua"
    table.write_text(f"return {{{rows}}}, {{{','.join(map(json.dumps, users))}}}\n")
    script = folder / "swaps.lua"
    script.write_text(
        LUA % {"table": table, "k": K, "key": key, "as_of": (EPOCH + timedelta(microseconds=events.as_of)).isoformat()}
    )
    return script


def turned(bundle: Bundle) -> Bundle:
    """The same items from the last to the first, with other vectors."""
    order = np.arange(len(bundle.catalog))[::-1]
    vectors = bundle.vectors
    parts = tuple(Part(np.ascontiguousarray(part.history_vectors[order]), part.encoder) for part in vectors.parts)
    items = np.ascontiguousarray(-vectors.item_vectors[order])
    catalog = Catalog(Vocabulary.from_ids(list(bundle.catalog.ids)[::-1]), bundle.catalog.columns.take(order))
    return assemble(
        replace(vectors, item_vectors=items, parts=parts),
        catalog,
        np.ascontiguousarray(bundle.popularity[order]),
        kinds=bundle.kinds,
        index_settings=IndexSettings(),
    )


def expected(bundle: Bundle, events: extract.Extract, users: list[str]) -> dict[str, str]:
    """The ids that each user has to get, with blanks between them."""
    rows = events.items.rows_in(bundle.catalog.ids)
    histories = events.events.histories(events.users.rows_of(users), events.as_of, HISTORY)
    histories = replace(histories, items=rows[histories.items])
    target = [bundle.kinds.index("purchase")]
    view = CatalogView(bundle)
    stock, bought = stock_of(view, allow_unlisted=False, exclude_sold_out=True), bought_rows(view, histories, target)
    hits = recommend(view, histories, K, allowed=stock.allowed, excluded=bought)
    return {user: " ".join(bundle.catalog.ids.ids_of(row)) for user, row in zip(users, hits.rows, strict=True)}


def swap(folder: Path, url: str, workers: int, swaps: int, key: str) -> None:
    """Publish one bundle and the other in turn, each when all workers answer from the one before."""
    live = bundles.load(folder).version
    saved = sorted(path.parent.name for path in (folder / "bundles").glob("*/manifest.json"))
    names = [live, *(name for name in saved if name != live)]
    for at in range(1, swaps + 1):
        versions.publish(folder, names[at % 2])
        deadline = time.monotonic() + 120
        while swapped(url, key) < workers * (at + 1):
            if time.monotonic() > deadline:
                sys.exit(f"swap {at} did not come")
            time.sleep(0.1)
        time.sleep(0.3)


def swapped(url: str, key: str) -> int:
    """How many swaps all workers have made."""
    request = urllib.request.Request(f"{url}/metrics", headers={"X-API-Key": key})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = re.search(r'recsys_bundle_swaps_total\{outcome="swapped"\} (\d+)', answer.read().decode())
    return int(found[1]) if found else 0


if __name__ == "__main__":
    main()
