"""Pages reach a real HTTP server: signed, repeated where it helps, and never at an address that is not public."""

import base64
import hashlib
import hmac
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from recsys.audience import webhook as sending
from recsys.audience.webhook import Webhook, check_url, checked_addresses, send
from recsys.errors import AwayError, ConfigError, RecsysError, RefusedError

SECRET = b"a secret of the shop"
Answer = Callable[[int], tuple[int, dict[str, str]]]


class Receiver:
    """A server that keeps what it gets, and answers as told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answer: Answer = lambda _: (200, {})
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((self.path, dict(self.headers), body))
                status, headers = receiver.answer(len(receiver.requests))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    thread = threading.Thread(target=lambda: found.server.serve_forever(poll_interval=0.01))
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def hook(receiver: Receiver, **others: Any) -> Webhook:
    return Webhook(**({"url": receiver.url, "secret": SECRET, "allow_private": True} | others))


def test_a_page_is_signed_and_has_its_key(receiver: Receiver) -> None:
    send(hook(receiver, url=f"{receiver.url}?list=7", headers={"Authorization": "Bearer x"}), b'{"rows": []}', "k-0-0")
    ((path, headers, body),) = receiver.requests
    assert (path, body) == ("/hook?list=7", b'{"rows": []}')
    assert headers["Idempotency-Key"] == headers["webhook-id"] == "k-0-0"
    assert (headers["Authorization"], headers["Content-Type"]) == ("Bearer x", "application/json")
    signed = f"k-0-0.{headers['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"


def test_what_may_pass_is_sent_again_with_longer_and_longer_waits(receiver: Receiver) -> None:
    waits: list[float] = []
    answers = [(503, {}), (429, {"Retry-After": "7"}), (500, {}), (200, {})]
    receiver.answer = lambda number: answers[number - 1]
    send(hook(receiver), b"{}", "k", sleep=waits.append)
    assert len(receiver.requests) == 4
    assert {headers["Idempotency-Key"] for _, headers, _ in receiver.requests} == {"k"}
    assert 0.5 <= waits[0] <= 1
    assert waits[1] == 7
    assert 2 <= waits[2] <= 4


def test_what_does_not_pass_is_told(receiver: Receiver) -> None:
    receiver.answer = lambda _: (422, {})
    with pytest.raises(RecsysError, match="answered 422"):
        send(hook(receiver), b"{}", "k")
    assert len(receiver.requests) == 1
    receiver.answer = lambda _: (503, {})
    with pytest.raises(AwayError, match=r"answered 503.*3 times"):
        send(hook(receiver, attempts=3), b"{}", "k", sleep=lambda _: None)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/?token=secret"
        with pytest.raises(AwayError, match="no answer: ConnectionRefusedError") as told:
            send(hook(receiver, url=url, attempts=2), b"{}", "k", sleep=lambda _: None)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.9", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("::1", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::a00:1"),
        *("224.0.0.1", "ff02::1", "::", "240.0.0.1"),
    ],
)
def test_an_address_that_is_not_public_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", ("8.8.8.8", 443)), (0, 0, 0, "", (address, 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(RefusedError, match="no public address"):
        checked_addresses("shop.example", 443, allow_private=False)
    assert address in checked_addresses("shop.example", 443, allow_private=True)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "localhost"])
def test_other_ways_to_write_loopback_are_refused(host: str) -> None:
    with pytest.raises((RefusedError, OSError)):
        checked_addresses(host, 443, allow_private=False)


def test_a_name_that_resolves_anew_gains_nothing(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer is public, the next is loopback: the connection goes to the address that was checked."""
    asked, connected = list[str](), list[str]()

    def resolve(host: str, port: int, **_: Any) -> Any:
        asked.append(host)
        return [(0, 0, 0, "", ("8.8.8.8" if len(asked) == 1 else "127.0.0.1", port))]

    def connect(address: tuple[str, int], _timeout: float) -> socket.socket:
        connected.append(address[0])
        raise OSError("no way out")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    webhook = Webhook("https://rebind.example/hook", SECRET, attempts=1)
    with pytest.raises(AwayError):
        send(webhook, b"{}", "k")
    assert (asked, connected) == (["rebind.example"], ["8.8.8.8"])
    with pytest.raises(RefusedError, match="no public address"):
        send(webhook, b"{}", "k")
    assert connected == ["8.8.8.8"]


def test_a_redirect_is_followed_and_checked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver.answer = lambda number: (307, {"Location": "/other"}) if number == 1 else (200, {})
    send(hook(receiver, headers={"Authorization": "x"}), b"{}", "k")
    assert [path for path, _, _ in receiver.requests] == ["/hook", "/other"]
    assert all("Authorization" in headers for _, headers, _ in receiver.requests)
    receiver.requests.clear()
    elsewhere = receiver.url.replace("127.0.0.1", "localhost")
    receiver.answer = lambda number: (308, {"Location": elsewhere}) if number == 1 else (200, {})
    send(hook(receiver, headers={"Authorization": "x"}), b"{}", "k")
    assert ["Authorization" in headers for _, headers, _ in receiver.requests] == [True, False]
    receiver.answer = lambda _: (307, {"Location": "/hook"})
    with pytest.raises(RecsysError, match="redirects more than 3 times"):
        send(hook(receiver), b"{}", "k")
    receiver.answer = lambda _: (302, {"Location": "/hook"})
    with pytest.raises(RecsysError, match="answered 302"):
        send(hook(receiver), b"{}", "k")

    # A public receiver that redirects to loopback: all but its own address is checked.
    class Opened:
        status = 307

        def getheader(self, name: str) -> str | None:
            return f"https://127.0.0.1:{receiver.server.server_port}/hook" if name == "Location" else None

        def read(self, _: int) -> bytes:
            return b""

    class Connection:
        def request(self, *_: Any) -> None:
            pass

        def getresponse(self) -> Opened:
            return Opened()

        def close(self) -> None:
            pass

    real, seen = sending._connect, list[str]()

    def connect(parts: Any, webhook: Webhook) -> Any:
        seen.append(parts.hostname)
        return Connection() if parts.hostname == "public.example" else real(parts, webhook)

    monkeypatch.setattr(sending, "_connect", connect)
    count = len(receiver.requests)
    with pytest.raises(RefusedError, match=r"127\.0\.0\.1, which is no public address"):
        send(Webhook("https://public.example/hook", SECRET), b"{}", "k")
    assert seen == ["public.example", "127.0.0.1"]
    assert len(receiver.requests) == count


def test_addresses_that_are_none_are_refused() -> None:
    for url in ("http://shop.example/", "ftp://shop.example/", "file:///etc/passwd", "https://", "shop.example"):
        with pytest.raises(ConfigError, match="allowed are addresses that begin with https://"):
            check_url(url, allow_private=False)
    with pytest.raises(ConfigError, match="use a header"):
        check_url("https://me:secret@shop.example/", allow_private=False)
    assert check_url("http://localhost/", allow_private=True).hostname == "localhost"
