"""Night after night: good ones publish, bad ones are refused and leave the live bundle alone."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from road import configured
from tiny import quiet

from jobs.train import train
from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.data.extract import open_extract
from recsys.errors import RefusedError
from recsys.models import popularity
from recsys.models.contract import MODELS, Model
from recsys.sample.shop import END
from recsys.source.dataset import load
from recsys.store.migrate import open_store
from recsys.training.pipeline import TrainingRun, evaluate_all

DAY = 86_400_000_000
BROKEN = "broken_models"


def night(folder: Path, days_before_end: float = 0, where: str = "", **environment: str) -> None:
    config = configured(folder, **environment)
    moment = (END - int(days_before_end * DAY)) // 1_000_000
    query = (
        f"SELECT * FROM ({config.source.interactions}) AS e "
        f"WHERE CAST(strftime('%s', timestamp) AS INTEGER) < {moment} {where}"
    )
    source = config.source.model_copy(update={"interactions": query})
    train(config.model_copy(update={"source": source}), progress=quiet)


def halve_prices(folder: Path, *items: str) -> None:
    with closing(sqlite3.connect(folder / "shop.db")) as connection, connection:
        connection.executemany("UPDATE products SET price = price / 2 WHERE sku = ?", [(item,) for item in items])


def state(folder: Path) -> tuple[str | None, int, list[str]]:
    """What the world sees: the live bundle, the extract's moment, the bundles on disk."""
    found = versions.list_versions(folder / "recsys-data")
    live = next((v.version for v in found if v.live), None)
    return live, open_extract(folder / "recsys-data").as_of, [v.version for v in found]


def test_ten_stationary_nights_publish_ten_times(shop):
    lives = []
    for days in range(9, -1, -1):
        if days in (0, 1):
            halve_prices(shop, "P00003", "P00004")
        night(shop, days)
        lives.append(state(shop)[0])
    assert len(set(lives)) == 10
    assert lives == sorted(lives)
    bundle = bundles.load(shop / "recsys-data")  # which goes on with the record of prices of those before
    assert bundle.catalog.ids.ids_of(bundle.prices.rows) == ["P00003"] * 2 + ["P00004"] * 2
    assert bundle.prices.former[1] == bundle.prices.current[0] == bundle.prices.former[0] / 2
    assert bundle.demand.until == state(shop)[1]


def test_a_night_of_auto_publishes_its_blend_and_says_what_it_chose_from(shop):
    output = train(configured(shop, RECSYS_TRAINING__MODELS='["auto"]'), progress=quiet)
    bundle = bundles.load(shop / "recsys-data")
    settings = bundle.vectors.settings
    assert bundle.vectors.model == bundle.evaluation.model == "auto"
    assert set(settings["comparison"]) == {"popularity", "mf", "two_tower", "sequence", "blend"}
    assert settings["comparison"]["blend"] >= max(settings["comparison"].values())
    shown = next(part for part in output.parts if "auto chose from" in getattr(part, "title", ""))
    assert {row[0]: row[1] for row in shown.rows} == settings["comparison"]
    assert {part["model"]: part["weight"] for part in settings["parts"]} == {r[0]: r[2] for r in shown.rows if r[2]}
    metrics = bundle.manifest["metrics"]["models"]
    assert metrics["auto"]["all"]["ndcg@20"] > metrics["popularity"]["all"]["ndcg@20"]


@pytest.mark.parametrize(
    ("environment", "where", "message"),
    [
        ({"RECSYS_TRAINING__MODELS": f'["{BROKEN}:SHUFFLED"]'}, "", "live bundle's"),
        ({"RECSYS_TRAINING__MODELS": f'["{BROKEN}:NOISE"]'}, "", "not above popularity's"),
        ({}, "AND user_id % 2 = 0", "fewer than"),
    ],
    ids=["shuffled vectors", "worse than popularity", "half the data"],
)
def test_a_bad_night_is_refused_and_changes_nothing(trained_shop, environment, where, message):
    before = state(trained_shop)
    with pytest.raises(RefusedError, match=message):
        night(trained_shop, where=where, **environment)
    assert state(trained_shop) == before
    assert bundles.load(trained_shop / "recsys-data").version == before[0]


def test_a_longer_holdout_is_judged_where_the_live_bundle_has_not_looked(shop):
    shuffled = {"RECSYS_TRAINING__MODELS": f'["{BROKEN}:SHUFFLED"]'}
    night(shop, RECSYS_EVALUATION__HOLDOUT_DAYS="10")
    short = state(shop)[0]
    night(shop, RECSYS_EVALUATION__HOLDOUT_DAYS="70")
    manifest = bundles.load(shop / "recsys-data").manifest
    assert manifest["version"] != short
    figures = manifest["metrics"]["gate"]
    assert 0 < figures["live_users"] < manifest["metrics"]["models"]["mf"]["all"]["users"]
    with pytest.raises(RefusedError, match="live bundle's"):
        night(shop, RECSYS_EVALUATION__HOLDOUT_DAYS="90", **shuffled)


def test_settings_are_chosen_and_candidates_trained_on_nothing_later_than_they_may(shop, monkeypatch):
    seen = []

    def tune(data, *more):
        seen.append(("tune", int(data.events.times.max())))
        return popularity.tune(data, *more)

    def fit(data, *more):
        seen.append(("fit", int(data.events.times.max())))
        return popularity.fit(data, *more)

    monkeypatch.setitem(MODELS, "popularity", f"{__name__}:SPY")
    monkeypatch.setattr("test_nights.SPY", Model(tune, fit, popularity.PopularityParams), raising=False)
    config = configured(shop, RECSYS_TRAINING__MODELS='["popularity"]')
    with closing(open_store(config.store.url)) as store:
        found = TrainingRun(config, load(config, store, now=END, progress=quiet), progress=quiet)
    evaluate_all(found)
    (choosing, latest), (training, last) = seen
    assert choosing == "tune"
    assert latest < found.splits.validation_start
    assert training == "fit"
    assert found.splits.validation_start <= last < found.splits.holdout_start


def test_a_rollback_pins_until_a_publish(trained_shop):
    folder = trained_shop / "recsys-data"
    first = bundles.load(folder).version
    night(trained_shop)
    second = bundles.load(folder).version
    assert second != first
    assert versions.rollback(folder) == first
    night(trained_shop)
    assert bundles.load(folder).version == first
    newest = versions.list_versions(folder)[0].version
    assert newest not in (first, second)
    versions.publish(folder, newest)
    night(trained_shop)
    assert bundles.load(folder).version not in (first, second, newest)
