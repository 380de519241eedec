"""How boxes are evaluated, on events with a known answer."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from box_shop import ITEMS, bundle_of
from tiny import KINDS, PURCHASE, VIEW

from recsys.config.settings import Config
from recsys.data.splits import split_by_time
from recsys.data.vocabulary import Vocabulary
from recsys.errors import ConfigError, RefusedError
from recsys.serving.boxes import BOXES
from recsys.training.box_evaluation import EVALUATED, BoxResult, Inputs, difference, evaluate_box

USERS = 12


def inputs_of(rows, **settings):
    events = tiny.events(rows, users=USERS, items=ITEMS)
    users = Vocabulary.from_ids(f"u{row}" for row in range(USERS))
    bundle = bundle_of(events, available=[False] * ITEMS)
    dataset = SimpleNamespace(events=events, users=users, catalog=bundle.catalog, kinds=KINDS, watermark=0)
    config = Config(evaluation={"holdout_days": 20, "validation_days": 20}, **settings)
    splits = split_by_time(events, validation_days=20, holdout_days=20)
    return Inputs(config, dataset, splits), bundle


def rising():
    """Each week another item begins to sell and sells more in the next one, and one is always bought a lot."""
    rows = []
    for week in range(20):
        rows += [(user % USERS, 50, PURCHASE, 7 * week + user / 10) for user in range(40)]
        rows += [(user % USERS, week, PURCHASE, 7 * week + 4 + user / 20) for user in range(20)]
        rows += [(user % USERS, week, PURCHASE, 7 * week + 11 + user / 40) for user in range(60)]
    return rows


def test_trending_finds_what_rises_and_bestsellers_what_sells():
    inputs, bundle = inputs_of(rising())
    trending = evaluate_box("trending", inputs, bundle)
    assert list(trending) == ["trending", "bestsellers", "popular"]
    assert trending["trending"].metrics["ndcg@20"] > trending["bestsellers"].metrics["ndcg@20"] + 0.05
    best = evaluate_box("bestsellers", inputs, bundle)
    assert best["bestsellers"].metrics["ndcg@20"] > best["trending"].metrics["ndcg@20"]
    assert best["bestsellers"].metrics["questions"] == 12
    mean, low, high = difference(trending["trending"], trending["bestsellers"])
    assert 0 < low < mean < high


def test_a_list_is_worth_what_it_holds_of_what_happened():
    days = [day for day in range(100) if day != 93]
    rows = [(0, 7, PURCHASE, day) for day in days] + [(1, 7, PURCHASE, 99.9), (1, 30, PURCHASE, 99.95)]
    inputs, bundle = inputs_of(rows)
    found = evaluate_box("bestsellers", inputs, bundle)["bestsellers"]
    assert found.metrics["recall@20"] == pytest.approx((11 + 8 / 9) / 12, abs=0.03)
    assert found.ndcg.max() == 1


def test_people_and_sessions_are_asked_about_as_of_their_moment():
    vector = np.zeros((ITEMS, 6))
    for item in range(ITEMS):
        vector[item, item % 6] = 1 + item / 100
    rows = [(user, user % 6 + 6 * at, VIEW, user + at) for user in range(USERS) for at in range(5)]
    for user in range(USERS):
        rows += [(user, user % 6 + 6 * (at + 3), PURCHASE, 90 + user / 4 + at / 5_000) for at in (0, 1)]
    rows += [(0, 20, VIEW, 99.9)]
    inputs, bundle = inputs_of(rows)
    made = tiny.bundle(vector, np.zeros(ITEMS), available=[False] * ITEMS)
    bundle = replace(made, catalog=bundle.catalog)
    user = evaluate_box("for_you", inputs, bundle)
    assert user["for_you"].metrics["questions"] == USERS
    assert user["for_you"].metrics["recall@20"] > 0.99 > 0.7 > user["popular"].metrics["recall@20"]
    beside = evaluate_box("similar", inputs, bundle)
    assert beside["similar"].metrics["questions"] == USERS
    assert beside["similar"].metrics["recall@20"] == 1
    again = evaluate_box("recently_viewed", inputs, bundle)
    assert (again["recently_viewed"].metrics["questions"], again["popular"].metrics["questions"]) == (USERS + 1,) * 2
    assert again["recently_viewed"].metrics["recall@20"] == pytest.approx(USERS / (USERS + 1))  # but for the last view


def test_what_cannot_be_evaluated_says_so():
    inputs, bundle = inputs_of([(0, 1, VIEW, 1), (0, 1, VIEW, 99)])
    with pytest.raises(RefusedError, match="nothing in the last days can evaluate the box similar"):
        evaluate_box("similar", inputs, bundle)
    with pytest.raises(ConfigError, match="'rerank' is not evaluated; allowed are for_you"):
        evaluate_box("rerank", inputs, bundle)


def test_plain_boxes_answer_the_same_questions():
    for name, evaluated in EVALUATED.items():
        assert name not in evaluated.plain
        asked = BOXES[name].needs
        answered = {"nothing", asked, *(["item"] if asked == "items" else [])}  # several items name one too
        assert {BOXES[other].needs for other in evaluated.plain} <= answered, name


def test_an_interval_is_paired():
    one, other = (BoxResult({}, np.array(values)) for values in ([0.5, 0.7, 0.9], [0.4, 0.6, 0.8]))
    assert difference(one, other) == pytest.approx((0.1, 0.1, 0.1))
    assert difference(BoxResult({}, np.array([0.5])), BoxResult({}, np.array([0.2]))) == pytest.approx((0.3, 0.3, 0.3))


def test_baskets_visits_and_what_is_bought_again_are_asked_about():
    # Every user buys three things of one of four sets, looks at two others, and buys the first of them every ten days.
    rows = []
    for user in range(USERS):
        first = 10 * (user % 4)
        for day in range(0, 100, 10):
            rows += [(user, first + item, PURCHASE, day + user / 100) for item in (0, 1 + day // 10 % 3, 4)]
            rows += [(user, first + item, VIEW, day + 5 + user / 100) for item in (6, 7)]
    inputs, bundle = inputs_of(rows)
    config = inputs.config.model_copy(
        update={"recommendations": inputs.config.recommendations.model_copy(update={"allow_repurchase": True})}
    )
    inputs = Inputs(config, inputs.dataset, inputs.splits)
    for box in ("bought_together", "viewed_together", "cart"):
        found = evaluate_box(box, inputs, bundle)[box]
        assert found.metrics["questions"] == 2 * USERS, box
        assert found.metrics["recall@20"] > 0.9, box
    again = evaluate_box("buy_again", inputs, bundle)
    assert again["buy_again"].metrics["questions"] == USERS
    assert again["buy_again"].metrics["recall@20"] == 1
    assert list(again) == ["buy_again", "recently_viewed", "for_you"]
