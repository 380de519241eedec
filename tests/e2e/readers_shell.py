"""A shell in which `recsys …` runs in the test's own process, so that no command has to load the libraries again."""

import json
import os
import shlex
import socket
import subprocess
import sys
import threading
from contextlib import chdir
from pathlib import Path
from unittest import mock

from command_line import check_here, run_here

ROOT = Path(__file__).parents[2]
# What would run until it is told to stop is a process of its own: a service goes on until the next one or the script's
# end, a scheduler is told to stop once it says that it is at work. Of make's targets only whether they exist.
PRELUDE = """
set -euo pipefail
trap 'echo "this command failed: $BASH_COMMAND" >&2' ERR
PATH={programs}:$PATH
make() {{ command make -C {root} --dry-run "$@" > /dev/null; }}
serving=
begin() {{
    local words=$1 log; shift
    log=$(mktemp)
    "$@" > "$log" 2>&1 & pid=$!
    until grep -q "$words" "$log"; do kill -0 $pid || {{ cat "$log" >&2; return 1; }}; sleep 0.05; done
}}
end() {{ kill -TERM $1; wait $1 || true; }}
trap '[[ -z $serving ]] || end $serving' EXIT
recsys() {{
    if [[ $1 = serve ]]; then
        [[ -z $serving ]] || end $serving
        begin "Application startup complete" {programs}/recsys "$@"
        serving=$pid
    elif [[ $1 = schedule && ${{2:---}} = --* && $* != *--show* ]]; then
        begin "scheduled for" {programs}/recsys "$@"
        end $pid
    else
        python -S -E -c {client} {address} "$@"
    fi
}}
"""
DOCTOR = "jobs.doctor.report.run_check"
CLIENT = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect(sys.argv[1])
    with asked.makefile("rw") as both:
        environment = {name: value for name, value in os.environ.items() if name.startswith(("RECSYS_", "PYTHONPATH"))}
        print(json.dumps([os.getcwd(), environment, sys.argv[2:]]), file=both, flush=True)
        code, out, err = json.loads(both.readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


def _answer(listening: socket.socket) -> None:
    """Run commands, one after the other, until the socket is closed."""
    while True:
        try:
            asked, _ = listening.accept()
        except OSError:
            return
        with asked, asked.makefile("rw") as both:
            folder, environment, words = json.loads(both.readline())
            search = [str(Path(folder, entry)) for entry in environment.pop("PYTHONPATH", "").split(":") if entry]
            with chdir(folder), mock.patch.object(sys, "path", search + sys.path), mock.patch(DOCTOR, check_here):
                done = run_here(*words, **environment)
            both.write(json.dumps([done.returncode, done.stdout, done.stderr]) + "\n")


def run_script(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run bash commands in a folder, as a reader of the documents would."""
    address = folder / "commands.socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(address))  # an absolute one may be longer than the kernel allows
        listening.listen()
        modules = set(sys.modules)
        thread = threading.Thread(target=_answer, args=(listening,))
        thread.start()
        prelude = PRELUDE.format(
            programs=shlex.quote(str(Path(sys.prefix) / "bin")),
            root=shlex.quote(str(ROOT)),
            client=shlex.quote(CLIENT),
            address=shlex.quote(str(address)),
        )
        try:
            return subprocess.run(
                ["bash", "-c", prelude + text], cwd=folder, capture_output=True, text=True, check=False, timeout=600
            )
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for name in set(sys.modules) - modules:  # a module that a document has its reader write
                if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                    del sys.modules[name]
