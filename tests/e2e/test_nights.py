"""Night after night: good ones publish, bad ones are refused and leave the live bundle alone."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from road import configured
from tiny import quiet

from jobs.output import Output
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
from recsys.store.runs import list_runs
from recsys.training.pipeline import TrainingRun, evaluate_all

DAY = 86_400_000_000
BROKEN = "broken_models"


def night(
    folder: Path,
    days_before_end: float = 0,
    where: str = "",
    *,
    scheduled: bool = False,
    force: str | None = None,
    **environment: str,
) -> Output:
    config = configured(folder, **environment)
    end = END - int(days_before_end * DAY)
    moment = end // 1_000_000
    query = (
        f"SELECT * FROM ({config.source.interactions}) AS e "
        f"WHERE CAST(strftime('%s', timestamp) AS INTEGER) < {moment} {where}"
    )
    source = config.source.model_copy(update={"interactions": query})
    changed = config.model_copy(update={"source": source})
    return train(changed, progress=quiet, now=end + DAY // 12, scheduled=scheduled, force=force, full=True)


def halve_prices(folder: Path, *items: str) -> None:
    with closing(sqlite3.connect(folder / "shop.db")) as connection, connection:
        connection.executemany("UPDATE products SET price = price / 2 WHERE sku = ?", [(item,) for item in items])


def state(folder: Path) -> tuple[str | None, int, list[str]]:
    """What the world sees: the live bundle, the extract's moment, the bundles on disk."""
    found = versions.list_versions(folder / "recsys-data")
    live = next((v.version for v in found if v.live), None)
    return live, open_extract(folder / "recsys-data").as_of, [v.version for v in found]


@pytest.mark.parametrize("nights", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_every_stationary_night_publishes(shop, nights):
    lives = []
    for days in range(nights - 1, -1, -1):
        if days in (0, 1):
            halve_prices(shop, "P00003", "P00004")
        night(shop, days)
        lives.append(state(shop)[0])
    assert len(set(lives)) == nights
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
    ],
    ids=["shuffled vectors", "worse than popularity"],
)
def test_a_bad_night_is_refused_and_changes_nothing(trained_shop, environment, where, message):
    before = state(trained_shop)
    with pytest.raises(RefusedError, match=message):
        night(trained_shop, where=where, **environment)
    assert state(trained_shop) == before
    assert bundles.load(trained_shop / "recsys-data").version == before[0]


def guards_of(folder: Path) -> dict[str, Any]:
    """What the ledger keeps of the guards of the newest run."""
    with closing(open_store(configured(folder).store.url)) as store:
        return dict(list_runs(store, 1)[0].metrics["guards"])


HALF = "AND user_id % 2 = 0"


def test_a_bad_night_blocks_no_good_one_and_force_keeps_the_reason(shop):
    night(shop, 3)
    assert guards_of(shop)["night"] == "good"
    before = state(shop)
    with pytest.raises(RefusedError, match="fewer than"):
        night(shop, 2, HALF, scheduled=True)
    assert state(shop) == before
    kept = guards_of(shop)
    assert {v["guard"] for v in kept["verdicts"] if v["outcome"] == "refuse"} >= {"events", "past view"}
    assert all(len(v["earlier"]) <= 1 for v in kept["verdicts"])
    output = night(shop, 2, HALF, force="only every other customer has agreed")
    assert any(line.startswith("warning: events: ") for line in output.parts if isinstance(line, str))
    with closing(open_store(configured(shop).store.url)) as store:
        run = list_runs(store, 1)[0]
    assert run.metrics["started"]["forced"] == "only every other customer has agreed"
    assert (run.metrics["started"]["by"], run.status, run.metrics["guards"]["night"]) == ("hand", "done", "accepted")
    forced = state(shop)[0]
    night(shop, 1, HALF, scheduled=True)  # as the accepted night
    assert guards_of(shop)["night"] == "good"
    halved = state(shop)[0]
    assert halved > forced
    night(shop, 0, scheduled=True)  # as the good night before all this
    assert state(shop)[0] > halved


def test_the_good_night_after_a_bad_one_that_was_forced_publishes_by_itself(shop):
    night(shop, 2)
    night(shop, 1, HALF, force="tried")
    bad = state(shop)[0]
    output = night(shop, 0, scheduled=True)
    assert state(shop)[0] > bad
    assert "had something to say" in output.data["gate"]["live_skipped"]
    assert guards_of(shop)["night"] == "good"


def test_the_lists_of_a_night_are_compared_with_the_live_ones(trained_shop):
    night(trained_shop)
    found = {verdict["guard"]: verdict["figure"] for verdict in guards_of(trained_shop)["verdicts"]}
    assert found["overlap"] > 0.9
    assert 0 < found["same item"] < 0.9
    with closing(open_store(configured(trained_shop).store.url)) as store:
        steps = {step["name"]: step["counts"] for step in list_runs(store, 1)[0].steps}
    assert all(mover["before"] != mover["now"] for mover in steps["guards of lists"]["movers"])
    assert steps["read"]["peak_mb"] > 50


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
