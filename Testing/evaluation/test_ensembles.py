"""Scores of samples: by hand, by pairs, and by what a known distribution gives."""

from __future__ import annotations

import numpy as np
import pytest

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.evaluation.ensembles import crps, rank_correlation, spread_by_error


def test_crps_by_hand():
    assert crps(np.array([[3.0]]), np.array([5.0])) == pytest.approx(2.0)
    # |1 − 2| and |4 − 2| are 1.5 in the mean; the one pair is 3 apart.
    assert crps(np.array([[1.0], [4.0]]), np.array([2.0])) == pytest.approx(0.0)


def test_crps_is_that_of_all_pairs():
    random = np.random.default_rng(0)
    samples, value = random.normal(size=(7, 3, 2)), random.normal(size=(3, 2))
    pairs = np.abs(samples[:, None] - samples[None]).sum((0, 1)) / (7 * 6)
    expected = np.abs(samples - value).mean(0) - pairs / 2
    np.testing.assert_allclose(crps(samples, value), expected, atol=1e-12)


def test_crps_is_lowest_for_the_right_spread():
    random = np.random.default_rng(1)
    value = random.normal(size=4000)
    scores = [
        crps(width * random.normal(size=(8, 4000)), value).mean() for width in (0.3, 1.0, 3.0)
    ]
    assert scores[1] < min(scores[0], scores[2])
    assert scores[1] == pytest.approx(1 / np.sqrt(np.pi), abs=0.02)  # of N(0, 1) for itself


def test_spread_fits_the_error_whatever_the_number_of_samples():
    random = np.random.default_rng(2)
    value = random.normal(size=20000)
    for count in (2, 8):
        found = spread_by_error(random.normal(size=(count, 20000)), value)
        assert found == pytest.approx(1, abs=0.03)


def test_a_constant_has_no_rank():
    assert rank_correlation(np.ones(4), np.arange(4)) == 0
    assert rank_correlation(np.arange(4) ** 3, np.arange(4)) == pytest.approx(1)


@pytest.mark.parametrize("samples", [np.zeros((0, 2)), np.array([[np.nan, 0.0]])])
def test_nothing_finite_is_refused(samples):
    with pytest.raises(DosePredictionError):
        crps(samples, np.zeros(2))
