"""Complaints are told from other reviews by their words, and the figures are those of reviews not learned from."""

import numpy as np
import pytest

from recsys.errors import RefusedError
from recsys.reviews.lexicon import Lexicon
from recsys.reviews.sentiment import folds_of, learn

THINGS = ["lamp", "cable", "speaker", "screen", "button", "remote", "cover", "box", "plug", "manual"]
BAD = ["broken after a week", "stopped working", "waste of money", "does not connect", "returned it", "awful sound"]
GOOD = ["works well", "love it", "easy to set up", "great sound", "my kids enjoy it", "perfect gift"]
STRANGE = ["", "😀" * 50, "word " * 1000, "<script>alert(1)</script>", "очень плохо", "とても良い", "x" * 1_000_000]


def rated(count: int, seed: int) -> tuple[list[str], list[float]]:
    """Reviews of which nearly a quarter complain; one in ten has the other's words."""
    random = np.random.default_rng(seed)
    texts, stars = [], []
    for number in range(count):
        bad = random.random() < 0.22
        said = BAD if bad != (random.random() < 0.1) else GOOD
        texts.append(f"The {THINGS[random.integers(10)]} {said[random.integers(6)]}, {number % 37}")
        stars.append(float(random.integers(1, 3) if bad else random.integers(4, 6)))
    return texts, stars


def test_complaints_are_told_from_other_reviews() -> None:
    learned = learn(*rated(400, seed=1), seed=1)
    worse, better = learned.sentiment.probabilities(["The plug stopped working", "The plug works well"])
    assert worse > 0.5 > 0.2 > better
    figures = learned.figures
    assert 0.8 < figures["auc"] < 0.98  # one in ten cannot be told
    assert figures["expected_over_actual_negative"] == pytest.approx(1, abs=0.05)
    assert sum(figures["confusion"].values()) == figures["reviews"] == 400


def test_texts_of_any_kind_have_a_probability() -> None:
    sentiment = learn(*rated(200, seed=2), seed=1).sentiment
    for judge in (sentiment, Lexicon()):
        found = judge.probabilities(STRANGE)
        assert len(found) == len(STRANGE)
        assert ((found >= 0) & (found <= 1)).all()
    unknown = sentiment.probabilities(["", "qqqq zzzz"])
    assert unknown[0] == unknown[1]


def test_learning_again_gives_the_same() -> None:
    reviews = rated(200, seed=3)
    first, again = learn(*reviews, seed=1), learn(*reviews, seed=1)
    assert np.array_equal(first.sentiment.weights, again.sentiment.weights)
    assert first.figures == again.figures


@pytest.mark.parametrize(("count", "stars"), [(50, [1.0, 5.0]), (200, [5.0, 5.0])])
def test_too_few_reviews_are_refused_with_their_number(count: int, stars: list[float]) -> None:
    texts = [f"text {number}" for number in range(count)]
    with pytest.raises(RefusedError, match=rf"{count} rated reviews, {count // 2 if stars[0] == 1 else 0} of them"):
        learn(texts, [stars[number % 2] for number in range(count)], seed=0)


def test_equal_texts_lie_in_one_fold() -> None:
    texts = [f"{'Great' if number % 2 else 'GREAT '} {number // 4}" for number in range(200)]
    folds = folds_of(texts, 5, seed=0)
    assert all(len(set(folds[start : start + 4])) == 1 for start in range(0, 200, 4))
    assert np.bincount(folds).tolist() == [40] * 5


def test_the_lexicon_knows_english_complaints() -> None:
    worse, better = Lexicon().probabilities(["Terrible, it broke and I hate it", "Wonderful, I love it"])
    assert worse > 0.7 > 0.3 > better
