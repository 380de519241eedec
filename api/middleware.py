"""What every request passes: its id, its address, the limit of its body, its measure, the last catch of errors.

Plain ASGI, because it reads bodies before anybody else does.
"""

import asyncio
import logging
import re
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers, MutableHeaders

from api import metrics as measures
from api.problems import ProblemError, respond

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger("recsys.api")
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+/=-]{0,127}")
_BODY_SECONDS = 30.0  # a body that takes longer is refused
_DRAIN_SECONDS = 5.0  # so long we go on reading a body that is too long, for the caller to see the answer
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


class Middleware:
    """The outermost layer of the service."""

    def __init__(self, app: App, max_body_bytes: int) -> None:
        """max_body_bytes: bodies that are longer are refused while they are read."""
        self._app, self._limit = app, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        answer = _Answer(send)
        try:
            await self._handle(scope, receive, answer)
        except Exception as error:  # this is where it ends: it becomes a 500
            _report(error, scope)
            await _fail(scope, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            measures.REQUESTS.labels(route, _method(scope), str(answer.status)).inc()
            measures.LATENCY.labels(route).observe(time.perf_counter() - started)

    async def _handle(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        headers = Headers(scope=scope)
        scope.setdefault("state", {})
        scope["state"] |= {"request_id": uuid.uuid4().hex, "given_request_id": None}
        answer.request_id = scope["state"]["request_id"]
        try:
            if (given := headers.get("x-request-id")) is not None:
                answer.request_id = scope["state"]["request_id"] = scope["state"]["given_request_id"] = _check_id(given)
            _take_address(scope)
            receive = await self._read(headers, receive)
        except ProblemError as problem:
            response = respond(
                problem.status, problem.code, problem.detail, request_id=answer.request_id, headers=problem.headers
            )
            answer.drain = receive if problem.status == 413 else None
            await response(scope, receive, answer)
            return
        await self._app(scope, receive, answer)

    async def _read(self, headers: Headers, receive: Receive) -> Receive:
        """Read the body, if there is one, and hand it on as one message."""
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


class _Answer:
    """Sends on, with headers that every answer has."""

    def __init__(self, send: Send) -> None:
        self._send = send
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
        elif self.drain is not None:
            await self._send({**message, "more_body": True})
            await _drain(self.drain)
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)


def _replay(message: Message, receive: Receive | None = None) -> Receive:
    waiting = [message]

    async def replay() -> Message:
        if waiting:
            return waiting.pop()
        return await receive() if receive is not None else {"type": "http.disconnect"}

    return replay


async def _drain(receive: Receive) -> None:
    """Read on and forget: who closes while the other still sends may take the answer away from him."""
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
    """Bytes that are no UTF-8 would silently become another id, and a decoded %2F another address.

    So routes are found by the address as it was sent, and an id is decoded where a route takes it.
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


def _report(error: Exception, scope: Scope) -> None:
    """Where it happened and what kind it is; not its words, which may hold ids, queries and bodies."""
    where = "".join(traceback.format_tb(error.__traceback__))
    route = getattr(scope.get("route"), "path", "other")
    _log.error("%s %s failed: %s\n%s", _method(scope), route, type(error).__name__, where)


async def _fail(scope: Scope, receive: Receive, answer: _Answer) -> None:
    if answer.status:
        raise RuntimeError("the answer broke off") from None
    detail = "Something failed inside the service; its log says where."
    await respond(500, "failed", detail, request_id=answer.request_id)(scope, receive, answer)
