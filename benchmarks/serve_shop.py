"""A shop for measuring the service: a bundle as training makes it, an extract, events posted since, the configuration.

The catalog has words, categories and brands; a hundredth of the items is new; what belongs together is drawn.
Shapes: I items, D dim.
"""

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.bundle.bundle import Bundle, assemble
from recsys.config.settings import Config, IndexSettings
from recsys.data import extract
from recsys.data.arrays import Int64
from recsys.data.catalog import Catalog
from recsys.data.demand import count_events
from recsys.data.interactions import Histories, Interactions
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary
from recsys.models.vectors import ItemEncoder, Part, Vectors, WeightedSum
from recsys.related.content import read_content
from recsys.related.repeats import without_training
from recsys.related.tables import Related, Table, empty_table
from recsys.store.events import insert_events
from recsys.store.keys import create_key
from recsys.store.migrate import open_store

DIM = 64  # of random vectors
USERS = 20_000
HISTORY = 20
CATEGORIES = 20  # a filter on one leaves 5 %
BRANDS = 1_000  # .1 %
RARE = 10  # items of a series
POSTED_USERS, POSTED = 2_000, 3  # users with so many events that came after training
TOKENS = 20_000  # of the item encoder
KINDS = ("view", "cart", "purchase")
WORDS, TITLE = 20_000, 4  # words that there are, and so many make a title
NEW_SHARE, NEW_DAYS, OLD_DAYS = 0.01, 30, 700  # of the items came so lately, the others within so many days
TOGETHER = 30  # items that belong to each
HALF_LIFE_DAYS = 28.0


def random_vectors(items: int) -> Vectors:
    """Random vectors: good for comparing answers, not for measuring a search."""
    random = np.random.default_rng(0)
    item_vectors = random.standard_normal((items, DIM), np.float32)
    item_vectors *= np.exp(0.3 * random.standard_normal((items, 1), np.float32))
    part = Part(random.standard_normal((items, DIM), np.float32), WeightedSum((0.2, 0.5, 1.0), 90.0))
    return Vectors("mf", item_vectors, (part,), None, {})


def random_histories(items: int) -> Histories:
    """The histories of as many users as are needed, over the last 90 days."""
    random = np.random.default_rng(1)
    count = USERS * HISTORY
    ages = np.sort(random.random((USERS, HISTORY)) * 90, axis=1)[:, ::-1]
    return Histories(
        np.arange(0, count + 1, HISTORY, dtype=np.int64),
        random.integers(0, items, count).astype(np.int32),
        random.integers(0, len(KINDS), count).astype(np.int8),
        ages.ravel().astype(np.float32),
    )


def make_shop(
    folder: Path,
    vectors: Vectors,
    histories: Histories,
    *,
    index: IndexSettings | None = None,
    store_url: str | None = None,
) -> tuple[Bundle, str]:
    """Save and publish a bundle of items i0, i1, … and an extract of users u0, u1, … with these histories.

    index: the index to build, measured with the histories; None: the exact one. store_url: the database of the
    service; None: SQLite in the folder. Returns the bundle and a key.
    """
    random, now = np.random.default_rng(0), time.time_ns() // 1000
    items = len(vectors.item_vectors)
    catalog = _catalog(random, items, now)
    events = _events(histories, items, now)
    counts = np.bincount(events.items, minlength=items)
    queries = None
    if index is not None:
        chosen = random.choice(len(histories), min(1000, len(histories)), replace=False)
        queries = np.concatenate([vectors.encode(histories.slice(user, user + 1)) for user in chosen.tolist()])
    made = assemble(
        _with_item_encoder(random, vectors),
        catalog,
        counts.astype(np.float32),
        kinds=KINDS,
        index_settings=index or IndexSettings(),
        queries=queries,
    )
    demand = count_events(events, kind_count=len(KINDS), half_life_days=HALF_LIFE_DAYS)
    # The same vectors stand for those before the refit: audiences learn with them, and are as fast.
    made = replace(made, demand=demand, related=_related(random, catalog, counts), evaluation=vectors)
    facts = {"config_hash": "00000000", "configuration": Config().model_dump(mode="json")}
    version = bundles.save(made, folder / "data", facts=facts)
    versions.publish(folder / "data", version)
    users = Vocabulary.from_ids(f"u{row}" for row in range(len(histories)))
    readings = SimpleNamespace(users=users, catalog=catalog, events=events, kinds=KINDS, watermark=now)
    extract.publish(folder / "data", extract.write(folder / "data", readings))
    return made, use_store(folder, store_url)


