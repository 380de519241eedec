"""A search for settings: killed at any moment it goes on, it publishes nothing, and its lines configure its best."""

import hashlib
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from road import configured, parsed, quiet
from test_crash import expire_lease
from test_interrupt import interrupted, started

from jobs import candidates
from jobs.commands import open_configured
from jobs.show import Output
from jobs.tune import tune
from recsys.config import Config
from recsys.errors import ConfigError, RecsysError

Recsys = Callable[..., subprocess.CompletedProcess[str]]
POOR = "[1]"  # one dimension: nearly every trial is better


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
    return tune(config, model="mf", trials=trials, minutes=minutes, report=quiet)


def test_a_killed_search_goes_on_and_its_lines_configure_what_it_found(trained_shop: Path, recsys: Recsys) -> None:
    settings, poor = trained_shop / "recsys.toml", {"RECSYS_MODELS__MF__RANKS": POOR}
    command = ("tune", "mf", "--trials", "4", "--json", "--config", settings)
    before = files(trained_shop)
    killed = recsys(*command, RECSYS_CRASH_AT="in trial 2", **poor)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with closing(open_configured(configured(trained_shop))) as store:
        assert store.acquire("tune", "somebody") is None
        night = store.acquire("train", "the night")
        assert night is not None  # a search keeps no night waiting
        store.release("train", night)
    expire_lease(trained_shop)
    found = parsed(recsys(*command, **poor))
    assert found["trials"] == {"asked": 4, "found": 2, "scored": 4, "ended_early": 0, "failed": 1}
    assert (found["is_new"], found["ended_by"], found["configured"]["trial"]) == (False, "trials", 0)
    assert files(trained_shop) == before
    assert found["improvement"] > 0
    assert found["best"]["ndcg@20"] == pytest.approx(found["configured"]["ndcg@20"] + found["improvement"])
    with closing(open_configured(configured(trained_shop))) as store:
        assert [(run.job, run.status) for run in store.list_runs(2)] == [("tune", "done"), ("tune", "failed")]

    again = search(configured(trained_shop, **poor), 4)
    assert again.parts[0] == f"study {found['study']} went on: 4 trials were there"
    assert again.parts[-1] == found["toml"] == again.data["toml"]
    pasted(settings, found["toml"])
    now = search(configured(trained_shop), 1).data
    assert now["configured"]["ndcg@20"] == pytest.approx(found["best"]["ndcg@20"])
    assert now["toml"] is None  # nothing is better than what is configured


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
    assert output.data["trials"] == {"asked": 5, "found": 0, "scored": 1, "ended_early": 0, "failed": 1}
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
        [run] = store.list_runs(2)
    assert (run.job, run.status, run.error) == ("tune", "failed", "interrupted")
    assert search(configured(shop), 1).data["trials"]["found"] >= 3


def scored(shop: Path) -> int:
    """The trials with a score that the file of the studies holds."""
    try:
        with closing(sqlite3.connect(f"file:{shop / 'recsys-data' / 'tune.db'}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0])
    except sqlite3.OperationalError:  # not there yet
        return 0


@pytest.mark.parametrize("failing", [{2}, {2, 3, 4}])
def test_a_trial_that_is_too_large_fails_alone(shop: Path, monkeypatch: pytest.MonkeyPatch, failing: set[int]) -> None:
    calls = 0

    def fit(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in failing:
            raise RuntimeError("out of memory")
        return candidates.fit(*arguments, **named)

    monkeypatch.setattr("jobs.tune.fit", fit)
    if len(failing) == 1:
        data = search(configured(shop), 3).data
        assert (data["trials"]["scored"], data["trials"]["failed"]) == (3, 1)
    else:
        with pytest.raises(RuntimeError, match="out of memory"):
            search(configured(shop), 3)


@pytest.mark.parametrize("model", ["auto", "popularity", "reach:train"])
def test_a_model_that_cannot_be_tuned_is_named(shop: Path, model: str) -> None:
    words = f"there is nothing to tune in '{model}'; allowed are mf, two_tower, sequence"
    with pytest.raises(ConfigError, match=words):
        tune(configured(shop), model=model, trials=1, minutes=None, report=quiet)


def test_a_file_that_is_no_study_is_named(shop: Path) -> None:
    (shop / "recsys-data").mkdir()
    (shop / "recsys-data" / "tune.db").write_text("what is this " * 100)
    with pytest.raises(RecsysError, match=r"tune\.db cannot be opened: .*Optuna 5.* begins anew"):
        search(configured(shop), 1)
