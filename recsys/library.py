"""The engine as a Python library: the names that `recsys` itself offers, and that later versions keep.

A nightly run is more than this: it holds a lease, writes the ledger, asks the gate and publishes. `jobs/train.py` has
it, and `recsys train` runs it.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from recsys.bundle.bundle import Bundle
from recsys.config.loading import load_config
from recsys.config.settings import Config
from recsys.data.extract import Extract
from recsys.models.vectors import Vectors
from recsys.progress import Progress, no_progress
from recsys.serving import answer as engine
from recsys.serving import snapshot as snapshots
from recsys.serving.answer import Answer, Query, RequestContext
from recsys.serving.snapshot import Snapshot
from recsys.source import dataset as source
from recsys.source.dataset import Dataset
from recsys.store import migrate
from recsys.store.database import Store
from recsys.training import pipeline
from recsys.training.pipeline import Candidate, TrainingRun

__all__ = (
    "Query",
    "Vectors",
    "evaluate",
    "load_config",
    "load_dataset",
    "open_snapshot",
    "open_store",
    "recommend",
    "similar",
    "train",
)


def open_store(config: Config) -> Store:
    """Open the service's own tables, creating them when they are missing. Use `contextlib.closing`, or call `close()`.

    Raises RecsysError when the database cannot be reached.
    """
    return migrate.open_store(config.store.url, config.store.table_prefix)


def load_dataset(config: Config, store: Store, *, progress: Progress = no_progress) -> Dataset:
    """Read and check the shop's events, items and users, and the events posted to the service.

    Raises RefusedError with the findings when a check fails, SourceError when the source cannot be read.
    """
    return source.load(config, store, now=_now(), progress=progress)


def evaluate(config: Config, dataset: Dataset, *, progress: Progress = no_progress) -> list[Candidate]:
    """Train popularity and every configured model without the holdout days, and evaluate them on those days.

    Of each Candidate, `name`, `quality` (NDCG@20), `vectors` and `result.rows` (all metrics) stay.
    Raises ConfigError for a model, index or device that does not exist.
    """
    pipeline.check_settings(config)
    return pipeline.evaluate_all(TrainingRun(config, dataset, progress=progress))


def train(
    config: Config,
    dataset: Dataset,
    candidates: Sequence[Candidate] | None = None,
    *,
    progress: Progress = no_progress,
) -> Bundle:
    """Train the best candidate on all events, with the settings chosen for it. The bundle is in memory only.

    candidates: what `evaluate` returned; None: evaluate first. Of the Bundle, `vectors`, `catalog` and `popularity`
    stay.
    """
    found = list(candidates or evaluate(config, dataset, progress=progress))
    run = TrainingRun(config, dataset, progress=progress)
    return pipeline.refit(run, pipeline.best(found, config), found[0])


def open_snapshot(
    config: Config, store: Store, bundle: Bundle | None = None, dataset: Dataset | None = None
) -> Snapshot:
    """Open what answers come from: the live bundle, or a bundle of `train` with the dataset that it learned from.

    Raises BundleError when no bundle is live or its files are damaged, ValueError for a bundle without its dataset.
    """
    if (bundle is None) != (dataset is None):
        raise ValueError("open_snapshot takes a bundle of train together with its dataset, or neither of them")
    extract = _extract_of(dataset) if dataset is not None else None
    snapshot = snapshots.load(config, partial(snapshots.items_after, store), bundle=bundle, extract=extract)
    return replace(snapshot, posted=snapshots.read_posted(snapshot, lambda use: use(store)))


def recommend(config: Config, store: Store, snapshot: Snapshot, query: Query) -> Answer:
    """Find the k best items for a user, a visitor or a history, with what was posted since the snapshot was opened.

    The query may name any other box than for_you. Raises RefusedError for a wrong filter, an unknown column or box, or
    an event of an unknown kind; NotFoundError when the item that a box is about is unknown.
    """
    return engine.answer(config, _context(config, store, snapshot, query), query)


def similar(config: Config, store: Store, snapshot: Snapshot, item_id: str, query: Query | None = None) -> Answer:
    """Find the k items most similar to one. The query's own box and items do not count.

    Raises NotFoundError for an unknown item, RefusedError for a wrong filter or an unknown column.
    """
    query = replace(query or Query(), box="similar", items=[item_id])
    return engine.answer(config, _context(config, store, snapshot, query), query)


def _context(config: Config, store: Store, snapshot: Snapshot, query: Query) -> RequestContext:
    return engine.gather_context(
        config, snapshot, query, now=_now(), read=lambda use: use(store), grow=partial(snapshots.grow, config)
    )


def _extract_of(dataset: Dataset) -> Extract:
    """The events that an extract on disk would hold."""
    events = dataset.events
    as_of = int(events.times.max()) + 1
    return Extract(dataset.users, dataset.catalog.ids, events, dataset.kinds, dataset.watermark, as_of)


def _now() -> int:
    return time.time_ns() // 1000
