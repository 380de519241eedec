"""What diversity and new items cost in a list, and what they bring.

    python -m benchmarks.rules --config recsys.toml

Trains without the holdout days, as `recsys evaluate --box for_you` does, and asks for_you about at most 1,000 known
users as of the moment when these days begin, with one rule after the other. Each row shows

* NDCG@20 beside what the users bought in the holdout, and by how much it is above that of the list without rules, in
  percent of the latter, with the 95 % interval of 10,000 resamples, paired by user. Items without an event before the
  holdout are never among what they bought, so a place of such an item only costs;
* how alike the items of a list are: the mean cosine of the item vectors of any two;
* how many categories a list has, where the catalog has any;
* the share of the places that new items have, and how many different ones are in any list.
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paired import interval
from recsys import library
from recsys.config.loading import load_config
from recsys.config.settings import Config
from recsys.data.arrays import Int32
from recsys.serving.answer import RequestContext, answer
from recsys.serving.explore import new_rows
from recsys.serving.recommender import item_vectors
from recsys.serving.snapshot import Snapshot
from recsys.source.dataset import load
from recsys.store.changes import NO_EVENTS
from recsys.training import pipeline
from recsys.training.box_evaluation import Inputs, Question, draw_questions, open_questions, quality
from recsys.training.metrics import K
from recsys.training.pipeline import TrainingRun

BOX = "for_you"
NONE: dict[str, float] = {"diversity": 0, "exploration": 0}
DIVERSITY = (0.1, 0.2, 0.3, 0.5, 0.7, 1)
EXPLORATION = (0.02, 0.05, 0.1, 0.2)  # the first is the default


@dataclass(frozen=True)
class Asked:
    """The lists of one rule."""

    ndcg: np.ndarray[Any, np.dtype[np.float64]]  # [Q]
    alike: float
    categories: float | None
    new_share: float
    new_items: int
    milliseconds: float  # an answer


def main() -> None:
    """Train, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("recsys.toml"))
    config = load_config(parser.parse_args().config)
    with closing(library.open_store(config)) as store:
        dataset = load(config, store, now=time.time_ns() // 1000, progress=lambda *_: None)
    run = TrainingRun(config, dataset)
    candidates = pipeline.evaluate_all(run)
    best = pipeline.best(candidates, run.config)
    bundle = pipeline.with_popularity(run, best.vectors, candidates[0].vectors)
    inputs = Inputs(run.config, dataset, run.splits)
    questions = draw_questions(BOX, inputs)
    config, snapshot = open_questions(BOX, inputs, bundle)
    new = len(new_rows(snapshot.view, run.splits.holdout_start))
    print(f"{len(questions):,} users, {len(bundle.catalog):,} items, {new:,} of them new, model {best.name}\n")
    print("| rule | NDCG@20 | beside no rule | alike | categories | new, of the places | new items listed | ms |")
    print("|---|---|---|---|---|---|---|---|")
    plain = ask(config, snapshot, questions, NONE)
    print_row("none", plain, plain)
    for name, values in (("diversity", DIVERSITY), ("exploration", EXPLORATION)):
        for value in values:
            print_row(f"{name} {value:g}", ask(config, snapshot, questions, NONE | {name: value}), plain)


def ask(config: Config, snapshot: Snapshot, questions: Sequence[Question], rules: dict[str, float]) -> Asked:
    """Ask all questions under a rule."""
    ids, lists, started = snapshot.bundle.catalog.ids, list[Int32](), time.perf_counter()
    for question in questions:
        query = replace(question.query, box=BOX, k=K, rules=[rules])
        assert query.as_of is not None  # each question is one of a moment
        found = answer(config, RequestContext(snapshot, NO_EVENTS, query.as_of), query)
        lists.append(ids.rows_of([hit["item_id"] for hit in found.hits]))
    took = (time.perf_counter() - started) / len(questions) * 1e3
    assert questions[0].query.as_of is not None
    is_new = np.isin(np.concatenate(lists), new_rows(snapshot.view, questions[0].query.as_of))
    return Asked(
        np.array([quality(rows, question)[0] for rows, question in zip(lists, questions, strict=True)]),
        float(np.mean([alike(snapshot, rows) for rows in lists])),
        categories(snapshot, lists),
        float(is_new.mean()),
        len(np.unique(np.concatenate(lists)[is_new])),
        took,
    )


def alike(snapshot: Snapshot, rows: Int32) -> float:
    """The mean cosine of the item vectors of two items of a list."""
    vectors = snapshot.bundle.vectors.personal_columns(item_vectors(snapshot.view, rows))
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    first, second = np.triu_indices(len(rows), 1)
    return float((vectors @ vectors.T)[first, second].mean()) if len(first) else 0.0


def categories(snapshot: Snapshot, lists: Sequence[Int32]) -> float | None:
    """How many categories a list has on average; None where the catalog says none."""
    columns = snapshot.bundle.catalog.columns
    if "category" not in columns.column_names or columns.column("category").null_count == len(columns):
        return None
    known = np.array(columns.column("category").to_pylist(), object)
    return float(np.mean([len(set(known[rows]) - {None}) for rows in lists]))


def print_row(name: str, asked: Asked, plain: Asked) -> None:
    """A line of the table."""
    mean, (low, high) = plain.ndcg.mean(), interval(asked.ndcg - plain.ndcg)
    change = (asked.ndcg - plain.ndcg).mean()
    beside = "" if asked is plain else f"{change / mean:+.1%} ({low / mean:+.1%} to {high / mean:+.1%})"
    kinds = "–" if asked.categories is None else f"{asked.categories:.2f}"
    new = f"{asked.new_share:.2%} | {asked.new_items}"
    cells = f"{asked.ndcg.mean():.4f} | {beside} | {asked.alike:.3f} | {kinds} | {new} | {asked.milliseconds:.1f}"
    print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
