"""For every key of the configuration: a check that changing it changes an outcome. `test_config_keys.py` runs them."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from road import configured
from tiny import quiet

from jobs import answers, commands
from jobs.init_file import sample
from jobs.schedule.scheduler import planned
from jobs.train import train
from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.config.settings import Config
from recsys.errors import BundleError, ConfigError, RefusedError
from recsys.models.budget import Budget
from recsys.models.vectors import Vectors
from recsys.sample.shop import END
from recsys.source import dataset as source
from recsys.store.events import insert_events
from recsys.store.migrate import open_store
from recsys.training import gate, pipeline
from recsys.training.evaluation import evaluate
from recsys.training.pipeline import TrainingRun

MINUTE = 60_000_000
# One value each, so that training chooses nothing and takes no validation.
SINGLE = {
    "RECSYS_EVENTS__HALF_LIFE_DAYS": "[365.0]",
    "RECSYS_MODELS__POPULARITY__HALF_LIFE_DAYS": "[28.0]",
    "RECSYS_MODELS__MF__N_FACTORS": "[8]",
    "RECSYS_MODELS__MF__RECENCY_EXPONENTS": "[0.3]",
    "RECSYS_MODELS__TWO_TOWER__TEMPERATURES": "[0.1]",
    "RECSYS_MODELS__TWO_TOWER__NORMALIZE_ITEMS": "[true]",
    "RECSYS_MODELS__TWO_TOWER__DIM": "8",
    "RECSYS_MODELS__TWO_TOWER__EPOCHS": "1",
}
init = partial(commands.init, path=Path("recsys.toml"), is_new=False, report=quiet)
USERS = [str(number) for number in range(1001, 1201)]


def changed(folder: Path, key: str, value: str, **others: str) -> Config:
    """The shop's configuration with one key set as by the environment."""
    table, _, name = key.rpartition(".")
    variable = f"RECSYS_{table.replace('.', '__')}__{name}".upper()
    return configured(folder, **{**others, variable: value})


def loaded(config: Config) -> source.Dataset:
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        return source.load(config, store, now=END, report=quiet)


def fit(config: Config, model: str, score: Callable[[Vectors], float] | None = None) -> Vectors:
    """A model trained on everything before the holdout."""
    run = TrainingRun(config, loaded(config), progress=quiet)
    data = pipeline.training_data(run, run.splits.known, run.splits.holdout_start)
    vectors = pipeline.tune(run, model, data, score or (lambda _: 0.0), Budget(config.training.choice_seconds))
    assert vectors is not None
    return vectors


def differ(first: Vectors, second: Vectors) -> bool:
    return first.item_vectors.shape != second.item_vectors.shape or not np.allclose(
        first.item_vectors, second.item_vectors, rtol=1e-3
    )


def recommended(config: Config, k: int = 20) -> list[list[str]]:
    data = answers.recommend(config, user_ids=USERS, k=k, report=quiet).data
    return [[hit["item_id"] for hit in answer["hits"]] for answer in data]


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def post_view(config: Config, *, minutes_later: float) -> None:
    """The first view of the shop once more, posted to the service some minutes later."""
    with closing(sqlite3.connect(str(config.source.url).removeprefix("sqlite:///"))) as shop:
        user, item, at = shop.execute("SELECT customer_id, sku, unixepoch(viewed_at) FROM page_views").fetchone()
    moment = at * 1_000_000 + round(minutes_later * MINUTE)
    event = {"event_id": "e1", "user_id": str(user), "item_id": item, "kind": "view", "occurred_at": moment}
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        insert_events(store, pa.Table.from_pylist([{**event, "received_at": moment}]))


def check_store_url(shop: Path) -> None:
    commands.init(
        changed(shop, "store.url", "sqlite:///other.db"), path=shop / "recsys.toml", is_new=False, report=quiet
    )
    assert "recsys_events" in tables(shop / "other.db")


def check_table_prefix(shop: Path) -> None:
    init(changed(shop, "store.table_prefix", "second_"))
    assert {"recsys_events", "second_events"} <= tables(shop / "recsys.db")


def check_folder_path(shop: Path) -> None:
    assert recommended(configured(shop))
    with pytest.raises(BundleError, match="elsewhere"):
        recommended(changed(shop, "storage.path", "elsewhere"))


def check_keep_bundles(shop: Path) -> None:
    for keep, left in (("7", 2), ("2", 2)):
        train(changed(shop, "storage.keep_bundles", keep), report=quiet)
        assert len(versions.list_versions(shop / "recsys-data")) == left


def check_source_url(shop: Path) -> None:
    sample(shop / "second", users=50, items=30, events=500, seed=3, report=quiet)
    second = changed(shop, "source.url", f"sqlite:///{shop}/second/shop.db")
    assert (len(loaded(configured(shop)).catalog), len(loaded(second).catalog)) == (300, 30)