def use_store(folder: Path, store_url: str | None) -> str:
    """Write the configuration of a shop that was made, for this database, and fill that. Returns a key."""
    live = extract.open_extract(folder / "data")
    url = store_url or f"sqlite:///{folder.resolve()}/recsys.db"
    (folder / "recsys.toml").write_text(
        f'[storage]\npath = "data"\n\n[store]\nurl = "{url}"\ntable_prefix = "recsys_bench_"\n'
    )
    return _fill_store(np.random.default_rng(1), url, len(live.items), len(live.users), live.watermark)


def _events(histories: Histories, items: int, now: int) -> Interactions:
    return Interactions(
        histories.offsets,
        histories.items,
        histories.kinds,
        now - (histories.ages_days.astype(np.float64) * MICROSECONDS_PER_DAY).astype(np.int64) - 1,
        np.full(len(histories.items), np.nan, np.float32),
        items,
    )


def _related(random: np.random.Generator, catalog: Catalog, counts: Int64) -> Related:
    """Drawn pairs, and the content of the catalog."""
    items = len(catalog)
    scores = -np.sort(-random.random((items, TOGETHER), np.float32), axis=1)
    pairs = random.integers(0, items, items * TOGETHER).astype(np.int32)
    together = Table(np.arange(0, items * TOGETHER + 1, TOGETHER), pairs, scores.ravel())
    none = empty_table(items)
    content = read_content(catalog.columns, counts)
    return Related(together, none, none, without_training(items), content, {})


def _catalog(random: np.random.Generator, items: int, now: int) -> Catalog:
    def numbered(name: str, count: int) -> pa.Array:
        names = pa.array([f"{name} {row}" for row in range(count)])
        return pa.DictionaryArray.from_arrays(pa.array(random.integers(0, count, items).astype(np.int32)), names)

    words = (WORDS * random.random((items, TITLE)) ** 3).astype(np.int64).tolist()  # some are far more common
    ages = NEW_DAYS + (OLD_DAYS - NEW_DAYS) * random.random(items)
    is_new = random.random(items) < NEW_SHARE
    ages[is_new] = NEW_DAYS * random.random(np.count_nonzero(is_new))
    columns = {
        "title": [" ".join(f"word{word}" for word in title) for title in words],
        "category": numbered("Category", CATEGORIES),
        "brand": numbered("Brand", BRANDS),
        "series": pa.array(np.arange(items) // RARE),
        "price": random.random(items) * 100,
        "available": random.random(items) < 0.95,
        "created_at": now - (ages * MICROSECONDS_PER_DAY).astype(np.int64),
    }
    return Catalog(Vocabulary.from_ids(f"i{row}" for row in range(items)), pa.table(columns))


def _with_item_encoder(random: np.random.Generator, vectors: Vectors) -> Vectors:
    weights = [random.standard_normal((TOKENS, vectors.dim), np.float32) for _ in range(2)]
    encoder = ItemEncoder(np.sort(random.integers(0, 2**63, TOKENS, np.uint64)), weights[0], (weights[1],))
    return Vectors(vectors.model, vectors.item_vectors, vectors.parts, encoder, {})


def _fill_store(random: np.random.Generator, url: str, items: int, users: int, now: int) -> str:
    """Post events of some users, and make a key."""
    count = min(POSTED_USERS, users) * POSTED
    store = open_store(url, "recsys_bench_")
    stamp = time.time_ns()
    rows = {
        "event_id": [f"{stamp}-{at}" for at in range(count)],
        "user_id": [f"u{at // POSTED}" for at in range(count)],
        "kind": ["view"] * count,
        "item_id": [f"i{row}" for row in random.integers(0, items, count)],
        "occurred_at": [now + at for at in range(count)],
        "received_at": [now + at for at in range(count)],
    }
    insert_events(store, pa.table(rows))
    key = create_key(store, f"bench {stamp}", ("recommend", "admin"))[1]
    store.close()
    return key
