"""Doses without an influence matrix: symmetry, depth, the transposed map; and penalties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from DosePredictionLib.beams.arrangement import BeamArrangement
from DosePredictionLib.beams.tracing import Anatomy
from DosePredictionLib.planning.kernels import KernelModel
from DosePredictionLib.volume import Grid
from training.simulation.fast_planning import _Term
from training.simulation.pencil_beams import PencilBeams, seen_fields

VOLUMES = np.array([1.0, 1.0, 1.0, 1.0, 4.0], dtype=np.float32)
RADII = np.arange(0.0, 180.5, 0.5)
# A primary that stays where it is, and scatter that falls over 20 mm.
MODEL = KernelModel(
    attenuation_per_mm=0.005,
    betas_per_mm=np.array([0.3, 0.02]),
    ssds_mm=np.array([800.0, 900.0, 1000.0]),
    radii_mm=RADII,
    kernels_per_mm2=np.stack([np.where(RADII == 0, 4.0, 0.0), 1e-4 * np.exp(-RADII / 20)])[
        None
    ].repeat(3, axis=0),
    penumbra_mm=5.0,
    sad_mm=1000.0,
)


@pytest.fixture(scope="module")
def box() -> Anatomy:
    """Water of 21 × 17 × 13 cm with a target of 5 cm before its middle; voxels are no cubes."""
    grid = Grid((30, 34, 26), (7.0, 5.0, 5.0), (-101.5, -82.5, -62.5))
    body = np.ones(grid.shape, dtype=bool)
    target = np.zeros(grid.shape, dtype=bool)
    target[8:18, 9:19, 11:19] = True
    return Anatomy(grid, body.astype(np.float32), body, {"PTV": target})


def beams(box: Anatomy, degrees: list[float], smoothing_mm: float = 0.0) -> PencilBeams:
    lattice, fields = seen_fields(BeamArrangement.of_angles(degrees), box, MODEL, 5.0)
    return PencilBeams(lattice, fields, MODEL, np.flatnonzero(box.region), smoothing_mm)


def test_the_adjoint_is_the_transposed_map(box: Anatomy) -> None:
    operator = beams(box, [0.0, 75.0], smoothing_mm=6.0)
    rng = np.random.default_rng(3)
    fluence = rng.random(operator.elements).astype(np.float32)
    dose = rng.random(box.region.size).astype(np.float32)
    forth = float(operator.dose(fluence) @ dose.astype(np.float64))
    back = float(operator.adjoint(dose).astype(np.float64) @ fluence)
    assert back == pytest.approx(forth, rel=1e-4)


def test_a_beam_enters_from_its_side_and_falls_with_depth(box: Anatomy) -> None:
    operator = beams(box, [90.0])
    dose = operator.dose(np.ones(operator.elements, np.float32)).reshape(box.grid.shape)
    along = dose[13, 14]  # from the patient's right to the left, where the beam enters
    assert along[-4] > along[15] > along[3] > 0
    depth_mm, far_mm = 7.0 * (29 - 25), 7.0 * (29 - 5)
    square = ((1000 - 7.0 * (25 - 14.5)) / (1000 - 7.0 * (5 - 14.5))) ** -2
    primary = square * np.exp(-0.005 * (depth_mm - far_mm))
    assert along[25] / along[5] == pytest.approx(primary, rel=0.15)


def test_opposed_beams_give_a_dose_that_equals_its_mirror_image(box: Anatomy) -> None:
    operator = beams(box, [90.0, 270.0])
    dose = operator.dose(np.ones(operator.elements, np.float32)).reshape(box.grid.shape)
    assert np.abs(dose - dose[:, :, ::-1]).max() < 0.03 * dose.max()
    assert not np.allclose(dose, dose[:, ::-1], atol=0.03 * dose.max())  # the target lies aside


def test_a_field_apart_gives_its_part_of_the_whole(box: Anatomy) -> None:
    lattice, fields = seen_fields(BeamArrangement.of_angles([0.0, 120.0]), box, MODEL, 5.0)
    rows = np.flatnonzero(box.region)[5:400:3]
    both = PencilBeams(lattice, fields, MODEL, rows)
    fluence = np.random.default_rng(0).random(both.elements).astype(np.float32)
    parts = [
        PencilBeams(lattice, [field], MODEL, rows).dose(fluence[elements])
        for field, elements in zip(fields, both.elements_of, strict=True)
    ]
    np.testing.assert_allclose(sum(parts), both.dose(fluence), rtol=1e-4)


def test_smoothing_keeps_the_dose_in_the_middle_of_an_open_field(box: Anatomy) -> None:
    plain, smooth = beams(box, [0.0]), beams(box, [0.0], smoothing_mm=6.0)
    ones = np.ones(plain.elements, np.float32)
    place = np.ravel_multi_index((13, 14, 15), box.grid.shape)
    assert smooth.dose(ones)[place] == pytest.approx(plain.dose(ones)[place], rel=0.03)


def test_a_penalty_is_a_mean_square_and_its_gradient_is_that_of_differences() -> None:
    dose = np.array([10.0, 20.0, 30.0, 40.0, 50.0], dtype=np.float32)
    rows = np.arange(5)
    for term, value in (
        (_Term(rows, 35.0, 2.0), 2 / 5 * (5**2 + 15**2)),
        (_Term(rows, 25.0, 2.0, below=True), 2 / 5 * (15**2 + 5**2)),
        # Two of five may exceed the level: the two highest are left out.
        (_Term(rows, 25.0, 2.0, share=0.4), 2 / 5 * 5**2),
        # The highest stands for half of the volume: no other fits into 60 %.
        (_Term(rows, 25.0, 2.0, share=0.6, volumes=VOLUMES), 2 / 5 * (5**2 + 15**2)),
    ):
        gradient = np.zeros_like(dose)
        assert term.add_to(dose, gradient) == pytest.approx(value)
        step = np.float32(0.01)
        for place in range(5):
            moved = dose.copy()
            moved[place] += step
            change = (term.add_to(moved, np.zeros_like(dose)) - value) / step
            assert change == pytest.approx(float(gradient[place]), rel=0.01, abs=0.02)


def test_a_field_without_a_target_is_refused(box: Anatomy) -> None:
    empty = replace(box, targets={"PTV": np.zeros_like(box.region)})
    with pytest.raises(Exception, match="sees no target"):
        seen_fields(BeamArrangement.of_angles([0.0]), empty, MODEL, 5.0)
