"""The scores: F1, thresholds, the paired bootstrap, calibration and coverage, on cases whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from finetune import metrics


def bools(rows: list[list[int]]) -> metrics.Bools:
    return np.array(rows, dtype=bool)


def test_f1_per_move_and_its_mean() -> None:
    gold = bools([[1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0]])
    predicted = bools([[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]])
    # one hit of two and two; nothing stated and nothing predicted; no hit
    assert metrics.f1_per_move(gold, predicted).tolist() == [0.5, 1.0, 0.0]
    assert metrics.macro_f1(gold, predicted) == pytest.approx(0.5)
    assert metrics.macro_f1(gold, gold) == 1.0


def test_a_move_that_is_predicted_where_none_is_stated_scores_nothing() -> None:
    assert metrics.f1_per_move(bools([[0], [0]]), bools([[0], [1]])).tolist() == [0.0]


def test_f1_agrees_with_scikit_learn() -> None:
    judge: Any = pytest.importorskip("sklearn.metrics", reason="needs the finetune extra")
    rng = np.random.default_rng(0)
    gold, predicted = rng.random((200, 8)) < 0.3, rng.random((200, 8)) < 0.4
    expected = judge.f1_score(gold, predicted, average=None)
    assert metrics.f1_per_move(gold, predicted) == pytest.approx(expected)


def test_best_thresholds_lie_in_the_middle_of_the_gap() -> None:
    gold = bools([[1, 0], [1, 1], [0, 0], [0, 1]])
    probabilities = np.array([[0.60, 0.15], [0.70, 0.30], [0.40, 0.10], [0.20, 0.45]])
    low, lower = metrics.best_thresholds(gold, probabilities)
    assert low == pytest.approx(0.50, abs=0.011)
    assert lower == pytest.approx((0.15 + 0.30) / 2, abs=0.011)
    assert metrics.macro_f1(gold, probabilities >= [low, lower]) == 1.0


def systems(
    rng: np.random.Generator, flips: tuple[float, float]
) -> tuple[metrics.Bools, list[metrics.Bools], metrics.Ints]:
    """Gold of 80 papers with 7 sentences and two systems that get so many cells wrong."""
    groups = np.repeat(np.arange(80), 7)
    gold = rng.random((len(groups), 8)) < 0.3
    return gold, [gold ^ (rng.random(gold.shape) < flip) for flip in flips], groups


def test_bootstrap_finds_a_real_difference() -> None:
    gold, (good, bad), groups = systems(np.random.default_rng(1), (0.08, 0.14))
    difference, low, high = metrics.bootstrap_difference(gold, good, bad, groups, rounds=300)
    assert difference == pytest.approx(metrics.macro_f1(gold, good) - metrics.macro_f1(gold, bad))
    assert 0 < low < difference < high


def test_bootstrap_of_equal_systems_straddles_zero() -> None:
    gold, (one, other), groups = systems(np.random.default_rng(2), (0.1, 0.1))
    _, low, high = metrics.bootstrap_difference(gold, one, other, groups, rounds=300)
    assert low < 0 < high
    assert metrics.bootstrap_difference(gold, one, one, groups, rounds=20) == (0.0, 0.0, 0.0)


def test_bootstrap_is_repeatable_and_resamples_whole_papers() -> None:
    gold, (one, other), groups = systems(np.random.default_rng(3), (0.1, 0.12))
    first = metrics.bootstrap_difference(gold, one, other, groups, rounds=100, seed=5)
    assert metrics.bootstrap_difference(gold, one, other, groups, rounds=100, seed=5) == first
    single = np.zeros(len(groups), dtype=np.int64)  # all sentences of one paper: every resample is the whole
    difference, low, high = metrics.bootstrap_difference(gold, one, other, single, rounds=5)
    assert (low, high) == pytest.approx((difference, difference))


def test_calibration_error_of_honest_and_of_boastful_confidences() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(20_000)
    honest = rng.random(20_000) < confidence
    assert metrics.expected_calibration_error(honest, confidence) < 0.02
    assert metrics.expected_calibration_error(bools([[0, 0, 1, 1]])[0], np.full(4, 0.9)) == pytest.approx(0.4)
    assert metrics.expected_calibration_error(np.ones(3, dtype=bool), np.ones(3)) == 0.0  # 1.0 is in the last bin


def test_precision_at_coverage_keeps_the_surest() -> None:
    correct = bools([[1, 0, 1, 1]])[0]
    confidence = np.array([0.9, 0.2, 0.8, 0.4])
    found = metrics.precision_at_coverage(correct, confidence, (0.01, 0.5, 0.75, 1.0))
    assert found == [(0.01, 1.0), (0.5, 1.0), (0.75, 1.0), (1.0, 0.75)]


def test_f1_at_coverage_counts_only_the_cells_that_are_kept() -> None:
    groups = np.array([0, 0, 1])  # two papers, two moves
    gold = bools([[1, 0], [0, 1], [1, 0]])
    predicted = bools([[1, 1], [0, 0], [1, 0]])  # paper 0 is wrong in the second move
    confidence = np.array([[0.9, 0.1], [0.8, 0.7]])
    most, all_of_it = metrics.f1_at_coverage(gold, predicted, confidence, groups, (0.75, 1.0))
    assert most == (0.75, 1.0)
    assert all_of_it == (1.0, pytest.approx(metrics.macro_f1(gold, predicted)))
    assert all_of_it[1] < 1


def test_a_floor_gives_a_move_that_every_paper_states_its_likeliest_sentence() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 4)
    gold = np.zeros((240, 1), dtype=bool)
    gold[::4] = True
    # in two papers of three the true sentence is sure; in the third it is only the likeliest of its paper
    probabilities = rng.uniform(0.2, 0.3, (240, 1))
    probabilities[::4] = np.where(np.arange(60) % 3 == 0, 0.35, 0.9)[:, None]
    probabilities[1::12] = 0.36  # a false sentence that a lower threshold would take
    probabilities[1::12][1::2] = 0.2
    thresholds = np.array([0.5])
    floors = metrics.best_floors(gold, probabilities, groups, thresholds)
    with_floor = metrics.decide(probabilities, groups, thresholds, floors)
    without = metrics.decide(probabilities, groups, thresholds, thresholds)
    assert metrics.f1_per_move(gold, with_floor)[0] > metrics.f1_per_move(gold, without)[0]
    assert (without == (probabilities >= thresholds)).all()
    assert all(with_floor[groups == paper].sum() <= 1 for paper in range(60))


def test_a_floor_that_gains_nothing_is_the_threshold() -> None:
    gold = np.array([[True], [False], [False], [False]])
    probabilities = np.array([[0.9], [0.1], [0.3], [0.2]])
    thresholds = np.array([0.5])
    assert metrics.best_floors(gold, probabilities, np.array([0, 0, 1, 1]), thresholds) == thresholds


def test_log_loss_is_the_mean_surprise_and_bounded() -> None:
    gold = np.array([[True, False], [False, True]])
    assert metrics.log_loss(gold, np.full((2, 2), 0.5)) == pytest.approx(np.log(2))
    assert metrics.log_loss(gold, gold.astype(float)) == pytest.approx(1e-4, rel=0.01)
    assert metrics.log_loss(gold, 1.0 - gold) == pytest.approx(-np.log(1e-4))
