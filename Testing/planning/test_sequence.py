"""Leaf sequences: their sum is the fluence to the step, and no leaf is asked for too much."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from plans import MACHINE

from DosePredictionLib.errors import CaseError
from DosePredictionLib.planning.check import check_plan
from DosePredictionLib.planning.fields import fields_of, open_fluence, sequenced, treatment_beams
from DosePredictionLib.planning.sequence import FluenceMap, fluence_of, in_steps, sweep
from DosePredictionLib.planning.units import fit_units

STEPS = npst.arrays(
    np.int64,
    st.tuples(st.integers(1, 12), st.integers(1, 24)),
    elements=st.integers(0, 9),
)


def fluence(values: np.ndarray, step_mm: float = 10.0) -> FluenceMap:
    """Centered along the leaves; rows of two narrow leaves each."""
    rows, columns = values.shape
    first = (-(columns - 1) / 2 * step_mm, (-(rows // 2) + 0.5) * step_mm)
    return FluenceMap(values.astype(float), first, step_mm)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_shapes_give_the_fluence_to_the_step(steps: np.ndarray) -> None:
    field = fluence(steps)
    shapes = sweep(field, steps, MACHINE)
    np.testing.assert_allclose(fluence_of(shapes, field, MACHINE), steps, atol=1e-9)
    for shape in shapes:
        left, right = shape.leaves_mm
        assert (right - left).min() >= MACHINE.min_gap_mm - 1e-9
        assert np.ptp(left) <= MACHINE.leaf_span_mm and np.ptp(right) <= MACHINE.leaf_span_mm


@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_leaves_sweep_one_way(steps: np.ndarray) -> None:
    """From shape to shape no leaf that shapes anything goes back."""
    field = fluence(steps)
    shapes = sweep(field, steps, replace(MACHINE, leaf_span_mm=300.0))
    parked = field.x_edges_mm[0]
    for pair in range(MACHINE.borders_mm.size - 1):
        left = np.array([shape.leaves_mm[0, pair] for shape in shapes])
        moving = left[left >= parked - 1e-9]
        assert np.all(np.diff(moving) >= -1e-9)


def test_a_step_worked_by_hand() -> None:
    """One row of 1, 3, 2 steps: three shapes, of columns 0–1, 1–2 and 1–2."""
    field = fluence(np.array([[1, 3, 2]]))
    shapes = sweep(field, in_steps(field, 1.0), MACHINE)
    open_ = {tuple(s.open_elements(field, MACHINE.borders_mm)[0]): s.steps for s in shapes}
    assert open_ == {(1.0, 1.0, 0.0): 1, (0.0, 1.0, 1.0): 2}


def test_as_many_shapes_as_the_worst_row_rises() -> None:
    values = np.array([[0, 4, 1, 5, 0], [2, 2, 2, 2, 2]])
    field = fluence(values)
    assert sum(s.steps for s in sweep(field, values, MACHINE)) == 8


def test_a_wide_field_is_given_in_halves_that_one_bank_can_spread_over() -> None:
    values = np.ones((4, 24), dtype=np.int64)
    shapes = sweep(fluence(values), values, MACHINE)
    assert len(shapes) == 2
    one_piece = replace(MACHINE, leaf_span_mm=300.0)
    assert len(sweep(fluence(values), values, one_piece)) == 1


@pytest.mark.parametrize(
    ("shape", "step_mm", "words"),
    [
        ((4, 30), 10.0, "along the leaves of generic-120"),
        ((44, 4), 10.0, "across the leaves of generic-120"),
        ((4, 4), 7.0, "do not follow the leaves"),
    ],
)
def test_what_the_leaves_cannot_reach_is_refused(shape: tuple, step_mm: float, words: str) -> None:
    values = np.ones(shape, dtype=np.int64)
    with pytest.raises(CaseError, match=words):
        sweep(fluence(values, step_mm), values, MACHINE)


@settings(max_examples=25, deadline=None)
@given(STEPS, st.integers(0, 1000))
def test_beams_of_any_sequence_break_no_limit(steps: np.ndarray, seed: int) -> None:
    steps[0, 0] += 1  # something is given
    field = fluence(np.repeat(steps, 2, axis=0)[:12])
    rows, columns = np.indices(field.values.shape).reshape(2, -1)
    x, y = (low + 10.0 * at for low, at in zip(field.first_mm, (columns, rows), strict=True))
    positions = [np.stack([x, y], axis=1)]
    fields = sequenced(fields_of(positions, [40.0], field.values.ravel(), 10.0), 8, MACHINE)
    count = len(fields[0].shapes)
    mu = np.random.default_rng(seed).uniform(1, 9, count)
    beams = treatment_beams(fields, mu, MACHINE, (0.0, 0.0, 0.0))
    assert sum(beam.meterset or 0 for beam in beams) == pytest.approx(mu.sum())
    broken = [row for row in check_plan(beams, MACHINE) if not row.passed and row.id != "beams"]
    assert broken == []


def test_closed_leaves_pass_their_transmission_and_open_ones_everything() -> None:
    field = fluence(np.array([[1, 1, 0, 0]]))
    x = field.first_mm[0] + 10.0 * np.arange(4)
    positions = [np.stack([x, np.full(4, field.first_mm[1])], axis=1)]
    machine = replace(MACHINE, min_segment_area_mm2=0.0)
    fields = sequenced(fields_of(positions, [0.0], field.values.ravel(), 10.0), 1, machine)
    given_ = open_fluence(fields, machine, 4)
    np.testing.assert_allclose(given_[:, 0], [1, 1, 0.015, 0.015], rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_units_are_none_or_at_least_the_least(seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix = random.uniform(0, 1, (60, 8)).astype(np.float32)
    truth = random.uniform(0, 4, 8)
    wanted = (matrix @ truth).astype(np.float32)
    units = fit_units(matrix, wanted, np.ones(60, dtype=np.float32), 1.0, 200)
    assert np.all((units == 0) | (units >= 1.0))


def test_units_that_are_large_enough_are_found_again() -> None:
    random = np.random.default_rng(3)
    matrix = random.uniform(0, 1, (200, 6)).astype(np.float32)
    truth = np.array([2.0, 5.0, 3.0, 0.0, 8.0, 4.0])
    wanted = (matrix @ truth).astype(np.float32)
    units = fit_units(matrix, wanted, np.ones(200, dtype=np.float32), 1.0, 3000)
    np.testing.assert_allclose(units, truth, atol=0.05)
