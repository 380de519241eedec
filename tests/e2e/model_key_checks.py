"""Of the keys of the models, and of what auto may take: checks as in `key_checks.py`, and what all checks share."""

from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

import numpy as np
from road import configured, quiet

from jobs import candidates
from jobs.candidates import Night
from recsys import source
from recsys.config import Config
from recsys.evaluation import validation_score
from recsys.sample import END
from recsys.store import open_store
from recsys.vectors import Vectors

# One value each, so that training chooses nothing and takes no validation.
SINGLE = {
    "RECSYS_EVENTS__HALF_LIFE_DAYS": "[365.0]",
    "RECSYS_MODELS__POPULARITY__HALF_LIFE_DAYS": "[28.0]",
    "RECSYS_MODELS__MF__RANKS": "[8]",
    "RECSYS_MODELS__MF__RECENCY_EXPONENTS": "[0.3]",
    "RECSYS_MODELS__TWO_TOWER__TEMPERATURES": "[0.1]",
    "RECSYS_MODELS__TWO_TOWER__UNIT_ITEMS": "[true]",
    "RECSYS_MODELS__TWO_TOWER__DIM": "8",
    "RECSYS_MODELS__TWO_TOWER__EPOCHS": "1",
}


def changed(folder: Path, key: str, value: str, **others: str) -> Config:
    """The shop's configuration with one key set as by the environment."""
    table, _, name = key.rpartition(".")
    variable = f"RECSYS_{table.replace('.', '__')}__{name}".upper()
    return configured(folder, **{**others, variable: value})


def loaded(config: Config) -> source.Loaded:
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        return source.load(config, store, now=END, report=quiet)


def fit(config: Config, model: str, score: Callable[[Vectors], float] | None = None) -> Vectors:
    """A model trained on everything before the holdout."""
    found = Night(config, loaded(config), None, quiet)  # fitting leaves the run alone
    return candidates.fit(found, model, found.splits.known, found.splits.holdout_start, score=score)


def differ(first: Vectors, second: Vectors) -> bool:
    return first.item_vectors.shape != second.item_vectors.shape or not np.allclose(
        first.item_vectors, second.item_vectors, rtol=1e-3
    )


def vectors_differ(model: str, key: str, value: str) -> Callable[[Path], None]:
    """A check that the model's vectors depend on the key."""

    def check(shop: Path) -> None:
        before, after = configured(shop, **SINGLE), changed(shop, key, value, **SINGLE)
        assert differ(fit(before, model, always_better()), fit(after, model, always_better()))

    return check


def always_better() -> Callable[[Vectors], float]:
    """A score that finds whatever comes later better."""
    numbers = count()
    return lambda _: float(next(numbers))


def check_patience(shop: Path) -> None:
    def epochs(patience: str) -> int:
        """Passes until training gives up on a score that only falls."""
        scores: list[float] = []

        def worse(_: Vectors) -> float:
            scores.append(1 / (1 + len(scores)))
            return scores[-1]

        others = {**SINGLE, "RECSYS_MODELS__TWO_TOWER__EPOCHS": "8"}
        fit(changed(shop, "models.two_tower.patience", patience, **others), "two_tower", worse)
        return len(scores)

    assert epochs("1") < epochs("4")


def check_candidates(shop: Path) -> None:
    def compared(names: str) -> set[str]:
        config = changed(shop, "models.auto.candidates", names, **SINGLE)
        return set(fit(config, "auto", always_better()).settings["comparison"])

    assert compared('["popularity", "mf"]') == {"popularity", "mf", "blend"}
    assert compared('["mf"]') == {"mf", "blend"}


def check_budget(shop: Path) -> None:
    """A budget of next to nothing leaves the first candidate alone."""
    for minutes, skipped in (("0.0001", {"mf"}), ("60", set())):
        others = {**SINGLE, "RECSYS_MODELS__AUTO__CANDIDATES": '["popularity", "mf"]'}
        config = changed(shop, "training.budget_minutes", minutes, **others)
        assert set(fit(config, "auto", always_better()).settings["skipped"]) == skipped


def check_choice(shop: Path) -> None:
    config = configured(shop, **SINGLE)
    several = changed(shop, "models.popularity.half_life_days", "[7.0, 36500.0]", **SINGLE)
    found = Night(several, loaded(several), None, quiet)
    score = validation_score(found.loaded.catalog, found.splits, several)
    assert differ(fit(config, "popularity"), fit(several, "popularity", score))


MODEL_CHECKS: dict[str, Callable[[Path], None]] = {
    "models.popularity.half_life_days": check_choice,
    "models.mf.ranks": vectors_differ("mf", "models.mf.ranks", "[16]"),
    "models.mf.item_exponents": vectors_differ("mf", "models.mf.item_exponents", "[0.0]"),
    "models.mf.popularity_exponents": vectors_differ("mf", "models.mf.popularity_exponents", "[0.9]"),
    "models.mf.recency_half_life_days": vectors_differ("mf", "models.mf.recency_half_life_days", "[3.0]"),
    "models.mf.recency_exponents": vectors_differ("mf", "models.mf.recency_exponents", "[0.9]"),
    "models.mf.kind_exponents": vectors_differ("mf", "models.mf.kind_exponents", "[0.0]"),
    "models.mf.singular_exponents": vectors_differ("mf", "models.mf.singular_exponents", "[0.9]"),
    "models.mf.iterations": vectors_differ("mf", "models.mf.iterations", "1"),
    "models.two_tower.dim": vectors_differ("two_tower", "models.two_tower.dim", "12"),
    "models.two_tower.epochs": vectors_differ("two_tower", "models.two_tower.epochs", "2"),
    "models.two_tower.patience": check_patience,
    "models.two_tower.batch_size": vectors_differ("two_tower", "models.two_tower.batch_size", "64"),
    "models.two_tower.negatives": vectors_differ("two_tower", "models.two_tower.negatives", "16"),
    "models.two_tower.learning_rate": vectors_differ("two_tower", "models.two_tower.learning_rate", "0.5"),
    "models.two_tower.temperatures": vectors_differ("two_tower", "models.two_tower.temperatures", "[0.5]"),
    "models.two_tower.unit_items": vectors_differ("two_tower", "models.two_tower.unit_items", "[false]"),
    "models.two_tower.demands": vectors_differ("two_tower", "models.two_tower.demands", "[3.0]"),
    "models.two_tower.recency_half_life_days": vectors_differ(
        "two_tower", "models.two_tower.recency_half_life_days", "[2.0]"
    ),
    "models.auto.candidates": check_candidates,
    "training.budget_minutes": check_budget,
}
