"""What every model of MODELS must do; test_models.py runs it for each."""

import numpy as np
import pyarrow as pa

from recsys.config.settings import ModelSettings
from recsys.data.catalog import Catalog
from recsys.data.interactions import Histories, Interactions
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.data.vocabulary import Vocabulary
from recsys.models import contract
from recsys.models.budget import Budget
from recsys.models.contract import TrainingData, find_model, settings_of

SETTINGS = ModelSettings.model_validate(
    {
        "mf": {
            "n_factors": [8],
            "popularity_exponents": [0.2],
            "recency_exponents": [0.3],
            "recency_half_life_days": [20],
        }
        | {"user_exponents": [0.5], "item_exponents": [0.4], "singular_exponents": [0.25]},
        "two_tower": {
            "dim": 8,
            "epochs": 4,
            "batch_size": 64,
            "negatives": 16,
            "temperatures": [0.1],
            "normalize_items": [True],
        },
        "sequence": {"dim": 16, "length": 8, "dropout": 0.1, "epochs": 4, "batch_size": 64, "temperatures": [0.1]},
    }
)
GROUPS, PER_GROUP, USERS = 3, 8, 150
ITEMS = GROUPS * PER_GROUP
NOW = 1_700_000_000_000_000


def checkerboard(cold: int = 0) -> TrainingData:
    """Each user buys from one group of items; `cold` items more, of the first group by category, have no event."""
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(USERS, dtype=np.int32), 5)
    items = np.concatenate([random.choice(PER_GROUP, 5, replace=False) + u % GROUPS * PER_GROUP for u in range(USERS)])
    times = NOW - random.integers(1, 60 * MICROSECONDS_PER_DAY, len(users))
    return training_data(users, items.astype(np.int32), times, USERS, cold)


def training_data(users, items, times, user_count, cold=0) -> TrainingData:
    count = ITEMS + cold
    groups = [f"Group {row // PER_GROUP}" if row < ITEMS else "Group 0" for row in range(count)]
    events = Interactions.from_rows(
        users,
        items,
        np.zeros(len(users), np.int8),
        times,
        np.full(len(users), np.nan, np.float32),
        user_count=user_count,
        item_count=count,
    )
    catalog = Catalog(Vocabulary.from_ids(f"i{row}" for row in range(count)), pa.table({"category": groups}))
    return TrainingData(events, catalog, NOW, (1.0,), (0,), (90.0,))


def history(*items: int) -> Histories:
    """One user with these items, bought yesterday."""
    n = len(items)
    offsets = np.array([0, n], np.int64)
    return Histories(offsets, np.array(items, np.int32), np.zeros(n, np.int8), np.ones(n, np.float32))


def tuned(name: str, data: TrainingData, space=None, score=lambda _: 0.0):
    """The vectors of the settings that a model chooses."""
    space = settings_of(SETTINGS, name) if space is None else space
    return find_model(name).tune(data, space, score, Budget())


def fitted(name: str, data: TrainingData, settings):
    """The vectors of settings chosen before."""
    return contract.fit(name, data, settings, Budget())


def scores(vectors, *items: int) -> np.ndarray:
    """The scores of all items for a history: [I]."""
    return (vectors.encode(history(*items)) @ vectors.item_vectors.T)[0]
