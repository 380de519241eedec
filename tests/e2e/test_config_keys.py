"""For every key of the configuration: changing it changes an outcome."""

import ast
import operator
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import key_checks as outcomes
import pytest
from key_checks import SINGLE, changed, differ, fit, loaded
from keys_elsewhere import ELSEWHERE
from once import made_once
from pydantic import BaseModel
from road import QUICK, configured
from tiny import quiet

from jobs.init_file import sample
from jobs.train import train
from recsys.config.loading import load_config
from recsys.config.settings import Config, field_name
from recsys.models.vectors import Vectors
from recsys.training.evaluation import ValidationScore
from recsys.training.pipeline import TrainingRun

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Change:
    """A value to set, the outcome that it changes, and what must hold of the outcome before and after."""

    value: str
    outcome: Callable[[Config], Any]
    holds: Callable[[Any, Any], bool] = operator.ne
    others: dict[str, str] = field(default_factory=dict)  # what else is set, before and after


def become(before: Any, after: Any) -> Callable[[Any, Any], bool]:
    """The outcomes are these two."""
    return lambda one, other: (one, other) == (before, after)


def catalog(config: Config) -> Any:
    return loaded(config).catalog


VIEW_LATER = """
SELECT customer_id AS user_id, CASE WHEN id % 20 THEN sku END AS item_id, 'view' AS event, viewed_at AS timestamp
FROM page_views"""
VIEW_AND_RETURN = """
SELECT customer_id AS user_id, sku AS item_id, CASE WHEN id % 20 THEN 'view' ELSE 'Retoure' END AS event,
       viewed_at AS timestamp
FROM page_views"""
VISITS = {
    "RECSYS_SOURCE__INTERACTIONS": """
SELECT CASE WHEN id % 2 THEN customer_id END AS user_id, customer_id AS visitor_id, sku AS item_id, 'view' AS event,
       viewed_at AS timestamp
FROM page_views WHERE customer_id % 2 = id % 2"""
}
OWN_VIEWS = {"RECSYS_EVENTS__OWN_KINDS": '["view"]'}

