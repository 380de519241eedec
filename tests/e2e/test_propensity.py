"""Who buys again: from the night to the file and the answer, and what stays when a night refuses it."""

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from once import made_once
from road import configured, parsed
from serving import ServiceHere
from tiny import DAY, quiet

from jobs.audience import audience
from jobs.propensity import propensity
from jobs.train import train
from recsys.bundle import bundle as bundles
from recsys.config.settings import Config
from recsys.errors import ConfigError, RefusedError
from recsys.source.dataset import load
from recsys.store.migrate import open_store
from recsys.training.pipeline import TrainingRun
from recsys.training.propensity import learn_propensity

Recsys = Callable[..., subprocess.CompletedProcess[str]]
WINDOW = {"RECSYS_PROPENSITY__WINDOWS_DAYS": "[30]"}


@pytest.fixture(scope="module")
def night(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a shop whose last night learned a window of 30 days."""

    def make(folder: Path) -> None:
        shutil.copytree(trained, folder, dirs_exist_ok=True)
        (folder / "recsys-data" / "SHOP").unlink()
        out = train(configured(folder, **WINDOW), progress=quiet)
        (folder / "told.json").write_text(json.dumps(out.data), encoding="utf-8")

    return made_once(tmp_path_factory, "propensity", make)


@pytest.fixture
def config(night: Path, tmp_path: Path) -> Config:
    folder = Path(shutil.copytree(night, tmp_path / "shop"))
    (folder / "recsys-data" / "SHOP").unlink()
    return configured(folder, **WINDOW)


def test_the_night_is_judged_on_eight_past_cuts_and_beats_the_rules(night: Path) -> None:
    found = bundles.load(night / "recsys-data").propensity
    assert found is not None
    assert list(found.scorers) == [30]
    facts = found.facts["30"]
    assert facts["gate"]["log_loss"] < facts["gate"]["rules_log_loss"]
    assert len(facts["past"]["cuts"]) == 8
    assert facts["past"]["auc"] > 0.65
    assert facts["past"]["mean_error_of_buyers"] < 0.15


def test_the_file_has_every_customer_and_the_service_says_the_same_of_each(
    config: Config, tmp_path: Path, recsys: Recsys
) -> None:
    out, settings = tmp_path / "propensity.csv", tmp_path / "shop" / "recsys.toml"
    told = parsed(recsys("propensity", "--out", out, "--config", settings, "--json", **WINDOW))
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == told["customers"] > 500
    expected = told["windows"][0]["buyers"]
    assert sum(float(row["probability_30"]) for row in rows) == pytest.approx(expected["expected"], abs=0.1)
    assert expected["low"] < expected["expected"] < expected["high"]
    service = ServiceHere(config)
    try:
        service.wait()
        user = rows[0]["user_id"]
        window = service.http.get(f"/v1/users/{user}/propensity").json()["windows"][0]
        assert window["days"] == 30
        assert 0 < window["probability"] < 1
        assert window["value_low"] <= window["value"] <= window["value_high"]
        assert window["churn_risk"] == pytest.approx(float(rows[0]["churn_risk_30"]), abs=1e-6)
        service.event(user, "P00207")
        after = service.http.get(f"/v1/users/{user}/propensity").json()["windows"][0]
        assert after["churn_risk"] < max(0.01, window["churn_risk"])
        nobody = service.http.get("/v1/users/nobody/propensity").json()
        assert (nobody["windows"], nobody["reason"]) == ([], "never_bought")
    finally:
        service.kill()


def test_a_window_that_is_refused_keeps_the_scorer_of_the_live_bundle(config: Config) -> None:
    live = bundles.load(config.storage.path)
    assert live.propensity is not None
    store = open_store(config.store.url, config.store.table_prefix)
    dataset = load(config, store, now=2**62, progress=quiet)
    store.close()
    short = replace(dataset, events=dataset.events.select(dataset.events.times > dataset.events.times.max() - 40 * DAY))
    found = learn_propensity(TrainingRun(config, short), live)
    assert "40 days from the first purchase on" in " ".join(found.facts["30"]["refused"])
    assert found.trained_at == live.propensity.trained_at
    np.testing.assert_array_equal(found.scorers[30].members[0].output, live.propensity.scorers[30].members[0].output)
    assert learn_propensity(TrainingRun(config, short), None).scorers == {}


def test_a_bundle_without_a_scorer_says_why(trained_shop: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="cannot tell who buys again"):
        propensity(configured(trained_shop), out=tmp_path / "none.csv", progress=quiet)
    assert not (tmp_path / "none.csv").exists()


def test_an_audience_has_the_figures_and_conditions_on_them(config: Config, tmp_path: Path) -> None:
    def drawn(*where: str) -> list[dict[str, str]]:
        out = tmp_path / "audience.csv"
        audience(config, items=["P00207"], size=1500, out=out, where=where, progress=quiet)
        with out.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    everybody, likely = drawn(), drawn("probability_30 >= 0.3", "churn_risk_30<0.5")
    bought = [row for row in everybody if row["probability_30"]]
    assert len(likely) < len(bought) <= len(everybody)
    assert {row["user_id"] for row in likely} == {
        row["user_id"] for row in bought if float(row["probability_30"]) >= 0.3 and float(row["churn_risk_30"]) < 0.5
    }
    with pytest.raises(RefusedError, match="there is no column 'churn_risk_90'; allowed are probability_30"):
        drawn("churn_risk_90>=0.5")
    with pytest.raises(ConfigError, match="allowed is COLUMN OPERATOR NUMBER"):
        drawn("churn_risk_30=0.5")
