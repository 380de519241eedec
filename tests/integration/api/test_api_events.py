"""Events are stored before they are acknowledged, once, whatever is killed; every worker sees them at once."""

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from unittest import mock

import httpx
import pytest
import sqlalchemy as sa
from serving import Server, client, codes, free_port, ids, said

from api.routes.events import Event, _event_ids
from recsys.bundle import bundle as bundles
from recsys.config.settings import EventSettings
from recsys.store.migrate import open_store
from recsys.store.visitors import read_visitors

CLIENTS = 64
EACH = 6
KILLED_AT = 0.4  # when this share of the events is acknowledged
PAUSE_SECONDS = 0.3  # before asking a dead server again: 64 clients that hammer keep the next one from starting


def stored_ids(database):
    store = open_store(database, "recsys_")
    with store.reading() as connection:
        found = connection.execute(sa.select(store.tables.events.c.event_id)).scalars().all()
    store.close()
    return sorted(found)


def test_one_event_or_a_thousand_at_once_and_each_counts_once(server, database, shop):
    item = bundles.load(shop / "recsys-data").catalog.ids.id_of(0)
    events = [{"event_id": f"e{at}", "user_id": f"u{at % 7}", "kind": "view", "item_id": item} for at in range(1000)]
    first = server.post("/v1/events", events)
    assert (first["received"], first["stored"]) == (1000, 1000)
    again = server.post("/v1/events", events)
    assert (again["received"], again["stored"]) == (1000, 0)
    one = server.post("/v1/events", events[0] | {"event_id": "one more"})
    assert (one["received"], one["stored"]) == (1, 1)
    twice = server.post("/v1/events", [events[0] | {"event_id": "same"}] * 2)
    assert (twice["received"], twice["stored"]) == (2, 1)
    assert stored_ids(database) == sorted([f"e{at}" for at in range(1000)] + ["one more", "same"])


def test_a_request_id_is_kept_with_the_event_it_led_to(server, database):
    body = {"event_id": "a", "user_id": "u", "kind": "view", "item_id": "i"}
    answer = server.http.post("/v1/events", json=body, headers={"X-Request-ID": "page-7"})
    assert answer.headers["X-Request-ID"] == said(answer)["request_id"] == "page-7"
    server.post("/v1/events", body | {"event_id": "b", "request_id": "own"})
    server.post("/v1/events", body | {"event_id": "c"})
    store = open_store(database, "recsys_")
    with store.reading() as connection:
        events = store.tables.events.c
        rows = connection.execute(sa.select(events.event_id, events.request_id).order_by(events.event_id)).all()
    store.close()
    assert [tuple(row) for row in rows] == [("a", "page-7"), ("b", "own"), ("c", None)]


WRONG: list[tuple[dict[str, object], str]] = [  # what makes a good event a wrong one, and what the problem names
    ({"event_id": ""}, "event_id"),
    ({"event_id": "x" * 256}, "event_id"),
    ({"item_id": "a\x00b"}, "item_id"),
    ({"user_id": None}, "user_id and visitor_id"),
    ({"kind": ""}, "kind"),
    ({"kind": "ann@example.org"}, "kind"),
    ({"kind": "x" * 65}, "kind"),
    ({"quantity": 0}, "quantity"),
    ({"price": -1}, "price"),
    ({"currency": "eur"}, "currency"),
    ({"order_id": ""}, "order_id"),
    ({"properties": []}, "properties"),
    ({"properties": {"note": "x" * 8000}}, "properties"),
    ({"value": "much"}, "value"),
    ({"value": 10**400}, "value"),
    ({"occurred_at": "yesterday"}, "occurred_at"),
    ({"occurred_at": "2026-01-01T00:00:00"}, "occurred_at"),
    ({"occurred_at": "2999-01-01T00:00:00Z"}, "occurred_at"),
    ({"occurred_at": "1969-01-01T00:00:00Z"}, "occurred_at"),
    ({"occurred_at": 5}, "occurred_at"),
    ({"user": "u"}, "user"),
]