CHANGES: dict[str, Change] = {
    "store.url": Change(
        "sqlite:///other.db",
        outcomes.own_tables,
        lambda before, after: "other.db" not in before and after["other.db"] == {"recsys_events"},
    ),
    "store.table_prefix": Change(
        "second_",
        outcomes.own_tables,
        lambda before, after: after["recsys.db"] - before["recsys.db"] == {"second_events"},
    ),
    "storage.path": Change(
        "elsewhere",
        lambda config: outcomes.refusal(config, outcomes.recommended),
        lambda before, after: not before and "elsewhere" in after,
    ),
    "storage.keep_bundles": Change("2", outcomes.kept_bundles, become(4, 2)),
    "source.url": Change("sqlite:///second/shop.db", lambda config: len(catalog(config)), become(200, 30)),
    "source.dialect": Change(
        "no_such_module:DUCKDB",
        lambda config: outcomes.refusal(config, loaded),
        lambda before, after: not before and "no_such_module:DUCKDB" in after,
    ),
    "source.interactions": Change(
        "SELECT customer_id AS user_id, sku AS item_id, 'view' AS event, viewed_at AS timestamp FROM page_views",
        lambda config: set(loaded(config).events.kinds),
        become({0, 1, 2}, {0}),
    ),
    "source.items": Change(
        "SELECT sku AS item_id, name AS title FROM products",
        lambda config: "brand" in catalog(config).columns.column_names,
        become(True, False),
    ),
    "source.users": Change(
        "SELECT id AS user_id, 0 AS email_consent FROM customers",
        lambda config: loaded(config).consent.true_count,
        lambda before, after: before > after == 0,
    ),
    "source.timezone": Change(
        "Asia/Tokyo",
        lambda config: int(loaded(config).events.times.max()),
        lambda before, after: before - after == 9 * 60 * outcomes.MINUTE,
    ),
    "source.guest_ids": Change(
        '["1001", "1002", "1003", "1004", "1005", "1006"]',
        lambda config: loaded(config).report.counts["users"],
        operator.gt,
    ),
    "source.max_bad_share": Change(
        "0.2",
        lambda config: outcomes.refusal(config, loaded),
        lambda before, after: bool(before) and not after,
        {"RECSYS_SOURCE__INTERACTIONS": VIEW_LATER},
    ),
    "import.columns": Change(
        '{ user_id = "Customer" }',
        outcomes.imported,
        lambda before, after: "lacks user_id; found: Customer" in before and after == "1 of 1",
    ),
    "import.max_expanded_mib": Change(
        "1",
        outcomes.imported_compressed,
        lambda before, after: before == "1 of 2" and "max_expanded_mib allows 1" in after,
    ),
    "events.aliases": Change(
        '{ order = "cart" }', lambda config: 2 in loaded(config).events.kinds, become(True, False)
    ),
    "events.own_kinds": Change('["view"]', outcomes.events_with_own(60), lambda before, after: after == before + 1),
    "events.new_kind_weight": Change(
        "0", outcomes.events_with_own(60, kind="wish"), lambda before, after: after == before - 1
    ),
    "events.dedup_window_minutes": Change(
        "0.1", outcomes.events_with_own(5), lambda before, after: after == before + 1, OWN_VIEWS
    ),
    "events.visitor_days": Change("30.0", outcomes.visits, lambda before, after: 0 < after < before, VISITS),
    "events.max_visitor_events": Change("100", outcomes.visits, lambda before, after: before > 100 == after, VISITS),
    "events.history_length": Change("3", outcomes.longest_history, lambda before, after: before > 3 == after),
    "events.bought": Change(
        '["view", "purchase"]', outcomes.viewed_and_recommended, lambda before, after: before > 20 and after == 0
    ),
    "events.returns": Change(
        '["Retoure"]',
        lambda config: outcomes.refusal(config, loaded),
        lambda before, after: "unknown kind" in before and not after,
        {"RECSYS_SOURCE__INTERACTIONS": VIEW_AND_RETURN},
    ),
    "evaluation.validation_days": Change("7.0", outcomes.split_days, become((28, 28), (7, 28))),
    "evaluation.holdout_days": Change("7.0", outcomes.split_days, become((28, 28), (28, 7))),
    "evaluation.targets": Change('["view"]', outcomes.judged_users, lambda before, after: after > 1.3 * before, SINGLE),
    "evaluation.max_users": Change(
        "100",
        outcomes.judged_users,
        lambda before, after: before > 100 == after,
        SINGLE | {"RECSYS_EVALUATION__TARGETS": '["view"]'},
    ),
    "recommendations.allow_repurchase": Change(
        "true", outcomes.bought_and_recommended, lambda before, after: before == 0 and after > 20
    ),
    "recommendations.allow_unlisted": Change(
        "true",
        outcomes.deleted_and_recommended,
        lambda before, after: before == 0 < after,
        {
            "RECSYS_STORAGE__PATH": "fresh",
            "RECSYS_SOURCE__ITEMS": "SELECT sku AS item_id, name AS title FROM products WHERE sku NOT LIKE '%0'",
        },
    ),
    "recommendations.exclude_sold_out": Change(
        "false", outcomes.sold_out_and_recommended, lambda before, after: before == 0 < after
    ),
    "training.models": Change(
        '["popularity"]',
        outcomes.published_model,
        become("mf", "popularity"),
        {"RECSYS_STORAGE__PATH": "fresh"},
    ),
    "training.device": Change(
        "cuda",
        lambda config: outcomes.refusal(config, lambda config: train(config, progress=quiet)),
        lambda before, after: not before and ("cuda" in after or Path("/dev/nvidia0").exists()),
        {"RECSYS_STORAGE__PATH": "fresh"},
    ),
    "training.budget_minutes": Change(
        "0.0001",
        lambda config: fit(config, "auto", outcomes.always_better()).settings["skipped"],
        lambda before, after: not before and set(after) == {"mf"},
        SINGLE | {"RECSYS_MODELS__AUTO__CANDIDATES": '["popularity", "mf"]', "RECSYS_TRAINING__BUDGET_MINUTES": "60"},
    ),
    "models.auto.candidates": Change(
        '["mf"]',
        outcomes.compared,
        become({"popularity", "mf", "blend"}, {"mf", "blend"}),
        SINGLE | {"RECSYS_MODELS__AUTO__CANDIDATES": '["popularity", "mf"]'},
    ),
    "gate.max_relative_drop": Change("0.3", outcomes.published_when(worse_by=0.2), become(False, True)),
    "index.kind": Change(
        "cubic",
        lambda config: outcomes.refusal(config, lambda config: train(config, progress=quiet)),
        lambda before, after: not before and "flat" in after,
        {"RECSYS_STORAGE__PATH": "fresh"},
    ),
    "api.host": Change(
        "0.0.0.0",
        outcomes.listens,
        lambda before, after: before["host"] == "127.0.0.1" and "'0.0.0.0'" in after["refused"],
    ),
    "api.port": Change("8123", lambda config: outcomes.listens(config)["port"], become(8000, 8123)),
    "api.workers": Change("3", lambda config: outcomes.listens(config)["workers"], become(1, 3)),
    "api.threads": Change("3", outcomes.threads, become(8, 3)),
    "api.max_body_bytes": Change("1000", outcomes.asked(outcomes.status_of_a_long_body), become(200, 413)),
    "api.max_fresh_items": Change("0", outcomes.asked(outcomes.status_of_a_fresh_item), become(200, 404)),
    "api.poll_seconds": Change(
        "0.05",
        outcomes.asked(outcomes.status_after_the_first_key),
        become(200, 401),
        {"RECSYS_API__POLL_SECONDS": "600"},
    ),
    "api.database_timeout_seconds": Change(
        "0.1",
        outcomes.asked(outcomes.seconds_without_the_database),
        lambda before, after: after < 1.5 <= before,
        {"RECSYS_API__DATABASE_TIMEOUT_SECONDS": "1.5"},
    ),
    "requests.share": Change("1", outcomes.asked(outcomes.status_of_a_kept_request), become(404, 200)),
    "requests.days": Change("50", outcomes.asked(outcomes.status_of_an_old_request), become(404, 200)),
    "schedule.train": Change("0 5 * * *", outcomes.due_hour, become(3, 5), {"RECSYS_SCHEDULE__TRAIN": "0 3 * * *"}),
    "schedule.zone": Change("Asia/Tokyo", outcomes.due_hour, become(12, 3), {"RECSYS_SCHEDULE__TRAIN": "0 12 * * *"}),
    "models.two_tower.patience": Change(
        "4",
        outcomes.epochs_until_given_up("two_tower"),
        operator.lt,
        SINGLE | {"RECSYS_MODELS__TWO_TOWER__EPOCHS": "8", "RECSYS_MODELS__TWO_TOWER__PATIENCE": "1"},
    ),
    "models.sequence.patience": Change(
        "4",
        outcomes.epochs_until_given_up("sequence"),
        operator.lt,
        SINGLE
        | {"RECSYS_MODELS__SEQUENCE__EPOCHS": "8", "RECSYS_MODELS__SEQUENCE__PATIENCE": "1"}
        | {"RECSYS_MODELS__SEQUENCE__DIM": "8"},
    ),
}

