"""Fuzz the HTTP API with valid and invalid requests: `make fuzz`, or `python -m benchmarks.fuzz --seconds 300`.

A small shop is generated, trained and served by `recsys serve` with a key. schemathesis reads its /openapi.json and
sends requests, valid and invalid, for the given time. Its pinned version is installed in a folder of its own and does
not change the project's environment. Exits with 1 when an answer is a 5xx or differs from /openapi.json, and when the
service logs an error.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from benchmarks.serving import serving

VERSION = "4.32.5"
# Settings of the command line would win over those of single operations.
SETTINGS = """
# What columns, kinds of events and times there are is known to the service, not to the document, so a request that the
# document allows may be answered with 422.
[checks.positive_data_acceptance]
enabled = false

[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 413, 415, 422, 431]

# A wrong question of a batch has its error among the answers to the others.
[[operations]]
include-path = "/v1/batch"
checks.negative_data_rejection.expected-statuses = [200, 400, 401, 403, 413, 415, 422, 431]

# The history of a placement outlives it, and a definition may be previewed before there is one.
[[operations]]
include-path = "/v1/placements/{name}/history"
checks.use_after_free.enabled = false

[[operations]]
include-path = "/v1/placements/{name}/preview"
checks.use_after_free.enabled = false
"""


def main() -> None:
    """Run it and end with its code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recsys-fuzz-") as name:
        folder = Path(name)
        tool = install(folder / "tool")
        shop = folder / "shop"
        recsys(["sample", str(shop), "--users", "600", "--items", "200", "--events", "12000"])
        with (shop / "recsys.toml").open("a") as file:
            file.write('\n[training]\nmodels = ["mf"]\n')
        settings = ["--config", str(shop / "recsys.toml")]
        recsys(["train", *settings])
        key = json.loads(recsys(["key", "create", "fuzz", "--scope", "admin", "--json", *settings]))["key"]
        (folder / "schemathesis.toml").write_text(SETTINGS)
        with serving(shop, workers=2, core=None, key=key) as (url, _):
            command = [str(tool), "--config-file", str(folder / "schemathesis.toml"), "run", f"{url}/openapi.json"]
            command += ["--max-time", str(arguments.seconds), "--continue-on-failure", "--no-color"]
            command += ["--header", f"Authorization: Bearer {key}"]
            command += [] if arguments.seed is None else ["--seed", str(arguments.seed)]
            code = subprocess.run(command, check=False, cwd=folder).returncode
        errors = [line for line in (shop / "serve.log").read_text().splitlines() if " ERROR " in line]
    print(f"errors in the log of the service: {len(errors)}", *errors[:20], sep="\n")
    sys.exit(1 if code or errors else 0)


def install(place: Path) -> Path:
    """schemathesis in an environment of its own; returns its command."""
    venv.create(place, with_pip=True)
    subprocess.run([place / "bin" / "pip", "install", "--quiet", f"schemathesis=={VERSION}"], check=True)
    return place / "bin" / "schemathesis"


def recsys(arguments: list[str]) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "jobs.cli", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
