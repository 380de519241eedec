"""A search for settings: killed at any moment it goes on, it publishes nothing, and its lines configure its best."""

import hashlib
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from key_checks import loaded
from road import configured, parsed
from test_crash import expire_leases_of
from test_interrupt import interrupted, started
from tiny import quiet

from jobs.commands import open_configured
from jobs.output import Output
from jobs.tune import tune
from recsys.config.settings import Config
from recsys.errors import ConfigError, RecsysError, RefusedError
from recsys.models.budget import Budget
from recsys.models.contract import Score, TrainingData
from recsys.models.vectors import Vectors
from recsys.store.leases import acquire_lease, release_lease
from recsys.store.runs import list_runs
from recsys.training import pipeline
from recsys.training.pipeline import TrainingRun
from recsys.training.tuning import Search

Recsys = Callable[..., subprocess.CompletedProcess[str]]
POOR = "[1]"  # one dimension, fewer than any trial has: nearly every one is better


def files(folder: Path) -> dict[str, str]:
    """The digests of all that a search must leave as it is."""
    kept = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(("tune.db", "recsys.db"))]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def pasted(settings: Path, lines: str) -> None:
    """Put the lines into the file in the place of the table that they are for, as the operator does."""
    table = re.compile(r"^\[models\.mf\]\n(?:[^\[\n].*\n|\n)*", re.MULTILINE)
    text, count = table.subn("", settings.read_text())
    assert count == 1
    settings.write_text(text + "\n" + lines)


def search(config: Config, trials: int, minutes: float | None = None) -> Output:
    return tune(config, model="mf", trials=trials, minutes=minutes, progress=quiet)


def test_a_killed_search_goes_on_and_its_lines_configure_what_it_found(
    trained_shop: Path, recsys: Recsys, recsys_apart: Recsys
) -> None:
    settings, poor = trained_shop / "recsys.toml", {"RECSYS_MODELS__MF__N_FACTORS": POOR}
    command = ("tune", "mf", "--trials", "4", "--json", "--config", settings)
    before = files(trained_shop)
    killed = recsys_apart(*command, RECSYS_CRASH_AT="in trial 2", **poor)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with closing(open_configured(configured(trained_shop))) as store:
        assert acquire_lease(store, "tune", "somebody") is None
        night = acquire_lease(store, "train", "the night")
        assert night is not None  # a search keeps no night waiting
        release_lease(store, "train", night)
    expire_leases_of(trained_shop)
    found = parsed(recsys(*command, **poor))
    assert found["trials"] == {"asked": 4, "found": 2, "scored": 4, "ended_early": 0, "failed": 1}
    assert (found["is_new"], found["ended_by"], found["configured"]["trial"]) == (False, "trials", 0)
    assert files(trained_shop) == before
    assert found["improvement"] > 0
    assert found["configured"]["settings"]["n_factors"] == [1]  # outside the space, and not the nearest place in it
    assert found["best"]["ndcg@20"] == pytest.approx(found["configured"]["ndcg@20"] + found["improvement"])
    with closing(open_configured(configured(trained_shop))) as store:
        assert [(run.job, run.status) for run in list_runs(store, 2)] == [("tune", "done"), ("tune", "failed")]

    again = search(configured(trained_shop, **poor), 4)
    assert again.parts[0] == f"study {found['study']} went on: 4 trials were there"
    assert again.parts[-1] == found["toml"] == again.data["toml"]
    pasted(settings, found["toml"])
    now = search(configured(trained_shop), 5).data
    assert (now["study"], now["trials"]["found"], now["configured"]["trial"]) == (found["study"], 4, 5)
    assert now["configured"]["settings"] == again.data["best"]["settings"]
    assert now["configured"]["ndcg@20"] == pytest.approx(found["best"]["ndcg@20"])
    assert now["toml"] is None  # of five that are in the study nothing is better than what is configured


def test_other_data_begins_another_study(shop: Path) -> None:
    config = configured(shop)
    first, again = search(config, 1).data, search(config, 1).data
    assert (first["is_new"], first["other_studies"], first["trials"]["found"]) == (True, 0, 0)
    assert (again["is_new"], again["other_studies"], again["trials"]["found"]) == (False, 0, 1)
    assert again["study"] == first["study"]
    with closing(sqlite3.connect(shop / "shop.db")) as connection:
        connection.execute("DELETE FROM page_views WHERE viewed_at = (SELECT min(viewed_at) FROM page_views)")
        connection.commit()
    other = search(config, 1)
    assert other.data["study"] != first["study"]
    assert (other.data["is_new"], other.data["other_studies"], other.data["trials"]["scored"]) == (True, 1, 1)
    assert "was begun, as the 1 before it are of other data" in str(other.parts[0])


def test_the_minutes_end_a_search_after_what_is_configured(shop: Path) -> None:
    output = search(configured(shop), 5, minutes=0)
    assert output.data["ended_by"] == "minutes"
    assert output.data["trials"] == {"asked": 5, "found": 0, "scored": 1, "ended_early": 0, "failed": 0}
    assert output.data["toml"] is None
    assert any("the same command goes on" in str(part) for part in output.parts)


