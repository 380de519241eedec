"""Requests to addresses that a shop's data names: to public addresses only, bounded in time, size and redirects.

A picture's URL or a webhook's could otherwise make this machine ask services that only it can reach. Every host, also
that of a redirect, is resolved once, and what is connected to are the addresses that were checked.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from recsys.errors import RecsysError

MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # an IPv4 address that IPv6 reaches: the last 32 bits
_PORTS = {"http": 80, "https": 443}


class OutboundError(RecsysError):
    """A request was refused, failed or took too long."""


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    url: str  # the last one, after redirects
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


def request(
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    most_bytes: int = 1_000_000,
    timeout_seconds: float = 10.0,
    trusted_hosts: Collection[str] = (),
) -> Reply:
    """Send a request and read the answer, whatever its status; GET and HEAD follow redirects.

    most_bytes: of the answer's body. timeout_seconds: for connecting and for the whole exchange of each hop.
    trusted_hosts: those that an operator has named, which may lie in a private network.
    Raises OutboundError; its message names the host and what was wrong.
    """
    for _ in range(MOST_REDIRECTS + 1):
        reply = _exchange(method, url, body, headers or {}, most_bytes, timeout_seconds, trusted_hosts)
        location = reply.headers.get("location")
        if reply.status not in _REDIRECTS or method not in ("GET", "HEAD") or not location:
            return reply
        url = urljoin(url, location)
    raise OutboundError(f"{url}: more than {MOST_REDIRECTS} redirects", cause="redirects")


def public_addresses(host: str, port: int, trusted_hosts: Collection[str] = ()) -> list[str]:
    """The addresses of a host. Raises OutboundError when one of them is private and the host is not trusted."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OutboundError(f"{host}: no address found: {error}", cause="address") from error
    addresses = list(dict.fromkeys(str(address[4][0]) for address in found))
    wrong = [address for address in addresses if not is_public(address)]
    if wrong and host not in trusted_hosts:
        raise OutboundError(f"{host}: {wrong[0]} is no public address; allowed are public ones", cause="private")
    return addresses


def is_public(text: str) -> bool:
    """Whether an address, and one of IPv4 that is wrapped in it, belongs to the public internet."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast


def _parse(url: str) -> tuple[SplitResult, str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError as error:
        raise OutboundError(f"{url[:200]!a} is no URL: {error}", cause="url") from error
    if not host or port is None:
        raise OutboundError(f"{url[:200]!a}: allowed are http and https URLs with a host", cause="url")
    if parts.username is not None or not url.isprintable() or " " in url:
        raise OutboundError(f"{host}: a URL with a password or a blank is not asked", cause="url")
    return parts, host, port


def _exchange(
    method: str,
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    most_bytes: int,
    timeout_seconds: float,
    trusted_hosts: Collection[str],
) -> Reply:
    parts, host, port = _parse(url)
    connection = _Pinned(parts.scheme, host, port, public_addresses(host, port, trusted_hosts), timeout_seconds)
    timer = threading.Timer(timeout_seconds, connection.abort)  # a server that sends a byte a second is cut off too
    timer.daemon = True
    timer.start()
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body=body, headers={"User-Agent": "recsys", **headers})
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        content = b"" if answer.status in _REDIRECTS else answer.read(most_bytes + 1)
    except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
        said = f"no answer within {timeout_seconds:g} s" if connection.aborted else f"{type(error).__name__}: {error}"
        raise OutboundError(f"{host}: {said}", cause="network") from error
    finally:
        timer.cancel()
        connection.close()
    if connection.aborted:
        raise OutboundError(f"{host}: no answer within {timeout_seconds:g} s", cause="network")
    if len(content) > most_bytes:
        raise OutboundError(f"{host}: the answer is larger than {most_bytes:,} bytes", cause="size")
    return Reply(url, answer.status, found, content)


def connect_to(addresses: Sequence[str], port: int, timeout_seconds: float) -> socket.socket:
    """Connect to the first of the addresses that answers. Raises the OSError of the last one when none does."""
    failed = OSError("the host has no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout_seconds)
        except OSError as error:
            failed = error
    raise failed


class _Pinned(http.client.HTTPConnection):
    """A connection to the first of a host's addresses that answers; the name is only said in the request."""

    def __init__(self, scheme: str, host: str, port: int, addresses: list[str], timeout_seconds: float) -> None:
        super().__init__(host, port, timeout=timeout_seconds)
        self.is_secure = scheme == "https"
        self.default_port = _PORTS[scheme]
        self.addresses = addresses
        self.seconds = timeout_seconds
        self.aborted = False

    def connect(self) -> None:
        """Connect to an address that was checked, never by name."""
        self.sock = connect_to(self.addresses, self.port, self.seconds)
        if self.is_secure:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)

    def abort(self) -> None:
        """End the exchange from another thread."""
        self.aborted = True
        if self.sock is not None:
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:  # it has ended already
                return
