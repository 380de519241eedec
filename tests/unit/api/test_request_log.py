from functools import partial

import pytest

from api import request_log
from api.request_log import RequestLog
from recsys.config.settings import RequestSettings
from recsys.store.requests import KeptRequest


class Written:
    """A store that counts what it is given."""

    def __init__(self):
        self.ids = []

    def write(self, use):
        if isinstance(use, partial):
            self.ids += [request.request_id for request in use.keywords["requests"]]


@pytest.mark.parametrize(("most", "kept"), [(1_000, 10), (55, 5)])
def test_what_waits_is_bounded_by_its_bytes_and_room_comes_back(monkeypatch, most, kept):
    monkeypatch.setattr(request_log, "_WAITING_BYTES", most)
    store = Written()
    log = RequestLog(RequestSettings(share=1), store)

    def keep(name):
        for at in range(10):
            log.keep(KeptRequest(f"{name}{at}", None, None, 0, 0, "b", 0, question="1234", answer="123456"))
        log._write()

    keep("a")
    assert store.ids == [f"a{at}" for at in range(kept)]
    keep("b")
    assert store.ids[kept:] == [f"b{at}" for at in range(kept)]
