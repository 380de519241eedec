import numpy as np
import pytest

from recsys.audience.logistic import Logistic, fit


def answers_of(truth: Logistic, rows, seed):
    return np.random.default_rng(seed).random(len(rows)) < truth.predict(rows)


def test_the_truth_is_found_again():
    rows = np.random.default_rng(0).normal([5.0, -2.0, 0.0], [1.0, 10.0, 0.1], (50_000, 3))
    truth = Logistic(-3.0, np.array([0.5, -0.05, 4.0]))
    found = fit(rows, answers_of(truth, rows, 1))
    assert found.intercept == pytest.approx(truth.intercept, abs=0.2)
    np.testing.assert_allclose(found.coefficients, truth.coefficients, rtol=0.1)


def test_the_probabilities_add_up_to_what_happened():
    rows = np.random.default_rng(2).normal(size=(5000, 2))
    said_yes = answers_of(Logistic(-4.0, np.array([2.0, 0.0])), rows, 3)
    assert fit(rows, said_yes).predict(rows).sum() == pytest.approx(said_yes.sum(), rel=1e-4)


def test_a_column_that_never_varies_counts_for_nothing():
    rows = np.random.default_rng(4).normal(size=(1000, 1))
    said_yes = rows[:, 0] > 0.3
    wider = fit(np.column_stack([rows, np.full(1000, 7.0)]), said_yes)
    assert wider.coefficients[1] == 0
    np.testing.assert_allclose(wider.coefficients[0], fit(rows, said_yes).coefficients[0])


@pytest.mark.parametrize(("answer", "limit"), [(True, 0.99), (False, 0.01)])
def test_when_all_say_the_same_the_answer_is_nearly_certain_and_finite(answer, limit):
    found = fit(np.zeros((500, 2)), np.full(500, answer))
    probability = found.predict(np.zeros(2))
    assert np.isfinite(found.intercept)
    assert probability > limit if answer else probability < limit


def test_a_column_that_tells_everything_does_not_run_away():
    rows = np.linspace(-1, 1, 200)[:, None]
    found = fit(rows, rows[:, 0] > 0)
    assert np.isfinite(found.coefficients).all()
    assert (found.predict(rows) > 0.5).tolist() == (rows[:, 0] > 0).tolist()


def test_nothing_to_fit_is_an_error():
    with pytest.raises(ValueError, match="no row"):
        fit(np.zeros((0, 2)), np.zeros(0, bool))
