"""The HTTP protocol of uvicorn with a limit on address and headers, and with problem+json for what is no HTTP.

uvicorn's own class has no limit: 100 MB of headers cost ten times as much memory.
"""

from http import HTTPStatus
from typing import Any
from uuid import uuid4

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.problems import respond

MAX_HEAD_BYTES = 65_536


class HttpProtocol(HttpToolsProtocol):
    """One connection. uvicorn creates it and passes it the data; the parser calls the `on_…` methods."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._seen = 0  # bytes of this request outside its body
        self._is_in_head, self._is_too_long = True, False
        self._answered: RequestResponseCycle | None = None  # the request that is being answered

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. The parser buffers a line without an end, so all bytes are counted."""
        self._seen += len(data)
        super().data_received(data)
        if self._seen > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._is_too_long = True
            self.send_400_response("")

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol. Requests that wait behind the one that is being answered are dropped.

        uvicorn tells only the newest request that its client has gone, and writing to a closed connection raises.
        """
        self.pipeline.clear()
        if self._answered is not None:
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A request begins. Data that arrived with it counts when its head has ended."""
        self._seen, self._is_in_head = 0, True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header. Those that may follow a body are ignored."""
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Address and headers are complete. Raises ValueError, for the parser to handle, when they are too long."""
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES:
            self._is_too_long = True
            raise ValueError
        self._is_in_head = False
        super().on_headers_complete()
        if not self.pipeline:  # else it waits there
            self._answered = self.cycle

    def on_response_complete(self) -> None:
        """A request is answered; the next one that waits is begun."""
        self._answered = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body, which the middleware limits."""
        self._seen -= len(body)
        super().on_body(body)

    def on_chunk_complete(self) -> None:
        """A chunk of the body ends. The bytes between chunks do not count."""
        self._seen = 0

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  it may repeat the request
        """Answer a request that cannot be read, without repeating any of it. uvicorn calls it."""
        status, code, detail = 400, "invalid_http", "This is no HTTP."
        if self._is_too_long:
            detail = f"Address and headers may have {MAX_HEAD_BYTES} bytes together."
            status, code = 431, "head_too_long"
        request_id = uuid4().hex
        headers = {"Connection": "close", "X-Request-ID": request_id}
        answer = respond(status, code, detail, request_id=request_id, headers=headers)
        lines = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
        first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
        self.transport.write(first + lines + b"\r\n" + bytes(answer.body))
        self.transport.close()
