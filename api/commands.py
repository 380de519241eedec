"""Commands of `recsys campaign` for requests that draw, read or measure: each is a process of its own.

It takes the memory and the minutes that a request must not take from the others, holds the same lease as a command that
a person starts, and leaves the same row in the ledger.
"""

import json
import os
import subprocess
import sys
from typing import Any

from api.problems import ProblemError

_MINUTES = 15


def run_apart(words: list[str], text: str | None = None) -> tuple[int, str, str]:
    """Run `recsys WORDS` on the configuration of this service; return exit code, output and errors. text: its input."""
    done = subprocess.run(  # noqa: S603  names and times, each behind its option
        [sys.executable, "-m", "jobs.cli", *words],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "RECSYS_CONFIG": os.environ.get("RECSYS_CONFIG", "recsys.toml")},
        timeout=60 * _MINUTES,
    )
    return done.returncode, done.stdout, done.stderr


def run_campaign(words: list[str], *, by: str | None = None, text: str | None = None) -> dict[str, Any]:
    """Run `recsys campaign WORDS` and return what it says. by: who asks, where it is written down.

    Raises ProblemError: 409 while another campaign is being drawn, 422 when the command refuses, 500 when it fails.
    """
    actor = [] if by is None else [f"--by={by}"]
    code, out, errors = run_apart(["campaign", *words, *actor, "--json"], text)
    if code == 0:
        answer: dict[str, Any] = json.loads(out)
        return answer
    last = (errors.strip().splitlines() or [""])[-1].partition(": ")[2]
    if code == 4:
        raise ProblemError(409, "busy", last)
    if code in (2, 3):
        raise ProblemError(422, "invalid_request", last)
    raise ProblemError(500, "failed", "The command failed; the ledger and the log say why.")
