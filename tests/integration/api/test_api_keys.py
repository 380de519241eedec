"""Keys, scopes, and what must not be written down anywhere."""

import json

import httpx
import pytest
import sqlalchemy as sa
from command_line import run_here
from serving import said, wait_until

from recsys.store.migrate import open_store


def recsys(shop, *arguments):
    return run_here(*arguments, "--config", shop / "recsys.toml")


def create(shop, *scopes):
    done = recsys(shop, "key", "create", "test", *(f"--scope={scope}" for scope in scopes), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


REQUESTS = {  # one for each scope
    "recommend": ("GET", "/v1/users/u/recommendations", None),
    "events": ("POST", "/v1/events", {"event_id": "e", "user_id": "u", "kind": "view", "item_id": "i"}),
    "account": ("DELETE", "/v1/users/u", None),
    "admin": ("POST", "/v1/items", {"item_id": "i"}),
}
ACCOUNT = [("DELETE", "/v1/visitors/v", None), ("GET", "/v1/users/u/history", None)]
ADMIN_ONLY = [("DELETE", "/v1/items/i", None)]
ADMIN_ONLY += [("PUT", "/v1/placements/p", {}), ("POST", "/v1/placements/p/preview", {})]
ADMIN_ONLY += [("GET", "/v1/placements", None), ("GET", "/v1/placements/p/history", None)]
ADMIN_ONLY += [("GET", path, None) for path in ("/metrics", "/v1/status", "/v1/runs")]


def test_each_scope_opens_its_own_doors_and_admin_opens_all(serve, shop):
    keys = {scope: create(shop, scope)["key"] for scope in ("recommend", "events", "account", "audience", "admin")}
    server = serve()
    requests = [*REQUESTS.items(), *(("account", request) for request in ACCOUNT)]
    requests += [("admin", request) for request in ADMIN_ONLY]
    for scope, (method, path, body) in requests:
        for holder, key in keys.items():
            for headers in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}):
                answer = server.http.request(method, path, json=body, headers=headers)
                assert answer.status_code == (200 if holder in (scope, "admin") else 403), (scope, holder, answer.text)
    both = create(shop, "recommend", "events")["key"]
    wait_until(lambda: server.http.get(REQUESTS["recommend"][1], headers={"X-API-Key": both}).status_code == 200)
    assert server.http.delete("/v1/users/u", headers={"X-API-Key": both}).json()["code"] == "wrong_scope"


def test_without_a_right_key_nothing_but_health_is_answered(serve, shop):
    key = create(shop, "admin")["key"]
    server = serve()
    wrong = [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": key[:-1]},
        {"X-API-Key": key + "x"},
        {"X-API-Key": "recsys_" + "A" * 43},
        {"X-API-Key": "x" * 10_000},
        {"Authorization": f"Basic {key}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong", "X-API-Key": key},
    ]
    for method, path, body in [*REQUESTS.values(), *ACCOUNT, *ADMIN_ONLY]:
        for headers in wrong:
            answer = server.http.request(method, path, json=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "no_valid_key")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            strange = {**headers, "Content-Type": "text/plain"}  # what a stranger sends is not even looked at
            assert server.http.request(method, path, content=b"nonsense", headers=strange).status_code == 401
    assert said(server.http.get("/v1/health/live")) == {"status": "live"}
    assert said(server.http.get("/v1/health/ready"))["status"] == "ready"
    assert said(server.http.get("/openapi.json"))["openapi"]
    assert "<title>recsys</title>" in server.http.get("/").text  # the page, which holds no data


def test_a_revoked_key_is_refused_and_the_last_one_does_not_leave_the_door_open(serve_apart, shop):
    made = create(shop, "recommend")
    server = serve_apart("--workers", "2")
    path, headers = REQUESTS["recommend"][1], {"X-API-Key": made["key"]}
    said(server.http.get(path, headers=headers))
    done = recsys(shop, "key", "revoke", made["key_id"])
    assert done.returncode == 0
    for _ in range(8):  # in both workers
        wait_until(lambda: httpx.get(server.url + path, headers=headers).status_code == 401)
    assert server.http.get(path).status_code == 401
    listed = json.loads(recsys(shop, "key", "list", "--json").stdout)
    assert [(key["key_id"], key["revoked_at"] is not None) for key in listed] == [(made["key_id"], True)]
    assert recsys(shop, "key", "revoke", "nonsense").returncode == 1


def test_a_key_has_256_bits_is_shown_once_and_only_its_digest_is_kept(shop):
    made = [create(shop, "recommend")["key"] for _ in range(3)]
    assert len(set(made)) == 3
    assert all(len(key.removeprefix("recsys_")) == 43 for key in made)  # 256 bits in base64
    shown = recsys(shop, "key", "list").stdout + recsys(shop, "key", "list", "--json").stdout
    store = open_store(f"sqlite:///{shop / 'recsys.db'}")
    with store.reading() as connection:
        kept = str(connection.execute(sa.select(store.tables.keys)).all())
    store.close()
    for key in made:
        assert key not in shown
        assert key not in kept
        assert key.removeprefix("recsys_") not in kept


