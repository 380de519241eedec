"""`recsys tune`: a wider search for a model's settings, and what it found for people."""

import math
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from jobs import ledger
from jobs.commands import open_shop
from jobs.output import Output, Table
from jobs.train import read
from recsys.config.settings import Config
from recsys.data.folder import check_folder
from recsys.errors import ConfigError
from recsys.progress import Progress
from recsys.training import pipeline
from recsys.training.gate import METRIC
from recsys.training.pipeline import TrainingRun
from recsys.training.search_space import SPACES, as_toml
from recsys.training.tuning import FILE, Search, open_studies, value_of

LEASE = "tune"
_SHOWN = 5
_IN_LEDGER = ("model", "study", "trials", "failures", "configured", "best", "improvement", "toml")


def tune(config: Config, *, model: str, trials: int, minutes: float | None, progress: Progress) -> Output:
    """Go on with the search for the model's settings until its study has so many trials; a row in the ledger.

    The first trial is what a night would choose from the configuration, however long that takes. minutes: of searching
    after it; None: as long as it takes. Nothing is published, and no file of the operator's is changed.
    Raises ConfigError for a model without a space, RefusedError when the source's check or another search says no,
    RecsysError when the folder or the studies' file cannot be used, or when trials fail one after the other.
    """
    if model not in SPACES:
        raise ConfigError(f"there is nothing to tune in {model!r}; allowed are {', '.join(SPACES)}")
    with closing(open_shop(config)) as store, ledger.run(store, LEASE, config) as record:
        pipeline.check_settings(config)
        check_folder(config.storage.path, writable=True)
        run = TrainingRun(config, read(config, store, record, now=None, progress=progress), record.step, progress)
        with open_studies(config.storage.path) as storage:
            search = Search(run, model, storage, record.keep_lease)
            found = search.finished
            progress(f"study {search.name}: {found} trials were there", 1.0)
            configured = search.configured()
            with record.step("trials") as counts:
                try:
                    ended_by = search.go_on(trials, math.inf if minutes is None else time.monotonic() + minutes * 60)
                finally:
                    counts.update(found=found, **search.counts(), failures=search.failures())
            output = _output(search, record.run_id, configured, found=found, asked=trials, ended_by=ended_by)
        record.metrics = {name: output.data[name] for name in _IN_LEDGER}
    return output


def _output(search: Search, run_id: int, configured: FrozenTrial, *, found: int, asked: int, ended_by: str) -> Output:
    config, model = search.run.config, search.model
    scored = search.study.get_trials(states=(TrialState.COMPLETE,))
    # The configured settings win a tie: without a reason nothing is to be changed.
    best = max((configured, *scored), key=value_of)
    is_better = best.number != configured.number
    data = {
        "run": run_id,
        "model": model,
        "study": search.name,
        "file": str(config.storage.path / FILE),
        "is_new": found == 0,
        "other_studies": search.others,
        "ended_by": ended_by,
        "trials": {"asked": asked, "found": found, **search.counts()},
        "failures": search.failures(),
        "configured": search.described(configured),
        "best": search.described(best),
        "improvement": value_of(best) - value_of(configured),
        "toml": as_toml(config, model, best.params) if is_better else None,
    }
    first = sorted(scored, key=value_of, reverse=True)[:_SHOWN]
    return Output(data, [*_story(data), _comparison(search, configured, first), *_advice(data)])


def _comparison(search: Search, configured: FrozenTrial, first: list[FrozenTrial]) -> Table:
    """Settings downwards, trials across: what is configured, then the best."""
    across = [configured, *(trial for trial in first if trial.number != configured.number)]
    described = [search.described(trial) for trial in across]
    rows = [[METRIC, *(found[METRIC] for found in described)]]
    for key in search.space:
        values = [found["settings"][key] for found in described]
        rows.append([key, *(value[0] if isinstance(value, tuple) else value for value in values)])
    titles = ["configured", *(f"trial {trial.number}" for trial in across[1:])]
    return Table(f"Validation, the best trials of {search.name}", ["", *titles], rows)


def _story(data: dict[str, Any]) -> Iterator[str]:
    counts = data["trials"]
    if not data["is_new"]:
        yield f"study {data['study']} went on: {counts['found']} trials were there"
    elif data["other_studies"]:
        yield (
            f"study {data['study']} was begun, as the {data['other_studies']} before it are of other data or settings, "
            "with which scores cannot be compared"
        )
    else:
        yield f"study {data['study']} was begun"
    ends = f"{counts['scored']} with a score, {counts['ended_early']} ended early for a low one"
    yield f"trials now: {ends}, {counts['failed']} failed or cut off; kept in {data['file']}"
    yield from (f"  failed: {failure}" for failure in data["failures"][-_SHOWN:])
    if data["ended_by"] == "minutes":
        yield f"the minutes were over before there were {counts['asked']} trials; the same command goes on"


def _advice(data: dict[str, Any]) -> Iterator[str]:
    best, configured = data["best"][METRIC], data["configured"][METRIC]
    if data["toml"] is None:
        yield f"nothing is better on validation than what is configured ({configured:.4f}); leave it as it is"
        return
    share = f", {best / configured - 1:+.1%}" if configured else ""
    yield f"{METRIC} on validation: {best:.4f}, configured {configured:.4f}{share}; these lines configure it:"
    yield data["toml"]
