"""`recsys doctor`: run every check and report.

The checks run in a process of their own, one after the other. A library that does not load, or that kills its process,
is a finding; the checks that are left go on in a new process.
"""

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from jobs.doctor.answer import Answer
from jobs.output import Output, Table
from recsys.progress import Progress

SECONDS = 120


@dataclass(frozen=True)
class Check:
    """One check: a function `(path of the configuration) -> Answer`, as a dotted name."""

    target: str
    needs: tuple[str, ...] = ()  # checks that have to pass first; otherwise this one could only repeat their cause


CHECKS: dict[str, Check] = {  # in the order in which they run
    "python": Check("jobs.doctor.libraries:check_python"),
    "names": Check("jobs.doctor.names:check_names"),
    "versions": Check("jobs.doctor.libraries:check_versions"),
    "torch": Check("jobs.doctor.libraries:check_torch", needs=("versions",)),
    "fbgemm_gpu": Check("jobs.doctor.libraries:check_fbgemm", needs=("torch",)),
    "torchrec": Check("jobs.doctor.libraries:check_torchrec", needs=("fbgemm_gpu",)),
    "builds": Check("jobs.doctor.libraries:check_builds", needs=("versions",)),
    "optuna": Check("jobs.doctor.libraries:check_optuna"),
    "faiss": Check("jobs.doctor.libraries:check_faiss"),
    "onnxruntime": Check("jobs.doctor.libraries:check_onnxruntime"),
    "configuration": Check("jobs.doctor.configuration:check_configuration"),
    "models": Check("jobs.doctor.models:check_models", needs=("configuration", "torchrec", "faiss", "onnxruntime")),
    "device": Check("jobs.doctor.machine:check_device", needs=("configuration", "torch")),
    "folder": Check("jobs.doctor.machine:check_folder", needs=("configuration",)),
    "clock": Check("jobs.doctor.machine:check_clock", needs=("configuration",)),
    "store": Check("jobs.doctor.store:check_store", needs=("configuration",)),
    "source": Check("jobs.doctor.source:check_source", needs=("configuration",)),
    "shop": Check("jobs.doctor.store:check_owner", needs=("configuration", "folder", "store")),
    "reader": Check("jobs.doctor.source:check_account", needs=("configuration", "source")),
    "extract": Check("jobs.doctor.night:check_extract", needs=("configuration", "folder")),
    "needs": Check("jobs.doctor.night:check_needs", needs=("configuration", "folder")),
    "alerts": Check("jobs.doctor.night:check_alerts", needs=("configuration",)),
    "port": Check("jobs.doctor.night:check_ports", needs=("configuration",)),
    "bundle": Check("jobs.doctor.bundle:check_bundle", needs=("configuration", "folder", "faiss", "onnxruntime")),
}
# Reads the name of a check a line and writes its answer; what a library prints goes to the error stream.
_PROGRAM = """
import json, os, sys
from recsys.imports import resolve
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for target in sys.stdin:
    answers.write(json.dumps(resolve(target.strip())(sys.argv[1])) + "\\n")
    answers.flush()
"""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    name: str
    ok: bool | None  # None: not checked
    found: str
    allowed: str  # or, where something is wrong, how to mend it


def doctor(config: Path, *, progress: Progress) -> tuple[bool, Output]:
    """Run every check. Returns whether everything is in place, and what to print. Changes nothing."""
    findings = examine(config, progress)
    ok = all(finding.ok for finding in findings)
    states = {True: "ok", False: "WRONG", None: "not checked"}
    rows = [[f.name, states[f.ok], f.found, f.allowed] for f in findings]
    summary = [
        f"{state}: {', '.join(names)}"
        for state, names in (
            ("wrong", [f.name for f in findings if f.ok is False]),
            ("not checked", [f.name for f in findings if f.ok is None]),
        )
        if names
    ]
    table = Table("doctor", ["check", "", "found", "allowed, or how to mend it"], rows)
    data = {"ok": ok, "findings": [asdict(finding) for finding in findings]}
    return ok, Output(data, [table, "; ".join(summary) or "everything is in place"])


def examine(config: Path, progress: Progress) -> list[Finding]:
    """Run the checks. A check that needs one that did not pass is not made."""
    findings = dict[str, Finding]()
    process = _Process(config)
    try:
        for name, check in CHECKS.items():
            if causes := _causes(findings, name):
                findings[name] = Finding(name, None, "not checked", f"first: {', '.join(causes)}")
            else:
                findings[name] = Finding(name, *process.answer(check.target))
            if findings[name].ok is False:  # what it has left behind, half-loaded modules say, is not for the next
                process.end()
                process = _Process(config)
            progress("checks", len(findings) / len(CHECKS))
    finally:
        process.end()
    return list(findings.values())


def _causes(earlier: dict[str, Finding], name: str) -> list[str]:
    """The wrong checks because of which a check is not made."""
    found = list[str]()
    for needed in CHECKS[name].needs:
        ok = earlier[needed].ok
        found += [needed] if ok is False else _causes(earlier, needed) if ok is None else []
    return list(dict.fromkeys(found))


class _Process:
    """Answers checks until it is ended, or dies of one."""

    def __init__(self, config: Path) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - `end` closes it
        # -P: a file in the current folder must not stand in for a library
        command = [sys.executable, "-P", "-W", "ignore", "-c", _PROGRAM, str(config)]
        self._process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def answer(self, target: str) -> Answer:
        """Run one check; one that ends its process, or does not return in time, is answered for."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        begin = time.monotonic()
        limit = threading.Timer(SECONDS, self._process.kill)
        limit.start()
        try:
            self._process.stdin.write(f"{target}\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            limit.cancel()
        if line:
            ok, found, allowed = json.loads(line)
            return ok, found, allowed
        code = self._process.wait()
        if time.monotonic() - begin >= SECONDS:
            return False, f"no answer within {SECONDS} s", "an answer"
        if code < 0:
            return False, f"its process died of {signal.Signals(-code).name}", "to load and run"
        self._errors.seek(0)
        return False, self._errors.read().strip().rpartition("\n")[2], "to load and run"

    def end(self) -> None:
        """End the process and close its pipes."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def run_check(name: str, config: Path) -> Finding:
    """Run one check in a process of its own."""
    process = _Process(config)
    try:
        return Finding(name, *process.answer(CHECKS[name].target))
    finally:
        process.end()
