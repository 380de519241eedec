"""Wrong requests get a clear answer and cost nothing."""

import json
import shutil
import socket
from urllib.parse import quote

import httpx
import psutil
import pytest
from serving import Server, said

LONG = "x" * 10_000
DEEP = '{"not":' * 1000 + '{"column":"price","op":"eq","value":1}' + "}" * 1000
WRONG = [
    ("GET", "/v1/users/u/recommendations?k=0", None, 422),
    ("GET", "/v1/users/u/recommendations?k=1000000000", None, 422),
    ("GET", "/v1/users/u/recommendations?k=501", None, 422),
    ("GET", "/v1/users/u/recommendations?k=-1", None, 422),
    ("GET", "/v1/users/u/recommendations?k=ten", None, 422),
    ("GET", "/v1/users/u/recommendations?filtre=x", None, 422),
    ("GET", "/v1/users/u/recommendations?fields=color", None, 422),
    ("GET", "/v1/users/u/recommendations?filter=color:eq:red", None, 422),
    ("GET", "/v1/users/u/recommendations?filter=price:eq:cheap", None, 422),
    ("GET", "/v1/users/u/recommendations?" + "filter=price:eq:1&" * 17, None, 422),
    ("GET", "/v1/users/u/recommendations?" + "exclude=a&" * 1001, None, 422),
    ("GET", "/v1/users/u/recommendations?exclude=", None, 422),
    ("GET", "/v1/users/u/recommendations?visitor_id=%00", None, 422),
    ("GET", f"/v1/users/{LONG}/recommendations", None, 422),
    ("GET", "/v1/users/u/recommendations?fields=", None, 422),
    ("DELETE", "/v1/users/u/recommendations", None, 405),  # and not the user "u/recommendations"
    ("GET", "/v1/users/a/b/recommendations", None, 404),
    ("GET", "/v1/users/%00/recommendations", None, 422),
    ("GET", "/v1/users//recommendations", None, 422),
    ("GET", "/v1/users/%FF/recommendations", None, 400),
    ("GET", "/v1/users/%ED%A0%80/recommendations", None, 400),
    ("GET", "/v1/users/u/recommendations?exclude=%FF", None, 400),
    ("GET", f"/v1/items/{LONG}/similar", None, 422),
    ("GET", "/v1/items/%00/similar", None, 422),
    ("GET", "/v1/items/unknown/similar", None, 404),
    ("GET", "/v1/nothing", None, 404),
    ("GET", "/v1/events", None, 405),
    ("PUT", "/v1/users/u/recommendations", None, 405),
    ("DELETE", "/v1/events", None, 405),
    ("DELETE", f"/v1/users/{LONG}", None, 422),
    ("POST", "/v1/recommendations", "", 422),
    ("POST", "/v1/recommendations", "nonsense", 400),
    ("POST", "/v1/recommendations", "[" * 100_000, 400),
    ("POST", "/v1/recommendations", '{"k": NaN}', 400),
    ("POST", "/v1/recommendations", '{"k": 1e999}', 422),
    ("POST", "/v1/recommendations", '{"k": 1' + "0" * 5000 + "}", 400),
    ("POST", "/v1/recommendations", '{"user_id": "\\ud800"}', 400),
    ("POST", "/v1/recommendations", '{"user_id": "\\u0000"}', 422),
    ("POST", "/v1/recommendations", '{"user_id": ""}', 422),
    ("POST", "/v1/recommendations", f'{{"user_id": "{LONG}"}}', 422),
    ("POST", "/v1/recommendations", '{"k": 0}', 422),
    ("POST", "/v1/recommendations", '{"k": true}', 422),
    ("POST", "/v1/recommendations", '{"k": "5"}', 422),
    ("POST", "/v1/recommendations", '{"user_id": 5}', 422),
    ("GET", "/v1/users/u/recommendations?filter=" + quote(DEEP), None, 422),
    ("POST", "/v1/recommendations", '{"kk": 5}', 422),
    ("POST", "/v1/recommendations", "[]", 422),
    ("POST", "/v1/recommendations", "null", 422),
    ("POST", "/v1/recommendations", '{"history": [{"item_id": "a", "kind": "sneeze"}]}', 422),
    ("POST", "/v1/recommendations", json.dumps({"history": [{"item_id": "a", "kind": "view"}] * 1001}), 422),
    ("POST", "/v1/recommendations", f'{{"filter": {DEEP}}}', 400),
    ("POST", "/v1/recommendations", '{"filter": {"or": []}}', 422),
    ("POST", "/v1/recommendations", '{"as_of": "today"}', 422),
    ("POST", "/v1/items", '{"title": "without an id"}', 422),
    ("POST", "/v1/items", '{"item_id": "a", "price": "much"}', 422),
    ("POST", "/v1/items", '{"item_id": "a", "title": "\\u0000"}', 422),
    ("POST", "/v1/items", '{"item_id": "a", "color": {"deep": 1}}', 422),
    ("POST", "/v1/items", '{"item_id": "a", "\\u0000": 1}', 422),
    ("POST", "/v1/items", json.dumps({"item_id": "a"} | {f"c{at}": at for at in range(51)}), 422),
    ("POST", "/v1/items", json.dumps([{"item_id": "a"}] * 1001), 422),
]