ONE_PASS = {"RECSYS_MODELS__MF__ITERATIONS": "1"}
SEQUENCE = SINGLE | {
    "RECSYS_MODELS__SEQUENCE__DIM": "8",
    "RECSYS_MODELS__SEQUENCE__EPOCHS": "1",
    "RECSYS_MODELS__SEQUENCE__TREND_WEIGHTS": "[0.5]",
    "RECSYS_MODELS__SEQUENCE__RECENCY_HALF_LIFE_DAYS": "[10.0]",
}
SAMPLED = SEQUENCE | {
    "RECSYS_MODELS__SEQUENCE__FULL_SOFTMAX_ITEMS": "0",
    "RECSYS_MODELS__SEQUENCE__NEGATIVES": "32",
}
BASES = {"mf": SINGLE, "rough mf": SINGLE | ONE_PASS, "two_tower": SINGLE, "sequence": SEQUENCE, "sampled": SAMPLED}
# key -> the base that the model is trained from, once for all of its keys, and the value that makes its vectors differ
VECTORS: dict[str, tuple[str, str]] = {
    "events.weights": ("mf", "{ view = 1.0, cart = 0.1, purchase = 0.1 }"),
    "events.half_life_days": ("mf", "[10.0]"),
    "training.seed": ("rough mf", "5"),
    "models.mf.n_factors": ("mf", "[16]"),
    "models.mf.user_exponents": ("mf", "[0.0]"),
    "models.mf.item_exponents": ("mf", "[0.0]"),
    "models.mf.popularity_exponents": ("mf", "[0.9]"),
    "models.mf.recency_half_life_days": ("mf", "[3.0]"),
    "models.mf.recency_exponents": ("mf", "[0.9]"),
    "models.mf.kind_exponents": ("mf", "[0.0]"),
    "models.mf.singular_exponents": ("mf", "[0.9]"),
    "models.mf.iterations": ("mf", "1"),
    "models.two_tower.dim": ("two_tower", "12"),
    "models.two_tower.epochs": ("two_tower", "2"),
    "models.two_tower.max_events_per_epoch": ("two_tower", "50"),
    "models.two_tower.batch_size": ("two_tower", "64"),
    "models.two_tower.negatives": ("two_tower", "16"),
    "models.two_tower.learning_rate": ("two_tower", "0.5"),
    "models.two_tower.temperatures": ("two_tower", "[0.5]"),
    "models.two_tower.normalize_items": ("two_tower", "[false]"),
    "models.two_tower.trend_weights": ("two_tower", "[3.0]"),
    "models.two_tower.recency_half_life_days": ("two_tower", "[2.0]"),
    "models.sequence.dim": ("sequence", "16"),
    "models.sequence.length": ("sequence", "3"),
    "models.sequence.blocks": ("sequence", "2"),
    "models.sequence.dropout": ("sequence", "0.9"),
    "models.sequence.epochs": ("sequence", "2"),
    "models.sequence.max_events_per_epoch": ("sequence", "50"),
    "models.sequence.batch_size": ("sequence", "64"),
    "models.sequence.full_softmax_items": ("sampled", "20000"),
    "models.sequence.negatives": ("sampled", "8"),
    "models.sequence.temperatures": ("sequence", "[0.5]"),
    "models.sequence.trend_weights": ("sequence", "[3.0]"),
    "models.sequence.recency_half_life_days": ("sequence", "[2.0]"),
}


