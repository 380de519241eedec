"""The middleware of every request: request id, address, size of the body, HEAD, gzip, metrics, unhandled errors.

It is plain ASGI, because it reads the body before the framework does.
"""

import asyncio
import gzip
import logging
import re
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

import anyio.to_thread
from starlette.datastructures import Headers, MutableHeaders

from api import metrics
from api.admission import Admission
from api.problems import ProblemError, respond

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger("recsys.api")
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+/=-]{0,127}")
OVERLOADED_SECONDS = 1  # Retry-After of a request that found too many waiting
_ALWAYS = ("/v1/health/", "/metrics")  # watchers are answered even when others have to come again
_BODY_SECONDS = 30.0  # a body that takes longer is refused
_DRAIN_SECONDS = 5.0  # how long the rest of a body that is too long is read, so that the caller sees the response
_GZIP_BYTES = range(8_192, 4 * 2**20)  # what is shorter gains little, what is longer would take too long
_GZIP_LEVEL = 1  # a tenth of the time of the default, for a tenth more bytes
_GZIP_IN_THREAD = 65_536  # bytes from which it would hold up other requests
_GZIP_TYPES = ("application/json", "application/problem+json", "text/", "image/svg+xml")
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


class Middleware:
    """The outermost layer of the service."""

    def __init__(self, app: App, max_body_bytes: int, admission: Admission) -> None:
        """Wrap `app`. max_body_bytes: longer bodies are refused while they are read. admission: who is answered."""
        self._app, self._limit, self._admission = app, max_body_bytes, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, method = time.perf_counter(), _method(scope)
        if method == "HEAD":  # the server leaves out the body; it looks into its own scope
            scope = {**scope, "method": "GET"}
        response = _Response(send, accepts_gzip=_accepts_gzip(Headers(scope=scope)) and method != "HEAD")
        try:
            await self._handle(scope, receive, response)
        except Exception as error:  # unhandled: it becomes a 500
            _log_error(error, scope)
            await _fail(scope, receive, response)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            metrics.REQUESTS.labels(route, method, str(response.status)).inc()
            metrics.LATENCY.labels(route).observe(time.perf_counter() - started)

    async def _handle(self, scope: Scope, receive: Receive, response: "_Response") -> None:
        headers = Headers(scope=scope)
        scope.setdefault("state", {})
        scope["state"] |= {"request_id": uuid.uuid4().hex, "given_request_id": None}
        response.request_id = scope["state"]["request_id"]
        try:
            if (given := headers.get("x-request-id")) is not None:
                scope["state"]["given_request_id"] = _check_id(given)
                response.request_id = scope["state"]["request_id"] = given
            _take_address(scope)
            receive = await self._read(headers, receive)
            if scope["path"].startswith(_ALWAYS):
                await self._app(scope, receive, response)
            else:
                await self._admitted(scope, receive, response)
        except ProblemError as problem:
            refusal = respond(
                problem.status, problem.code, problem.detail, request_id=response.request_id, headers=problem.headers
            )
            response.drain = receive if problem.status == 413 else None
            await refusal(scope, receive, response)

    async def _admitted(self, scope: Scope, receive: Receive, response: "_Response") -> None:
        """Answer a request when it need not wait for long. Raises ProblemError: 503."""
        if not self._admission.admit(time.perf_counter()):
            busy = "More requests are waiting than can be answered soon."
            raise ProblemError(503, "overloaded", busy, {"Retry-After": str(OVERLOADED_SECONDS)})
        try:
            await self._app(scope, receive, response)
        finally:
            self._admission.leave(time.perf_counter())

    async def _read(self, headers: Headers, receive: Receive) -> Receive:
        """Read the body, if there is one, and pass it on as one message. Raises ProblemError: 408, 413."""
        length = headers.get("content-length")
        if (length is None or length == "0") and "transfer-encoding" not in headers:
            return receive
        too_long = ProblemError(
            413, "body_too_long", f"A body may have {self._limit} bytes at most.", {"Connection": "close"}
        )
        if length is not None and length.isdecimal() and int(length) > self._limit:
            raise too_long
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return _replay(message)
                    body += message.get("body", b"")
                    if len(body) > self._limit:
                        raise too_long
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            late = f"The body did not come within {_BODY_SECONDS:.0f} seconds."
            raise ProblemError(408, "body_too_slow", late, {"Connection": "close"}) from None
        return _replay({"type": "http.request", "body": bytes(body), "more_body": False}, receive)