def test_ctrl_c_keeps_what_was_found(shop: Path) -> None:
    settings = shop / "recsys.toml"
    process = started("tune", "mf", "--trials", "100000", "--config", settings)
    while scored(shop) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    code, told = interrupted(process)
    assert (code, told.splitlines()[-1]) == (1, "failed: interrupted")
    assert "Traceback" not in told
    with closing(open_configured(configured(shop))) as store:
        [run] = list_runs(store, 2)
    assert (run.job, run.status, run.error) == ("tune", "failed", "interrupted")
    assert search(configured(shop), 1).data["trials"]["found"] >= 3


def scored(shop: Path) -> int:
    """The trials with a score that the file of the studies holds."""
    try:
        with closing(sqlite3.connect(f"file:{shop / 'recsys-data' / 'tune.db'}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0])
    except sqlite3.OperationalError:  # not there yet
        return 0


def fit_instead(monkeypatch: pytest.MonkeyPatch, *acts: Callable[[], None]) -> None:
    """Do one act before each training: the first is that of the configured settings, the second trial 1.

    Each is scored once on the way, as by a model that has epochs.
    """
    waiting, original = iter(acts), pipeline.tune

    def instead(run: TrainingRun, name: str, data: TrainingData, score: Score, budget: Budget) -> Vectors | None:
        next(waiting, nothing)()
        found = original(run, name, data, score, budget)
        assert found is not None
        score(found)
        return None if budget.stopped else found

    for module in ("pipeline", "tuning"):  # the first asks the one, trials the other
        monkeypatch.setattr(f"recsys.training.{module}.tune", instead)


def nothing() -> None:
    """Let the training be as it is."""


def too_large() -> None:
    raise RuntimeError("out of memory\nand much about where")


def without_workers() -> None:
    raise RecsysError("the workers failed")


def test_a_trial_that_is_too_large_fails_alone_and_says_why(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_low() -> None:
        monkeypatch.setattr(optuna.Trial, "should_prune", lambda _: pruned.append(True) or len(pruned) == 1)

    pruned: list[bool] = []
    fit_instead(monkeypatch, nothing, too_large, without_workers, too_low, too_large)
    output = search(configured(shop), 3)
    assert output.data["trials"] == {"asked": 3, "found": 0, "scored": 2, "ended_early": 1, "failed": 3}
    too_much = "RuntimeError: out of memory"
    why = [f"trial 1: {too_much}", "trial 2: RecsysError: the workers failed", f"trial 4: {too_much}"]
    assert output.data["failures"] == why
    assert f"  failed: {why[-1]}" in output.parts
    with closing(open_configured(configured(shop))) as store:
        assert list_runs(store, 1)[0].steps[-1]["counts"]["failures"] == why


def test_three_failures_in_a_row_end_a_search_that_can_go_on(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit_instead(monkeypatch, nothing, nothing, too_large, too_large, too_large)
    words = r"3 trials in a row failed, the last by RuntimeError: out of memory; .*`recsys tune mf --trials 2` shows it"
    with pytest.raises(RecsysError, match=words):
        search(configured(shop), 3)
    assert search(configured(shop), 2).data["trials"]["found"] == 2


def test_a_search_that_has_lost_its_lease_tries_no_more(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken() -> None:
        expire_leases_of(shop)
        with closing(open_configured(configured(shop))) as store:
            assert acquire_lease(store, "tune", "another") is not None

    fit_instead(monkeypatch, nothing, taken)
    with pytest.raises(RefusedError, match="the lease 'tune' with fencing number 1 is lost"):
        search(configured(shop), 5)


def test_two_searches_in_one_folder_with_a_store_each_are_told_apart(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = configured(shop, RECSYS_STORE__URL=f"sqlite:///{shop}/other.db")

    def second() -> None:
        search(other, 1)

    fit_instead(monkeypatch, nothing, second)
    with pytest.raises(RefusedError, match="trial 1 was ended by another search"):
        search(configured(shop), 5)
    data = search(configured(shop), 1).data
    assert (data["trials"]["scored"], data["trials"]["failed"], data["failures"]) == (1, 1, [])


def test_a_study_is_of_one_version_and_one_device(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(shop)
    run = TrainingRun(config, loaded(config))

    def name() -> str:
        return Search(run, "mf", None, nothing).name  # type: ignore[arg-type]

    first = name()
    assert name() == first
    with monkeypatch.context() as patch:
        patch.setattr("recsys.training.tuning.metadata.version", lambda _: "next")
        assert name() != first
    monkeypatch.setattr("recsys.models.device.pick_device", lambda _: "another")
    assert name() != first


def test_negatives_are_varied_by_the_items_that_have_events(shop: Path) -> None:
    run = TrainingRun(configured(shop), loaded(configured(shop)))
    items = len(set(run.splits.fit.items.tolist()))
    assert items < len(run.dataset.catalog)
    for most, drawn in ((items, False), (items - 1, True)):
        config = configured(shop, RECSYS_MODELS__SEQUENCE__FULL_SOFTMAX_ITEMS=str(most))
        search = Search(replace(run, config=config), "sequence", None, nothing)  # type: ignore[arg-type]
        assert ("negatives" in search.space) is drawn


@pytest.mark.parametrize("model", ["auto", "popularity", "reach:MODEL"])
def test_a_model_that_cannot_be_tuned_is_named(shop: Path, model: str) -> None:
    words = f"there is nothing to tune in '{model}'; allowed are mf, two_tower, sequence"
    with pytest.raises(ConfigError, match=words):
        tune(configured(shop), model=model, trials=1, minutes=None, progress=quiet)
