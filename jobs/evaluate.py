"""Judge without publishing: the models beside popularity, on the last days or on a file of held-out events."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import polars as pl

from jobs import ledger
from jobs.output import Output, Report
from jobs.train import read
from recsys.config.settings import Config
from recsys.errors import SourceError
from recsys.store.migrate import open_store
from recsys.training import candidates
from recsys.training.candidates import TrainingRun
from recsys.training.evaluation import Targets, evaluate_targets, targets_from_ids

_COLUMNS = ("user_id", "item_id")
# What may be listed of what the user has bought before -> whether it may. The targets are those of the file in both.
_ROWS = {"everything listed": True, "bought before left out": False}


def evaluate(config: Config, *, holdout: Path | None, report: Report) -> Output:
    """Train every configured model and the baseline, judge them, keep nothing.

    holdout: a CSV of user_id, item_id; the models then learn from all events of the source, with settings chosen on
    their last days, and are judged with and without what the user bought before. Without it the last `holdout_days`
    are the holdout, as in a nightly run.
    Raises SourceError when the file cannot be read or lacks a column, ConfigError before anything is read when a model,
    the index or the device is not there.
    """
    pairs, blank = (None, 0) if holdout is None else _read_pairs(holdout)
    with (
        closing(open_store(config.store.url, config.store.table_prefix)) as store,
        ledger.run(store, "evaluate", config) as run,
    ):
        candidates.check_settings(config)
        night = TrainingRun(config, read(config, store, run, now=None, report=report), run, report)
        if pairs is None:
            judged = candidates.evaluate_all(night)
            run.metrics = {"models": {c.name: c.judged.rows for c in judged}}
            return Output(run.metrics, [candidates.table(judged, row) for row in judged[0].judged.rows])
        users, items = night.loaded.users, night.loaded.catalog.ids
        targets = targets_from_ids(*(pairs[name].to_list() for name in _COLUMNS), users=users, items=items)
        figures = _against(night, targets)
        run.metrics = {"rows": pairs.height, "left_out": blank, "models": figures}
    title = f"{holdout}, {pairs.height} rows held out"
    if blank:
        title += f", {blank} without user_id or item_id left out"
    return Output(
        run.metrics,
        [
            candidates.side_by_side(f"{title}; {row}", {name: rows[row] for name, rows in figures.items()})
            for row in _ROWS
        ],
    )


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


def _against(night: TrainingRun, targets: Targets) -> dict[str, dict[str, dict[str, float]]]:
    """Each model, trained on all events with settings chosen on the last days, against the targets."""
    splits = night.splits
    last_days = replace(splits, fit=splits.known, validation=splits.holdout, validation_start=splits.holdout_start)
    events, figures, baseline = night.loaded.events, dict[str, dict[str, dict[str, float]]](), None
    for name in night.names:
        chosen = candidates.choose(night, name, last_days)
        with night.run.step(f"fit {name}"):
            vectors = candidates.fit(night, name, events, night.as_of, chosen=chosen)
        baseline = baseline or vectors
        bundle = candidates.with_popularity(night, vectors, baseline)
        with night.step(f"judge {name}"):
            figures[name] = {
                row: evaluate_targets(bundle, events, targets, night.config, as_of=night.as_of, repeats=repeats)
                for row, repeats in _ROWS.items()
            }
    return figures