def test_of_a_thousand_events_one_wrong_one_refuses_all(serve, shop):
    server = serve()
    good = {"event_id": "a", "user_id": "u", "kind": "view", "item_id": "i"}
    for change, where in WRONG:
        wrong = {key: value for key, value in (good | {"event_id": "z"} | change).items() if value is not None}
        answer = server.http.post("/v1/events", json=[good, wrong])
        assert answer.status_code == 422, change
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert any(where in f"{fault['where']} {fault['detail']}" for fault in problem["errors"]), (change, problem)
        assert problem["errors"][0]["where"].startswith("body[1]")
    assert stored_ids(f"sqlite:///{shop / 'recsys.db'}") == []


def rows_of(database, *names):
    """The stored events, by time and id: these columns."""
    with closing(open_store(database, "recsys_")) as store, store.reading() as connection:
        events = store.tables.events.c
        query = sa.select(*(events[name] for name in names)).order_by(events.occurred_at, events.event_id)
        return [tuple(row) for row in connection.execute(query)]


def test_what_an_event_says_is_stored_and_the_value_is_price_times_quantity(server, database):
    event = {"user_id": "u", "kind": "purchase", "item_id": "i", "occurred_at": "2026-01-01T00:00:00Z"}
    details = {"quantity": 3, "price": 2.5, "currency": "EUR", "order_id": "o-1", "properties": {"b": [1], "a": "ü"}}
    server.post("/v1/events", [event | details, event | {"event_id": "plain", "value": 9, "price": 2}])
    names = ("value", "quantity", "price", "currency", "order_id", "properties")
    stored = set(rows_of(database, *names))
    assert stored == {(7.5, 3.0, 2.5, "EUR", "o-1", '{"a":"ü","b":[1]}'), (9.0, None, 2.0, None, None, None)}


def test_an_event_without_an_id_counts_once_until_it_can_be_another(server, database):
    event = {"user_id": "u", "kind": "view", "item_id": "i"}
    assert server.post("/v1/events", [event, event])["stored"] == 1
    assert server.post("/v1/events", event)["stored"] == 0
    assert server.post("/v1/events", event | {"properties": {"page": 2}})["stored"] == 1
    dated = event | {"occurred_at": "2026-01-01T00:00:00Z"}
    assert [server.post("/v1/events", dated)["stored"] for _ in range(2)] == [1, 0]
    assert server.post("/v1/events", event | {"occurred_at": "2026-01-01T00:00:01Z"})["stored"] == 1
    with closing(open_store(database, "recsys_")) as store, store.writing() as connection:
        events = store.tables.events
        connection.execute(events.update().values(received_at=events.c.received_at - 11 * 60_000_000))
    assert server.post("/v1/events", event | {"event_id": "own"})["stored"] == 1


def test_a_retry_after_the_clock_s_window_has_ended_is_no_other_event():
    event = Event(user_id="u", kind="view", item_id="i")
    window = 10 * 60_000_000

    def ids(now, known):
        with mock.patch("api.routes.events.known_events", lambda _store, asked, **_: known & asked):
            return _event_ids(None, [event], now, EventSettings())[0]

    first = ids(100 * window - 1, set())
    assert ids(100 * window, {first}) == first  # a moment later, in the next window
    assert ids(100 * window, set()) != first
    assert ids(100 * window, set()) == ids(101 * window - 1, set())


def test_a_new_kind_is_stored_told_of_and_near_ones_are_named(serve, shop):
    server = serve(RECSYS_EVENTS__ALIASES='{ bought = "purchase" }')
    item = bundles.load(shop / "recsys-data").catalog.ids.id_of(0)
    events = [{"user_id": "u", "kind": kind, "item_id": item} for kind in ("wish", "purchse", "bought", "view")]
    answer = server.post("/v1/events", events)
    assert (answer["stored"], answer["unknown_items"]) == (4, [])
    assert [warning["code"] for warning in answer["warnings"]] == ["new_kind", "new_kind"]
    wish, misspelled = (warning["detail"] for warning in answer["warnings"])
    assert "from the next training on, with weight 0.2" in wish
    assert "is purchase meant?" in misspelled
    kinds = [kind for (kind,) in rows_of(f"sqlite:///{shop / 'recsys.db'}", "kind")]
    assert sorted(kinds) == ["purchase", "purchse", "view", "wish"]
    said(server.http.get("/v1/users/u/recommendations"))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [("NEW_KIND_WEIGHT", "0", "new_kind_weight is 0"), ("OWN_KINDS", '["view"]', "own_kinds does not name it")],
)
def test_a_new_kind_that_will_not_count_is_told_so(serve, key, value, says):
    event = {"user_id": "u", "kind": "wish", "item_id": "i"}
    answer = serve(**{f"RECSYS_EVENTS__{key}": value}).post("/v1/events", event)
    assert answer["stored"] == 1
    assert says in answer["warnings"][0]["detail"]


