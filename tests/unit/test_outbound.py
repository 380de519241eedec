"""Requests to addresses that a shop's data names: what is refused, and the limits."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from recsys import outbound
from recsys.outbound import OutboundError, public_addresses, request

TRUSTED = ("127.0.0.1",)


class Shop(BaseHTTPRequestHandler):
    """Answers as its path says."""

    def do_GET(self) -> None:
        if self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to?"))
            self.end_headers()
            return
        self.send_response(404 if self.path == "/nothing" else 200)
        self.end_headers()
        self.wfile.write(b"x" * 1000 if self.path == "/large" else b"picture")
        if self.path == "/slow":
            self.wfile.flush()
            self.server.released.wait(10)  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def shop() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    server.released = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.released.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost:8080/x",
        "http://10.1.2.3/",
        "http://192.168.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[fe80::1]/",
        "http://0.0.0.0/",
        "http://2130706433/",
        "http://0x7f.1/",
    ],
)
def test_addresses_of_this_machine_and_its_network_are_refused(url: str) -> None:
    with pytest.raises(OutboundError, match=r"is no public address|no address found"):
        request("GET", url)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://shop.example/", "//x", "http://", "http://a:b@shop.example/", "http://[/", "x y"],
)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(OutboundError):
        request("GET", url)


def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(outbound.socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(OutboundError, match=r"10\.0\.0\.1 is no public address"):
        public_addresses("shop.example", 80)


def test_a_host_that_the_operator_names_is_asked(shop: str) -> None:
    reply = request("GET", f"{shop}/picture.jpg", trusted_hosts=TRUSTED)
    assert (reply.status, reply.body) == (200, b"picture")
    assert request("GET", f"{shop}/to?/nothing", trusted_hosts=TRUSTED).status == 404


def test_a_redirect_to_loopback_is_refused(shop: str) -> None:
    port = shop.rpartition(":")[2]
    with pytest.raises(OutboundError, match=r"localhost: .* is no public address"):
        request("GET", f"{shop}/to?http://localhost:{port}/", trusted_hosts=TRUSTED)
    with pytest.raises(OutboundError, match="http and https"):
        request("GET", f"{shop}/to?file:///etc/passwd", trusted_hosts=TRUSTED)


def test_redirects_size_and_time_are_bounded(shop: str) -> None:
    with pytest.raises(OutboundError, match="more than 5 redirects"):
        request("GET", f"{shop}/to?/to?/to?/to?/to?/to?/to?/", trusted_hosts=TRUSTED)
    with pytest.raises(OutboundError, match="larger than 999 bytes"):
        request("GET", f"{shop}/large", trusted_hosts=TRUSTED, most_bytes=999)
    assert len(request("GET", f"{shop}/large", trusted_hosts=TRUSTED, most_bytes=1000).body) == 1000
    with pytest.raises(OutboundError, match=r"no answer within 0\.3 s"):
        request("GET", f"{shop}/slow", trusted_hosts=TRUSTED, timeout_seconds=0.3)
