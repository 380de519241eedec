"""`recsys doctor`: whether everything is in place.

Each check runs in a process of its own, so that a library that cannot be loaded, or that brings its process down, is a
finding and not the end of the doctor.
"""

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from jobs.output import Output, Report, Table

# name -> a function of the configuration's path that returns (ok, found, what is allowed or how to mend it)
LIBRARIES: dict[str, str] = {
    "python": "jobs.doctor.libraries:check_python",
    "versions": "jobs.doctor.libraries:check_versions",
    "torch": "jobs.doctor.libraries:check_torch",
    "fbgemm_gpu": "jobs.doctor.libraries:check_fbgemm",
    "torchrec": "jobs.doctor.libraries:check_torchrec",
    "builds": "jobs.doctor.libraries:check_builds",
    "faiss": "jobs.doctor.libraries:check_faiss",
    "onnxruntime": "jobs.doctor.libraries:check_onnxruntime",
    "configuration": "jobs.doctor.places:check_configuration",
}
PLACES: dict[str, str] = {  # these ask the configuration
    "models": "jobs.doctor.models:check_models",
    "device": "jobs.doctor.places:check_device",
    "folder": "jobs.doctor.places:check_folder",
    "clock": "jobs.doctor.places:check_clock",
    "store": "jobs.doctor.store:check_store",
    "source": "jobs.doctor.source:check_source",
    "bundle": "jobs.doctor.bundle:check_bundle",
}
SECONDS = 120
_PROGRAM = """
import json, sys
from recsys.imports import resolve
sys.stdout.write("\\n" + json.dumps(resolve(sys.argv[1])(sys.argv[2])))
"""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    name: str
    ok: bool
    found: str
    allowed: str  # or, where something is wrong, how to mend it


def doctor(config: Path, *, report: Report) -> tuple[bool, Output]:
    """Whether everything is in place, and what is to be printed. Changes nothing."""
    findings = examine(config, report)
    ok = all(finding.ok for finding in findings)
    rows = [[f.name, "ok" if f.ok else "WRONG", f.found, f.allowed] for f in findings]
    wrong = [f.name for f in findings if not f.ok]
    summary = "everything is in place" if ok else f"wrong: {', '.join(wrong)}"
    table = Table("doctor", ["check", "", "found", "allowed, or how to mend it"], rows)
    return ok, Output({"ok": ok, "findings": [asdict(f) for f in findings]}, [table, summary])


def examine(config: Path, report: Report) -> list[Finding]:
    """Run the checks, two at a time. Without a valid configuration those that ask it are not run, and say so."""
    findings = list[Finding]()
    with ThreadPoolExecutor(2) as pool:
        for checks in (LIBRARIES, PLACES):
            if findings and not findings[-1].ok:  # the configuration
                findings += [Finding(name, False, "not checked", "a valid configuration first") for name in checks]
                break
            for finding in pool.map(partial(run_check, config=config), checks):
                findings.append(finding)
                report("checks", len(findings) / (len(LIBRARIES) + len(PLACES)))
    report("checks", 1.0)
    return findings


def run_check(name: str, config: Path) -> Finding:
    """Run one check in a process of its own."""
    target = {**LIBRARIES, **PLACES}[name]
    # -P: a file in the current folder must not stand in for a library
    command = [sys.executable, "-P", "-W", "ignore", "-c", _PROGRAM, target, str(config)]
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