def check_dialect(shop: Path) -> None:
    assert len(loaded(changed(shop, "source.dialect", "recsys.source.dialects.sqlite:SQLITE")).catalog) == 300
    with pytest.raises(ConfigError, match="no_such_module:DUCKDB"):
        loaded(changed(shop, "source.dialect", "no_such_module:DUCKDB"))


def check_interactions(shop: Path) -> None:
    before = configured(shop)
    query = f"SELECT * FROM ({before.source.interactions}) AS e WHERE event = 'order'"
    kinds = loaded(changed(shop, "source.interactions", query)).events.kinds
    assert set(kinds) == {2} < set(loaded(before).events.kinds)


def check_items(shop: Path) -> None:
    after = loaded(changed(shop, "source.items", "SELECT sku AS item_id, name AS title FROM products"))
    assert "brand" in loaded(configured(shop)).catalog.columns.column_names
    assert "brand" not in after.catalog.columns.column_names


def check_users(shop: Path) -> None:
    consent = loaded(changed(shop, "source.users", "SELECT id AS user_id, 0 AS email_consent FROM customers")).consent
    assert consent is not None
    assert consent.true_count == 0
    before = loaded(configured(shop)).consent
    assert before is not None
    assert before.true_count > 500


def check_timezone(shop: Path) -> None:
    before = loaded(configured(shop)).events.times
    later = before - loaded(changed(shop, "source.timezone", "Asia/Tokyo")).events.times
    assert set(later) == {9 * 60 * MINUTE}


def check_max_bad_share(shop: Path) -> None:
    query = "SELECT *, 'nobody' AS note FROM (SELECT * FROM page_views) AS v"
    query = f"""
        SELECT customer_id AS user_id, CASE WHEN id % 20 THEN sku END AS item_id, 'view' AS event,
               viewed_at AS timestamp FROM ({query}) AS w"""
    with pytest.raises(RefusedError):
        loaded(changed(shop, "source.interactions", query))
    assert len(loaded(changed(shop, "source.max_bad_share", "0.2", RECSYS_SOURCE__INTERACTIONS=query)).events) > 1000


def check_kinds(shop: Path) -> None:
    as_cart = loaded(changed(shop, "events.aliases", '{ order = "cart" }')).events
    assert 2 in loaded(configured(shop)).events.kinds
    assert 2 not in as_cart.kinds


def check_weights(shop: Path) -> None:
    other = changed(shop, "events.weights", "{ view = 1.0, cart = 0.1, purchase = 0.1 }", **SINGLE)
    assert differ(fit(configured(shop, **SINGLE), "mf"), fit(other, "mf"))


def check_own_kinds(shop: Path) -> None:
    before = configured(shop)
    post_view(before, minutes_later=60)
    both = changed(shop, "events.own_kinds", '["view"]')
    assert len(loaded(both).events) == len(loaded(before).events) + 1


def check_same_event_minutes(shop: Path) -> None:
    own = {"RECSYS_EVENTS__OWN_KINDS": '["view"]'}
    before = configured(shop, **own)
    post_view(before, minutes_later=5)
    shorter = changed(shop, "events.dedup_window_minutes", "0.1", **own)
    assert len(loaded(shorter).events) == len(loaded(before).events) + 1


def check_history_length(shop: Path) -> None:
    def longest(config: Config) -> int:
        found = [answer["history"] for answer in answers.recommend(config, user_ids=USERS, k=1, report=quiet).data]
        # What was bought belongs to a history however long it is.
        return max(sum(event["event"] != "purchase" for event in history) for history in found)

    assert longest(configured(shop)) > 3
    assert longest(changed(shop, "events.history_length", "3")) == 3


def check_validation_days(shop: Path) -> None:
    found = [
        TrainingRun(c, loaded(c)).splits for c in (configured(shop), changed(shop, "evaluation.validation_days", "7.0"))
    ]
    assert found[0].holdout_start == found[1].holdout_start
    assert found[1].validation_start - found[0].validation_start == 21 * 24 * 60 * MINUTE


def check_holdout_days(shop: Path) -> None:
    found = [
        TrainingRun(c, loaded(c)).splits for c in (configured(shop), changed(shop, "evaluation.holdout_days", "7.0"))
    ]
    assert found[1].holdout_start - found[0].holdout_start == 21 * 24 * 60 * MINUTE


def judged_users(config: Config) -> float:
    run, vectors = TrainingRun(config, loaded(config)), fit(config, "popularity")
    return evaluate(pipeline.with_popularity(run, vectors, vectors), run.splits, config).rows["all"]["users"]


def check_targets(shop: Path) -> None:
    views = changed(shop, "evaluation.targets", '["view"]', **SINGLE)
    assert judged_users(views) > 1.3 * judged_users(configured(shop, **SINGLE))


def check_max_users(shop: Path) -> None:
    assert judged_users(configured(shop, **SINGLE)) > 100
    assert judged_users(changed(shop, "evaluation.max_users", "100", **SINGLE)) == 100


