"""The checks of the models' keys, as those of key_checks."""

from collections.abc import Callable
from pathlib import Path

from key_checks import SINGLE, always_better, changed, differ, fit, loaded, vectors_differ
from road import configured

from recsys.models.vectors import Vectors
from recsys.training.evaluation import ValidationScore
from recsys.training.pipeline import TrainingRun

PREFIX = "models.sequence."
SMALL = {
    **SINGLE,
    "RECSYS_MODELS__SEQUENCE__DIM": "8",
    "RECSYS_MODELS__SEQUENCE__EPOCHS": "1",
    "RECSYS_MODELS__SEQUENCE__TREND_WEIGHTS": "[0.5]",
    "RECSYS_MODELS__SEQUENCE__RECENCY_HALF_LIFE_DAYS": "[10.0]",
}
SAMPLED = {**SMALL, "RECSYS_MODELS__SEQUENCE__FULL_SOFTMAX_ITEMS": "0", "RECSYS_MODELS__SEQUENCE__NEGATIVES": "32"}


def sequence_differs(key: str, value: str, others: dict[str, str] = SMALL) -> Callable[[Path], None]:
    """A check that the vectors depend on the key; the others are what it is changed from."""

    def check(shop: Path) -> None:
        before, after = changed(shop, "training.seed", "0", **others), changed(shop, PREFIX + key, value, **others)
        assert differ(fit(before, "sequence", always_better()), fit(after, "sequence", always_better()))

    return check


def check_patience(shop: Path) -> None:
    def epochs(patience: str) -> int:
        """Passes until training gives up on a score that only falls."""
        scores: list[float] = []

        def worse(_: Vectors) -> float:
            scores.append(1 / (1 + len(scores)))
            return scores[-1]

        others = {**SMALL, "RECSYS_MODELS__SEQUENCE__EPOCHS": "8"}
        fit(changed(shop, PREFIX + "patience", patience, **others), "sequence", worse)
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


def check_two_tower_patience(shop: Path) -> None:
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


def check_choice(shop: Path) -> None:
    config = configured(shop, **SINGLE)
    several = changed(shop, "models.popularity.half_life_days", "[7.0, 36500.0]", **SINGLE)
    run = TrainingRun(several, loaded(several))
    score = ValidationScore(run.dataset.catalog, run.splits, several)
    assert differ(fit(config, "popularity"), fit(several, "popularity", score))


MODEL_CHECKS: dict[str, Callable[[Path], None]] = {
    "models.popularity.half_life_days": check_choice,
    "models.mf.n_factors": vectors_differ("mf", "models.mf.n_factors", "[16]"),
    "models.mf.user_exponents": vectors_differ("mf", "models.mf.user_exponents", "[0.0]"),
    "models.mf.item_exponents": vectors_differ("mf", "models.mf.item_exponents", "[0.0]"),
    "models.mf.popularity_exponents": vectors_differ("mf", "models.mf.popularity_exponents", "[0.9]"),
    "models.mf.recency_half_life_days": vectors_differ("mf", "models.mf.recency_half_life_days", "[3.0]"),
    "models.mf.recency_exponents": vectors_differ("mf", "models.mf.recency_exponents", "[0.9]"),
    "models.mf.kind_exponents": vectors_differ("mf", "models.mf.kind_exponents", "[0.0]"),
    "models.mf.singular_exponents": vectors_differ("mf", "models.mf.singular_exponents", "[0.9]"),
    "models.mf.iterations": vectors_differ("mf", "models.mf.iterations", "1"),
    "models.two_tower.dim": vectors_differ("two_tower", "models.two_tower.dim", "12"),
    "models.two_tower.epochs": vectors_differ("two_tower", "models.two_tower.epochs", "2"),
    "models.two_tower.max_events_per_epoch": vectors_differ("two_tower", "models.two_tower.max_events_per_epoch", "50"),
    "models.two_tower.patience": check_two_tower_patience,
    "models.two_tower.batch_size": vectors_differ("two_tower", "models.two_tower.batch_size", "64"),
    "models.two_tower.negatives": vectors_differ("two_tower", "models.two_tower.negatives", "16"),
    "models.two_tower.learning_rate": vectors_differ("two_tower", "models.two_tower.learning_rate", "0.5"),
    "models.two_tower.temperatures": vectors_differ("two_tower", "models.two_tower.temperatures", "[0.5]"),
    "models.two_tower.normalize_items": vectors_differ("two_tower", "models.two_tower.normalize_items", "[false]"),
    "models.two_tower.trend_weights": vectors_differ("two_tower", "models.two_tower.trend_weights", "[3.0]"),
    "models.two_tower.recency_half_life_days": vectors_differ(
        "two_tower", "models.two_tower.recency_half_life_days", "[2.0]"
    ),
    PREFIX + "dim": sequence_differs("dim", "16"),
    PREFIX + "length": sequence_differs("length", "3"),
    PREFIX + "blocks": sequence_differs("blocks", "2"),
    PREFIX + "dropout": sequence_differs("dropout", "0.9"),
    PREFIX + "epochs": sequence_differs("epochs", "2"),
    PREFIX + "max_events_per_epoch": sequence_differs("max_events_per_epoch", "50"),
    PREFIX + "patience": check_patience,
    PREFIX + "batch_size": sequence_differs("batch_size", "64"),
    PREFIX + "full_softmax_items": sequence_differs("full_softmax_items", "0"),
    PREFIX + "negatives": sequence_differs("negatives", "8", SAMPLED),
    PREFIX + "temperatures": sequence_differs("temperatures", "[0.5]"),
    PREFIX + "trend_weights": sequence_differs("trend_weights", "[3.0]"),
    PREFIX + "recency_half_life_days": sequence_differs("recency_half_life_days", "[2.0]"),
    "models.auto.candidates": check_candidates,
    "training.budget_minutes": check_budget,
}
