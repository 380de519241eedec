"""What a search may try is always a valid configuration of one value each, and comes back from the lines it prints."""

import re
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from model_contracts import SETTINGS, checkerboard
from optuna.distributions import FloatDistribution, IntDistribution
from tiny import vectors

from recsys.config.settings import Config
from recsys.errors import RecsysError
from recsys.models.budget import Budget
from recsys.models.contract import find_model, settings_of
from recsys.training.search_space import HALF_LIFE, SPACES, as_toml, params_of, placed, space_of, with_values
from recsys.training.tuning import open_studies, pruning_score

MANY_ITEMS = 1_000_000


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def proposals(model: str, count: int = 30) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [study.ask(space_of(Config(), model, MANY_ITEMS)).params for _ in range(count)]


@pytest.mark.parametrize("model", SPACES)
def test_every_proposal_is_a_valid_configuration_with_nothing_left_to_choose(model: str) -> None:
    for params in proposals(model):
        config = with_values(Config(), model, params)
        section = getattr(config.models, model)
        assert type(section).model_validate(section.model_dump()) == section
        several = {k: v for k, v in section.model_dump().items() if isinstance(v, tuple) and len(v) != 1}
        assert several == {}
        assert len(config.events.half_life_days) == 1 or HALF_LIFE not in params


@pytest.mark.parametrize("model", SPACES)
def test_the_lines_that_are_printed_configure_what_was_tried(model: str) -> None:
    for params in proposals(model):
        lines = as_toml(Config(), model, params)
        assert Config.model_validate(tomllib.loads(lines)) == with_values(Config(), model, params)


@pytest.mark.parametrize("model", SPACES)
def test_a_space_is_wider_than_what_is_configured(model: str) -> None:
    config = Config()
    for key, found in space_of(config, model, MANY_ITEMS).items():
        if isinstance(found, IntDistribution | FloatDistribution):
            configured = getattr(config.events if key == HALF_LIFE else getattr(config.models, model), key)
            values = configured if isinstance(configured, tuple) else (configured,)
            assert found.low <= min(values) <= max(values) <= found.high, key
            assert found.high - found.low > max(values) - min(values), key


def test_what_is_chosen_beyond_a_space_has_the_nearest_place_in_it() -> None:
    for dim, place in ((4, 32), (100, 100), (1000, 512)):
        config = Config.model_validate({"models": {"two_tower": {"dim": dim}}})
        space = {"dim": space_of(config, "two_tower", 10)["dim"]}
        assert placed({"dim": dim}, space) == {"dim": place}


def test_negatives_are_varied_only_where_some_are_drawn() -> None:
    for model, most in (("sequence", Config().models.sequence.full_softmax_items), ("two_tower", 256)):
        assert "negatives" not in space_of(Config(), model, most)
        assert "negatives" in space_of(Config(), model, most + 1)


@pytest.mark.parametrize("model", SPACES)
def test_what_a_night_chose_has_a_place_in_the_space_that_trains_the_same(model: str) -> None:
    data = checkerboard()
    quick = {name: getattr(SETTINGS, name).model_copy(update={"epochs": 1}) for name in ("two_tower", "sequence")}
    config = Config(models=SETTINGS.model_copy(update=quick))

    def trained(configured: Config) -> dict[str, Any]:
        space, budget = settings_of(configured.models, model), Budget()
        # Whatever prefers one to another.
        found = find_model(model).tune(data, space, lambda tried: float(tried.item_vectors[0, 0]), budget)
        assert found is not None
        return found.settings

    chosen = trained(config)
    space = space_of(config, model, len(data.catalog))
    params = params_of(chosen, space)
    optuna.trial.create_trial(params=placed(params, space), distributions=space, value=0.0)  # refuses what lies outside
    assert trained(with_values(config, model, params)) == chosen


def test_a_training_that_is_worse_than_others_after_as_many_epochs_is_ended() -> None:
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=1))
    found = vectors([[1.0]])
    for scores in ([0.3, 0.5], [0.4, 0.6]):
        trial, of, budget = study.ask(), iter(scores), Budget()
        score = pruning_score(trial, lambda _, of=of: next(of), budget)
        assert [score(found) for _ in scores] == scores
        assert not budget.stopped
        study.tell(trial, scores[-1])
    of, budget = iter([0.35, 0.2]), Budget()
    score = pruning_score(study.ask(), lambda _: next(of), budget)
    score(found)
    assert not budget.stopped
    score(found)
    assert budget.stopped


@pytest.mark.parametrize("model", SPACES)
def test_a_training_is_ended_when_the_minutes_are_over(model: str) -> None:
    space, budget = settings_of(SETTINGS, model), Budget(-1)
    assert find_model(model).tune(checkerboard(), space, lambda _: 0.0, budget) is None
    assert budget.reason == "its -1 s were over"


def test_a_file_of_studies_that_cannot_be_opened_is_named_and_given_up_only_when_it_holds_none(tmp_path: Path) -> None:
    def message(folder: Path) -> str:
        with pytest.raises(RecsysError, match=r"tune\.db cannot be opened: ") as error, open_studies(folder):
            pass
        return str(error.value)

    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "tune.db").write_text("what is this " * 100)
    assert re.search(r"not a database; allowed is .*Optuna 5.* begins anew", message(tmp_path / "text"))
    with open_studies(tmp_path / "other"), closing(sqlite3.connect(tmp_path / "other" / "tune.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v99'")
        connection.commit()
    assert re.search(r"version .*Optuna 5.* begins anew", message(tmp_path / "other"))
    (tmp_path / "closed" / "tune.db").mkdir(parents=True)
    assert message(tmp_path / "closed").endswith("unable to open database file")
