"""Who asks the service in benchmarks.load: patient clients, and those that do what no client should."""

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

GIGABYTE = 10**9
_CHUNK = b"x" * 65_536
_OPENING = 200  # connections that are opened at a time
_PATIENCE = 60.0  # seconds until an answer counts as none

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


@dataclass
class Answers:
    """What came back in one phase."""

    statuses: Counter[int] = field(default_factory=Counter)  # 0: the connection broke, or nothing came
    milliseconds: list[float] = field(default_factory=list)  # of those with status 200

    def row(self) -> str:
        """Cells of a table: answers, share with 503, others that failed, p50 and p99 in ms."""
        total = sum(self.statuses.values())
        bad = total - self.statuses[200] - self.statuses[503]
        p50, p99 = np.quantile(self.milliseconds or [0.0], [0.5, 0.99])
        return f"{total:,} | {self.statuses[503] / max(1, total):.1%} | {bad} | {p50:.0f} | {p99:.0f}"


class Client:
    """Plain HTTP over connections that stay open."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self.head = port, f"Host: 127.0.0.1\r\nX-API-Key: {key}\r\n"
        self._free = list[tuple[Reader, Writer]]()

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        """The bytes of a request; body: as JSON."""
        payload = b"" if body is None else json.dumps(body).encode()
        lines = f"{method} {path} HTTP/1.1\r\n{self.head}"
        if body is not None:
            lines += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
        return lines.encode() + b"\r\n" + payload

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, float]:
        """Ask once: the status and the milliseconds. Status 0: no answer."""
        started, request = time.perf_counter(), self.request(method, path, body)
        while True:
            is_new = not self._free
            try:
                async with asyncio.timeout(_PATIENCE):
                    pair = await asyncio.open_connection("127.0.0.1", self.port) if is_new else self._free.pop()
                    status, may_stay = await _exchange(*pair, request)
            except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError):
                if is_new:  # a kept connection may have been closed meanwhile
                    return 0, 0.0
                continue
            if may_stay:
                self._free.append(pair)
            else:
                pair[1].close()
            return status, (time.perf_counter() - started) * 1e3


async def _exchange(reader: Reader, writer: Writer, request: bytes) -> tuple[int, bool]:
    """Send a request and read its answer: the status, and whether the connection stays open."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    await reader.readexactly(next(int(line[15:]) for line in head if line.startswith("content-length:")))
    return int(head[0].split()[1]), "connection: close" not in head


async def open_idle(port: int, count: int) -> list[tuple[Reader, Writer]]:
    """Open connections that ask for nothing."""
    opened, gate = list[tuple[Reader, Writer]](), asyncio.Semaphore(_OPENING)

    async def connect() -> None:
        async with gate:
            with suppress(OSError):
                opened.append(await asyncio.open_connection("127.0.0.1", port))

    await asyncio.gather(*(connect() for _ in range(count)))
    return opened


def count_open(connections: Sequence[tuple[Reader, Writer]]) -> int:
    """How many the service still holds."""
    return sum(not reader.at_eof() for reader, _ in connections)


async def send_slowly(client: Client, request: bytes, until: float) -> None:
    """One byte a second, again and again. until: of time.perf_counter."""
    while time.perf_counter() < until:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", client.port)
            for byte in request:
                if time.perf_counter() > until or writer.is_closing():
                    break
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1)
            writer.close()


async def read_slowly(client: Client, request: bytes, until: float) -> None:
    """Ask for long answers, and read some bytes of them a second."""
    loop, sock = asyncio.get_running_loop(), socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    with sock, suppress(OSError):
        await loop.sock_connect(sock, ("127.0.0.1", client.port))
        await loop.sock_sendall(sock, request * 20)
        while time.perf_counter() < until and await loop.sock_recv(sock, 100):
            await asyncio.sleep(1)


async def send_gigabyte(client: Client, *, is_chunked: bool) -> int:
    """A body of 1 GB: the status of the answer; 0 where the connection was closed before one came."""
    how = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {GIGABYTE}"
    head = f"POST /v1/events HTTP/1.1\r\n{client.head}Content-Type: application/json\r\n{how}\r\n\r\n"
    piece = f"{len(_CHUNK):x}\r\n".encode() + _CHUNK + b"\r\n" if is_chunked else _CHUNK
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)

    async def send() -> None:
        with suppress(OSError):
            writer.write(head.encode())
            for _ in range(GIGABYTE // len(_CHUNK)):
                writer.write(piece)
                await writer.drain()

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(_PATIENCE):
            line = await reader.readline()
        return int(line.split()[1]) if line else 0
    except (OSError, TimeoutError):
        return 0
    finally:
        sending.cancel()
        writer.close()


def filter_bombs() -> list[Any]:
    """Filters that cost much or nest deeply, each a body below 1 MB."""
    condition = {"column": "category", "op": "eq", "value": "Category 1"}
    deep: Any = condition
    for _ in range(400):  # json.dumps goes no deeper
        deep = {"not": deep}
    return [
        {"filter": deep},
        {"filter": {"or": [condition] * 10_000}},
        {"filter": {"column": "brand", "op": "in", "value": [f"Brand {at}" for at in range(50_000)]}},
        {"filter": {"column": "title", "op": "prefix", "value": "I" * 900_000}},
        {"filter": {"and": [{"not": {"column": "title", "op": "ne", "value": f"Item {at}"}} for at in range(64)]}},
        {"rules": {"boost": [{"filter": {"or": [condition] * 60}, "factor": 2}] * 50}},
    ]


async def repeat(ask: Callable[[int], Any], rate: float, until: float) -> None:
    """Call `ask` with 0, 1, … so many times a second, whatever the answers take; waits for the last."""
    began, waiting, number = time.perf_counter(), set[asyncio.Task[Any]](), 0
    while (at := began + number / rate) < until:
        if (ahead := at - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        task = asyncio.create_task(ask(number))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
        number += 1
    await asyncio.gather(*waiting)
