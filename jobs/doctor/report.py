"""`recsys doctor`: run every check and report.

Each check runs in a process of its own, so a library that does not load, or that kills its process, is a finding.
"""

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from jobs.output import Output, Table
from recsys.progress import Progress

SECONDS = 120


@dataclass(frozen=True)
class Check:
    """One check: a function `(path of the configuration) -> Answer`, as a dotted name."""

    target: str
    needs: tuple[str, ...] = ()  # checks that have to pass first; otherwise this one could only repeat their cause


CHECKS: dict[str, Check] = {
    "python": Check("jobs.doctor.libraries:check_python"),
    "versions": Check("jobs.doctor.libraries:check_versions"),
    "torch": Check("jobs.doctor.libraries:check_torch", needs=("versions",)),
    "fbgemm_gpu": Check("jobs.doctor.libraries:check_fbgemm", needs=("torch",)),
    "torchrec": Check("jobs.doctor.libraries:check_torchrec", needs=("fbgemm_gpu",)),
    "builds": Check("jobs.doctor.libraries:check_builds", needs=("versions",)),
    "faiss": Check("jobs.doctor.libraries:check_faiss"),
    "onnxruntime": Check("jobs.doctor.libraries:check_onnxruntime"),
    "configuration": Check("jobs.doctor.configuration:check_configuration"),
    "models": Check("jobs.doctor.models:check_models", needs=("configuration", "torchrec", "faiss", "onnxruntime")),
    "device": Check("jobs.doctor.machine:check_device", needs=("configuration", "torch")),
    "folder": Check("jobs.doctor.machine:check_folder", needs=("configuration",)),
    "clock": Check("jobs.doctor.machine:check_clock", needs=("configuration",)),
    "store": Check("jobs.doctor.store:check_store", needs=("configuration",)),
    "source": Check("jobs.doctor.source:check_source", needs=("configuration",)),
    "bundle": Check("jobs.doctor.bundle:check_bundle", needs=("configuration", "folder", "faiss", "onnxruntime")),
}
_PROGRAM = """
import json, sys
from recsys.imports import resolve
sys.stdout.write("\\n" + json.dumps(resolve(sys.argv[1])(sys.argv[2])))
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
    """Run the checks, two at a time. A check that needs one that did not pass is not made."""
    findings = dict[str, Finding]()
    with ThreadPoolExecutor(2) as pool:
        while len(findings) < len(CHECKS):
            ready = [name for name in CHECKS if name not in findings and findings.keys() >= {*CHECKS[name].needs}]
            for finding in pool.map(partial(_check_after, dict(findings), config), ready):
                findings[finding.name] = finding
                progress("checks", len(findings) / len(CHECKS))
    return [findings[name] for name in CHECKS]


def _check_after(earlier: dict[str, Finding], config: Path, name: str) -> Finding:
    if causes := _causes(earlier, name):
        return Finding(name, None, "not checked", f"first: {', '.join(causes)}")
    return run_check(name, config)


def _causes(earlier: dict[str, Finding], name: str) -> list[str]:
    """The wrong checks because of which a check is not made."""
    found = list[str]()
    for needed in CHECKS[name].needs:
        ok = earlier[needed].ok
        found += [needed] if ok is False else _causes(earlier, needed) if ok is None else []
    return list(dict.fromkeys(found))


def run_check(name: str, config: Path) -> Finding:
    """Run one check in a process of its own."""
    # -P: a file in the current folder must not stand in for a library
    command = [sys.executable, "-P", "-W", "ignore", "-c", _PROGRAM, CHECKS[name].target, str(config)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return Finding(name, False, f"no answer within {SECONDS} s", "an answer")
    if done.returncode < 0:
        return Finding(name, False, f"its process died of {signal.Signals(-done.returncode).name}", "to load and run")
    if done.returncode:
        return Finding(name, False, done.stderr.strip().rpartition("\n")[2], "to load and run")
    ok, found, allowed = json.loads(done.stdout.rpartition("\n")[2])
    return Finding(name, ok, found, allowed)
