import asyncio
import json

import pytest

from api.admission import Admission
from api.app import create_app
from api.middleware import Middleware
from recsys.config.settings import Config


def busy(admission, seconds, count=200):
    """So many requests one after the other, each of which takes so many seconds."""
    for at in range(count):
        assert admission.admit(2 * at * seconds)
        admission.leave((2 * at + 1) * seconds)


def test_requests_that_would_wait_too_long_are_refused_until_others_have_left():
    admission = Admission(threads=2, max_wait_seconds=1.0)
    busy(admission, 0.08)
    assert [admission.admit(1000.0) for _ in range(14)] == [True] * 12 + [False] * 2
    admission.leave(1000.2)
    assert admission.admit(1000.2)
    assert not admission.admit(1000.2)


def test_whatever_earlier_ones_took_each_thread_gets_a_request():
    admission = Admission(threads=2, max_wait_seconds=0.1)
    busy(admission, 60.0)
    assert [admission.admit(1e6) for _ in range(7)] == [True] * 2 + [False] * 5


def test_a_worker_that_has_just_started_turns_requests_away_too_and_learns_with_each_answer():
    fresh, slow, quick = (Admission(threads=8, max_wait_seconds=0.5) for _ in range(3))
    busy(slow, 0.05, count=4)
    busy(quick, 0.002, count=12)
    admitted = [sum(each.admit(100.0) for _ in range(1000)) for each in (fresh, slow, quick)]
    assert admitted == [50, 16, 125]


def test_one_stall_turns_nobody_away():
    admission = Admission(threads=8, max_wait_seconds=0.5)
    busy(admission, 0.002)
    for _ in range(40):
        assert admission.admit(100.0)
    for at in range(40):  # the database hung for three seconds and failed all of them
        admission.leave(103.0 + at / 1000)
    assert all(admission.admit(104.0) for _ in range(40))


def test_pauses_do_not_count():
    admission = Admission(threads=1, max_wait_seconds=0.5)
    for at in range(200):
        assert admission.admit(10.0 * at)
        admission.leave(10.0 * at + 0.001)
    assert sum(admission.admit(1e6) for _ in range(1000)) > 400


@pytest.mark.parametrize(("seconds", "fewest", "most"), [(0.5, 230, 270), (0.1, 40, 60)])
def test_quick_requests_may_queue_in_numbers_that_the_configuration_limits(tmp_path, seconds, fewest, most):
    values = {"storage": {"path": tmp_path}, "store": {"url": f"sqlite:///{tmp_path}/own.db"}}
    app = create_app(Config.model_validate(values | {"api": {"max_wait_seconds": seconds}}))
    admission = next(each.kwargs["admission"] for each in app.user_middleware if "admission" in each.kwargs)
    busy(admission, 0.002)
    assert fewest <= sum(admission.admit(1e6) for _ in range(1000)) <= most


def asked(paths):
    """What is sent to requests that come at once to a service of one thread that takes too long for each."""
    admission, sent = Admission(threads=1, max_wait_seconds=1e-9), []
    busy(admission, 1.0)

    async def ask(path):
        async def send(message):
            sent.append((path, message))

        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
        await Middleware(answer, max_body_bytes=1000, admission=admission)(scope | {"headers": []}, receive, send)

    async def answer(_scope, _receive, send):
        await asyncio.sleep(0)  # the others come meanwhile
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def everybody():
        await asyncio.gather(*map(ask, paths))

    asyncio.run(everybody())
    return sent


def test_those_beyond_the_queue_are_told_to_come_again_and_watchers_are_answered():
    paths = [*(f"/v1/{number}" for number in range(6)), "/v1/health/ready", "/metrics"]
    sent = asked(paths)
    starts = {path: message for path, message in sent if message["type"] == "http.response.start"}
    assert [starts[path]["status"] for path in paths] == [200] + [503] * 5 + [200] * 2
    assert dict(starts["/v1/5"]["headers"])[b"retry-after"] == b"1"
    body = next(message["body"] for path, message in sent if path == "/v1/5" and "body" in message)
    assert json.loads(body)["code"] == "overloaded"
