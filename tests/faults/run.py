"""`make faults`: let happen to real nights what happens to nights, and print what was lost and for how long.

    python tests/faults/run.py [--databases sqlite,postgresql,mariadb] [--random 100] [--only NAME] [--events 1000000]

Each row: the fault, the signal or error, and the state before and after as a new process sees it: the live bundle, a
digest of the answers to three users, the newest row of the ledger. `again` is the time of the night that made all good;
before it can begin, the lease of a dead night has to expire, which takes at most 60 seconds and is skipped here.
A fault that leaves more behind than it may, or after which a night does not publish, is FAILED; then exit code 1.
"""

import argparse
import importlib
import os
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
SHARED = (TESTS, TESTS / "integration", TESTS / "integration/jobs", TESTS / "integration/source", TESTS / "e2e")
sys.path[:0] = [str(folder) for folder in (TESTS.parent, *SHARED, TESTS / "property", Path(__file__).parent)]
os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
os.environ.setdefault("OMP_NUM_THREADS", "1")

FAULTS = {  # name -> function, as module:name; in this order
    "kills at named points": "kills:at_points",
    "kills at random": "kills:at_random",
    "source, servers": "away:servers_away",
    "source, any": "away:any_database",
    "full disk": "disk:full",
    "flipped bits": "disk:flipped_bits",
    "folder deleted": "disk:folder_deleted",
    "schedulers": "schedulers:killed",
    "clock": "schedulers:clock_moves",
    "summer time": "schedulers:summer_time",
    "memory": "memory:limited",
}


def main() -> None:
    asked = arguments()
    databases = importlib.import_module("databases").Databases()
    is_good = True
    say(f"{' '.join(['make faults:', *sys.argv[1:]])}; {os.cpu_count()} cores, random seed {asked.seed}\n")
    say("| database | fault | signal or error | before | after | lost | again s | note |")
    say("|---|---|---|---|---|---|---|---|")
    for kind in asked.databases.split(","):
        with (
            tempfile.TemporaryDirectory(prefix="recsys-faults-") as folder,
            importlib.import_module("shop").database(kind, Path(folder), databases) as (url, server),
        ):
            shop = importlib.import_module("shop").Shop(kind, Path(folder), url, server)
            try:
                for name, target in FAULTS.items():
                    if any(part in name for part in asked.only.split(",")):
                        is_good &= happen(name, target, shop, asked)
            finally:
                shop.close()
    databases.close()
    sys.exit(not is_good)


def happen(name: str, target: str, shop: Any, asked: argparse.Namespace) -> bool:
    """Let a fault happen and print its rows; return whether everything is as it has to be."""
    module, function = target.split(":")
    start = time.monotonic()
    is_good = True
    try:
        for row in getattr(importlib.import_module(module), function)(shop, asked):
            is_good &= row.lost == "nothing"
            lost = row.lost if row.lost == "nothing" else f"FAILED: {row.lost}"
            cells = (shop.kind, row.fault, row.done, row.before, row.after, lost, f"{row.seconds:.1f}", row.note)
            say("| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |")
    except Exception:
        traceback.print_exc()
        say(f"| {shop.kind} | {name} | FAILED after {time.monotonic() - start:.0f} s |")
        return False
    return is_good


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--databases", default="sqlite,postgresql,mariadb")
    parser.add_argument("--random", type=int, default=100, help="kills at random, on each database")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--only", default="", help=f"parts of names: {', '.join(FAULTS)}")
    parser.add_argument("--events", type=int, default=1_000_000, help="of the big job")
    return parser.parse_args()


if __name__ == "__main__":
    main()
