"""The bytes of HTTP: a request's address and headers have a limit, and what is no HTTP gets a problem like the rest.

uvicorn's own class keeps what comes for as long as it comes: 100 MB of headers cost ten times as much memory.
"""

from http import HTTPStatus
from typing import Any
from uuid import uuid4

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.problems import respond

MAX_HEAD_BYTES = 65_536


class HttpProtocol(HttpToolsProtocol):
    """One connection. uvicorn makes it, calls it with what comes, and is called back by the parser."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._seen = 0  # bytes of this request that are no part of its body
        self._is_in_head, self._is_too_long = True, False

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. The parser itself keeps a line that has no end, so all that comes is counted."""
        self._seen += len(data)
        super().data_received(data)
        if self._seen > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._is_too_long = True
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """A request begins; what comes with it in one piece counts when its head has ended."""
        self._seen, self._is_in_head = 0, True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or one of those that may follow a body, which nobody wants."""
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Address and headers have come. Raises ValueError when they are too long, which the parser makes its own."""
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES:
            self._is_too_long = True
            raise ValueError
        self._is_in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body, which has a limit of its own."""
        self._seen -= len(body)
        super().on_body(body)

    def on_chunk_complete(self) -> None:
        """The body goes on; how it is cut does not count."""
        self._seen = 0

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  its words are for no program
        """What uvicorn calls for anything that it cannot read; it repeats nothing of it."""
        status, code, detail = 400, "invalid_http", "This is no HTTP."
        if self._is_too_long:
            told = f"Address and headers may have {MAX_HEAD_BYTES} bytes together."
            status, code, detail = 431, "head_too_long", told
        request_id = uuid4().hex
        headers = {"Connection": "close", "X-Request-ID": request_id}
        answer = respond(status, code, detail, request_id=request_id, headers=headers)
        lines = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
        first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
        self.transport.write(first + lines + b"\r\n" + bytes(answer.body))
        self.transport.close()
