"""Conformal intervals: ranks by hand, coverage of exchangeable errors, bands that never rise."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from numpy.typing import NDArray

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.evaluation.conformal import (
    SCALE_FLOOR_GY,
    conformal_quantile,
    coverage_range,
    curve_scores,
    interval_score,
    monotone_band,
    residual_interval,
    smallest_count,
)

LEVELS = (50, 90)


def test_the_fewest_patients_are_those_that_textbooks_name() -> None:
    assert [smallest_count(p) for p in (50, 80, 90, 95, 99)] == [1, 4, 9, 19, 99]


@pytest.mark.parametrize(("count", "percent", "rank"), [(9, 90, 9), (19, 95, 19), (33, 90, 31)])
def test_the_quantile_is_the_score_of_its_rank(count: int, percent: int, rank: int) -> None:
    scores = np.random.default_rng(1).permutation(np.arange(1.0, count + 1))
    assert conformal_quantile(scores, percent) == rank


def test_an_interval_of_signed_residuals_leaves_out_as_many_on_both_sides() -> None:
    residuals = np.random.default_rng(2).permutation(np.arange(1.0, 64))
    assert residual_interval(residuals, 90) == (3, 61)  # 58 of 64 places, 90.6 %
    assert residual_interval(residuals, 50) == (16, 48)
    assert residual_interval(np.arange(19.0), 90) == (0, 18)


def test_few_residuals_give_an_interval_that_is_symmetric_about_0() -> None:
    assert residual_interval(np.array([-7.0, 1, 2, 3, 4, 5, 1, 2, 3]), 90) == (-7, 7)


@pytest.mark.parametrize(("count", "percent"), [(8, 90), (18, 95), (0, 50)])
def test_too_few_are_refused_with_the_number_that_is_needed(count: int, percent: int) -> None:
    pattern = f"^{count} calibration patients cannot support {percent} %: that takes "
    for function in (conformal_quantile, residual_interval):
        with pytest.raises(DosePredictionError, match=f"{pattern}{smallest_count(percent)} or"):
            function(np.arange(float(count)), percent)
    with pytest.raises(DosePredictionError, match=pattern):
        coverage_range(count, 10, percent)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    errors = np.ones((12, 99))
    errors[3, 40] = bad
    with pytest.raises(DosePredictionError, match="NaN or infinite"):
        residual_interval(errors[:, 40], 90)
    with pytest.raises(DosePredictionError, match="finite"):
        curve_scores(errors)
    with pytest.raises(DosePredictionError, match="got 1"):
        curve_scores(np.ones((1, 99)))


@pytest.mark.parametrize(("count", "percent"), [(9, 90), (19, 90), (33, 90), (63, 90), (33, 50)])
def test_exchangeable_residuals_lie_inside_as_often_as_stated(count: int, percent: int) -> None:
    """Skewed, and off 0; the mean over many draws within four standard errors of k / (n + 1)."""
    random = np.random.default_rng(count)
    rank = -(-(count + 1) * percent // 100)
    inside = []
    for _ in range(800):
        drawn = random.exponential(2.0, count + 10) - 1.0
        low, high = residual_interval(drawn[:count], percent)
        inside.append(((drawn[count:] >= low) & (drawn[count:] <= high)).mean())
    error = np.std(inside) / np.sqrt(len(inside))
    assert abs(np.mean(inside) - rank / (count + 1)) < 4 * error


def test_the_range_of_coverage_is_that_of_the_beta_binomial() -> None:
    """P(k inside) = C(k+r-1, k) C(m-k+n-r, m-k) / C(n+m, m): n calibrated, m tested, rank r."""
    calibrated, tested, rank = 33, 30, 31
    chances = [
        comb(k + rank - 1, k)
        * comb(tested - k + calibrated - rank, tested - k)
        / comb(calibrated + tested, tested)
        for k in range(tested + 1)
    ]
    cumulative = np.cumsum(chances)
    assert cumulative[-1] == pytest.approx(1)
    low, high = (float(np.searchsorted(cumulative, q)) for q in (0.05, 0.95))
    expected = (100 * low / tested, 100 * high / tested)
    assert coverage_range(calibrated, tested, 90) == pytest.approx(expected)


def test_coverage_of_one_cohort_falls_into_its_range_nine_times_of_ten() -> None:
    random = np.random.default_rng(5)
    low, high = coverage_range(33, 30, 90)
    fell = []
    for _ in range(1000):
        drawn = random.normal(0.5, 2.0, 63)
        ends = residual_interval(drawn[:33], 90)
        share = 100 * ((drawn[33:] >= ends[0]) & (drawn[33:] <= ends[1])).mean()
        fell.append(low - 1e-9 <= share <= high + 1e-9)
    assert 0.88 < np.mean(fell) < 0.98  # a discrete range holds a little more


def test_the_interval_score_is_width_and_what_lies_outside() -> None:
    low, high = np.zeros(3), np.full(3, 4.0)
    score = interval_score(low, high, np.array([2.0, 5.0, -0.5]), 90)
    assert score.tolist() == pytest.approx([4.0, 4.0 + 20.0, 4.0 + 10.0])


# ---------------------------------------------------------------- curves


def curves_like_plans(random: np.random.Generator, count: int) -> NDArray:
    """Errors that go together along the volume and are wider at small volumes."""
    offsets = random.normal(0.3, 1.0, (count, 1))
    slopes = random.normal(0.0, 2.0, (count, 1))
    return offsets + slopes * np.linspace(1, 0, 99) + random.normal(0, 0.2, (count, 99))


def test_a_score_takes_the_scale_of_the_others() -> None:
    errors = np.array([[4.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    scores, scale = curve_scores(errors)
    assert scale.tolist() == pytest.approx([8 / 3, SCALE_FLOOR_GY])
    assert scores.tolist() == pytest.approx([4 / 2, 1 / 3.5, 3 / 2.5])


@pytest.mark.parametrize("count", [9, 33, 63])
@pytest.mark.parametrize("percent", LEVELS)
def test_whole_curves_lie_in_their_bands_at_least_as_often_as_stated(
    count: int, percent: int
) -> None:
    random = np.random.default_rng(count)
    inside = []
    for _ in range(200):
        drawn = curves_like_plans(random, count + 10)
        scores, scale = curve_scores(drawn[:count])
        width = conformal_quantile(scores, percent) * scale
        inside.append((np.abs(drawn[count:]) <= width).all(axis=1).mean())
    error = np.std(inside) / np.sqrt(len(inside))
    rank = -(-(count + 1) * percent // 100)
    assert percent / 100 - 3 * error < np.mean(inside) < rank / (count + 1) + 0.08


def test_a_band_never_rises_and_loses_no_curve_that_never_rises() -> None:
    random = np.random.default_rng(7)
    kept = 0
    for _ in range(300):
        curve = np.sort(random.uniform(0, 70, 99))[::-1]
        half = random.uniform(0.1, 6, 99)
        low, high = monotone_band(curve, half)
        assert (np.diff(low) <= 0).all() and (np.diff(high) <= 0).all()
        assert (low >= 0).all() and (low <= curve).all() and (curve <= high).all()
        other = np.sort(np.maximum(curve + random.normal(0, 0.6) * half, 0))[::-1]
        raw = (np.abs(other - curve) <= half).all()
        tight = ((other >= low - 1e-12) & (other <= high + 1e-12)).all()
        assert raw == tight
        kept += raw
    assert 30 < kept < 270
