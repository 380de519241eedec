"""The live bundle swaps in whole, under load, and a broken one is refused."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from serving import client, codes, ids, said, wait_until

from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.bundle.bundle import assemble
from recsys.config.settings import IndexSettings
from recsys.data import extract
from recsys.data.times import rfc3339
from recsys.serving.eligibility import available_items, bought_rows
from recsys.serving.fresh_items import CatalogView
from recsys.serving.recommender import recommend

SWAPS = 20
CLIENTS = 6


def save_opposite(folder):
    """Another bundle of the same items, whose answers are quite different ones; returns its version."""
    live = bundles.load(folder)
    vectors = replace(live.vectors, item_vectors=-np.asarray(live.vectors.item_vectors))
    opposite = assemble(
        vectors, live.catalog, np.asarray(live.popularity), kinds=live.kinds, index_settings=IndexSettings()
    )
    return bundles.save(opposite, folder, facts={"config_hash": "00000000"})


def expected(folder, version, users):
    """What each user has to get from a version, as of the extract."""
    bundle, events = bundles.load(folder, version), extract.open_extract(folder)
    histories = events.events.histories(events.users.rows_of(users), events.as_of, 500)
    view, allowed = CatalogView(bundle), [available_items(bundle.catalog)]
    hits = recommend(view, histories, 5, allowed=allowed, excluded=bought_rows(view, histories, [2]))
    return {user: bundle.catalog.ids.ids_of(rows) for user, rows in zip(users, hits.rows, strict=True)}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_twenty_swaps_under_load_fail_no_request_and_mix_no_answer(serve, serve_apart, shop, workers):
    folder = shop / "recsys-data"
    plain = {"RECSYS_RECOMMENDATIONS__EXPLORATION": "0"}
    server = serve(**plain) if workers == "1" else serve_apart("--workers", workers, **plain)
    first, second = bundles.load(folder).version, save_opposite(folder)
    events = extract.open_extract(folder)
    active = np.flatnonzero(np.diff(events.events.offsets) > 3)
    users = [events.users.id_of(int(row)) for row in active[::8]]
    as_of = rfc3339(events.as_of)  # the same ages for all, so that what is expected can be worked out once
    right = {version: expected(folder, version, users) for version in (first, second)}
    users = [user for user in users if right[first][user] != right[second][user]]
    assert len(users) > 20
    stop, seen, wrong = threading.Event(), {first: 0, second: 0}, []

    def ask(number):
        with client(server.url, timeout=60) as http:
            at = number
            while not stop.is_set():
                user = users[at % len(users)]
                answer = http.post("/v1/recommendations", json={"user_id": user, "k": 5, "as_of": as_of})
                if answer.status_code != 200 or ids(answer.json()) != right[answer.json()["bundle"]][user]:
                    wrong.append(answer.text)
                seen[answer.json()["bundle"]] += 1
                at += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        done = [pool.submit(ask, number) for number in range(CLIENTS)]
        try:
            for swap in range(SWAPS):
                version = (second, first)[swap % 2]
                before = seen[version]
                versions.publish(folder, version)
                wait_until(lambda b=before, v=version: seen[v] > b + CLIENTS or bool(wrong))
        finally:
            stop.set()
        for one in done:
            one.result()
    assert wrong == []
    assert min(seen.values()) >= SWAPS // 2 * CLIENTS


def test_a_broken_bundle_is_refused_and_the_old_one_goes_on(serve_apart, shop):
    folder = shop / "recsys-data"
    server = serve_apart()
    first, second = bundles.load(folder).version, save_opposite(folder)
    versions.publish(folder, second)
    wait_until(lambda: server.user("u")["bundle"] == second)
    versions.publish(folder, first)
    wait_until(lambda: server.user("u")["bundle"] == first)
    damaged = save_opposite(folder)
    path = folder / "bundles" / damaged / "item_vectors.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (folder / "bundles" / "CURRENT").write_text(damaged + "\n")
    wait_until(lambda: f"bundle {damaged} is refused, {first} goes on" in server.log.read_text())
    assert server.user("u")["bundle"] == first
    figures = server.http.get("/metrics").text
    assert 'recsys_bundle_swaps_total{outcome="refused"} 1.0' in figures
    assert 'recsys_bundle_swaps_total{outcome="swapped"} 3.0' in figures
    (folder / "bundles" / "CURRENT").write_text(second + "\n")
    wait_until(lambda: server.user("u")["bundle"] == second)


def test_a_rollback_is_served(serve, shop):
    folder = shop / "recsys-data"
    server = serve()
    first = bundles.load(folder).version
    versions.publish(folder, save_opposite(folder))
    wait_until(lambda: server.user("u")["bundle"] != first)
    versions.rollback(folder)
    wait_until(lambda: server.user("u")["bundle"] == first)


def test_without_a_bundle_it_is_alive_but_not_ready_and_becomes_so_by_itself(serve, shop):
    current = shop / "recsys-data" / "bundles" / "CURRENT"
    name = current.read_text()
    current.unlink()
    server = serve(is_ready=False)
    server.wait("/v1/health/live")
    for path in ("/v1/health/ready", "/v1/users/u/recommendations", "/v1/items/i/similar"):
        answer = server.http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert int(answer.headers["Retry-After"]) > 0
    current.write_text(name)
    server.wait()
    assert said(server.http.get("/v1/health/ready"))["bundle"] == name.strip()


def test_a_bundle_without_an_extract_knows_who_posts_events(serve, shop):
    (shop / "recsys-data" / "extract" / "CURRENT").unlink()
    server = serve()
    item = bundles.load(shop / "recsys-data").catalog.ids.id_of(0)
    server.event("u", item, "view")
    assert codes(server.user("u")) == []
    assert server.user("u")["hits"][0]["reason"] == "personal"


def test_a_new_extract_is_read_without_a_restart(serve, shop):
    folder = shop / "recsys-data"
    server = serve()
    events = extract.open_extract(folder)
    user = events.users.id_of(0)
    before = said(server.http.get(f"/v1/users/{user}/recommendations", params={"k": 500}))

    class Emptied:
        """The same readings, without the events of that user."""

        users, catalog, kinds, watermark = events.users, bundles.load(folder).catalog, events.kinds, events.watermark

    rows = np.repeat(np.arange(len(events.users)), np.diff(events.events.offsets))
    Emptied.events = events.events.select(rows != 0)
    extract.publish(folder, extract.write(folder, Emptied))
    wait_until(lambda: "no_history" in codes(server.user(user)))
    assert before["bundle"] == server.user(user)["bundle"]
