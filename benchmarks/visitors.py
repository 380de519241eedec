"""Take the user id off a random half of the sessions of views, and measure what it helps to train from them.

    python -m benchmarks.visitors --data DIR [--model mf] [--seeds 3]

The data is a set of events with one purchase of each user held out. A session is what a user did without a pause of 30
minutes; one that has views only may become a visitor. The model is trained twice, without and with the visitors, and
chooses its settings each time. Prints NDCG@20 of the held-out purchases, of users with fewer than three events left and
of all, and the difference with its 95 % interval over the users; a user counts with the mean over the seeds.
"""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.accuracy import choose, data_of
from benchmarks.forms import Benchmark, one_purchase_each, read, read_test
from benchmarks.paired import interval
from recsys.bundle.bundle import assemble
from recsys.config.settings import Config
from recsys.data.arrays import Bool, Float32
from recsys.data.interactions import Interactions, stack
from recsys.data.targets import Targets
from recsys.models.budget import Budget
from recsys.models.contract import fit
from recsys.training.evaluation import ValidationScore, rank
from recsys.training.metrics import ndcg_per_user

PAUSE = 30 * 60 * 1_000_000  # microseconds
FEW = 3


# Few values to choose from, so that a run takes minutes.
MF = {
    "n_factors": [128],
    "kind_exponents": [0.0],
    "user_exponents": [0.35],
    "item_exponents": [0.3],
    "popularity_exponents": [0.3, 0.6],
    "singular_exponents": [0.25, 0.5],
    "recency_half_life_days": [60],
    "recency_exponents": [0.3, 0.6],
}


@dataclass(frozen=True)
class Outcome:
    """NDCG@20 of each asked user [B] without and with visitors, and who had fewer than FEW events left."""

    without: Float32
    beside: Float32
    few: Bool


def main() -> None:
    """Read, then for each seed take off, train twice, rank and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of a set of events with test_purchases.csv")
    parser.add_argument("--model", default="mf")
    parser.add_argument("--seeds", type=int, default=3, help="how many draws of sessions")
    arguments = parser.parse_args()
    started = time.perf_counter()
    outcomes = []
    for seed in range(arguments.seeds):
        tables = {"training": {"seed": seed}, "recommendations": {"allow_repurchase": True}}
        tables |= {"models": {"mf": MF}, "events": {"half_life_days": [90]}}
        config = Config.model_validate(tables)
        outcomes.append(measure(arguments.data, arguments.model, config, seed))
    few = np.array([outcome.few for outcome in outcomes])
    without, beside = (np.array([getattr(o, name) for o in outcomes]) for name in ("without", "beside"))
    print(f"| users, {arguments.seeds} seeds | without visitors | with visitors | difference |")
    print("|---|---|---|---|")
    print(line(f"fewer than {FEW} events", without, beside, few))
    print(line("all", without, beside, np.ones_like(few)))
    print(f"{time.perf_counter() - started:.0f} seconds")


def measure(folder: Path, model: str, config: Config, seed: int) -> Outcome:
    """Train without and with the visitors of one draw."""
    benchmark = read(folder, config=config, seed=seed)
    now = benchmark.splits.holdout_start
    known, visits = take_off(benchmark.known, config.events.codes["view"], seed)
    splits = one_purchase_each(known, config.events.codes["purchase"], now, seed)
    score = ValidationScore(benchmark.catalog, splits, config)
    wanted = targets(folder, benchmark)
    few = np.diff(known.offsets)[benchmark.rows] < FEW
    print(f"seed {seed}: {visits.user_count:,} visitors with {len(visits):,} of {len(benchmark.known):,} events")
    found = []
    for others in (visits.select(np.zeros(len(visits), np.bool_)), visits):
        learned = replace(benchmark, splits=replace(splits, fit=stack(splits.fit, others)))
        settings = choose(learned, model, config, score).settings
        vectors = fit(model, data_of(benchmark, stack(known, others), now, config), settings, Budget())
        demand = np.bincount(known.of_kinds(config.target_codes).items, minlength=known.item_count).astype(np.float32)
        kinds = tuple(config.events.weights)
        bundle = assemble(vectors, benchmark.catalog, demand, kinds=kinds, index_settings=config.index)
        histories = known.histories(benchmark.rows, now, config.events.history_length)
        found.append(ndcg_per_user(rank(bundle, histories, config), wanted))
        print(f"  {len(others):,} events of visitors: {found[-1][few].mean():.4f} of {few.sum()} users, {settings}")
    return Outcome(found[0], found[1], few)


def take_off(events: Interactions, view: int, seed: int) -> tuple[Interactions, Interactions]:
    """The events that keep their users, and those of visitors, each of whom is one session of views."""
    users = events.users
    begins = (np.diff(users, prepend=-1) != 0) | (np.diff(events.times, prepend=0) > PAUSE)
    sessions = np.cumsum(begins) - 1
    only_views = np.bincount(sessions, events.kinds != view) == 0
    chosen = only_views & (np.random.default_rng(seed).random(len(only_views)) < 0.5)
    taken = chosen[sessions]
    visitors = np.unique(sessions[taken], return_inverse=True)[1].astype(np.int32)
    visits = Interactions.from_rows(
        visitors,
        events.items[taken],
        events.kinds[taken],
        events.times[taken],
        events.values[taken],
        user_count=int(chosen.sum()),
        item_count=events.item_count,
    )
    return events.select(~taken), visits


def targets(folder: Path, benchmark: Benchmark) -> Targets:
    """The held-out purchase of each asked user; of an item without events no list can hold it."""
    _, items = read_test(folder)
    rows = benchmark.catalog.ids.rows_of([str(item) for item in items.tolist()])
    rows = np.where(rows < 0, benchmark.known.item_count, rows).astype(np.int32)
    return Targets(benchmark.rows, np.arange(len(rows) + 1, dtype=np.int64), rows)


def line(name: str, without: Float32, beside: Float32, counted: Bool) -> str:
    """One row of the table, of the users [B] who count in any of the seeds [S, B]."""
    users = counted.any(axis=0)
    weights = counted[:, users] / counted[:, users].sum(axis=0)
    first, second = ((values[:, users] * weights).sum(axis=0) for values in (without, beside))
    low, high = interval(second - first)
    means = f"{first.mean():.4f} | {second.mean():.4f} | {(second - first).mean():+.4f} ({low:+.4f} to {high:+.4f})"
    return f"| {name}: {users.sum():,} | {means} |"


if __name__ == "__main__":
    main()