@pytest.fixture(scope="module")
def asked(trained_once, tmp_path_factory):
    """One server for all of them: none of these requests may change it."""
    folder = shutil.copytree(trained_once, tmp_path_factory.mktemp("asked") / "shop")
    server = Server(folder)
    server.wait()
    yield server
    server.kill()


@pytest.mark.parametrize(("method", "path", "body", "status"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_request_is_refused_as_a_problem(asked, method, path, body, status):
    headers = {"Content-Type": "application/json"} if body is not None else {}
    answer = asked.http.request(method, path, content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert all(problem[key] for key in ("title", "code", "detail"))
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert LONG not in answer.text
    if status == 405:
        assert answer.headers["Allow"]


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/v1/users/u/recommendations?limit=5", None, "; is k meant?"),
        ("/v1/users/u/recommendations?limit=5", None, "query.limit: there is no such parameter; allowed are k,"),
        ("/v1/users/u/recommendations?fields=titel", None, "; is title meant?"),
        ("/v1/users/u/recommendations?filter=pricee:eq:1", None, "; is price meant?"),
        ("/v1/recommendations", {"filter": "pricee:eq:1"}, "; is price meant?"),
        (
            "/v1/recommendations",
            {"filter": ["price:lt:1"]},
            "body.filter: expected a text as price:lt:20, or an object",
        ),
        ("/v1/pages", {"boxes": ["for_you"]}, "body.boxes[0]: expected a JSON object"),
        ("/v1/recommendations", {"rules": 1}, "body.rules: expected a JSON object"),
        ("/v1/boxes/trendin", None, "is trending meant?"),
        ("/v1/recommendations", {"limt": 5, "k": 3}, "body.limt: there is no such key"),
        ("/v1/recommendations", {"history": [{"item": "a", "kind": "view"}]}, "is item_id meant?"),
        ("/v1/recommendations", {"history": [{"item_id": "a", "kind": "veiw"}]}, "is view meant?"),
        ("/v1/events", {"user": "a"}, "; is user_id meant?"),
        ("/v1/events", [{"timestamp": "a"}], "; is occurred_at meant?"),
        ("/v1/users/u/merge", {"visitor": "v"}, "is visitor_id meant?"),
    ],
    ids=range(15),
)
def test_a_misspelled_name_is_told_the_right_one(asked, path, body, says):
    answer = asked.http.get(path) if body is None else asked.http.post(path, json=body)
    problem = answer.json()
    assert answer.status_code == 422
    assert any(says in text for text in (problem["detail"], *map(str, fault_texts(problem))))


def fault_texts(problem):
    return [f"{fault['where']}: {fault['detail']}" for fault in problem.get("errors", [])]


def test_bodies_are_json_and_say_so(asked):
    for kind in (None, "text/plain", "application/x-www-form-urlencoded", "application/xml"):
        headers = {} if kind is None else {"Content-Type": kind}
        for path in ("/v1/events", "/v1/recommendations", "/v1/items"):
            answer = asked.http.post(path, content=b'{"k": 3}', headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (415, "wrong_media_type")
    headers = {"Content-Type": "application/json; charset=utf-8"}
    said(asked.http.post("/v1/recommendations", content=b"{}", headers=headers))


@pytest.mark.parametrize("given", ["a b", "", "x" * 129, "é", "alice@example.org", "-x", "a\tb"])
def test_a_wrong_request_id_is_refused(asked, given):
    answer = asked.http.get("/v1/users/u/recommendations", headers={"X-Request-ID": given.encode()})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request_id")


def test_every_answer_has_a_request_id_of_its_own_or_the_one_that_was_sent(asked):
    answers = [asked.http.get("/v1/health/live").headers["X-Request-ID"] for _ in range(5)]
    assert len(set(answers)) == 5
    given = asked.http.get("/v1/nothing", headers={"X-Request-ID": "trace:1/2"})
    assert given.headers["X-Request-ID"] == given.json()["request_id"] == "trace:1/2"


def memory(server):
    process = psutil.Process(server.process.pid)
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_100_megabytes_is_refused_while_it_comes_and_memory_stays_flat(asked, chunked):
    size = 100 * 2**20
    said(asked.http.get("/v1/users/u/recommendations"))
    before = memory(asked)

    def chunks():
        for _ in range(size // 2**16):
            yield b"x" * 2**16

    headers = {"Content-Type": "application/json"} | ({} if chunked else {"Content-Length": str(size)})
    for _ in range(3):
        answer = httpx.post(f"{asked.url}/v1/events", content=chunks(), headers=headers, timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_long")
    assert memory(asked) - before < 20 * 2**20


def send_raw(server, head, piece, pieces):
    """The first bytes of what comes back for a request that has no end."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        try:
            connection.sendall(head)
            for _ in range(pieces):
                connection.sendall(piece)
        except OSError:  # closed in the middle of it
            pass
        try:
            return connection.recv(65_536)
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"GET /v1/users/", b"x" * 2**16),
        (b"GET /v1/health/live HTTP/1.1\r\nHost: localhost\r\nX-Long: ", b"x" * 2**16),
        (b"GET /v1/health/live HTTP/1.1\r\nHost: localhost\r\n", b"X-Many: y\r\n" * 6_000),
        (b"POST /v1/items HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n0\r\n", b"X-Last: y\r\n" * 6_000),
    ],
    ids=["address", "header", "headers", "trailers"],
)
def test_100_megabytes_before_or_after_a_body_are_refused_and_memory_stays_flat(asked, head, piece):
    said(asked.http.get("/v1/users/u/recommendations"))
    before = memory(asked)
    for _ in range(3):
        answer = send_raw(asked, head, piece, 100 * 2**20 // len(piece))
        assert not answer or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 ", b"HTTP/1.1 415 ")), answer
    assert memory(asked) - before < 20 * 2**20
    said(asked.http.get("/v1/users/u/recommendations"))


def test_what_is_no_http_gets_a_problem_too(asked):
    for sent in (b"nonsense\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01" * 9):
        head, _, body = send_raw(asked, sent, b"", 0).partition(b"\r\n\r\n")
        problem = json.loads(body)
        assert head.startswith(b"HTTP/1.1 400 Bad Request")
        assert b"application/problem+json" in head
        assert (problem["status"], problem["code"]) == (400, "invalid_http")
        assert problem["request_id"].encode() in head


def test_a_body_may_come_in_many_small_pieces(asked):
    head = b"POST /v1/recommendations HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in b'{"k": 3' + b" " * 60_000 + b"}")
    assert send_raw(asked, head, pieces + b"0\r\nX-Last: y\r\n\r\n", 1).startswith(b"HTTP/1.1 200 ")


def test_a_long_head_that_keeps_to_the_limit_is_taken(asked):
    said(asked.http.get("/v1/users/u/recommendations", headers={"X-Long": "x" * 60_000}))
    longer = asked.http.get("/v1/users/u/recommendations", headers={"X-Long": "x" * 70_000})
    assert (longer.status_code, longer.json()["code"]) == (431, "head_too_long")


def test_bodies_up_to_the_limit_are_taken(asked):
    body = b'{"k": 3' + b" " * (1_000_000 - 8) + b"}"
    headers = {"Content-Type": "application/json"}
    said(asked.http.post("/v1/recommendations", content=body, headers=headers))
    assert asked.http.post("/v1/recommendations", content=body + b" ", headers=headers).status_code == 413


def test_who_leaves_in_the_middle_of_a_body_harms_nobody(asked):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", asked.port)) as gone:
            gone.sendall(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
            gone.sendall(b"Content-Length: 1000\r\n\r\n[")
    said(asked.http.get("/v1/users/u/recommendations"))
    assert "failed" not in asked.log.read_text()


def test_thousands_of_wrong_requests_leave_memory_as_it_was(asked):
    def storm():
        for method, path, body, _ in WRONG:
            asked.http.request(method, path, content=body, headers={"Content-Type": "application/json"})

    for _ in range(3):
        storm()
    before = memory(asked)
    for _ in range(15):
        storm()
    assert memory(asked) - before < 20 * 2**20


def test_nothing_of_all_this_was_a_failure_of_the_service(asked):
    assert "ERROR" not in asked.log.read_text()
