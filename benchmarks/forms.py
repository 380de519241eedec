"""Read public benchmark sets, in their several file formats, as events with a split made from train only.

* `train.txt` and `test.txt`, one line a user (`user item item …`), without times. When items are numbered in the order
  of their first mention, lines are in order and the last tenth of each validates; otherwise a random tenth.
* `events.csv` with `test.txt`: times in unix seconds; the last days validate. With a `train.txt` the user's items
  before the cut are masked, without it none are.
* `events.csv` with `test_purchases.csv`: one purchase a user, taken from any time. One more purchase a user validates.
* `sequences.txt`: ordered, without times, so each event counts as a day older than the next one. The last item tests,
  and the one before it validates.
"""

import csv
import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.config.settings import Config
from recsys.data.arrays import Int32, Int64
from recsys.data.catalog import Catalog
from recsys.data.interactions import Interactions
from recsys.data.splits import Splits, split_by_time
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary

KINDS = {"buy": "purchase", "transaction": "purchase", "addtocart": "cart"}  # the sets' words for our kinds
VALIDATION_SHARE = 0.1  # of the events, where there are no times
ALMOST_ALL = 0.9


@dataclass(frozen=True)
class Benchmark:
    """A set, ready for training: what may be learned from, how settings are chosen on it, and who is asked about."""

    splits: Splits  # made from train; nothing is in its holdout, which is the set's own test
    known: Interactions  # everything before the test
    catalog: Catalog  # ids are the item ids of the set's files
    users: Int64  # [B] ids of the users who have test items
    rows: Int32  # [B] their rows in the events
    repeats: bool  # items of the history may be recommended


def read(folder: Path, *, config: Config, seed: int) -> Benchmark:
    """Read a folder of any of the forms. Raises FileNotFoundError when there is no folder or no such set in it."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    if _find(folder, "sequences.txt"):
        return _read_sequences(folder)
    if _find(folder, "events.csv") and (_find(folder, "test.txt") or _find(folder, "test_purchases.csv")):
        return _read_events(folder, config, seed)
    if _find(folder, "train.txt") and _find(folder, "test.txt"):
        return _read_lists(folder, config, seed)
    raise FileNotFoundError(
        f"{folder} holds no known set: sequences.txt, events.csv with test.txt or test_purchases.csv, "
        "or train.txt with test.txt (each plain or with .gz)"
    )


def _read_lists(folder: Path, config: Config, seed: int) -> Benchmark:
    users, items = _pairs(folder, "train.txt")
    asked = np.unique(read_test(folder)[0])
    ids, vocabulary, known = _events(users, items, np.zeros(len(users), np.int64), _purchases(users, config), asked)
    held = _held_out(known, np.random.default_rng(seed))
    splits = Splits(known.select(~held), known.select(held), _none_of(known), validation_start=1, holdout_start=1)
    return Benchmark(splits, known, _catalog(vocabulary), asked, _rows(ids, asked), repeats=False)


def _held_out(events: Interactions, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which events, in the order of the lines, validate: bool [E]. A share of a line is rounded at random."""
    within = np.diff(events.users, prepend=-1) == 0
    is_sorted = np.mean(np.diff(events.items, prepend=-1)[within] > 0) > ALMOST_ALL
    first_named = np.unique(events.items, return_index=True)[1]  # of each item
    is_numbered_so = np.mean(np.diff(first_named) > 0) > ALMOST_ALL
    if is_sorted or not is_numbered_so:
        return generator.random(len(events)) < VALIDATION_SHARE
    counts = np.diff(events.offsets)
    held = np.floor(counts * VALIDATION_SHARE + generator.random(len(counts)))
    from_end = np.repeat(events.offsets[1:], counts) - np.arange(len(events)) - 1
    return np.asarray(from_end < np.repeat(held, counts))


def _read_sequences(folder: Path) -> Benchmark:
    users, items = _pairs(folder, "sequences.txt")
    ends = np.flatnonzero(np.diff(users, append=users[-1] - 1))  # a user is one line, and all its items come together
    from_end = np.repeat(ends, np.diff(ends, prepend=-1)) - np.arange(len(users))
    ids, vocabulary, events = _events(
        users, items, -from_end * MICROSECONDS_PER_DAY, _purchases(users, Config()), users
    )
    last, before = 0, -MICROSECONDS_PER_DAY
    known = events.before(last)
    splits = Splits(known.before(before), known.between(before, last), _none_of(known), before, last)
    return Benchmark(splits, known, _catalog(vocabulary, _attributes(folder)), ids, _rows(ids, ids), repeats=False)


def read_last(folder: Path, benchmark: Benchmark) -> Int32:
    """The row of each user's last item, which tests, in a set of sequences that `read` has read: int32 [B]."""
    users, items = read_test(folder)
    last = dict(zip(users.tolist(), items.tolist(), strict=True))
    return benchmark.catalog.ids.rows_of([str(last[user]) for user in benchmark.users.tolist()])


