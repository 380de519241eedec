"""The job of the scheduler's tests, a process of its own: takes the lease, then does what the file `mode` says."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from jobs import ledger
from recsys.config.loading import load_config
from recsys.errors import RefusedError, SourceError
from recsys.store.migrate import open_store


def act(mode: str, folder: Path) -> None:
    if mode.startswith("sleep"):
        time.sleep(float(mode.split()[1]))
    elif mode == "fail":
        raise ValueError("no space left")
    elif mode == "refuse":
        raise RefusedError("the gate refused to publish")
    elif mode == "away":
        raise SourceError("the shop's database does not answer", cause="network")
    elif mode == "eat":
        eaten = bytearray(os.urandom(1_000_000)) * 700
        note(folder, f"ate {len(eaten)}")
        time.sleep(600)
    elif mode == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif mode == "hang":  # with a child, and deaf to SIGTERM, both of them
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        note(folder, f"child {sleeper.pid}")
        time.sleep(600)


def note(folder: Path, line: str) -> None:
    with (folder / "notes").open("a") as file:
        file.write(f"{line}\n")


def main() -> None:
    folder = Path(sys.argv[1])
    mode = (folder / "mode").read_text()
    if mode == "never begin":
        sys.exit(7)
    config = load_config(folder / "recsys.toml")
    store = open_store(config.store.url, config.store.table_prefix)
    with ledger.run(store, "train", config), (folder / "alone").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a second run beside this one would fail here
        note(folder, f"run {os.getpid()}")
        act(mode, folder)
        note(folder, f"end {os.getpid()}")


main()
