"""Figures by their definitions, on rows few enough to count by hand, and the edges that a hostile data set finds."""

import math

import numpy as np
import pytest

from dce_models.evaluate import bayes, metrics, ranker

Y = np.array([0, 0, 1, 0, 1])
SCORE = np.array([0.1, 0.4, 0.4, 0.2, 0.9])


def test_auc_counts_a_tie_half() -> None:
    assert metrics.auc(Y, SCORE) == pytest.approx((3 + 2.5) / 6)


def test_a_hit_lies_strictly_above_the_interpolated_quantile() -> None:
    y = np.array([0] * 5 + [1] * 3)
    score = np.array([0.0, 1, 2, 3, 4, 3.5, 3.6, 3.61])
    assert metrics.hit_rate(y, score, 0.1) == pytest.approx(1 / 3)  # the threshold is 3.6


def test_average_precision_takes_equal_scores_together() -> None:
    assert metrics.average_precision(Y, SCORE) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_one_class_alone_has_no_figures() -> None:
    none = metrics.binary(np.zeros(4, np.int64), np.arange(4.0), probability=False)
    assert set(none.values()) == {None}
    empty = metrics.binary(np.zeros(0, np.int64), np.zeros(0), probability=True)
    assert set(empty.values()) == {None}


def test_classes_count_ties_and_unknown_names_against_the_model() -> None:
    p = np.array([[0.4, 0.4, 0.2], [0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    found = metrics.classes(np.array([0, 0, -1]), p)
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["mrr"] == pytest.approx((1 / 2 + 1) / 3)
    assert found["log_loss"] == pytest.approx(-(math.log(0.4) + math.log(0.7) + math.log(1e-7)) / 3)


def test_calibration_of_a_perfect_forecast_is_nought() -> None:
    assert metrics.calibration_error(np.array([0, 1, 0, 1]), np.array([0.0, 1, 0, 1])) == 0
    assert metrics.calibration_error(np.array([0, 0]), np.array([0.5, 0.5])) == pytest.approx(0.5)


def test_intervals_resample_customers_whole() -> None:
    customers = np.repeat(np.arange(20), 10)
    y = np.tile(np.array([0, 1]), 100)
    score = y + np.random.default_rng(1).normal(size=200)
    low, high = metrics.middle(metrics.resampled(lambda r: {"auc": metrics.auc(y[r], score[r])}, customers, 1))["auc"]
    assert low < (metrics.auc(y, score) or 0) < high


def test_ranks_count_every_tie_against_what_came() -> None:
    q = ranker.Questions(np.array([[5, 6, 7], [5, 6, -1]]), np.zeros((2, 3, 1), np.float32), np.array([1, -1]))
    place, ties = ranker.places(np.array([[1, 1, 0], [2, 1, -np.inf]], np.float32), q)
    assert place.tolist() == [2, 0]
    assert ties.tolist() == [1, 0]
    assert ranker.recall(place, 2) == 0.5


def test_naive_bayes_online_learns_its_own_and_refuses_strangers() -> None:
    # Two customers, two sessions each to learn from, then each his own new habit twice, then a stranger's.
    customers = np.array([0, 1, 0, 1, 0, 0, 0])
    a, b = np.array([0, 0, 0]), np.array([1, 1, 1])
    names = [a, b, a, b, np.array([0, 0, 2]), np.array([0, 0, 2]), b]
    trained = np.array([True] * 4 + [False] * 3)
    static = bayes.scores(customers, names, trained, 3, online=False)
    online = bayes.scores(customers, names, trained, 3, online=True)
    assert static[4] == static[5] < 0 < static[6]
    assert online[4] == static[4]
    assert online[5] < online[4]  # name 2 is his own now
    p_others, p_self = (0 + 0.01) / (6 + 0.03), (6 + 0.01) / (6 + 0.03)
    q_others, q_self = 0.01 / 6.03, 0.01 / 6.03
    assert static[4] == pytest.approx(2 * math.log(p_others / p_self) + math.log(q_others / q_self))
