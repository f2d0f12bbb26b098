"""What scatters beyond an influence matrix: against the whole kernels, and its own transpose."""

from __future__ import annotations

import numpy as np
import pytest
from test_recompute import NO_LEAKAGE, at, field, water

from DosePredictionLib.planning import engine
from DosePredictionLib.planning.fields import fields_of
from DosePredictionLib.planning.influence import FarScatter
from DosePredictionLib.planning.recompute import plan_dose
from DosePredictionLib.planning.seen import SeenVoxels
from DosePredictionLib.volume import Volume

pytest.importorskip("pyRadPlan")

ISOCENTER = (0.0, 0.0, 0.0)


def far_scatter(beyond_mm: float, gantries: list[float]) -> tuple[FarScatter, Volume]:
    """Of beams of 8 cm × 10 cm in elements whose centers lie 5 mm beside the axis."""
    anatomy, model = water(edge=41), engine.kernel_model()
    x, y = np.meshgrid(np.arange(-35.0, 40.0, 10.0), np.arange(-45.0, 50.0, 10.0))
    places = np.stack([x.ravel(), y.ravel()], axis=1)
    fields = fields_of([places] * len(gantries), gantries, 10.0)
    seen = [SeenVoxels.of(angle, ISOCENTER, anatomy, model) for angle in gantries]
    voxels = np.arange(anatomy.region.size)
    shape = np.zeros(anatomy.grid.shape, dtype=np.float32)
    return FarScatter(fields, seen, model, beyond_mm, voxels), Volume(shape, anatomy.grid)


def test_the_transpose_is_that_of_the_dose() -> None:
    far, grid = far_scatter(60.0, [0.0, 130.0])
    random = np.random.default_rng(0)
    fluence = random.random(far.elements).astype(np.float32)
    dose = random.random(grid.array.size).astype(np.float32)
    assert float(far.dose(fluence) @ dose) == pytest.approx(
        float(fluence @ far.adjoint(dose)), rel=1e-4
    )


def test_beyond_nothing_it_is_the_dose_of_the_open_field() -> None:
    far, grid = far_scatter(0.0, [0.0])
    dose = far.dose(np.ones(far.elements, dtype=np.float32))
    model = engine.kernel_model()
    ours = grid.with_array(dose.reshape(grid.array.shape) * np.float32(model.gy_per_mu(MU)))
    beam = field((-40, 40), mu=1.0)
    expected = plan_dose([beam], water(edge=41), model, NO_LEAKAGE)
    for place in ((0.0, 0.0), (20.0, 50.0), (0.0, -80.0), (80.0, 0.0)):
        assert at(ours, *place) == pytest.approx(at(expected, *place), rel=0.01)


def test_what_lies_beyond_is_what_a_matrix_leaves_out() -> None:
    """On the axis of a field of 8 cm × 10 cm nothing lies beyond 65 mm; beside it something."""
    far, grid = far_scatter(65.0, [0.0])
    dose = grid.with_array(far.dose(np.ones(far.elements, dtype=np.float32)).reshape(41, 41, 41))
    whole, _ = far_scatter(0.0, [0.0])
    all_ = grid.with_array(whole.dose(np.ones(far.elements, np.float32)).reshape(41, 41, 41))
    assert at(dose, 0, 0) < 1e-3 * at(all_, 0, 0)
    assert at(dose, 0, 60, 90) > 0.2 * at(all_, 0, 60, 90)


MU = NO_LEAKAGE.calibration
