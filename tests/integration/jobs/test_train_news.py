"""A night reads what is new, and one that brings nothing new leaves the live bundle where it is."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import pytest
from tiny import quiet

from jobs.train import train
from recsys.bundle import versions
from recsys.config.loading import load_config
from recsys.config.settings import Config
from recsys.data.folder import current
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.errors import RefusedError
from recsys.sample.shop import END
from recsys.store.migrate import open_store
from recsys.store.runs import Run, list_runs


@pytest.fixture
def config(trained_once: Path, tmp_path: Path) -> Config:
    """A shop with one night behind it."""
    folder = Path(shutil.copytree(trained_once, tmp_path / "shop"))
    return load_config(folder / "recsys.toml", {})


def last_run(config: Config) -> Run:
    with closing(open_store(config.store.url, config.store.table_prefix)) as store:
        return list_runs(store, 1)[0]


def test_nothing_new_fits_nothing_and_the_ledger_says_so(config: Config) -> None:
    live = current(config.storage.path / "bundles")
    output = train(config, progress=quiet, now=END)
    assert output.code == 0
    assert (output.data["nothing_new"], output.data["bundle"]) == (True, live)
    assert current(config.storage.path / "bundles") == live
    run = last_run(config)
    assert (run.status, run.bundle, run.metrics["nothing_new"]) == ("done", live, True)
    steps = {step["name"]: step for step in run.steps}
    assert set(steps) == {"read", "guards"}
    assert steps["read"]["counts"]["reading"]["interactions"] == {"read": "days", "changed_days": 0, "rows": 0}


def test_a_feed_that_is_dead_is_told_though_nothing_is_new(config: Config) -> None:
    train(config, progress=quiet, now=END, full=True)  # a good night to compare with
    source = config.source.model_copy(update={"full_read_days": 1_000.0})
    config = config.model_copy(update={"source": source})
    with pytest.raises(RefusedError, match="which brought nothing new"):
        train(config, progress=quiet, now=END + 200 * MICROSECONDS_PER_DAY, scheduled=True)
    assert last_run(config).status == "refused"


class FitError(Exception):
    """Ends a run where it would begin to fit."""


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.train.pipeline.evaluate_all", Mock(side_effect=FitError))


@pytest.mark.usefixtures("fits")
def test_a_new_event_and_a_full_read_are_read_and_fitted(config: Config) -> None:
    with pytest.raises(FitError):
        train(config, progress=quiet, now=END, full=True)
    assert "asked for" in last_run(config).steps[0]["counts"]["reading"]["interactions"]["why"]
    shop = str(config.source.url).removeprefix("sqlite:///")
    with closing(sqlite3.connect(shop)) as connection, connection:
        connection.execute("DELETE FROM page_views WHERE id = (SELECT max(id) FROM page_views)")
    with pytest.raises(FitError):
        train(config, progress=quiet, now=END)
    assert last_run(config).steps[0]["counts"]["reading"]["interactions"]["changed_days"] == 1


@pytest.mark.usefixtures("fits")
def test_other_settings_and_a_reason_fit_the_same_data(config: Config) -> None:
    training = config.training.model_copy(update={"budget_minutes": 3.0})
    with pytest.raises(FitError):
        train(config.model_copy(update={"training": training}), progress=quiet, now=END)
    with pytest.raises(FitError):
        train(config, progress=quiet, now=END, force="to see it")
    assert train(config, progress=quiet, now=END).data["nothing_new"]


@pytest.mark.usefixtures("fits")
def test_another_version_of_the_program_fits_the_same_data(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.train.version_of", lambda _: "99.0")
    with pytest.raises(FitError):
        train(config, progress=quiet, now=END)


def test_a_bundle_gone_back_to_was_not_made_of_the_newest_data(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = train(config, progress=quiet, now=END, full=True).data["bundle"]
    versions.rollback(config.storage.path)
    with monkeypatch.context() as changed:
        changed.setattr("jobs.train.pipeline.evaluate_all", Mock(side_effect=FitError))
        with pytest.raises(FitError):
            train(config, progress=quiet, now=END)
    versions.publish(config.storage.path, newest)
    assert train(config, progress=quiet, now=END).data["nothing_new"]


@pytest.mark.usefixtures("fits")
@pytest.mark.parametrize("room", ["bundles", "extract"])
def test_a_live_bundle_or_an_extract_that_is_broken_is_made_anew(config: Config, room: str) -> None:
    place = config.storage.path / room
    (place / str(current(place)) / "manifest.json").unlink()
    with pytest.raises(FitError):
        train(config, progress=quiet, now=END)
