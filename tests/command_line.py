"""The command line, in this process or as a process of its own: exit code and both streams, either way."""

import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest import mock

from jobs import cli
from jobs.doctor.report import CHECKS, Finding
from recsys.imports import resolve


def run_here(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in this process: no interpreter has to start and no library to be loaded."""
    words = ["recsys", *map(str, arguments)]
    out, err, code = StringIO(), StringIO(), 0
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(sys, "argv", words),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def run_apart(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as an operator does: for what only a process of its own shows, as an end by a signal."""
    return subprocess.run(
        [sys.executable, "-m", "jobs.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=300,
    )


def check_here(name: str, config: Path) -> Finding:
    """A check of the doctor, in this process: that each has one of its own is tested where the doctor is."""
    return Finding(name, *resolve(CHECKS[name].target)(str(config)))