def keys(section: BaseModel, prefix: str = "") -> list[str]:
    found = []
    for name, value in section:
        shown = prefix + field_name(type(section), name)
        found += keys(value, f"{shown}.") if isinstance(value, BaseModel) else [shown]
    return found


def test_every_key_has_a_test_and_only_keys_that_exist() -> None:
    assert sorted([*CHANGES, *VECTORS, *ELSEWHERE]) == sorted(keys(Config()))


@pytest.mark.parametrize("key", ELSEWHERE)
def test_the_test_of_the_key_exists(key: str) -> None:
    file, name = ELSEWHERE[key]
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def shop_of_a_few(folder: Path) -> None:
    sample(folder, users=600, items=200, events=12_000, seed=3, progress=quiet)
    sample(folder / "second", users=50, items=30, events=500, seed=3, progress=quiet)
    with (folder / "recsys.toml").open("a") as settings:
        settings.write(QUICK + '[training]\nmodels = ["mf"]\n')
    train(load_config(folder / "recsys.toml", {}), progress=quiet)


@pytest.fixture(scope="module")
def small_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained shop of a few users, and beside it the database of another."""
    return made_once(tmp_path_factory, "keys", shop_of_a_few)


@pytest.fixture(scope="module")
def vectors_from(small_shop: Path) -> Callable[[str], Vectors]:
    """The vectors of a model of BASES, trained when they are first asked for."""
    trained: dict[str, Vectors] = {}

    def get(base: str) -> Vectors:
        if base not in trained:
            trained[base] = fitted(configured(small_shop, **BASES[base]), base)
        return trained[base]

    return get


def fitted(config: Config, base: str) -> Vectors:
    model = {"rough mf": "mf", "sampled": "sequence"}.get(base, base)
    return fit(config, model, outcomes.always_better())


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing a tower of each shape takes seconds and changes no item vector; test_onnx_encoder.py tests it."""
    monkeypatch.setattr("recsys.models.sequence.model.export", lambda _tower: b"")


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize("key", VECTORS)
def test_changing_the_key_changes_the_vectors_of_the_model(
    key: str, small_shop: Path, vectors_from: Callable[[str], Vectors]
) -> None:
    base, value = VECTORS[key]
    assert differ(vectors_from(base), fitted(changed(small_shop, key, value, **BASES[base]), base))


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize("base", BASES)
def test_without_a_change_the_vectors_are_the_same(
    base: str, small_shop: Path, vectors_from: Callable[[str], Vectors]
) -> None:
    assert not differ(vectors_from(base), fitted(configured(small_shop, **BASES[base]), base))


@pytest.mark.parametrize("key", CHANGES)
def test_changing_the_key_changes_an_outcome(key: str, small_shop: Path, tmp_path: Path) -> None:
    change = CHANGES[key]
    first, second = (Path(shutil.copytree(small_shop, tmp_path / name / "shop")) for name in ("before", "after"))
    before = change.outcome(configured(first, **change.others))
    after = change.outcome(changed(second, key, change.value, **change.others))
    assert change.holds(before, after), f"{before} became {after}"


def test_of_several_half_lives_popularity_takes_the_one_that_validates_best(small_shop: Path) -> None:
    config = configured(small_shop, **SINGLE)
    several = changed(small_shop, "models.popularity.half_life_days", "[7.0, 36500.0]", **SINGLE)
    found = TrainingRun(several, loaded(several))
    score = ValidationScore(found.dataset.catalog, found.splits, several)
    assert differ(fit(config, "popularity"), fit(several, "popularity", score))
