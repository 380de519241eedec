"""Evaluate a box by time, beside the plain boxes of its kind. Nothing is saved or published."""

from contextlib import closing
from dataclasses import replace
from typing import Any

from jobs import ledger
from jobs.output import Output, Table
from jobs.train import read
from recsys.bundle.bundle import Bundle
from recsys.config.settings import Config
from recsys.progress import Progress
from recsys.store.migrate import open_store
from recsys.training import pipeline
from recsys.training.box_choice import told
from recsys.training.box_evaluation import BoxResult, Inputs, difference, evaluate_box, find_evaluated
from recsys.training.pipeline import BASELINE, TrainingRun


def evaluate(config: Config, *, box: str, progress: Progress) -> Output:
    """Train what the box needs without the holdout days, ask it about them, and compare it with the plain boxes.

    Raises ConfigError for a box that is not evaluated, RefusedError when nothing in the last days can evaluate it.
    """
    evaluated = find_evaluated(box)
    with (
        closing(open_store(config.store.url, config.store.table_prefix)) as store,
        ledger.run(store, "evaluate", config) as record,
    ):
        pipeline.check_settings(config)
        run = TrainingRun(config, read(config, store, record, now=None, progress=progress), record.step, progress)
        bundle = _bundle(run) if evaluated.needs_model else _counts_only(run)
        if evaluated.needs_related:
            bundle = replace(bundle, related=pipeline.relate_before_holdout(run))
        with run.step(f"evaluate {box}"):
            results = evaluate_box(box, Inputs(run.config, run.dataset, run.splits), bundle)
        record.metrics = {"box": box, "ways": {name: result.metrics for name, result in results.items()}}
        record.metrics["differences"] = _differences(box, results)
        record.metrics["chosen"] = chosen = {name: result.chosen for name, result in results.items() if result.chosen}
    names = list(results)
    metrics = list(results[box].metrics)
    rows = [[metric, *(results[name].metrics[metric] for name in names)] for metric in metrics]
    said = [*_sentences(box, results), *(told(name, facts) for name, facts in chosen.items())]
    return Output(record.metrics, [Table(f"The box {box}", ["metric", *names], rows), *said])


def _bundle(run: TrainingRun) -> Bundle:
    """What the nightly run would publish, but without its refit: it knows nothing of the holdout."""
    candidates = pipeline.evaluate_all(run)
    return pipeline.with_popularity(run, pipeline.best(candidates, run.config).vectors, candidates[0].vectors)


def _counts_only(run: TrainingRun) -> Bundle:
    """A bundle of the popularity model, for boxes that counts by day answer."""
    settings = pipeline.choose(run, BASELINE, run.splits)
    data = pipeline.training_data(run, run.splits.known, run.splits.holdout_start)
    vectors = pipeline.fit(run, BASELINE, data, settings)
    return pipeline.with_popularity(run, vectors, vectors)


def _differences(box: str, results: dict[str, BoxResult]) -> dict[str, Any]:
    names = ("mean", "low", "high")
    return {
        name: dict(zip(names, difference(results[box], result), strict=True))
        for name, result in results.items()
        if name != box
    }


def _sentences(box: str, results: dict[str, BoxResult]) -> list[str]:
    """For each plain box whether it is beaten."""
    lines = []
    for name, figures in _differences(box, results).items():
        verdict = "above" if figures["low"] > 0 else "below" if figures["high"] < 0 else "not told apart from"
        interval = f"{figures['mean']:+.4f}, 95 % interval {figures['low']:+.4f} to {figures['high']:+.4f}"
        lines.append(f"{box} is {verdict} {name} (NDCG@20 {interval})")
    return lines
