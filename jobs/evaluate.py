"""Evaluate without publishing: the models beside popularity, on the last days or on a file of held-out events."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import polars as pl

from jobs import ledger
from jobs.model_tables import holdout_table, side_by_side
from jobs.output import Output
from jobs.train import read
from recsys.config.settings import Config
from recsys.data.targets import Targets, targets_from_ids
from recsys.errors import SourceError
from recsys.progress import Progress
from recsys.store.migrate import open_store
from recsys.training import pipeline
from recsys.training.evaluation import evaluate_targets
from recsys.training.pipeline import TrainingRun

_COLUMNS = ("user_id", "item_id")
# What may be listed of what the user has bought before -> whether it may. The targets are those of the file in both.
_ROWS = {"everything listed": True, "bought before left out": False}


def evaluate(config: Config, *, holdout: Path | None, progress: Progress) -> Output:
    """Train every configured model and the baseline, evaluate them, keep nothing.

    holdout: a CSV of user_id, item_id; the models then learn from all events of the source, with settings chosen on
    their last days, and are evaluated with and without what the user bought before. Without it the last `holdout_days`
    are the holdout, as in a nightly run.
    Raises SourceError when the file cannot be read or lacks a column, ConfigError before anything is read when a model,
    the index or the device is not there.
    """
    pairs, blank = (None, 0) if holdout is None else _read_pairs(holdout)
    with (
        closing(open_store(config.store.url, config.store.table_prefix)) as store,
        ledger.run(store, "evaluate", config) as record,
    ):
        pipeline.check_settings(config)
        dataset = read(config, store, record, now=None, progress=progress, is_evaluated=pairs is None)
        run = TrainingRun(config, dataset, record.step, progress)
        if pairs is None:
            candidates = pipeline.evaluate_all(run)
            record.metrics = {"models": {c.name: c.result.rows for c in candidates}}
            return Output(record.metrics, [holdout_table(candidates, row) for row in candidates[0].result.rows])
        users, items = run.dataset.users, run.dataset.catalog.ids
        targets = targets_from_ids(*(pairs[name].to_list() for name in _COLUMNS), users=users, items=items)
        models = _against(run, targets)
        record.metrics = {"rows": pairs.height, "left_out": blank, "models": models}
    title = f"{holdout}, {pairs.height} rows held out"
    if blank:
        title += f", {blank} without user_id or item_id left out"
    tables = [side_by_side(f"{title}; {row}", {name: rows[row] for name, rows in models.items()}) for row in _ROWS]
    return Output(record.metrics, tables)


def _read_pairs(path: Path) -> tuple[pl.DataFrame, int]:
    """The rows with both ids, and how many lack one."""
    try:
        pairs = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SourceError(f"{path} cannot be read as CSV: {error}") from None
    if missing := [name for name in _COLUMNS if name not in pairs.columns]:
        raise SourceError(f"{path} lacks {', '.join(missing)}; found: {', '.join(pairs.columns)}")
    whole = pairs.select(_COLUMNS).filter(pl.all_horizontal(pl.col(name).str.len_bytes() > 0 for name in _COLUMNS))
    return whole, pairs.height - whole.height


def _against(run: TrainingRun, targets: Targets) -> dict[str, dict[str, dict[str, float]]]:
    """Each model, trained on all events with settings chosen on the last days, against the targets."""
    splits = run.splits
    last_days = replace(splits, fit=splits.known, validation=splits.holdout, validation_start=splits.holdout_start)
    data = pipeline.training_data(run, run.dataset.events, run.as_of)
    models, baseline = dict[str, dict[str, dict[str, float]]](), None
    for name in run.names:
        settings = pipeline.choose(run, name, last_days)
        with run.record(f"fit {name}"):
            vectors = pipeline.fit(run, name, data, settings)
        baseline = baseline or vectors
        bundle = pipeline.with_popularity(run, vectors, baseline)
        with run.step(f"evaluate {name}"):
            models[name] = {
                row: evaluate_targets(bundle, data.events, targets, run.config, as_of=run.as_of, repeats=repeats)
                for row, repeats in _ROWS.items()
            }
    return models
