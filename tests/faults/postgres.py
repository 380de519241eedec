"""PostgreSQL servers of the faults' own: each can be killed and started again, and followed by a second one."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

CLERK, PASSWORD = "clerk", "right"  # an account that needs its password; root of this machine needs none
ACCESS = f"host all {CLERK} 127.0.0.1/32 scram-sha-256\nhost all,replication all 127.0.0.1/32 trust\n"


@dataclass(frozen=True)
class Server:
    """A server on the loopback, whose files lie in a folder of its own."""

    programs: Path
    folder: Path
    port: int

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='{self.folder}'"
        self.run("pg_ctl", "--wait", f"--log={self.folder / 'log'}", f"--options={options}", "start")

    def kill(self) -> None:
        """As a machine that goes out: nothing is written any more."""
        self.run("pg_ctl", "--mode=immediate", "stop")

    def restart(self) -> None:
        self.kill()
        self.start()

    def promote(self) -> None:
        """Make the second server the first."""
        self.run("pg_ctl", "--wait", "promote")

    def run(self, program: str, *words: str) -> None:
        command = [str(self.programs / program), f"--pgdata={self.folder / 'data'}", *words]
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]
        with (self.folder / "said").open("w+") as said:  # a pipe would stay open as long as the server
            code = subprocess.call(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            said.seek(0)
            assert code == 0, said.read()

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement in the database `postgres`, outside of any transaction."""
        with psycopg.connect(f"postgresql://root@127.0.0.1:{self.port}/postgres", autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def wait_for_follower(self) -> None:
        """Until the second server has every change."""
        behind = "SELECT 1 FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()"
        limit = time.monotonic() + 60
        while not self.execute(behind):
            assert time.monotonic() < limit
            time.sleep(0.05)


def found_programs() -> Path | None:
    """The folder with initdb and pg_ctl of the newest version; None where PostgreSQL's server is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def new_server(folder: Path) -> Iterator[Server]:
    """A running server with nothing in it."""
    server = _placed(folder)
    server.run("initdb", "--username=root", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8")
    (folder / "data/pg_hba.conf").write_text(ACCESS)
    with _running(server):
        yield server


@contextmanager
def following(first: Server, folder: Path) -> Iterator[Server]:
    """A second server that follows the first one, and can take over."""
    second = _placed(folder)
    where = ("--host=127.0.0.1", f"--port={first.port}", "--username=root")
    second.run("pg_basebackup", *where, "--write-recovery-conf", "--checkpoint=fast")
    with _running(second):
        yield second


def _placed(folder: Path) -> Server:
    programs = found_programs()
    assert programs is not None
    folder.mkdir()
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        folder.parent.chmod(0o711)  # a temporary folder is closed to others
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return Server(programs, folder, free.getsockname()[1])


@contextmanager
def _running(server: Server) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        if (server.folder / "data/postmaster.pid").exists():
            server.kill()
