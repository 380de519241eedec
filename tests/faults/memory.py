"""A big job under a limit of memory: it is refused or takes a smaller path, and the ledger says so."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shop import Row, Shop, lost_between, said
from test_databases import QUICK

LIMITS = (3.0, 4.0, 6.0)  # GB of address space; the libraries alone map more than 1.5


def limited(shop: Shop, asked: Any) -> Iterator[Row]:
    """Under RLIMIT_AS, as `ulimit -v` sets it: what it does not grant, the kernel refuses and kills nothing for."""
    if shop.kind != "sqlite":
        return
    big = BigShop(shop.folder / "big", asked.events)
    before = shop.good
    for gigabytes in LIMITS:
        start = time.monotonic()
        done = big.train(f"--as={round(gigabytes * 1e9)}")
        seconds = time.monotonic() - start
        assert done.returncode in (0, 1, 3), (done.returncode, done.stderr)
        ended = "published" if done.returncode == 0 else said(done)
        after = shop.state()
        note = f"ended after {seconds:.0f} s; ledger: {big.ledger()}"
        fault = f"{asked.events:,} events in {gigabytes:g} GB (ulimit -v)"
        yield Row(fault, ended, before, after, lost_between(before, after), seconds, note)


class BigShop:
    """A sample shop of many events."""

    def __init__(self, folder: Path, events: int) -> None:
        self.settings = folder / "recsys.toml"
        run("sample", folder, f"--events={events}", f"--users={events // 25}", "--items=3000")
        self.settings.write_text(self.settings.read_text() + QUICK + '[training]\nmodels = ["mf"]\n')

    def train(self, limit: str) -> subprocess.CompletedProcess[str]:
        command = ["prlimit", limit, sys.executable, "-m", "jobs.cli", "train", "--full", "--config", self.settings]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def ledger(self) -> str:
        """Status and error of the newest run."""
        shown = run("runs", "--config", self.settings)
        return re.sub(r"\s+", " ", shown.stdout.splitlines()[3] if len(shown.stdout.splitlines()) > 3 else "no run")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True)
