"""HEAD, gzip, tags and paging: what a browser or a proxy makes of the answers."""

import gzip
import json
import re

import httpx
import pytest
from serving import codes, ids, said

from recsys.bundle import bundle as bundles


@pytest.fixture
def item(shop):
    return bundles.load(shop / "recsys-data").catalog.ids.id_of(5)


def test_head_is_get_without_the_body(serve, item):
    http = serve().http
    for path in (f"/v1/items/{item}/similar", "/v1/health/live", "/openapi.json", "/", "/docs/docs.js"):
        whole, head = http.get(path, headers={"Accept-Encoding": "identity"}), http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == whole.headers["content-type"]
    assert http.head("/v1/users/%00/recommendations").status_code == 422
    refused = http.head("/v1/events")
    assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")
    assert "HEAD" in http.put("/v1/status").headers["Allow"]
    for path, methods in (("/v1/boxes/trending", "GET, POST, HEAD"), (f"/v1/items/{item}", "DELETE, GET, HEAD")):
        assert http.options(path).headers["Allow"] == methods


def test_long_answers_are_compressed_for_who_takes_it_and_say_the_same(serve):
    server = serve()
    path = "/v1/users/u/recommendations?k=200&fields=title,category,brand,price"

    def get(encoding):
        with httpx.Client(base_url=server.url) as http:
            request = http.build_request("GET", path, headers={"Accept-Encoding": encoding, "X-Request-ID": "same"})
            answer = http.send(request, stream=True)
            return answer.headers, b"".join(answer.iter_raw())

    plain_headers, plain = get("identity")
    headers, body = get("deflate, gzip;q=0.5")
    assert "content-encoding" not in plain_headers
    assert headers["content-encoding"] == "gzip"
    assert headers["vary"] == plain_headers["vary"] == "Accept-Encoding"
    assert (gzip.decompress(body), int(headers["content-length"])) == (plain, len(body))
    assert len(body) < len(plain) / 3
    assert "content-encoding" not in get("gzip;q=0, *")[0]
    short = server.http.get("/v1/health/live", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in short.headers


def test_who_holds_an_answer_that_is_the_same_for_all_is_told_so_until_it_changes(serve, item):
    server = serve()
    path = f"/v1/items/{item}/similar?k=3"
    first = server.http.get(path)
    held = {"If-None-Match": f'"other", W/{first.headers["ETag"]}'}
    again = server.http.get(path, headers=held)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["Cache-Control"] == first.headers["Cache-Control"] == "private, no-cache"
    assert server.http.get(f"{path}&exclude=a", headers=held).status_code == 200
    server.post("/v1/items", {"item_id": ids(said(first))[0], "available": False})
    changed = server.http.get(path, headers=held)
    assert changed.status_code == 200
    assert ids(said(first))[0] not in ids(said(changed))
    for_a_user = server.http.get("/v1/boxes/trending?user_id=u")
    assert ("ETag" in for_a_user.headers, for_a_user.headers["Cache-Control"]) == (False, "no-store")
    description = server.http.get("/openapi.json")
    assert server.http.get("/openapi.json", headers={"If-None-Match": description.headers["ETag"]}).status_code == 304


def test_paging_reaches_every_item_once_although_events_arrive(serve, shop):
    server = serve()
    count = len(bundles.load(shop / "recsys-data").catalog)
    seen, cursor, page = [], None, 0
    while True:
        question = {"user_id": "scroller", "k": 30} | ({"cursor": cursor} if cursor else {})
        answer = server.ask(**question)
        seen += ids(answer)
        cursor, page = answer["next_cursor"], page + 1
        if cursor is None:
            break
        server.event("scroller", seen[-1], "view")  # turns the order of everything that is left
    assert len(seen) == len(set(seen)) == answer["eligible"] > 100
    assert page == -(-len(seen) // 30)
    assert codes(answer) == (["fewer_than_k"] if len(seen) % 30 else [])
    assert len(seen) <= count


def test_a_wrong_cursor_is_refused_and_one_of_another_question_only_leaves_out(serve, item):
    server = serve()
    refused = server.http.get("/v1/users/u/recommendations?cursor=nonsense")
    assert (refused.status_code, "next_cursor" in refused.json()["detail"]) == (422, True)
    first = server.similar(item, k=5)
    more = said(server.http.get("/v1/boxes/similar", params={"item_id": item, "k": 5, "cursor": first["next_cursor"]}))
    whole = ids(server.similar(item, k=10))
    assert ids(first) + ids(more) == whole
    assert not set(ids(first)) & set(ids(server.user("u", k=50, cursor=first["next_cursor"])))


def test_every_operation_has_a_short_name_of_its_own(serve):
    paths = said(serve().http.get("/openapi.json"))["paths"]
    names = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
    assert len(set(names)) == len(names) > 15
    assert all(len(name) < 30 and "v1" not in name for name in names)


def test_every_reference_of_the_description_leads_somewhere(serve):
    described = serve().http.get("/openapi.json").json()
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(described)))
    assert named
    assert named <= set(described["components"]["schemas"])
