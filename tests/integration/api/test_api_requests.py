"""Requests that are kept: with their answers, which come out again, and gone with the person and with time."""

from contextlib import closing
from dataclasses import replace

import pytest
from serving import Service, ids, said, wait_until

from api.request_log import RequestLog
from recsys.config.settings import RequestSettings
from recsys.errors import NotFoundError
from recsys.store.migrate import open_store
from recsys.store.requests import KeptRequest, find_request, insert_requests, prune_requests
from recsys.store.users import delete_user, delete_visitor
from recsys.store.visitors import merge_visitor

TEXTS = {"bundle": "b", "question": '{"k":2}', "answer": '{"hits":[]}'}
ONE = KeptRequest("r", "u", None, asked_at=10, as_of=11, revision=3, **TEXTS)


def shown(server: Service, request_id: str, **query: object) -> dict[str, object]:
    path = f"/v1/requests/{request_id}"
    wait_until(lambda: server.http.get(path).status_code == 200, seconds=20)
    return said(server.http.get(path, params=query))


def test_what_was_asked_and_answered_is_kept_and_comes_out_again(server_that_keeps):
    server = server_that_keeps
    first = ids(server.ask(k=5))[0]
    server.event("u", first, "view")
    asked = {"user_id": "u", "k": 4, "fields": ["title"], "filter": {"column": "price", "op": "ge", "value": 1}}
    answer = said(server.http.post("/v1/recommendations", json=asked, headers={"X-Request-ID": "one"}))
    kept = shown(server, "one")
    assert kept["answer"] == {name: answer[name] for name in ("hits", "eligible", "dropped", "warnings")}
    assert (kept["bundle"], kept["question"]["user_id"], kept["question"]["k"]) == (answer["bundle"], "u", 4)
    assert kept["replay"] is None
    server.event("u", ids(answer)[0], "purchase")  # later events and items do not count
    server.post("/v1/items", {"item_id": "later", "title": "Lantern", "price": 2})
    assert ids(server.user("u", k=4)) != ids(answer)
    replayed = shown(server, "one", replay=True)["replay"]
    assert (replayed["same"], replayed["hits"]) == (True, answer["hits"])


def test_an_answer_of_a_bundle_that_is_gone_says_so(serve, shop):
    server = serve(RECSYS_REQUESTS__SHARE="1")
    said(server.http.get("/v1/boxes/popular", headers={"X-Request-ID": "one"}))
    shown(server, "one")
    with closing(open_store(f"sqlite:///{shop / 'recsys.db'}")) as store:
        row = find_request(store, "one")
        insert_requests(store, [replace(row, request_id="older", bundle="20200101T000000.000000Z-mf-00000000")])
    replayed = shown(server, "older", replay=True)["replay"]
    assert (replayed["same"], replayed["hits"]) == (None, [])
    assert "cannot be answered again" in replayed["detail"]


def test_nothing_is_kept_by_default_and_a_share_of_the_ids_where_one_is_asked_for(serve):
    server = serve()
    said(server.http.get("/v1/boxes/popular", headers={"X-Request-ID": "one"}))
    answer = server.http.get("/v1/requests/one")
    assert (answer.status_code, "[requests] share" in answer.json()["detail"]) == (404, True)
    log = RequestLog(RequestSettings(share=0.25), None)
    assert 180 < sum(log.wants(f"id {at}") for at in range(1000)) < 320


def test_kept_requests_go_with_the_user_the_visitor_and_time(store):
    now = store.now()
    of_all = [("a", "u", None), ("b", None, "v"), ("c", None, "merged"), ("d", "other", None), ("e", None, None)]
    rows = [replace(ONE, request_id=name, user_id=user, visitor_id=visitor) for name, user, visitor in of_all]
    assert insert_requests(store, rows) == 5
    assert insert_requests(store, [replace(ONE, request_id="a", bundle="another")]) == 0
    assert find_request(store, "a") == rows[0]
    merge_visitor(store, "u", "merged", now=now)
    delete_user(store, "u", now=now)
    delete_visitor(store, "v", now=now)
    assert kept(store, "abcde") == ["d", "e"]
    assert insert_requests(store, rows[:3]) == 0  # what was waiting to be written
    assert insert_requests(store, [replace(rows[0], asked_at=now + 1)]) == 1  # who came back
    assert prune_requests(store, asked_before=now) == 2
    assert kept(store, "abcde") == ["a"]


def kept(store, names):
    found = []
    for name in names:
        try:
            found.append(find_request(store, name).request_id)
        except NotFoundError:
            continue
    return found


@pytest.fixture
def server_that_keeps(database, serve):
    return serve(RECSYS_STORE__URL=database, RECSYS_REQUESTS__SHARE="1")
