"""Every model keeps one contract; nobody switches it off."""

import model_contracts as contracts
import numpy as np
import pytest

from recsys.models.contract import MODELS
from recsys.models.mf.model import Spectral
from recsys.models.two_tower import model as two_tower

PERSONAL = [name for name in MODELS if name != "popularity"]


def own_group_share(vectors):
    """How much of the best five, besides what was bought, is of the buyer's own group; chance is a third."""
    shares = []
    for group in range(contracts.GROUPS):
        first = group * contracts.PER_GROUP
        found = contracts.scores(vectors, first, first + 1)
        found[[first, first + 1]] = -np.inf
        best = np.argsort(-found)[:5]
        shares.append(np.mean(best // contracts.PER_GROUP == group))
    return np.mean(shares)


@pytest.mark.parametrize("name", PERSONAL)
def test_a_checkerboard_is_learnt(name):
    calls = []

    def score(vectors):
        calls.append(own_group_share(vectors))
        return calls[-1]

    data = contracts.checkerboard()
    chosen = contracts.tuned(name, data, score=score)
    assert calls or name == "mf", "two_tower stops early by the score"
    vectors = contracts.fitted(name, data, chosen.settings)
    assert own_group_share(vectors) >= 0.9


@pytest.mark.parametrize("name", MODELS)
def test_shapes_agree_and_everything_is_finite(name):
    data = contracts.checkerboard(cold=2)
    vectors = contracts.fitted(name, data, contracts.tuned(name, data).settings)
    assert vectors.model == name
    assert vectors.item_vectors.shape == (data.events.item_count, vectors.dim)
    assert vectors.item_vectors.dtype == np.float32
    assert sum(part.history_vectors.shape[1] for part in vectors.parts) == vectors.dim
    for array in (vectors.item_vectors, *(part.history_vectors for part in vectors.parts)):
        assert np.isfinite(array).all()
    assert np.isfinite(vectors.encode(contracts.history())).all(), "an empty history"


@pytest.mark.parametrize("name", MODELS)
def test_a_seed_makes_a_run_repeatable(name):
    data = contracts.checkerboard()
    first, second = (contracts.tuned(name, data) for _ in range(2))
    np.testing.assert_array_equal(first.item_vectors, second.item_vectors)
    assert first.settings == second.settings
    again = [contracts.fitted(name, data, first.settings) for _ in range(2)]
    np.testing.assert_array_equal(again[0].item_vectors, again[1].item_vectors)
    assert again[0].settings == first.settings


@pytest.mark.parametrize("name", PERSONAL)
def test_an_item_without_events_is_placed_by_its_features(name):
    data = contracts.checkerboard(cold=1)
    chosen = contracts.tuned(name, data, score=own_group_share).settings
    vectors = contracts.fitted(name, data, chosen)
    fans, others = contracts.scores(vectors, 0, 1)[-1], contracts.scores(vectors, 8, 9)[-1]
    assert fans > others
    item, parts = vectors.item_encoder.encode(data.catalog.columns.slice(contracts.ITEMS, 1))
    np.testing.assert_allclose(item[0], vectors.item_vectors[-1], atol=1e-4)
    assert [part.shape[1] for part in parts] == [part.history_vectors.shape[1] for part in vectors.parts]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("users", "items"), [([0], [0]), ([0, 0, 0], [1, 1, 1]), ([0, 1, 2], [4, 4, 4])])
def test_one_user_or_one_item_does_not_break_it(name, users, items):
    times = np.full(len(users), contracts.NOW - 1)
    data = contracts.training_data(np.array(users, np.int32), np.array(items, np.int32), times, max(users) + 1)
    vectors = contracts.fitted(name, data, contracts.tuned(name, data).settings)
    assert np.isfinite(vectors.item_vectors).all()
    assert np.isfinite(contracts.scores(vectors, items[0])).all()


@pytest.mark.parametrize("name", [name for name in MODELS if name != "auto"])
def test_whatever_is_scored_can_be_trained_again_as_it_is(name):
    """What `auto` relies on, which may end a training at any score and go on with the best one so far."""
    data, scored = contracts.checkerboard(), []
    contracts.tuned(name, data, score=lambda vectors: scored.append(vectors) or own_group_share(vectors))
    for vectors in scored[:: max(1, len(scored) // 5)]:
        again = contracts.fitted(name, data, vectors.settings)
        np.testing.assert_allclose(contracts.scores(again, 0, 1), contracts.scores(vectors, 0, 1), atol=1e-3)


def test_a_trial_over_all_events_is_a_pass_like_any_other():
    several = contracts.SETTINGS.two_tower.model_copy(update={"temperatures": (0.1, 0.3), "epochs": 1})
    scored = []
    contracts.tuned("two_tower", contracts.checkerboard(), several, score=lambda v: scored.append(v) or 1.0)
    whole = several.max_events_per_epoch
    assert {vectors.settings["max_events_per_epoch"] for vectors in scored} == {whole}


def test_so_can_what_was_scored_after_a_trial_on_a_sample(monkeypatch):
    monkeypatch.setattr(two_tower, "_TRIAL_POSITIVES", 200)
    several = contracts.SETTINGS.two_tower.model_copy(update={"temperatures": (0.1, 0.3), "epochs": 1})
    data, scored = contracts.checkerboard(), []
    chosen = contracts.tuned("two_tower", data, several, score=lambda v: scored.append(v) or own_group_share(v))
    trials = [vectors for vectors in scored if vectors.settings["max_events_per_epoch"] == 200]
    assert {vectors.settings["temperature"] for vectors in trials} == {0.1, 0.3}
    again = contracts.fitted("two_tower", data, trials[-1].settings)
    np.testing.assert_allclose(contracts.scores(again, 0, 1), contracts.scores(trials[-1], 0, 1), atol=1e-3)
    assert chosen.settings["max_events_per_epoch"] == several.max_events_per_epoch


@pytest.mark.parametrize("name", ["two_tower", "sequence"])
def test_what_training_only_harms_stays_as_it_was_at_the_start(name):
    def score(vectors):
        return 1.0 if vectors.settings["epochs"] == 0 else 0.5

    assert contracts.tuned(name, contracts.checkerboard(), score=score).settings["epochs"] == 0


@pytest.mark.parametrize("normalize_items", [True, False])
def test_how_long_the_rows_of_the_start_are_plays_no_part(normalize_items, monkeypatch):
    # Adagrad's steps are as long whatever the rows are, and the rows are shorter the more items a shop has.
    data, spectral = contracts.checkerboard(), Spectral.start
    settings = contracts.tuned("two_tower", data, score=lambda vectors: vectors.settings["epochs"]).settings
    assert settings["epochs"] > 0
    settings = {**settings, "normalize_items": normalize_items}
    trained = contracts.fitted("two_tower", data, settings)
    monkeypatch.setattr(Spectral, "start", lambda *given: tuple(table * 2.0**-7 for table in spectral(*given)))
    again = contracts.fitted("two_tower", data, settings)
    np.testing.assert_array_equal(again.item_vectors, trained.item_vectors)


def test_nor_do_the_rows_of_what_counts_nothing():
    start = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
    alone = two_tower._of_length_1(start)
    beside = two_tower._of_length_1(np.concatenate([np.zeros((600, 4), np.float32), start]))
    np.testing.assert_array_equal(beside[600:], alone)
    assert np.median(np.linalg.norm(alone, axis=1)) == pytest.approx(1, abs=1e-5)
