"""Similar items of a public set: how often the item looked at next is among the ten most similar.

    python -m benchmarks.next_item --data DIR [--days 14] [--seed 0]

In a set with times (`events.csv`) the last days test: each two different items that a user views one after the other,
with less than half an hour between them. In a set of sequences (`sequences.txt`) the last two items of each user do.
The first item asks for the second. Both had events before the test, and at most 2,000 questions are drawn by the seed.
`mf` and what is viewed together learn from what was before the test, with settings chosen on the days before it.

Prints recall@10 of the box `similar` by taste and content, as it is served, and by taste alone, of `viewed_together`
where there are times, and of popular items; beside taste alone with the 95 % interval of 10,000 paired resamples.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.accuracy import choose, data_of
from benchmarks.forms import Benchmark, read, read_last
from benchmarks.paired import interval
from recsys.bundle.bundle import Bundle, assemble
from recsys.config.settings import Config
from recsys.data.arrays import Int32
from recsys.data.extract import Extract
from recsys.data.splits import split_by_time
from recsys.data.vocabulary import Vocabulary
from recsys.models.budget import Budget
from recsys.models.contract import fit
from recsys.related import together
from recsys.related.repeats import without_training
from recsys.related.tables import Related, Table, empty_table
from recsys.related.training import RelatedData
from recsys.serving import snapshot as snapshots
from recsys.serving.answer import Query, RequestContext, answer
from recsys.serving.snapshot import Snapshot
from recsys.store.changes import NO_EVENTS
from recsys.training.evaluation import ValidationScore

K = 10
MOST = 2_000  # questions
PAUSE_MICROSECONDS = 30 * 60 * 1_000_000  # a longer one ends a session


@dataclass(frozen=True)
class Questions:
    """Items that were looked at, and the next one of each: rows [Q]."""

    asked: Int32
    wanted: Int32


def main() -> None:
    """Read, train, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the set")
    parser.add_argument("--days", type=int, default=14, help="days that test, where the set has times")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    config = Config.model_validate({"training": {"seed": arguments.seed}})
    benchmark, questions, has_times = read_questions(arguments.data, config, arguments.days)
    related = relate(benchmark, config, has_times=has_times)
    bundle = replace(train(benchmark, config), related=related)
    taste = replace(bundle, related=replace(related, content=None))
    ways = {"taste and content": ("similar", bundle), "taste alone": ("similar", taste)}
    ways |= {"viewed_together": ("viewed_together", bundle)} if has_times else {}
    ways |= {"popular": ("popular", bundle)}
    found = {
        name: recall(config, open_snapshot(config, benchmark, one), box, questions) for name, (box, one) in ways.items()
    }
    print(f"{len(questions.asked):,} questions, {len(benchmark.catalog):,} items\n")
    print("| | recall@10 | beside taste alone |\n|---|---|---|")
    for name, hits in found.items():
        difference = hits - found["taste alone"]
        low, high = interval(difference)
        beside = "" if name == "taste alone" else f"{difference.mean():+.4f} ({low:+.4f} to {high:+.4f})"
        print(f"| {name} | {hits.mean():.4f} | {beside} |")


def read_questions(folder: Path, config: Config, days: int) -> tuple[Benchmark, Questions, bool]:
    """A set split before its test, what is asked of it, and whether it has times."""
    seed = config.training.seed
    benchmark = read(folder, config=config, seed=seed)
    has_times = not any((folder / name).exists() for name in ("sequences.txt", "sequences.txt.gz"))
    if has_times:
        splits = split_by_time(benchmark.known, validation_days=days, holdout_days=days)
        benchmark = replace(benchmark, splits=splits, known=splits.known)
        views = splits.holdout.of_kinds([config.events.codes["view"]])
        is_next = (np.diff(views.users) == 0) & (np.diff(views.times) <= PAUSE_MICROSECONDS)
        asked, wanted = views.items[:-1][is_next], views.items[1:][is_next]
    else:
        known = benchmark.known
        stops = known.offsets[benchmark.rows + 1]
        has_events = np.diff(known.offsets)[benchmark.rows] > 0
        asked, wanted = known.items[stops[has_events] - 1], read_last(folder, benchmark)[has_events]
    counts = np.bincount(benchmark.known.items, minlength=benchmark.known.item_count)
    kept = np.flatnonzero((asked != wanted) & (counts[asked] > 0) & (counts[wanted] > 0))
    kept = np.random.default_rng(seed).permutation(kept)[:MOST]
    return benchmark, Questions(asked[kept], wanted[kept]), has_times


def train(benchmark: Benchmark, config: Config) -> Bundle:
    """A bundle of `mf`, with settings chosen on validation."""
    splits = benchmark.splits
    chosen = choose(benchmark, "mf", config, ValidationScore(benchmark.catalog, splits, config))
    data = data_of(benchmark, benchmark.known, splits.holdout_start, config)
    popularity = np.bincount(benchmark.known.items, minlength=benchmark.known.item_count).astype(np.float32)
    return assemble(
        fit("mf", data, chosen.settings, Budget()),
        benchmark.catalog,
        popularity,
        kinds=tuple(config.events.weights),
        index_settings=config.index,
    )


def relate(benchmark: Benchmark, config: Config, *, has_times: bool) -> Related:
    """What the catalog says of items and, where the set has times, what is viewed together."""
    data = RelatedData(benchmark.known, benchmark.catalog, config.bought_codes, config.training.seed)
    nothing = empty_table(len(benchmark.catalog))
    return Related(
        bought_together=nothing,
        viewed_together=viewed_together(benchmark, data) if has_times else nothing,
        cart=nothing,
        repeats=without_training(len(benchmark.catalog)),
        content=data.content,
        facts={},
    )


def viewed_together(benchmark: Benchmark, data: RelatedData) -> Table:
    """What belongs together in sessions, chosen and fitted as a training run does."""
    start, end = benchmark.splits.validation_start, benchmark.splits.holdout_start
    chosen = together.choose(data.sessions, data.known, start=start, end=end, seed=data.seed)
    return together.fit(data.sessions, data.known, chosen, now=end, window=end - start, seed=data.seed)


def open_snapshot(config: Config, benchmark: Benchmark, bundle: Bundle) -> Snapshot:
    """What answers come from."""
    users, known = Vocabulary.from_ids(map(str, range(benchmark.known.user_count))), benchmark.known
    extract = Extract(users, benchmark.catalog.ids, known, bundle.kinds, 0, benchmark.splits.holdout_start)
    return snapshots.load(config, lambda _: [], bundle=bundle, extract=extract)


def recall(config: Config, snapshot: Snapshot, box: str, questions: Questions) -> npt.NDArray[np.float64]:
    """Whether a box lists the wanted item of each question: 0 or 1 [Q]."""
    ids = snapshot.bundle.catalog.ids
    context = RequestContext(snapshot, NO_EVENTS, snapshot.log.extract.as_of)

    def listed(row: int) -> Sequence[str]:
        query = Query(box=box, items=[ids.id_of(row)], k=K)
        return [hit["item_id"] for hit in answer(config, context, query).hits]

    pairs = zip(questions.asked.tolist(), questions.wanted.tolist(), strict=True)
    return np.array([float(ids.id_of(wanted) in listed(asked)) for asked, wanted in pairs])


if __name__ == "__main__":
    main()
