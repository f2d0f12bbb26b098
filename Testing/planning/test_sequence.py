"""Shapes of leaves: what gains most, within every limit; and the monitor units of shapes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from plans import MACHINE

from DosePredictionLib.errors import CaseError
from DosePredictionLib.planning.check import check_plan
from DosePredictionLib.planning.fields import fields_of, shaped_fluence, treatment_beams
from DosePredictionLib.planning.kernels import FieldLattice
from DosePredictionLib.planning.machine import Machine
from DosePredictionLib.planning.recompute import fluence_mu
from DosePredictionLib.planning.sequence import Elements, best_shape, require_reach
from DosePredictionLib.planning.units import fit_units

GAINS = npst.arrays(
    np.int64,
    st.tuples(st.integers(1, 12), st.integers(1, 28)),
    elements=st.integers(-9, 9),
)
NO_LEAST = replace(MACHINE, min_segment_area_mm2=0.0)
STANDING = replace(MACHINE, jaws_follow_segments=False)


def elements(rows: int, columns: int, step_mm: float = 10.0) -> Elements:
    """Centered along the leaves; rows of two narrow leaves each."""
    first = (-(columns - 1) / 2 * step_mm, (-(rows // 2) + 0.5) * step_mm)
    return Elements(first, (rows, columns), step_mm)


def best_sums(gain: np.ndarray) -> np.ndarray:
    """Largest sum of an interval of each row, by trying all."""
    columns = gain.shape[1]
    every = [
        gain[:, start:stop].sum(axis=1)
        for start in range(columns)
        for stop in range(start, columns + 1)
    ]
    return np.max(every, axis=0)


@settings(max_examples=150, deadline=None)
@given(GAINS)
def test_no_interval_of_any_row_gains_more(gain: np.ndarray) -> None:
    gain = gain[:, :14]
    on = elements(*gain.shape)
    shape = best_shape(gain.astype(float), on, NO_LEAST)
    best = best_sums(gain)
    if shape is None:
        assert not best.any()
        return
    open_ = shape.passed(on, MACHINE, 0.0)
    assert set(np.unique(open_.round(9))) <= {0.0, 1.0}
    np.testing.assert_allclose((open_ * gain).sum(axis=1), best, atol=1e-9)


def test_a_shape_worked_by_hand() -> None:
    """Rows gain most in columns 2–3, nowhere, and in 0–3, over a loss; jaws stand around that."""
    gain = np.array([[1.0, -2, 3, 2, -5, 4], [-1, -1, -1, -1, -1, -1], [4, -1, 2, 3, -9, 5]])
    on = elements(*gain.shape)
    shape = best_shape(gain, on, MACHINE)
    assert shape is not None
    expected = [[0, 0, 1, 1, 0, 0], [0] * 6, [1, 1, 1, 1, 0, 0]]
    np.testing.assert_allclose(shape.passed(on, MACHINE, 0.0), expected, atol=1e-9)
    assert (*shape.jaws_x_mm, *shape.jaws_y_mm) == (-30.0, 10.0, -10.0, 20.0)
    standing = best_shape(gain, on, STANDING)
    assert standing is not None and tuple(standing.jaws_x_mm) == (-30.0, 30.0)


def test_a_field_wider_than_a_bank_may_spread_is_shaped_where_most_is_gained() -> None:
    gain = np.ones((4, 24))
    gain[:, 7] = 3.0
    on = elements(*gain.shape)
    shape = best_shape(gain, on, MACHINE)
    assert shape is not None and np.ptp(shape.jaws_x_mm) == 140.0
    assert shape.passed(on, MACHINE, 0.0)[0, 7] == 1
    whole = best_shape(gain, on, replace(MACHINE, leaf_span_mm=300.0))
    assert whole is not None and np.ptp(whole.jaws_x_mm) == 240.0


def test_what_gains_too_little_area_is_no_shape() -> None:
    gain = np.full((4, 4), -1.0)
    gain[1, 1] = 5.0  # 100 mm²
    assert best_shape(gain, elements(4, 4), MACHINE) is None
    assert best_shape(gain, elements(4, 4), NO_LEAST) is not None


@pytest.mark.parametrize(
    ("shape", "step_mm", "words"),
    [
        ((4, 30), 10.0, "along the leaves of generic-120"),
        ((44, 4), 10.0, "across the leaves of generic-120"),
        ((4, 4), 7.0, "do not follow the leaves"),
    ],
)
def test_what_the_leaves_cannot_reach_is_refused(shape: tuple, step_mm: float, words: str) -> None:
    with pytest.raises(CaseError, match=words):
        require_reach(elements(*shape, step_mm), MACHINE)


@pytest.mark.parametrize(("field", "axis"), [("jaw_x_mm", "X"), ("jaw_y_mm", "Y")])
def test_what_the_jaws_cover_is_refused(field: str, axis: str) -> None:
    machine = replace(MACHINE, **{field: (60.0, 20.0)})
    require_reach(elements(10, 10), machine)
    with pytest.raises(CaseError, match=f"the {axis} jaws of generic-120 go back to 60 mm"):
        require_reach(elements(14, 14), machine)


@pytest.mark.parametrize("machine", [MACHINE, STANDING], ids=["jaws follow", "jaws stand"])
@settings(max_examples=60, deadline=None)
@given(st.lists(GAINS, min_size=1, max_size=4), st.integers(0, 1000))
def test_beams_of_any_shapes_break_no_limit(
    machine: Machine, gains: list[np.ndarray], seed: int
) -> None:
    on = elements(12, 28)
    every = np.full((len(gains), 12, 28), -1.0)
    for page, gain in zip(every, gains, strict=True):
        page[: gain.shape[0], : gain.shape[1]] = gain
    found = [best_shape(page, on, machine) for page in every]
    shapes = tuple(shape for shape in found if shape is not None)
    assume(shapes)
    rows, columns = np.indices(on.shape).reshape(2, -1)
    x, y = (low + 10.0 * at for low, at in zip(on.first_mm, (columns, rows), strict=True))
    (field,) = fields_of([np.stack([x, y], axis=1)], [40.0], 10.0)
    mu = np.random.default_rng(seed).uniform(1, 9, len(shapes))
    beams = treatment_beams([replace(field, shapes=shapes)], mu, machine, (0.0, 0.0, 0.0))
    assert sum(beam.meterset or 0 for beam in beams) == pytest.approx(mu.sum())
    broken = [row for row in check_plan(beams, machine) if not row.passed]
    assert broken == []


@settings(max_examples=40, deadline=None)
@given(st.lists(GAINS, min_size=1, max_size=3), st.integers(0, 1000))
def test_the_written_leaves_give_the_fluence_that_was_sought_to_the_step(
    gains: list[np.ndarray], seed: int
) -> None:
    """What the control points let through, element by element, is what the optimizer reckoned."""
    on = elements(12, 14)
    every = np.full((len(gains), 12, 14), -1.0)
    for page, gain in zip(every, gains, strict=True):
        page[: gain.shape[0], : min(14, gain.shape[1])] = gain[:, :14]
    shapes = tuple(s for s in (best_shape(page, on, MACHINE) for page in every) if s is not None)
    assume(shapes)
    rows, columns = np.indices(on.shape).reshape(2, -1)
    x, y = (low + 10.0 * at for low, at in zip(on.first_mm, (columns, rows), strict=True))
    (field,) = fields_of([np.stack([x, y], axis=1)], [40.0], 10.0)
    shaped = replace(field, shapes=shapes)
    mu = np.random.default_rng(seed).uniform(1, 9, len(shapes))
    sought = shaped_fluence([shaped], mu, MACHINE, rows.size)
    (beam,) = treatment_beams([shaped], mu, MACHINE, (0.0, 0.0, 0.0))
    lattice = FieldLattice(150, 150)
    written = fluence_mu(beam, lattice, MACHINE.transmission)
    for place in range(rows.size):
        around = written[np.ix_(*(_millimeters(150 + center) for center in (y[place], x[place])))]
        assert around.mean() == pytest.approx(sought[place], abs=1e-3 * mu.sum())


def _millimeters(center: float) -> np.ndarray:
    """Elements of a millimeter that lie wholly within 4 mm of a place."""
    return np.arange(round(center) - 4, round(center) + 5)


def test_closed_leaves_pass_their_transmission_open_ones_everything_and_jaws_nothing() -> None:
    gain = np.array([[1.0, 1, -1, -1], [1, 1, 1, -9]])
    on = elements(*gain.shape)
    shape = best_shape(gain, on, MACHINE)
    assert shape is not None
    rows, columns = np.indices(on.shape).reshape(2, -1)
    x, y = (low + 10.0 * at for low, at in zip(on.first_mm, (columns, rows), strict=True))
    (field,) = fields_of([np.stack([x, y], axis=1)], [0.0], 10.0)
    given_ = shaped_fluence([replace(field, shapes=(shape,))], np.array([2.0]), MACHINE, 8)
    np.testing.assert_allclose(given_, [2, 2, 0.03, 0, 2, 2, 2, 0], rtol=1e-6, atol=1e-9)


def normal_equations(matrix: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return matrix.T @ matrix, matrix.T @ wanted


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_units_are_none_or_at_least_the_least(seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix = random.uniform(0, 1, (60, 8))
    wanted = matrix @ random.uniform(0, 4, 8)
    units = fit_units(*normal_equations(matrix, wanted), 1.0)
    assert np.all((units == 0) | (units >= 1.0))


def test_units_that_are_large_enough_are_found_again() -> None:
    random = np.random.default_rng(3)
    matrix = random.uniform(0, 1, (200, 6))
    truth = np.array([2.0, 5.0, 3.0, 0.0, 8.0, 4.0])
    units = fit_units(*normal_equations(matrix, matrix @ truth), 1.0)
    np.testing.assert_allclose(units, truth, atol=1e-3)


@pytest.mark.timeout(60)
def test_a_fit_of_what_is_no_number_ends() -> None:
    assert fit_units(np.eye(2), np.array([np.nan, 1.0])).shape == (2,)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
@example(942)  # on which one run of the minimizer stops short
def test_nothing_is_gained_by_another_number_of_units(seed: int) -> None:
    """Karush, Kuhn and Tucker: no slope where units are given, none downward where none are."""
    random = np.random.default_rng(seed)
    matrix = random.uniform(0, 1, (40, 9))
    gram, right = normal_equations(matrix, random.uniform(0, 5, 40))
    units = fit_units(gram, right)
    slope = (gram @ units - right) / np.sqrt(np.diag(gram))
    assert np.all(slope > -1e-3 * np.abs(right).max())
    assert np.all(np.abs(slope[units > 1e-6]) < 1e-3 * np.abs(right).max())