@pytest.mark.parametrize(("scopes", "code"), [(["recommend"], 0), (["everything"], 3), ([], 2)])
def test_scopes_are_checked_when_a_key_is_made(shop, scopes, code):
    assert recsys(shop, "key", "create", "k", *(f"--scope={scope}" for scope in scopes)).returncode == code


def test_a_key_whose_scope_has_its_old_name_works_and_is_shown_with_the_new_one(serve, shop):
    made = create(shop, "recommend", "events")
    store = open_store(f"sqlite:///{shop / 'recsys.db'}")
    with store.writing() as connection:
        connection.execute(sa.update(store.tables.keys).values(scopes="page events"))
    store.close()
    server = serve()
    said(server.http.get(REQUESTS["recommend"][1], headers={"X-API-Key": made["key"]}))
    assert json.loads(recsys(shop, "key", "list", "--json").stdout)[0]["scopes"] == "recommend events"


def test_the_old_name_of_a_scope_makes_a_key_with_the_new_one_and_says_so(shop):
    done = recsys(shop, "key", "create", "k", "--scope", "page", "--scope", "recommend", "--json")
    assert json.loads(done.stdout)["scopes"] == ["recommend"]
    assert done.stderr.splitlines()[0] == "warning: the scope 'page' is called 'recommend' now"
    store = open_store(f"sqlite:///{shop / 'recsys.db'}")
    with store.reading() as connection:
        assert connection.execute(sa.select(store.tables.keys.c.scopes)).scalar_one() == "recommend"
    store.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_without_a_key_it_does_not_listen_beyond_loopback(shop, host, monkeypatch):
    monkeypatch.setattr("jobs.serve.uvicorn.run", lambda *_, **__: pytest.fail("it listens"))
    done = recsys(shop, "serve", "--host", host, "--port", "0")
    assert done.returncode == 2
    assert "recsys key create" in done.stderr
    create(shop, "recommend")
    made = json.loads(recsys(shop, "key", "list", "--json").stdout)[0]
    recsys(shop, "key", "revoke", made["key_id"])
    assert recsys(shop, "serve", "--host", host, "--port", "0").returncode == 2


def test_with_a_key_it_listens_to_everybody(serve_apart, shop):
    key = create(shop, "recommend")["key"]
    server = serve_apart("--host", "0.0.0.0")
    assert server.http.get(REQUESTS["recommend"][1]).status_code == 401
    said(server.http.get(REQUESTS["recommend"][1], headers={"X-API-Key": key, "Host": "shop.example.org"}))


def test_without_a_key_it_answers_only_to_its_own_name(serve):
    server = serve()
    for name in ("127.0.0.1", "localhost:8000", "[::1]:8000", "LOCALHOST"):
        said(server.http.get(REQUESTS["recommend"][1], headers={"Host": name}))
    for name in ("evil.example.org", "127.0.0.1.evil.example.org:8000", "10.0.0.1"):
        answer = server.http.get(REQUESTS["recommend"][1], headers={"Host": name})
        assert (answer.status_code, answer.json()["code"]) == (403, "wrong_host")


def test_neither_keys_nor_ids_nor_queries_nor_bodies_are_logged_or_measured(serve_apart, shop):
    key = create(shop, "admin")["key"]
    server = serve_apart("--workers", "2")
    headers = {"Authorization": f"Bearer {key}"}
    secret = "Alice-Secret-7"
    event = {"event_id": secret, "user_id": secret, "kind": "view", "item_id": secret, "request_id": secret}
    for method, path, body in (
        ("GET", f"/v1/users/{secret}/recommendations?exclude={secret}", None),
        ("GET", f"/v1/users/{secret}/recommendations?filter=title:eq:{secret}", None),
        ("GET", f"/v1/users/{secret}/recommendations?k=no&{secret}=1", None),
        ("GET", f"/v1/items/{secret}/similar", None),
        ("GET", f"/v1/users/{secret}/history", None),
        ("GET", f"/static/{secret}", None),
        ("GET", f"/{secret}", None),
        ("POST", "/v1/events", event),
        ("POST", "/v1/events", event | {"kind": secret}),
        ("POST", "/v1/items", {"item_id": secret, "title": secret}),
        ("POST", "/v1/recommendations", {"user_id": secret, "history": [{"item_id": secret, "kind": secret}]}),
        ("DELETE", f"/v1/users/{secret}", None),
        ("DELETE", f"/v1/visitors/{secret}", None),
        ("POST", f"/v1/users/{secret}/merge", {"visitor_id": secret}),
    ):
        server.http.request(method, path, json=body, headers=headers | {"X-Request-ID": secret})
        server.http.request(method, path, json=body, headers={"X-API-Key": f"wrong-{secret}"})
    figures = server.http.get("/metrics", headers=headers).text
    log = server.log.read_text()
    for text in (log, figures):
        assert secret not in text
        assert key not in text
    assert "recsys_http_requests_total" in figures
