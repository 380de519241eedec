"""Measure time and memory of reading, training, indexing and publishing as a shop grows, on one machine.

    python -m benchmarks.scale [--events 5000000 10000000 20000000] [--models mf two_tower sequence] [--folder DIR]
    python -m benchmarks.scale --night 30 --events 20000000 --models two_tower sequence auto

Writes a generated shop of each size to a SQLite file (kept in DIR, if given), with one user for 20 events and one item
for 100. Each model then runs in its own process, for its own peak memory: `mf` the whole fit at fixed settings
(D = 256), the deep models one epoch with D = 64 and 1,024 sampled negatives. A whole training run fits three times and
holds its candidates in memory: `--night MINUTES` measures that, as `recsys train` with default settings except for the
budget, evaluates the model on the last 28 days, and prints the steps of each night as its ledger has them. The peak of
a step is the largest memory that the process has had until the step's end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import scale_shop
from benchmarks.memory import peak_gib
from jobs.output import progress
from jobs.train import train
from recsys.bundle import bundle, versions
from recsys.config.settings import Config, SequenceSettings, TwoTowerSettings
from recsys.data import extract
from recsys.errors import RefusedError
from recsys.models.budget import Budget
from recsys.models.contract import fit
from recsys.source.dataset import load
from recsys.store.migrate import open_store
from recsys.store.runs import list_runs
from recsys.training.pipeline import data_for

_NOW = (scale_shop.START + scale_shop.DAYS * 86_400) * 1_000_000  # microseconds: the end of the last day
_JUDGED = ("auto", "popularity")
STEPS = ("read", "train", "index", "publish")
_DAYS = {"half_life_days": 90.0, "recency_half_life_days": 10.0}
_FIXED = {"dim", "max_events_per_epoch", "batch_size", "negatives", "learning_rate"}
_FIXED |= {"length", "blocks", "dropout", "full_softmax_items"}
_TOWER = {"dim": 64, "negatives": 1024, "max_events_per_epoch": 10**9}  # one pass is over all events
SETTINGS: dict[str, dict[str, Any]] = {
    "mf": {
        **_DAYS,
        **{"n_factors": 256, "iterations": 6, "kind_exponent": 1.0, "recency_exponent": 0.3},
        **{"user_exponent": 0.5, "item_exponent": 0.4, "popularity_exponent": 0.2, "singular_exponent": 0.25},
    },
    "two_tower": {
        **TwoTowerSettings(**_TOWER).model_dump(include=_FIXED),
        **_DAYS,
        **{"temperature": 0.1, "normalize_items": True, "trend_weight": 0.25, "epochs": 1},
    },
    "sequence": {
        **SequenceSettings(**_TOWER, full_softmax_items=0).model_dump(include=_FIXED),
        **{"temperature": 0.07, "trend_weight": 0.25, "recency_half_life_days": 10.0, "epochs": 1},
    },
}


def main() -> None:
    """Generate, measure each model at each size in a process of its own, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[5_000_000, 10_000_000, 20_000_000])
    parser.add_argument("--models", choices=[*SETTINGS, "auto"], nargs="+", default=list(SETTINGS))
    parser.add_argument("--night", type=float, metavar="MINUTES", help="whole nights within this budget")
    parser.add_argument("--folder", type=Path, help="where the shops are kept for the next time")
    parser.add_argument("--measure", metavar="MODEL", help="one model on the shop of --folder, in this process")
    arguments = parser.parse_args()
    if "auto" in arguments.models and not arguments.night:
        parser.error("auto has no fixed settings: it is for --night")
    if arguments.measure:
        asked = arguments.measure, arguments.folder, arguments.events[0]
        print(json.dumps(night(*asked, arguments.night) if arguments.night else measure(*asked)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for events in arguments.events:
            started = time.perf_counter()
            if not shop(folder, events).exists():
                scale_shop.write(shop(folder, events), events, seed=0)
                print(f"{events:,} events written in {time.perf_counter() - started:.0f} s", flush=True)
        print(f"{torch.get_num_threads()} threads")
        if arguments.night:
            _nights(arguments.models, folder, sorted(arguments.events), arguments.night)
        else:
            _steps(arguments.models, folder, sorted(arguments.events))


def shop(folder: Path, events: int) -> Path:
    """The SQLite file of a size."""
    return folder / f"shop-{events}.db"


def _steps(models: list[str], folder: Path, sizes: list[int]) -> None:
    print("seconds (times of the size before), peak memory")
    _row("model", "events", *STEPS, "all", "peak")
    _row(*["---"] * (len(STEPS) + 4))
    for model in models:
        before: dict[str, float] = {}
        for events in sizes:
            found = _in_a_process(model, folder, events)
            cells = [
                f"{found[step]:.1f}" + (f" ({found[step] / before[step]:.2f})" if before else "")
                for step in (*STEPS, "all")
            ]
            _row(f"`{model}`", f"{events:,}", *cells, f"{found['GiB']:.2f} GiB")
            before = found


def _nights(models: list[str], folder: Path, sizes: list[int], minutes: float) -> None:
    nights = {}
    _row("model", "events", "seconds", "peak", "recall@20 / ndcg@20", "popularity", "stopped", "parts")
    _row(*["---"] * 8)
    for model in models:
        for events in sizes:
            found = _in_a_process(model, folder, events, "--night", str(minutes))
            nights[model, events] = found["steps"]
            accuracy = [" / ".join(f"{found[of][name]:.4f}" for name in ("recall@20", "ndcg@20")) for of in _JUDGED]
            cells = [f"{events:,}", f"{found['seconds']:.0f}", f"{found['GiB']:.2f} GiB", *accuracy]
            _row(f"`{model}`", *cells, found["stopped"], found["parts"])
    for (model, events), steps in nights.items():
        print(f"\nsteps of `{model}`, {events:,} events")
        _row("step", "seconds", "peak")
        _row(*["---"] * 3)
        for step in steps:
            _row(step["name"], f"{step['seconds']:.1f}", f"{step['counts']['peak_mb'] / 1000:.2f} GB")


def _row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def _in_a_process(model: str, folder: Path, events: int, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale", "--measure", model, "--folder", str(folder), *options]
    done = subprocess.run([*command, "--events", str(events)], check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _config(folder: Path, events: int, place: str, **tables: Any) -> Config:
    """Of a shop whose own files are in `place`."""
    return Config.model_validate(
        {
            "store": {"url": f"sqlite:///{place}/recsys.db"},
            "storage": {"path": place},
            "source": {"url": f"sqlite:///{shop(folder, events)}", **scale_shop.QUERIES},
            **tables,
        }
    )


def night(model: str, folder: Path, events: int, minutes: float) -> dict[str, Any]:
    """What a night of `recsys train` comes to: seconds, peak memory in GiB, accuracy on the last 28 days."""
    models = {} if model == "auto" else {"auto": {"candidates": [model]}}
    with tempfile.TemporaryDirectory() as place:
        config = _config(folder, events, place, training={"budget_minutes": minutes}, models=models)
        started = time.perf_counter()
        try:
            with progress() as report:
                told = train(config, progress=report, now=_NOW).data
        except RefusedError as error:  # by the gate, as after any night
            sys.exit(str(error))
        seconds = time.perf_counter() - started
        with closing(open_store(config.store.url)) as store:
            steps = list_runs(store, 1)[0].steps
        chosen = bundle.load(config.storage.path).vectors.settings
    judged = {name: told["models"][name]["all"] for name in _JUDGED}
    parts = [f"{part['weight']:g} x {part['model']} {_epochs(part['settings'])}" for part in chosen["parts"]]
    stopped = "; ".join(f"{name}: {why}" for name, why in chosen["skipped"].items())
    costs = {"seconds": seconds, "GiB": peak_gib(), "steps": steps}
    return {**costs, "stopped": stopped, "parts": ", ".join(parts), **judged}


def _epochs(settings: dict[str, Any]) -> str:
    return f"after {settings['epochs']} epochs" if "epochs" in settings else ""


def measure(model: str, folder: Path, events: int) -> dict[str, float]:
    """Seconds of each step, of all, and the peak memory in GiB."""
    seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - started

    with tempfile.TemporaryDirectory() as place:
        config = _config(folder, events, place)
        store = open_store(config.store.url)
        with step("read"):
            loaded = load(config, store, now=_NOW, progress=lambda _step, _done: None)
        data = data_for(config, loaded.catalog, loaded.events, _NOW)
        with step("train"):
            vectors = fit(model, data, SETTINGS[model], Budget())
        with step("index"):
            users = np.random.default_rng(0).choice(loaded.events.user_count, 1000, replace=False)
            length, codes = config.events.history_length, config.bought_codes
            queries = vectors.encode(loaded.events.histories(users, _NOW, length, always=codes))
            fresh = bundle.assemble(
                vectors,
                loaded.catalog,
                data.recent_demand(28.0).astype(np.float32),
                kinds=loaded.kinds,
                index_settings=config.index,
                queries=queries,
            )
        with step("publish"):
            prepared = extract.write(config.storage.path, loaded)
            version = bundle.save(
                replace(fresh, evaluation=vectors), config.storage.path, facts={"config_hash": "scale"}
            )
            extract.publish(config.storage.path, prepared)
            versions.publish(config.storage.path, version)
    return {**seconds, "all": sum(seconds.values()), "GiB": peak_gib()}


if __name__ == "__main__":
    main()
