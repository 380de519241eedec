"""Ask the service at a fixed rate, whatever it answers: what it does at 80 % and at 150 % of its capacity."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

CONNECTIONS = 8  # that measure the capacity: each asks again when it has its answer
MOST_CONNECTIONS = 400  # open at a time when the rate is fixed


@dataclass
class Answers:
    """What came back within some seconds."""

    seconds: float
    statuses: Counter[int] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)  # of those with status 200
    refused: list[float] = field(default_factory=list)  # and of those with 503

    @property
    def per_second(self) -> float:
        """Answers with status 200."""
        return self.statuses[200] / self.seconds

    def row(self, name: str) -> str:
        """A line of a table."""
        p50, p99 = np.quantile(self.milliseconds or [0.0], [0.5, 0.99])
        early = f"{np.quantile(self.refused, 0.5):.1f}" if self.refused else ""
        share = self.statuses[503] / max(1, sum(self.statuses.values()))
        return f"| {name} | {self.per_second:.0f} | {p50:.1f} | {p99:.1f} | {share:.2%} | {early} |"


def measure(port: int, key: str, users: int, seconds: float) -> list[str]:
    """Lines of a table: capacity, and what happens at 80 % and 150 % of it."""
    capacity = asyncio.run(_closed(port, key, users, seconds))
    lines = [capacity.row(f"{CONNECTIONS} connections, as fast as they can")]
    for share in (0.8, 1.5):
        rate = share * capacity.per_second
        lines.append(
            asyncio.run(_open(port, key, users, seconds, rate)).row(f"{share:.0%} of that, {rate:.0f} a second")
        )
    return lines


class _Client:
    def __init__(self, port: int, key: str) -> None:
        self._port, self._head = port, f"Host: 127.0.0.1\r\nX-API-Key: {key}\r\n\r\n"
        self._free = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()

    async def ask(self, path: str, answers: Answers) -> None:
        """Ask once, over a connection that is free or a new one."""
        started = time.perf_counter()
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"GET {path} HTTP/1.1\r\n{self._head}".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        await reader.readexactly(next(int(line[15:]) for line in lines if line.startswith("content-length:")))
        status = int(lines[0].split()[1])
        answers.statuses[status] += 1
        times = answers.milliseconds if status == 200 else answers.refused
        times.append((time.perf_counter() - started) * 1e3)
        self._free.append((reader, writer))


def _path(number: int, users: int) -> str:
    return f"/v1/users/u{number * 48271 % users}/recommendations?k=20"


async def _closed(port: int, key: str, users: int, seconds: float) -> Answers:
    answers, client, end = Answers(seconds), _Client(port, key), time.perf_counter() + seconds

    async def ask(first: int) -> None:
        number = first
        while time.perf_counter() < end:
            await client.ask(_path(number, users), answers)
            number += CONNECTIONS

    await asyncio.gather(*map(ask, range(CONNECTIONS)))
    return answers


async def _open(port: int, key: str, users: int, seconds: float, rate: float) -> Answers:
    answers, client, limit = Answers(seconds), _Client(port, key), asyncio.Semaphore(MOST_CONNECTIONS)
    began, waiting = time.perf_counter(), set[asyncio.Task[None]]()

    async def ask(number: int) -> None:
        async with limit:
            await client.ask(_path(number, users), answers)

    for number in range(int(rate * seconds)):
        if (ahead := began + number / rate - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        task = asyncio.create_task(ask(number))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
    await asyncio.gather(*waiting)
    answers.seconds = time.perf_counter() - began
    return answers
