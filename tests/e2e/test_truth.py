"""On the sample shop, whose purchase probabilities are known, models lie between chance and truth."""

from dataclasses import replace

import numpy as np
import pytest
from tiny import quiet

from recsys.config.loading import load_config
from recsys.config.settings import Config
from recsys.data.interactions import Interactions
from recsys.data.targets import targets_of
from recsys.sample.shop import generate, sample_config
from recsys.source.dataset import Dataset, load
from recsys.store.migrate import open_store
from recsys.training.metrics import ranking_metrics
from recsys.training.pipeline import TrainingRun, evaluate_all

METRIC = "ndcg@20"


@pytest.fixture(scope="module")
def night_of_truth(tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth")
    truth = generate(folder / "shop.db", users=2500, items=250, events=50_000, seed=2, progress=quiet)
    settings = folder / "recsys.toml"
    settings.write_text(sample_config())
    # Few values to choose from, and two candidates for auto: models that are chosen badly would lie lower, not higher.
    environment = {
        "RECSYS_MODELS__MF__N_FACTORS": "[32]",
        "RECSYS_MODELS__TWO_TOWER__TEMPERATURES": "[0.1]",
        "RECSYS_MODELS__TWO_TOWER__NORMALIZE_ITEMS": "[true]",
        "RECSYS_MODELS__AUTO__CANDIDATES": '["mf", "two_tower"]',
        "RECSYS_RECOMMENDATIONS__ALLOW_REPURCHASE": "true",
        "RECSYS_TRAINING__MODELS": '["mf", "two_tower", "auto"]',
        "RECSYS_TRAINING__BUDGET_MINUTES": "2",
        "RECSYS_MODELS__TWO_TOWER__DIM": "32",
    }
    config = load_config(settings, environment)
    store = open_store(config.store.url)
    loaded = load(config, store, now=2_000_000_000_000_000, progress=quiet)
    yield truth, config, loaded
    store.close()


def judged(config: Config, loaded: Dataset) -> dict[str, float]:
    return {c.name: c.result.rows["all"][METRIC] for c in evaluate_all(TrainingRun(config, loaded))}


def test_models_lie_between_random_and_oracle(night_of_truth):
    truth, config, loaded = night_of_truth
    figures = judged(config, loaded)
    splits = TrainingRun(config, loaded).splits
    targets = targets_of(splits.holdout, splits.known, target_codes=config.target_codes, bought_codes=())
    rows = truth_rows(truth, loaded, targets.users)
    counts = np.bincount(splits.known.items, minlength=splits.known.item_count)
    oracle = ranking_metrics(rows, targets, item_counts=counts)[METRIC]
    random = np.random.default_rng(0)
    shuffled = np.argsort(random.random((len(targets.users), len(loaded.catalog))), axis=1)[:, :20].astype(np.int32)
    chance = ranking_metrics(shuffled, targets, item_counts=counts)[METRIC]
    assert chance * 2 < figures["popularity"]
    assert figures["popularity"] * 1.1 < figures["two_tower"] < oracle
    assert figures["popularity"] * 1.2 < figures["mf"] < oracle
    assert max(figures["popularity"], figures["mf"]) * 0.95 < figures["auto"] < oracle


def truth_rows(truth, loaded, users):
    """The oracle's first 20 items, as rows of the loaded catalog."""
    user_at = {identifier: at for at, identifier in enumerate(truth.user_ids)}
    item_rows = loaded.catalog.ids.rows_of(truth.item_ids)
    scores = truth.scores(np.array([user_at[loaded.users.id_of(int(u))] for u in users]))
    return item_rows[np.argsort(-scores, axis=1)[:, :20]].astype(np.int32)


def test_shuffled_items_bring_mf_down_to_popularity(night_of_truth):
    _, config, loaded = night_of_truth
    mixed = np.random.default_rng(0).permutation(loaded.events.items)  # who bought what is lost, demand is not
    events: Interactions = replace(loaded.events, items=mixed)
    config = config.model_copy(update={"training": config.training.model_copy(update={"models": ("mf",)})})
    honest, figures = judged(config, loaded), judged(config, replace(loaded, events=events))
    gain, left = honest["mf"] / honest["popularity"] - 1, figures["mf"] / figures["popularity"] - 1
    assert left < gain / 4
