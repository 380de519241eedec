"""Start the service as `recsys serve` does, and read what its processes use."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(folder: Path, *, workers: int, core: int | None, key: str = "") -> Iterator[tuple[str, list[int]]]:
    """The service, warm: its address and the processes that answer. core: the only one that it may use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jobs.cli", "serve", "--config", str(folder / "recsys.toml"), "--port", str(port)]
    if core is not None:
        command = ["taskset", "--cpu-list", str(core), *command]
    log = (folder / "serve.log").open("wb")
    process = subprocess.Popen([*command, "--workers", str(workers)], stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(workers):
            _wait(url, key)
        yield url, [process.pid] if workers == 1 else _workers(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def _wait(url: str, key: str) -> None:
    request = urllib.request.Request(f"{url}/v1/users/u0/recommendations", headers={"X-API-Key": key})
    for _ in range(600):
        try:
            with urllib.request.urlopen(request, timeout=30):
                return
        except OSError:
            time.sleep(0.1)
    sys.exit("the service does not answer")


def _workers(parent: int) -> list[int]:
    """The processes that hold the bundle: uvicorn has a helper besides."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if b"index.faiss" in Path(f"/proc/{pid}/maps").read_bytes()]


def processor_seconds(pid: int) -> float:
    """What a process has used so far."""
    used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> tuple[int, int]:
    """Bytes of a process that are its own, and those that it shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}
    return (
        sizes["Private_Clean"] + sizes["Private_Dirty"],
        sizes["Shared_Clean"] + sizes["Shared_Dirty"],
    )