def test_an_event_of_an_unknown_item_says_so_until_the_item_is_posted(server):
    event = {"user_id": "u", "kind": "view", "item_id": "not yet there"}
    first = server.post("/v1/events", [event, event | {"kind": "cart"}])
    assert (first["stored"], first["unknown_items"], codes(first)) == (2, ["not yet there"], ["unknown_items"])
    server.post("/v1/items", {"item_id": "not yet there", "title": "Lantern"})
    assert server.post("/v1/events", event | {"event_id": "later"})["unknown_items"] == []


def test_what_is_returned_is_recommended_again(serve, shop):
    server = serve()
    item = bundles.load(shop / "recsys-data").catalog.ids.id_of(3)
    event = {"user_id": "newcomer", "item_id": item}

    def recommended(kind):
        server.http.post("/v1/events", json={**event, "event_id": kind, "kind": kind}).raise_for_status()
        answer = server.user("newcomer", k=200)
        return item in {hit["item_id"] for hit in answer["hits"]}, answer["dropped"]["bought"]

    assert [recommended(kind) for kind in ("view", "purchase", "return")] == [(True, 0), (False, 1), (True, 0)]


def test_an_id_of_guests_merges_no_visitors(serve, shop):
    server = serve(RECSYS_SOURCE__GUEST_IDS='["0"]')
    event = {"kind": "view", "item_id": "i"}
    for at in range(3):
        server.post("/v1/events", event | {"event_id": f"e{at}", "user_id": "0", "visitor_id": f"v{at}"})
    refused = server.http.post("/v1/users/0/merge", json={"visitor_id": "v0"})
    assert (refused.status_code, "guest_ids" in refused.text) == (422, True)
    with closing(open_store(f"sqlite:///{shop / 'recsys.db'}")) as store:
        assert read_visitors(store).merged == {}


def test_an_id_that_programs_write_for_all_guests_is_nobody_s(serve, shop):
    server = serve(RECSYS_SOURCE__GUEST_IDS='["web"]')
    shared = ["anonymous", "null", "undefined", "0", "-", "web", "Guest"]
    rows = [{"user_id": f"u{at}", "visitor_id": visitor} for at, visitor in enumerate(shared)]
    rows += [{"visitor_id": visitor} for visitor in shared] + [{"user_id": "undefined", "visitor_id": "v"}]
    for at, row in enumerate(rows):
        row.update(event_id=f"e{at}", kind="view", item_id="i")
    answer = server.post("/v1/events", rows)
    assert (answer["received"], answer["stored"]) == (15, 8)
    warning, _ = answer["warnings"]  # the other one: the item is unknown
    assert (warning["code"], "7 events" in warning["detail"]) == ("guest_id", True)
    assert server.post("/v1/events", rows[7])["stored"] == 0
    for visitor in shared:
        refused = server.http.post("/v1/users/u/merge", json={"visitor_id": visitor})
        assert (refused.status_code, "guest_ids" in refused.text) == (422, True)
    with closing(open_store(f"sqlite:///{shop / 'recsys.db'}")) as store:
        assert read_visitors(store).merged == {}
        with store.reading() as connection:
            events = store.tables.events.c
            owners = connection.execute(sa.select(events.user_id, events.visitor_id)).all()
    assert {tuple(row) for row in owners} == {(None, "v"), *((f"u{at}", None) for at in range(7))}