def check_repeats(shop: Path) -> None:
    with closing(sqlite3.connect(shop / "shop.db")) as database:
        rows = database.execute(
            "SELECT customer_id, sku FROM orders JOIN order_lines ON order_id = id WHERE status = 'paid'"
        )
        bought = {(str(user), item) for user, item in rows}

    def repeats(config: Config) -> int:
        return sum(
            (user, item) in bought for user, hits in zip(USERS, recommended(config), strict=True) for item in hits
        )

    assert repeats(configured(shop)) == 0
    assert repeats(changed(shop, "recommendations.allow_repurchase", "true")) > 20


def check_exclude_sold_out(shop: Path) -> None:
    with closing(sqlite3.connect(shop / "shop.db")) as database:
        sold_out = {sku for (sku,) in database.execute("SELECT sku FROM products WHERE stock = 0")}
    assert not sold_out & set().union(*recommended(configured(shop), k=300))
    assert sold_out & set().union(*recommended(changed(shop, "recommendations.exclude_sold_out", "false"), k=300))


def check_training_models(shop: Path) -> None:
    train(changed(shop, "training.models", '["popularity"]', RECSYS_STORAGE__PATH="fresh"), report=quiet)
    assert bundles.load(shop / "fresh").vectors.model == "popularity"
    assert bundles.load(shop / "recsys-data").vectors.model == "mf"


def check_seed(shop: Path) -> None:
    rough = {**SINGLE, "RECSYS_MODELS__MF__ITERATIONS": "1"}
    first, again = fit(configured(shop, **rough), "mf"), fit(configured(shop, **rough), "mf")
    assert not differ(first, again)
    assert differ(first, fit(changed(shop, "training.seed", "5", **rough), "mf"))


def check_device(shop: Path) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("both devices are there, and give the same")
    with pytest.raises(ConfigError, match="cuda"):
        train(changed(shop, "training.device", "cuda", **SINGLE), report=quiet)
    fit(changed(shop, "training.device", "cpu", **SINGLE), "mf")


def check_max_drop(shop: Path) -> None:
    live = np.full(100, 0.5, np.float32)

    def publishes(config: Config) -> bool:
        worse = live * np.float32(0.8)
        return gate.decide(worse, None, (worse, live), events=1, live_events=1, settings=config.gate, seed=0).publish

    assert not publishes(configured(shop))
    assert publishes(changed(shop, "gate.max_relative_drop", "0.3"))


def check_max_data_drop(shop: Path) -> None:
    same = np.full(100, 0.5, np.float32)

    def publishes(config: Config) -> bool:
        return gate.decide(same, None, (same, same), events=60, live_events=100, settings=config.gate, seed=0).publish

    assert not publishes(configured(shop))
    assert publishes(changed(shop, "gate.max_data_drop", "0.5"))


def check_index_kind(shop: Path) -> None:
    with pytest.raises(ConfigError, match="flat"):
        train(changed(shop, "index.kind", "cubic", RECSYS_STORAGE__PATH="fresh"), report=quiet)


def due_hour(config: Config) -> int:
    """The hour, UTC, at which the training is due in July."""
    (entry,) = planned(config, Path("recsys.toml"), {})
    return entry.next_due(END) // (60 * MINUTE) % 24


def check_schedule_train(shop: Path) -> None:
    assert [due_hour(changed(shop, "schedule.train", entry)) for entry in ("0 3 * * *", "0 5 * * *")] == [3, 5]


def check_schedule_zone(shop: Path) -> None:
    assert due_hour(changed(shop, "schedule.zone", "Asia/Tokyo", RECSYS_SCHEDULE__TRAIN="0 12 * * *")) == 3


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


CHECKS: dict[str, Callable[[Path], None]] = {
    "store.url": check_store_url,
    "store.table_prefix": check_table_prefix,
    "storage.path": check_folder_path,
    "storage.keep_bundles": check_keep_bundles,
    "source.url": check_source_url,
    "source.dialect": check_dialect,
    "source.interactions": check_interactions,
    "source.items": check_items,
    "source.users": check_users,
    "source.timezone": check_timezone,
    "source.max_bad_share": check_max_bad_share,
    "events.aliases": check_kinds,
    "events.weights": check_weights,
    "events.half_life_days": vectors_differ("mf", "events.half_life_days", "[10.0]"),
    "events.own_kinds": check_own_kinds,
    "events.dedup_window_minutes": check_same_event_minutes,
    "events.history_length": check_history_length,
    "evaluation.validation_days": check_validation_days,
    "evaluation.holdout_days": check_holdout_days,
    "evaluation.targets": check_targets,
    "evaluation.max_users": check_max_users,
    "recommendations.allow_repurchase": check_repeats,
    "recommendations.exclude_sold_out": check_exclude_sold_out,
    "training.models": check_training_models,
    "training.seed": check_seed,
    "training.device": check_device,
    "gate.max_relative_drop": check_max_drop,
    "gate.max_data_drop": check_max_data_drop,
    "index.kind": check_index_kind,
    "schedule.train": check_schedule_train,
    "schedule.zone": check_schedule_zone,
}
