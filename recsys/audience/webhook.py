"""Send pages to a webhook: signed, retried, each with a key under which the receiver knows a repetition.

The headers are those of the Standard Webhooks specification: webhook-id, webhook-timestamp and webhook-signature, an
HMAC-SHA256 of "id.timestamp.body". Only public addresses are connected to, unless private ones are allowed. The name is
resolved once, all its addresses are checked, and the connection goes to a checked one: a name that resolves to another
address later (DNS rebinding) gains nothing. Every redirect is checked in the same way.
"""

import base64
import hashlib
import hmac
import http.client
import logging
import random
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urljoin, urlsplit

from recsys.errors import AwayError, ConfigError, RecsysError, RefusedError
from recsys.outbound import connect_to, is_public

MAX_REDIRECTS = 3
MAX_WAIT_SECONDS = 60.0
_LATER = (408, 425, 429, 500, 502, 503, 504)  # statuses after which a repetition may succeed
_REDIRECTS = (307, 308)  # that keep method and body
_SHOWN = 200  # characters of an answer that an error repeats
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Webhook:
    """Where pages go."""

    url: str
    secret: bytes  # with which they are signed
    headers: Mapping[str, str] = field(default_factory=dict)  # further ones, as a service's key
    allow_private: bool = False  # loopback, private and link-local addresses, and http
    attempts: int = 6
    timeout_seconds: float = 30.0


def send(webhook: Webhook, body: bytes, key: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Deliver one page. key: the same for the same page, however often it is sent.

    Raises RefusedError for an address that may not be connected to, AwayError when the receiver does not take the page
    after all attempts, RecsysError when it says that the page is wrong.
    """
    for attempt in range(1, webhook.attempts + 1):
        try:
            status, wait, text = _post(webhook, body, key)
        except (OSError, http.client.HTTPException) as error:
            status, wait, text = 0, None, f"{type(error).__name__}: {error}"
        if 200 <= status < 300:
            return
        told = f"the webhook {_shown(webhook.url)} answered {status}: {text}" if status else f"no answer: {text}"
        if status and status not in _LATER:
            raise RecsysError(f"{told}. Nothing more was sent; the same command goes on with this page")
        if attempt == webhook.attempts:
            raise AwayError(f"{told}, {attempt} times. The same command goes on with this page")
        pause = min(MAX_WAIT_SECONDS, wait if wait is not None else 2 ** (attempt - 1) * random.uniform(0.5, 1))
        _log.warning("%s; again in %.1f s", told, pause)
        sleep(pause)


def check_url(url: str, *, allow_private: bool) -> SplitResult:
    """Check what can be checked without a connection. Raises ConfigError."""
    parts = urlsplit(url)
    allowed = ("https", "http") if allow_private else ("https",)
    if parts.scheme not in allowed or not parts.hostname:
        raise ConfigError(
            f"the webhook {_shown(url)!r}: allowed are addresses that begin with {' or '.join(allowed)}://"
        )
    if parts.username or parts.password:
        raise ConfigError(f"the webhook {_shown(url)!r}: a name or password in an address is logged; use a header")
    return parts


def checked_addresses(host: str, port: int, *, allow_private: bool) -> list[str]:
    """Resolve a name, and check every address that it has. Raises RefusedError when one is not public."""
    found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not allow_private:
        for address in found:
            if not is_public(address):
                raise RefusedError(
                    f"the webhook's host {host} is at {address}, which is no public address; --allow-private says that "
                    "this is right"
                )
    return found


def _post(webhook: Webhook, body: bytes, key: str) -> tuple[int, float | None, str]:
    """Post to the address and where it redirects to: status, seconds to wait, and the beginning of the answer."""
    url, headers = webhook.url, dict(webhook.headers)
    for _ in range(MAX_REDIRECTS + 1):
        parts = check_url(url, allow_private=webhook.allow_private)
        connection = _connect(parts, webhook)
        try:
            path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
            connection.request("POST", path, body, headers | _signed(webhook.secret, body, key))
            answer = connection.getresponse()
            text = answer.read(4 * _SHOWN).decode(errors="replace")[:_SHOWN]
        finally:
            connection.close()
        if answer.status not in _REDIRECTS:
            return answer.status, _seconds(answer.getheader("Retry-After")), text
        target = urljoin(url, answer.getheader("Location") or "")
        if urlsplit(target)[:2] != parts[:2]:
            headers = {}  # a key is for the host that it was given for
        url = target
    raise RecsysError(f"the webhook {_shown(webhook.url)} redirects more than {MAX_REDIRECTS} times")


def _connect(parts: SplitResult, webhook: Webhook) -> http.client.HTTPConnection:
    """A connection to a checked address of the host; the certificate is that of its name."""
    assert parts.hostname is not None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    addresses = checked_addresses(parts.hostname, port, allow_private=webhook.allow_private)
    raw = connect_to(addresses, port, webhook.timeout_seconds)
    connection = http.client.HTTPConnection(parts.hostname, port, timeout=webhook.timeout_seconds)
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.hostname, port, timeout=webhook.timeout_seconds)
        raw = ssl.create_default_context().wrap_socket(raw, server_hostname=parts.hostname)
    connection.sock = raw
    return connection


def _signed(secret: bytes, body: bytes, key: str) -> dict[str, str]:
    moment = str(int(time.time()))
    digest = hmac.new(secret, f"{key}.{moment}.".encode() + body, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "User-Agent": "recsys",
        "Idempotency-Key": key,
        "webhook-id": key,
        "webhook-timestamp": moment,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _seconds(text: str | None) -> float | None:
    """The seconds of a Retry-After header; one with a date, or none, says nothing."""
    return float(text) if text is not None and text.strip().isdecimal() else None


def _shown(url: str) -> str:
    """An address without its query, which may hold a key."""
    return url.partition("?")[0]
