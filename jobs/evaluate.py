"""Judge without publishing: the models beside popularity, on the last days or on a file of held-out events."""

from pathlib import Path
from typing import Any

import polars as pl

from jobs import candidates, ledger
from jobs.show import Output, Report, Table
from jobs.train import read, split
from recsys.config import Config
from recsys.errors import SourceError
from recsys.evaluation import judge_targets, targets_from_ids, validation_score
from recsys.source import Loaded
from recsys.store import open_store


def evaluate(config: Config, *, holdout: Path | None, report: Report) -> Output:
    """Train every configured model and the baseline, judge them, keep nothing.

    holdout: a CSV of user_id, item_id; the models then learn from all events of the source, with settings chosen on
    their last days. Without it the last `holdout_days` are the holdout, as in a nightly run.
    """
    store = open_store(config.store.url, config.store.table_prefix)
    with ledger.run(store, "evaluate", config) as run:
        loaded = read(config, store, run, now=None, report=report)
        if holdout is None:
            judged = candidates.fit_candidates(loaded.catalog, split(loaded, config), config, run=run, report=report)
            run.metrics = {"models": {c.name: c.judged.rows for c in judged}}
            return Output(run.metrics, [candidates.table(judged, row) for row in judged[0].judged.rows])
        return _against_file(holdout, loaded, config, run, report)