def test_nothing_is_no_event_and_a_thousand_and_one_are_too_many(serve):
    server = serve()
    good = {"event_id": "a", "user_id": "u", "kind": "view", "item_id": "i"}
    for body in ([], [good] * 1001, "text", 5, {"events": [good]}, [[good]]):
        assert server.http.post("/v1/events", json=body).status_code == 422


@pytest.mark.parametrize(
    ("database", "count"), [("sqlite", 2), ("postgresql", 4), ("mariadb", 2)], indirect=["database"]
)
def test_an_event_is_in_the_next_answer_of_each_worker(serve_apart, database, count, shop):
    server = serve_apart("--workers", str(count), RECSYS_STORE__URL=database)
    workers = server.each_worker(count)
    catalog = bundles.load(shop / "recsys-data").catalog.ids
    for step, poster in enumerate(workers):
        path = f"/v1/users/fresh {step}/recommendations"
        bought = []
        for _ in range(4):
            answer = said(poster.get(path, params={"k": 1}))
            bought += ids(answer)
            event = {
                "event_id": uuid.uuid4().hex,
                "user_id": f"fresh {step}",
                "kind": "purchase",
                "item_id": bought[-1],
            }
            assert said(poster.post("/v1/events", json=event))["stored"] == 1
            for worker in workers:
                answer = said(worker.get(path, params={"k": 500}))
                assert not set(bought) & set(ids(answer))
                assert answer["dropped"]["bought"] == len(bought)
                assert codes(answer) == ["fewer_than_k"]
                assert len(ids(answer)) == answer["eligible"] < len(catalog)


# One worker is a case of two: with one, the database makes no difference.
@pytest.mark.parametrize(
    ("database", "workers"),
    [
        pytest.param("sqlite", "1", marks=pytest.mark.slow),
        ("sqlite", "2"),
        ("postgresql", "2"),
        ("mariadb", "2"),
    ],
    indirect=["database"],
)
def test_kill_9_while_64_clients_post_and_retry_loses_no_event_and_doubles_none(shop, database, workers):
    port = free_port()
    stop = threading.Event()
    acknowledged: list[str] = []

    def start() -> Server:
        fresh = Server(shop, "--workers", workers, port=port, RECSYS_STORE__URL=database)
        fresh.wait("/v1/health/live")
        return fresh

    def post_all(number: int) -> None:
        with client(f"http://127.0.0.1:{port}", timeout=10) as http:
            for at in range(EACH):
                event = {"event_id": f"{number}-{at}", "user_id": f"u{number}", "kind": "view", "item_id": "i"}
                while not stop.is_set():
                    try:
                        answer = http.post("/v1/events", json=event)
                    except httpx.TransportError:
                        stop.wait(PAUSE_SECONDS)
                        continue
                    if answer.status_code == 200:
                        acknowledged.append(event["event_id"])
                        break
                    assert answer.status_code == 503, answer.text
                    time.sleep(0.05)
                time.sleep(0.02)

    server = start()
    with ThreadPoolExecutor(CLIENTS) as pool:
        done = [pool.submit(post_all, number) for number in range(CLIENTS)]
        try:
            while len(acknowledged) < KILLED_AT * CLIENTS * EACH and not all(one.done() for one in done):
                time.sleep(0.01)
            before = set(acknowledged)
            server.kill()
            assert before <= set(stored_ids(database))
            server = start()
            for one in done:
                one.result(timeout=120)
        finally:
            stop.set()
            server.kill()
    expected = sorted(f"{number}-{at}" for number in range(CLIENTS) for at in range(EACH))
    assert sorted(acknowledged) == expected
    assert stored_ids(database) == expected


def test_events_of_one_user_from_many_clients_are_all_in_the_history(server, shop):
    catalog = bundles.load(shop / "recsys-data").catalog.ids
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda row: server.event("busy", catalog.id_of(row), event_id=uuid.uuid4().hex), range(60)))
    answer = server.user("busy", k=500)
    assert not {catalog.id_of(row) for row in range(60)} & set(ids(answer))