class _Response:
    """Send a response on, with the headers that every response has, and compressed where that is worth it."""

    def __init__(self, send: Send, *, accepts_gzip: bool = False) -> None:
        self._send, self._accepts_gzip = send, accepts_gzip
        self._start: Message | None = None  # held back until it is known whether the body is compressed
        self.status = 0  # 0: nothing was sent yet
        self.request_id = ""
        self.drain: Receive | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.request_id
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            if "GET" in (allowed := headers.get("allow", "").split(", ")) and "HEAD" not in allowed:
                headers["Allow"] = ", ".join([*allowed, "HEAD"])
            self._start = message
            return
        if self._start is not None:
            message = await self._compressed(self._start, message)
            await self._send(self._start)
            self._start = None
        if self.drain is not None:
            await self._send({**message, "more_body": True})
            await _drain(self.drain)
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _compressed(self, start: Message, message: Message) -> Message:
        """The body, as gzip when it comes as a whole, is long and text and the caller accepts that."""
        body, headers = message.get("body", b""), MutableHeaders(scope=start)
        is_whole = len(body) in _GZIP_BYTES and not message.get("more_body", False)
        if not is_whole or not headers.get("content-type", "").startswith(_GZIP_TYPES):
            return message
        headers.add_vary_header("Accept-Encoding")
        if not self._accepts_gzip or "content-encoding" in headers:
            return message
        if len(body) < _GZIP_IN_THREAD:
            body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        else:
            body = await anyio.to_thread.run_sync(lambda: gzip.compress(message["body"], _GZIP_LEVEL, mtime=0))
        headers["Content-Encoding"], headers["Content-Length"] = "gzip", str(len(body))
        if (etag := headers.get("etag", "")).startswith('"'):
            headers["ETag"] = f"W/{etag}"  # the same content, but other bytes
        return {**message, "body": body}


def _accepts_gzip(headers: Headers) -> bool:
    """Whether the caller takes gzip: named without q=0."""
    for offer in headers.get("accept-encoding", "").lower().split(","):
        coding, _, weight = offer.partition(";")
        if coding.strip() == "gzip":
            return not re.fullmatch(r"\s*q=0(\.0*)?\s*", weight)
    return False


def _replay(message: Message, receive: Receive | None = None) -> Receive:
    waiting = [message]

    async def replay() -> Message:
        if waiting:
            return waiting.pop()
        return await receive() if receive is not None else {"type": "http.disconnect"}

    return replay


async def _drain(receive: Receive) -> None:
    """Read and drop the rest of a body: closing while the caller still sends may lose the response."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                pass
    except TimeoutError:
        return


def _check_id(given: str) -> str:
    if not _REQUEST_ID.fullmatch(given):
        allowed = "1 to 128 of the characters A-Z a-z 0-9 . _ : + / = - that begin with a letter or digit"
        raise ProblemError(400, "invalid_request_id", f"X-Request-ID is not allowed; allowed are {allowed}.")
    return given


def _take_address(scope: Scope) -> None:
    """Route by the address as it was sent; a route decodes the id that it takes.

    Bytes that are not UTF-8 would silently become another id, and a decoded %2F another address.
    Raises ProblemError: 400.
    """
    for part in (scope["raw_path"], scope["query_string"]):
        try:
            unquote_to_bytes(part).decode("utf-8")
        except UnicodeDecodeError:
            raise ProblemError(400, "invalid_address", "The address is not UTF-8 once its %XX are decoded.") from None
    scope["path"] = scope["raw_path"].decode("ascii")


def _method(scope: Scope) -> str:
    known = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"


def _log_error(error: Exception, scope: Scope) -> None:
    """Log where an error happened and its class, but not its message, which may hold ids, queries and bodies."""
    where = "".join(traceback.format_tb(error.__traceback__))
    route = getattr(scope.get("route"), "path", "other")
    _log.error("%s %s failed: %s\n%s", _method(scope), route, type(error).__name__, where)


async def _fail(scope: Scope, receive: Receive, response: _Response) -> None:
    if response.status:
        raise RuntimeError("the response broke off") from None
    detail = "Something failed inside the service; its log says where."
    await respond(500, "failed", detail, request_id=response.request_id)(scope, receive, response)
