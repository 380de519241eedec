"""Replay a public set night by night, as if a shop had trained on it while it grew, and count what the guards refuse.

    python -m benchmarks.replay_nights retailrocket DIR/retailrocket/events.csv.gz
    python -m benchmarks.replay_nights online-retail DIR/online-retail/online_retail.csv.gz

The file is imported and read as `recsys import` and a run do. Each night, at two o'clock UTC, knows the events before
it; every night is a scheduled one. A set has no catalog, so the guards of catalogs look at the items of events only.
"""

import argparse
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.nights import Ledger
from recsys.config.settings import Config
from recsys.data.catalog import Catalog
from recsys.data.interactions import Interactions
from recsys.data.times import MICROSECONDS_PER_DAY, readable
from recsys.data.vocabulary import Vocabulary
from recsys.guards.figures import NightData
from recsys.progress import no_progress
from recsys.source.dataset import Dataset, load
from recsys.source.importer import import_files
from recsys.store.migrate import open_store

FIRST_DAYS = 14  # of events, before the first night
_HOUR = MICROSECONDS_PER_DAY // 24
_ENDED = 18 * _HOUR  # after its last event a set has ended


def read(preset: str, path: Path, folder: Path) -> Dataset:
    """Import a set into a new store and read it."""
    config = Config.model_validate({"store": {"url": f"sqlite:///{folder}/nights.db"}, "storage": {"path": folder}})
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        import_files(config, store, [path], what=None, preset=preset, columns={}, progress=no_progress)
        return load(config, store, now=time.time_ns() // 1000, progress=no_progress)


def night_of(dataset: Dataset, now: int) -> NightData:
    """What a run would have read at a moment: events before it, and the users and items that have one."""
    events = dataset.events.before(now)
    users = np.flatnonzero(np.diff(events.offsets))
    items = np.unique(events.items)
    at = np.zeros(events.item_count, np.int32)
    at[items] = np.arange(len(items))
    owner = np.zeros(events.user_count, np.int32)
    owner[users] = np.arange(len(users))
    kept = Interactions.from_rows(
        owner[events.users],
        at[events.items],
        events.kinds,
        events.times,
        events.values,
        user_count=len(users),
        item_count=len(items),
    )
    ids = dataset.catalog.ids
    catalog = Catalog(Vocabulary.from_ids(ids.ids_of(items)), dataset.catalog.columns.take(items))
    names = Vocabulary.from_ids(dataset.users.ids_of(users))
    return NightData(kept, kept.before(0), names, catalog, dataset.kinds, 0, 0)


def replay(dataset: Dataset) -> tuple[int, int]:
    """Judge every night; returns how many there were, and how many were refused."""
    ledger, refused = Ledger(), 0
    first, last = int(dataset.events.times.min()), int(dataset.events.times.max())
    begin = (first // MICROSECONDS_PER_DAY + FIRST_DAYS) * MICROSECONDS_PER_DAY + 2 * _HOUR
    nights = range(begin, last + _ENDED, MICROSECONDS_PER_DAY)
    for now in nights:
        if refusing := ledger.run(night_of(dataset, now), now):
            refused += 1
            print(f"{readable(now)[:10]}: {'; '.join(map(str, refusing))}")
    return len(nights), refused


def main() -> None:
    """Import, replay, and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("preset", help="online-retail or retailrocket")
    arguments.add_argument("path", type=Path, help="the file of events")
    asked = arguments.parse_args()
    with TemporaryDirectory() as folder:
        nights, refused = replay(read(asked.preset, asked.path, Path(folder)))
    print(f"{asked.preset}: {nights} nights, {refused} refused")


if __name__ == "__main__":
    main()
