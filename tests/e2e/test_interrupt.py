"""Ctrl-C ends a command with one line and exit code 1, and what serves or waits cleanly with 0."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from road import parsed


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it, and so would this
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    """As Ctrl-C in a terminal: the whole group gets the signal. Returns exit code and error stream."""
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def read_until(line: str, process: subprocess.Popen[str], *, times: int = 1) -> None:
    """Wait until the process has said it so many times on its error stream."""
    assert process.stderr is not None
    errors = ""
    while errors.count(line) < times:
        errors += (more := process.stderr.readline())
        assert more, errors


def test_training_ends_with_a_line_a_failed_run_and_no_lease(shop: Path, recsys) -> None:
    settings = shop / "recsys.toml"
    settings.write_text(settings.read_text().replace("[models.mf]", "[models.mf]\niterations = 1000000"))
    process = started("train", "--config", settings)
    read_until("done: evaluate popularity", process)  # what comes next takes days
    code, errors = interrupted(process)
    assert (code, errors.splitlines()[-1]) == (1, "failed: interrupted")
    assert "Traceback" not in errors
    [run] = parsed(recsys("runs", "--config", settings, "--json"))
    assert (run["status"], run["error"]) == ("failed", "interrupted")
    settings.write_text(settings.read_text().replace("iterations = 1000000", "iterations = 2"))
    assert parsed(recsys("train", "--config", settings, "--json"))["published"]  # at once: nobody holds the lease


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_service_ends_cleanly(shop: Path, workers: str) -> None:
    process = started(
        "serve",
        "--config",
        shop / "recsys.toml",
        "--port",
        "0" if workers == "1" else free_port(),
        "--workers",
        workers,
    )
    read_until("Application startup complete", process, times=int(workers))
    code, errors = interrupted(process)
    assert code == 0, errors
    assert "Traceback" not in errors


def test_the_schedule_ends_cleanly(shop: Path) -> None:
    settings = shop / "recsys.toml"
    settings.write_text(settings.read_text() + '\n[schedule]\ntrain = "0 2 1 1 *"\n')
    process = started("schedule", "--config", settings)
    read_until("scheduled for", process)
    code, errors = interrupted(process)
    assert code == 0, errors
    assert "Traceback" not in errors


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
