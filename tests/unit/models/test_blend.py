"""Auto blends what serves better together, publishes a single where nothing is gained, and keeps to its time."""

import time
from dataclasses import replace

import model_contracts as contracts
import numpy as np
import pytest

from recsys.config.settings import AutoSettings, ModelSettings
from recsys.errors import ConfigError, RecsysError
from recsys.models import blend as auto
from recsys.models.budget import Budget
from recsys.models.contract import Model
from recsys.models.vectors import Constant, ItemEncoder, Part, Vectors, WeightedSum

HALF = contracts.ITEMS // 2
TOKENS = {"left": [3, 7], "right": [5, 7]}
clock = [0.0]


def tells_apart(name, rows, length, *, demand=0.0):
    """Vectors that know, of the items `rows`, which group each is of; the others all look alike."""
    groups = np.eye(contracts.GROUPS, dtype=np.float32)[np.arange(contracts.ITEMS) // contracts.PER_GROUP]
    known = np.zeros((contracts.ITEMS, 1), np.float32)
    known[rows] = length
    encoder = ItemEncoder(
        np.array(TOKENS[name], np.uint64),
        np.ones((2, 3), np.float32) * length,
        (np.ones((2, 3), np.float32),),
    )
    settings = {"length": length, "demand": demand}
    return Vectors(name, groups * known, (Part(groups, WeightedSum((1.0,), 36500.0)),), encoder, settings)


def left_of(**settings):
    return tells_apart("left", np.arange(0, contracts.ITEMS, 2), **({"length": 1000.0} | settings))


def right_of(**settings):
    return tells_apart("right", np.arange(1, contracts.ITEMS, 2), **({"length": 0.01} | settings))


def useless_of(**_settings):
    random = np.random.default_rng(0).standard_normal((2, contracts.ITEMS, 3)).astype(np.float32)
    return Vectors("useless", random[0], (Part(random[1], WeightedSum((1.0,), 36500.0)),), None, {})


def counts_of(**_settings):
    demand = np.exp(np.arange(contracts.ITEMS, dtype=np.float32))[:, None]
    return Vectors("counts", demand, (Part(np.zeros_like(demand), Constant()),), None, {})


def model_of(vectors_of, tune=None):
    """A model that comes out as given, and is tuned at once unless `tune` does it."""
    return Model(
        tune or (lambda _data, _space, _score, _budget: vectors_of()),
        lambda _data, params, _budget: vectors_of(**params),
    )


left, right, useless = model_of(left_of), model_of(right_of), model_of(useless_of)


def tune_slowly(data, space, score, budget):
    for done in (0.0, 0.05, 0.1, 0.2, 0.3):
        if not budget.epoch(done, step="slow: epoch 1"):
            return None
        clock[0] += 30
    return right_of()


slow = model_of(right_of, tune_slowly)


def tune_endlessly(data, space, score, budget):
    for value in range(1000):
        if budget.expired():
            return
        score(right_of())
        budget.progress("endless: choose", value / 1000)
        clock[0] += 30
    raise AssertionError("nobody ended it")


endless = model_of(right_of, tune_endlessly)


def tuned(*names, score, budget=1e9):
    space = ModelSettings.model_validate({"auto": {"candidates": [f"test_blend:{name}" for name in names]}})
    return auto.tune(contracts.checkerboard(), space, score, Budget(budget))


def share_in_order(vectors):
    """Of all pairs of an item of a buyer's own group and another, how many are in that order; ties count half."""
    shares = []
    for group in range(contracts.GROUPS):
        scores = contracts.scores(vectors, group * contracts.PER_GROUP)
        own = np.arange(contracts.ITEMS) // contracts.PER_GROUP == group
        higher = np.sign(scores[own][:, None] - scores[~own][None, :])
        shares.append(np.mean((higher + 1) / 2))
    return float(np.mean(shares))


def weights(vectors):
    return {part["model"].removeprefix("test_blend:"): part["weight"] for part in vectors.settings["parts"]}


def test_what_serves_better_together_is_blended_on_one_scale():
    vectors = tuned("left", "right", "useless", score=share_in_order)
    comparison = vectors.settings["comparison"]
    assert (
        comparison["blend"] == share_in_order(vectors) > max(comparison[f"test_blend:{n}"] for n in ("left", "right"))
    )
    assert {"left", "right"} <= set(weights(vectors))
    assert vectors.dim == 3 * len(vectors.parts)
    lengths = np.linalg.norm(vectors.item_vectors, axis=1)
    assert 0.02 < lengths[1] / lengths[0] < 50, "scores of 1000 and of .01 were brought to one scale"


def test_nothing_joins_the_best_without_a_gain():
    vectors = tuned("useless", "left", score=lambda vectors: -abs(vectors.dim - 3) + share_in_order(vectors))
    assert weights(vectors) == {"left": 1.0}
    np.testing.assert_array_equal(vectors.item_vectors, left_of().item_vectors)


def test_a_weight_is_the_smallest_that_noise_does_not_tell_from_the_best():
    random = np.random.default_rng(0)
    before, noise = random.random(1000), random.standard_normal((3, 1000))
    tried = {0.0: before, 0.05: before + 0.1, 0.1: before + 0.1 + 0.01 * noise[0], 0.25: before + 0.05 * noise[1]}
    tried[0.1] += 0.0001 - noise[0].mean() * 0.01  # a little better, by less than its standard error of .0003
    assert max(tried, key=lambda weight: tried[weight].mean()) == 0.1
    assert auto._smallest_among_the_best(tried) == 0.05
    tried[0.1] += 0.001
    assert auto._smallest_among_the_best(tried) == 0.1


def never():
    return False


NOISE = np.random.default_rng(0).standard_normal(1000)
NOISE = (NOISE - NOISE.mean()) / NOISE.std()  # a standard error of 1 / sqrt(1000)


@pytest.mark.parametrize(("behind", "asked"), [(2.5, [0.0, *auto._WEIGHTS]), (3.5, [0.0, 0.05])])
def test_no_weight_is_tried_beyond_one_that_is_certainly_worse(behind, asked):
    worse = NOISE - behind / np.sqrt(1000)
    found = auto._try_weights({0.0: np.zeros(1000)}, lambda _weight: worse, never)
    assert list(found) == asked


def test_few_users_do_not_end_the_search():
    found = auto._try_weights({0.0: np.ones(29)}, lambda _weight: np.zeros(29), never)
    assert list(found) == [0.0, *auto._WEIGHTS]


def test_weights_below_the_one_held_are_tried_whatever_the_first_of_them_comes_to():
    found = auto._try_weights({0.5: np.ones(1000)}, lambda weight: np.zeros(1000) + weight / 10, never)
    assert list(found) == [0.5, 0.0, 0.05, 0.1, 0.25, 1.0]


class OfUsers:
    """A score that tells of each of its users."""

    def __init__(self, per_user):
        self.per_user = per_user

    def __call__(self, vectors):
        by_user = self.per_user(vectors)
        return float(by_user.mean()) if len(by_user) else 0.0


class OfOthers(OfUsers):
    """A score that asks others than those it tells of, and hears the opposite."""

    def __call__(self, vectors):
        return -super().__call__(vectors)


def test_those_who_are_told_of_choose_the_best_candidate():
    vectors = tuned("right", "left", score=OfOthers(lambda vectors: np.full(3, -float(vectors.model != "left"))))
    assert weights(vectors) == {"left": 1.0}
    assert vectors.settings["comparison"] == {"test_blend:right": -1.0, "test_blend:left": 0.0, "blend": 0.0}


def test_where_nobody_can_be_asked_the_first_candidate_is_published():
    assert weights(tuned("left", "right", score=OfUsers(lambda _vectors: np.zeros(0)))) == {"left": 1.0}


def test_what_helps_one_user_as_much_as_it_harms_another_stays_out():
    def per_user(vectors):
        gained = share_in_order(vectors) - share_in_order(left_of())
        return np.array([0.5 + gained, 0.5 - 0.9 * gained])

    assert weights(tuned("left", "right", score=OfUsers(per_user))) == {"left": 1.0}
    assert "right" in weights(tuned("left", "right", score=lambda vectors: per_user(vectors).mean()))


@pytest.mark.usefixtures("hand_wound")
def test_a_part_that_was_chosen_is_not_lost_when_the_time_is_up():
    def score(vectors):
        clock[0] += 1
        return share_in_order(vectors)

    found = []
    for budget in range(6, 60, 2):
        clock[0] = 0.0
        found.append("right" in weights(tuned("left", "right", "useless", score=score, budget=budget)))
    assert found == sorted(found), "with more time it stays in"
    assert found[-1]
    assert not found[0]


def test_the_same_blend_comes_from_its_settings():
    chosen = tuned("left", "right", score=share_in_order)
    again = contracts.fitted("auto", contracts.checkerboard(), chosen.settings)
    np.testing.assert_array_equal(again.item_vectors, chosen.item_vectors)
    assert again.settings == chosen.settings


def test_item_encoders_join_over_the_tokens_of_both():
    vectors = tuned("left", "right", score=share_in_order)
    encoder = vectors.item_encoder
    assert encoder.token_hashes.tolist() == [3, 5, 7]
    of = dict(zip([3, 5, 7], encoder.item_weights, strict=True))
    names = list(weights(vectors))
    place = {name: slice(3 * at, 3 * at + 3) for at, name in enumerate(names)}
    for token, knowing, other in ((3, "left", "right"), (5, "right", "left")):
        assert of[token][place[knowing]].all()
        assert not of[token][place[other]].any()
    assert of[7].all()
    item, history = encoder.item_weights.shape[1], [w.shape[1] for w in encoder.history_weights]
    assert (item, history) == (vectors.dim, [part.history_vectors.shape[1] for part in vectors.parts])


def test_long_tailed_counts_join_by_their_logarithm():
    scaled = auto._scaled(contracts.checkerboard(), counts_of())
    steps = np.diff(scaled.item_vectors[8:, 0])
    np.testing.assert_allclose(steps, steps[0], rtol=1e-2)


@pytest.fixture
def hand_wound(monkeypatch):
    clock[0] = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])


