"""Measure how fast files are read, and in how much memory.

    python -m benchmarks.read_files [--rows 1000000] [--rounds 3] [--forms csv jsonl]

Writes events (text ids, kind, time, value) in each form and reads them back as columns, each time in a process of its
own. The fastest round counts. The memory is that of the process, of which libraries take some 120 MiB.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from benchmarks.memory import peak_gib
from benchmarks.read import make_events
from recsys.source.files import read_files

FORMS = ("csv", "csv.gz", "jsonl", "json", "parquet")


def main() -> None:
    """Write each form, read it in turns, print a table."""
    arguments = _arguments()
    if arguments.read:
        started = time.perf_counter()
        rows = read_files([arguments.read]).rows.height
        print(json.dumps([rows, time.perf_counter() - started, peak_gib() * 1024]))
        return
    print("| file | size | rows/s | peak memory |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for form in arguments.forms:
            path = Path(folder) / f"events.{form}"
            _write(make_events(arguments.rows), path)
            command = [sys.executable, "-m", "benchmarks.read_files", "--read", str(path)]
            rounds = [
                json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                for _ in range(arguments.rounds)
            ]
            rows, seconds, peak = min(rounds, key=lambda found: float(found[1]))
            size = path.stat().st_size / 2**20
            print(f"| .{form} | {size:.0f} MiB | {rows / seconds / 1e6:.2f} M | {peak:.0f} MiB |", flush=True)
            path.unlink()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--read", type=Path, metavar="FILE", help="one reading, in this process")
    return parser.parse_args()


def _write(events: pl.DataFrame, path: Path) -> None:
    if path.suffix == ".parquet":
        events.write_parquet(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(events.to_dicts()))
    elif path.suffix == ".jsonl":
        events.write_ndjson(path)
    else:
        text = events.write_csv().encode()
        path.write_bytes(gzip.compress(text, 6) if path.suffix == ".gz" else text)


if __name__ == "__main__":
    main()
