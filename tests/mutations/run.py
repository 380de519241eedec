"""`make mutations`: plants each fault in a copy of the tree and says whether its test finds it.

python tests/mutations/run.py [part of a fault's name]
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from faults import FAULTS, ROOT, Fault

FOUND = 1  # pytest's exit code for tests that failed; others mean that they did not run


def run_tests(tree: Path, *tests: str) -> int:
    """Run tests of a tree; pytest's exit code."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *(f"tests/{test}" for test in tests)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        check=False,
    ).returncode


def is_found(tree: Path, fault: Fault) -> bool:
    """Whether the fault's test fails with the fault."""
    file = fault.file(tree)
    right = file.read_text(encoding="utf-8")
    file.write_text(right.replace(fault.old, fault.new), encoding="utf-8")
    try:
        return run_tests(tree, fault.test) == FOUND
    finally:
        file.write_text(right, encoding="utf-8")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    asked = {name: fault for name, fault in FAULTS.items() if part in name}
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        tree = Path(folder) / "tree"
        for room in ("recsys", "jobs", "api", "migrations", "tests"):
            shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        if run_tests(tree, *sorted({fault.test for fault in asked.values()})) != 0:
            sys.exit("the tests have to pass before a fault is planted")
        missed = []
        for name, fault in asked.items():
            begin = time.monotonic()
            if not is_found(tree, fault):
                missed.append(name)
            found = "MISSED" if name in missed else "found"
            say(f"{found}: {name} ({fault.test.partition('::')[0]}, {time.monotonic() - begin:.0f} s)")
    if missed:
        sys.exit(f"{len(missed)} of {len(asked)} faults were missed")
    say(f"all {len(asked)} faults were found")


if __name__ == "__main__":
    main()