@pytest.mark.usefixtures("hand_wound")
def test_a_pass_that_cannot_end_in_time_is_not_waited_for():
    vectors = tuned("left", "slow", score=share_in_order, budget=400)
    assert set(weights(vectors)) == {"left"}
    assert "takes 570 s more" in vectors.settings["skipped"]["test_blend:slow"]
    assert clock[0] <= 60, "two reports tell how fast the pass is"
    clock[0] = 0.0
    assert "test_blend:slow" not in tuned("left", "slow", score=share_in_order, budget=1000).settings["skipped"]


def tune_twice(data, space, score, budget):
    for seconds in (1, 10):  # a trial on a sample of the events, then the epoch itself, under one name
        for done in range(11):
            if not budget.epoch(done / 10, step="twice: epoch 1"):
                return None
            clock[0] += seconds
    return right_of()


twice = model_of(right_of, tune_twice)


@pytest.mark.usefixtures("hand_wound")
def test_how_fast_a_pass_is_is_told_by_itself_and_not_by_one_before_it():
    assert tuned("left", "twice", score=share_in_order, budget=300).settings["skipped"] == {}
    clock[0] = 0.0
    slow = tuned("left", "twice", score=share_in_order, budget=100).settings["skipped"]["test_blend:twice"]
    assert "takes 90 s more" in slow