def _read_events(folder: Path, config: Config, seed: int) -> Benchmark:
    with _opened(folder, "events.csv") as lines:
        rows = [(r["user_id"], r["item_id"], r["timestamp"], r["event"]) for r in csv.DictReader(lines)]
    users, items, seconds = (np.array([int(row[column]) for row in rows]) for column in range(3))
    codes = config.events.codes
    kinds = np.array([codes[KINDS.get(row[3], row[3])] for row in rows], np.int8)
    asked = np.unique(read_test(folder)[0])
    ids, vocabulary, known = _events(users, items, seconds * 1_000_000, kinds, asked)
    splits = split_by_time(known, validation_days=config.evaluation.validation_days, holdout_days=0)
    if not _find(folder, "test.txt"):
        splits = one_purchase_each(known, codes["purchase"], splits.holdout_start, seed)
    repeats = not _find(folder, "train.txt")
    return Benchmark(splits, known, _catalog(vocabulary), asked, _rows(ids, asked), repeats)


def one_purchase_each(known: Interactions, purchase: int, now: int, seed: int) -> Splits:
    """One random purchase of each user validates, and no event of that user with that item is left to learn from."""
    users = known.users.astype(np.int64)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(known.kinds == purchase))
    chosen = order[np.unique(users[order], return_index=True)[1]]
    pairs = users * known.item_count + known.items
    taken = np.isin(pairs, pairs[chosen])
    held = known.select(taken & (known.kinds == purchase))
    return Splits(known.select(~taken), held, _none_of(known), validation_start=now, holdout_start=now)


def _events(
    users: Int64, items: Int64, times: Int64, kinds: npt.NDArray[np.int8], asked: Int64
) -> tuple[Int64, Vocabulary, Interactions]:
    """User ids [U], sorted; the items' vocabulary; the events over both. Users who are only asked about have none."""
    user_ids, item_ids = np.union1d(users, asked), np.unique(items)
    events = Interactions.from_rows(
        _rows(user_ids, users),
        _rows(item_ids, items),
        kinds,
        times,
        np.full(len(users), np.nan, np.float32),
        user_count=len(user_ids),
        item_count=len(item_ids),
    )
    return user_ids, Vocabulary.from_ids(map(str, item_ids.tolist())), events


def _none_of(events: Interactions) -> Interactions:
    return events.select(np.zeros(len(events), np.bool_))


def _rows(ids: Int64, wanted: Int64) -> Int32:
    return np.searchsorted(ids, wanted).astype(np.int32)


def _purchases(users: Int64, config: Config) -> npt.NDArray[np.int8]:
    return np.full(len(users), config.events.codes["purchase"], np.int8)


def _catalog(vocabulary: Vocabulary, attributes: dict[str, list[str]] | None = None) -> Catalog:
    """attributes: item id -> brand, then categories."""
    if attributes is None:
        return Catalog(vocabulary, pa.table({"item_id": list(vocabulary)}))
    named = [attributes.get(item, []) for item in vocabulary]
    brands = [values[0] if values else None for values in named]
    categories = ["|".join(values[1:]) or None for values in named]
    return Catalog(vocabulary, pa.table({"item_id": list(vocabulary), "brand": brands, "category": categories}))


def _attributes(folder: Path) -> dict[str, list[str]] | None:
    if not _find(folder, "items.tsv"):
        return None
    with _opened(folder, "items.tsv") as lines:
        return {row["item_id"]: row["attributes"].split("|") for row in csv.DictReader(lines, delimiter="\t")}


def read_test(folder: Path) -> tuple[Int64, Int64]:
    """What a set's test asks for, as ids of its files: users [N] and items [N], each pair once."""
    if _find(folder, "sequences.txt"):
        users, items = _pairs(folder, "sequences.txt")
        last = np.flatnonzero(np.diff(users, append=users[-1] - 1))
        return users[last], items[last]
    if _find(folder, "test.txt"):
        pairs = np.stack(_pairs(folder, "test.txt"))
    else:
        with _opened(folder, "test_purchases.csv") as lines:
            rows = [(int(row["user_id"]), int(row["item_id"])) for row in csv.DictReader(lines)]
        pairs = np.array(rows, np.int64).T
    users, items = np.unique(pairs, axis=1)
    return users, items


def _pairs(folder: Path, name: str) -> tuple[Int64, Int64]:
    """Lines of `user item item …` -> users [E] and items [E]."""
    users: list[int] = []
    items: list[int] = []
    with _opened(folder, name) as lines:
        for line in lines:
            user, *theirs = map(int, line.split())
            users += [user] * len(theirs)
            items += theirs
    return np.array(users, np.int64), np.array(items, np.int64)


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.exists()), None)


@contextmanager
def _opened(folder: Path, name: str) -> Iterator[TextIO]:
    path = _find(folder, name)
    if path is None:
        raise FileNotFoundError(f"{folder / name} is not there, plain or with .gz")
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        yield lines