@pytest.mark.usefixtures("hand_wound")
def test_a_candidate_whose_time_is_up_counts_as_the_best_it_had_reached():
    vectors = tuned("left", "endless", "useless", score=share_in_order, budget=1000)
    assert vectors.settings["skipped"]["test_blend:endless"].startswith("stopped early")
    assert {"endless", "left"} <= set(weights(vectors))
    assert clock[0] < 500, "the third candidate had time left"


@pytest.mark.usefixtures("hand_wound")
def test_the_first_candidate_goes_on_until_it_has_something_to_publish():
    vectors = tuned("slow", "endless", score=share_in_order, budget=100)
    assert set(weights(vectors)) == {"slow"}
    assert list(vectors.settings["skipped"]) == ["test_blend:endless"]
    clock[0] = 0.0
    assert set(weights(tuned("endless", score=share_in_order, budget=100))) == {"endless"}
    assert clock[0] < 150, "and no longer"


def fail(data, space, score, budget):
    score(right_of())
    raise RecsysError("the workers failed")


failing = model_of(right_of, fail)


def test_a_candidate_that_fails_is_told_of_and_the_others_serve():
    vectors = tuned("failing", "left", "useless", score=share_in_order)
    assert vectors.settings["skipped"] == {"test_blend:failing": "failed: the workers failed"}
    assert "failing" not in weights(vectors)
    with pytest.raises(RecsysError, match="workers failed"):
        tuned("failing", score=share_in_order)


def mistake(data, space, score, budget):
    raise ConfigError("no such device")


mistaken = model_of(right_of, mistake)


def test_what_another_configuration_would_mend_is_not_passed_over():
    with pytest.raises(ConfigError, match="no such device"):
        tuned("left", "mistaken", score=share_in_order)


@pytest.mark.usefixtures("hand_wound")
def test_where_the_first_failed_the_next_goes_on_until_it_has_something_to_publish():
    assert set(weights(tuned("failing", "slow", score=share_in_order, budget=100))) == {"slow"}


def tune_hopelessly(data, space, score, budget):
    for epoch in range(1, 100):
        clock[0] += 1
        budget.epoch(1.0, step=f"epoch {epoch}", is_whole=epoch > SAMPLES[0])
        score(useless_of())
        if budget.expired():
            return
    raise AssertionError("nobody ended it")


SAMPLES = [0]  # epochs over a sample of the events before the first whole one
hopeless = model_of(useless_of, tune_hopelessly)


@pytest.mark.usefixtures("hand_wound")
@pytest.mark.parametrize("samples", [0, 3])
def test_a_candidate_far_behind_after_a_pass_is_given_up(samples, monkeypatch):
    monkeypatch.setattr("test_blend.SAMPLES", [samples])
    vectors = tuned("left", "hopeless", "right", score=lambda found: max(0.0, share_in_order(found) - 0.55))
    assert clock[0] == samples + 1, "one pass over all events was enough to see it"
    assert "the best before it" in vectors.settings["skipped"]["test_blend:hopeless"]
    assert {"left", "right"} <= set(weights(vectors))


def test_order_is_not_learnt_where_all_events_have_the_same_time():
    models = contracts.SETTINGS.model_copy(update={"auto": AutoSettings(candidates=("mf", "sequence"))})
    data = contracts.checkerboard()
    events = replace(data.events, times=np.full(len(data.events), contracts.NOW - 1))
    for at, skipped in ((data, set()), (replace(data, events=events), {"sequence"})):
        found = auto.tune(at, models, share_in_order, Budget())
        assert {name for name, why in found.settings["skipped"].items() if "no order" in why} == skipped
