"""The ray model against closed forms, another program's dose, and the sense of its angles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from beam_phantoms import PLAIN, arrangement, open_dose, operator, water

from DosePredictionLib.beams.density import relative_electron_density
from DosePredictionLib.beams.mimic import mimic
from DosePredictionLib.beams.operator import MatrixOperator
from DosePredictionLib.beams.ray_model import RayModel
from DosePredictionLib.beams.torch_ray_dose import TorchRayDose
from DosePredictionLib.beams.tracing import isocenter_of, trace

pytestmark = pytest.mark.usefixtures("one_thread")

SIDES = {"left": (2, -1), "right": (2, 0), "posterior": (1, -1), "anterior": (1, 0)}


def entry_side(dose: np.ndarray) -> str:
    """On which face of the phantom the dose is highest."""
    faces = {
        name: float(np.take(dose, index, axis=axis).max()) for name, (axis, index) in SIDES.items()
    }
    return max(faces, key=lambda name: faces[name])


@pytest.mark.parametrize(
    ("position", "degrees", "side"),
    [
        ("HFS", 90, "left"),
        ("HFS", 0, "anterior"),
        ("HFP", 90, "right"),
        ("HFP", 0, "posterior"),
        ("FFS", 90, "right"),
        ("FFS", 0, "anterior"),
        ("FFP", 90, "left"),
        ("FFP", 180, "anterior"),
    ],
)
def test_a_beam_enters_where_the_gantry_stands(position: str, degrees: float, side: str) -> None:
    beams = arrangement(degrees, patient_position=position)
    assert entry_side(open_dose(beams, water())) == side


def test_on_the_axis_depth_and_distance_are_those_of_the_equation() -> None:
    anatomy = water((61, 51, 31))
    dose = open_dose(arrangement(90), anatomy)[15, 25]
    x_mm = np.linspace(-150, 150, 61)
    depth_mm, distance_mm = 150 - x_mm, 1000 - x_mm
    expected = np.exp(-0.0038 * depth_mm) * (1000 / distance_mm) ** 2
    # The outermost half voxel is not there for linear interpolation.
    np.testing.assert_allclose(dose, expected, rtol=0.01)
    traced = trace(arrangement(90), anatomy, PLAIN)[0]
    z, row, column = np.unravel_index(traced.voxels, anatomy.grid.shape)
    on_axis = (z == 15) & (row == 25)
    np.testing.assert_allclose(traced.depth_mm[on_axis], depth_mm[column[on_axis]], atol=2.6)


def test_fields_widen_with_the_distance_from_the_source() -> None:
    anatomy = water((60, 80, 40), (5.0, 2.5, 5.0), (40.0, 40.0, 40.0))
    dose = open_dose(arrangement(90, margin_mm=2.5), anatomy)[20]
    y_mm = 2.5 * (np.arange(80) - 39.5)

    def width_mm(column: int) -> float:
        profile = dose[:, column] / dose[39, column]
        half = int(np.argmax(profile > 0.5))
        inner, outer = profile[half], profile[half - 1]
        edge = y_mm[half] - 2.5 * (inner - 0.5) / (inner - outer)
        return float(-2 * edge)

    for column in (5, 29, 55):
        x_mm = 5.0 * (column - 29.5)
        expected = width_mm(29) * (1000 - x_mm) / (1000 - 5.0 * (29 - 29.5))
        assert width_mm(column) == pytest.approx(expected, abs=0.3)


def test_what_is_denser_counts_as_deeper() -> None:
    anatomy = water()
    density = anatomy.density.copy()
    density[:, :, 40:50] = 1.6
    behind = open_dose(arrangement(90), replace(anatomy, density=density))
    ratio = (behind / np.maximum(open_dose(arrangement(90), anatomy), 1e-6))[15, 25]
    assert ratio[10] == pytest.approx(np.exp(-0.0038 * 0.6 * 50), rel=2e-3)
    assert ratio[55] == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(
        relative_electron_density(np.array([-2000, -1000, -500, 0, 1950, 9000])),
        [0, 0, 0.5, 1, 2, 1 + 3071 / 1950],
        rtol=1e-6,
    )


def test_opposed_fields_of_a_symmetric_phantom_are_symmetric() -> None:
    anatomy = water((60, 50, 30), (5.0, 4.0, 3.0))
    model = RayModel()
    dose = open_dose(arrangement(90, 270), anatomy, model)
    np.testing.assert_allclose(dose, dose[..., ::-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dose, dose[:, ::-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dose, dose[::-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("position", ["HFS", "HFP", "FFS", "FFP"])
def test_the_mirrored_patient_with_mirrored_beams_gets_the_mirrored_dose(position: str) -> None:
    anatomy = water((60, 50, 30), (5.0, 4.0, 3.0), (30, 40, 30), (35.0, -10.0, 6.0))
    density = anatomy.density.copy()
    density[4:9, 10:30, 35:50] = 0.3
    anatomy = replace(anatomy, density=density)
    beams = arrangement(17, 80, 200, patient_position=position)
    mirrored = replace(
        anatomy,
        density=np.ascontiguousarray(density[..., ::-1]),
        targets={"PTV": np.ascontiguousarray(anatomy.targets["PTV"][..., ::-1])},
    )
    model = RayModel()
    wanted = open_dose(beams, anatomy, model)[..., ::-1]
    # Distances tie at a half of an element: one of a margin's elements may fall to either side.
    got = open_dose(beams.mirrored(), mirrored, model)
    assert wanted.max() > 1
    np.testing.assert_allclose(got, wanted, atol=2e-3 * wanted.max())
    wrong = open_dose(beams, mirrored, model)
    assert np.abs(wrong - wanted).max() > 0.5


def test_an_isocenter_moves_the_rays_and_not_the_target() -> None:
    anatomy = water(center_mm=(30.0, -20.0, 10.0))
    assert isocenter_of(arrangement(0), anatomy) == pytest.approx((30, -20, 10), abs=2.6)
    shifted = arrangement(0, isocenter_mm=(0.0, 0.0, 0.0))
    dose = open_dose(shifted, anatomy)
    target = anatomy.targets["PTV"]
    assert dose[target].min() > 0.3
    z = np.flatnonzero((dose > 0.3 * dose.max()).any(axis=(1, 2)))
    assert (z[0] + z[-1]) / 2 == pytest.approx(14.5 + 2, abs=1.0)


def test_beams_that_are_off_and_targets_that_are_not_named_give_nothing() -> None:
    anatomy = water()
    small = np.zeros_like(anatomy.targets["PTV"])
    small[14:16, 24:26, 10:12] = True
    both = replace(anatomy, targets={**anatomy.targets, "boost": small})
    one = arrangement(0)
    aperture = replace(one.beams[0].aperture, targets=("boost",))
    narrow = replace(one, beams=(replace(one.beams[0], aperture=aperture),))
    assert operator(narrow, both).elements < operator(one, both).elements / 3
    off = replace(one, beams=(*one.beams, replace(one.beams[0], gantry_degrees=90.0, on=False)))
    np.testing.assert_array_equal(open_dose(off, anatomy), open_dose(one, anatomy))


def test_the_operator_is_linear_and_its_adjoint_is_its_transpose() -> None:
    made = operator(arrangement(10, 130, 250), water(), RayModel())
    random = np.random.default_rng(3)
    fluence = random.random(made.elements).astype(np.float32)
    dose = random.random(made.voxels.size).astype(np.float32)
    left = float((made.dose(fluence).astype(np.float64) * dose).sum())
    right = float((fluence.astype(np.float64) * made.adjoint(dose)).sum())
    assert left == pytest.approx(right, rel=1e-5)
    np.testing.assert_allclose(made.dose(2 * fluence), 2 * made.dose(fluence), rtol=1e-5)
    assert made.dose(fluence).min() >= 0
    as_volume = made.as_volume(dose)
    np.testing.assert_array_equal(made.of_volume(as_volume), dose)


def test_tensors_give_the_same_numbers_and_gradients() -> None:
    made = operator(arrangement(10, 130), water((30, 30, 20), (10.0,) * 3), RayModel())
    twin = TorchRayDose(made)
    random = np.random.default_rng(3)
    fluence = random.random(made.elements).astype(np.float32)
    dose = random.random(made.voxels.size).astype(np.float32)
    x = torch.from_numpy(fluence).requires_grad_()
    np.testing.assert_allclose(twin.dose(x).detach(), made.dose(fluence), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        twin.adjoint(torch.from_numpy(dose)), made.adjoint(dose), rtol=1e-4, atol=1e-6
    )
    (twin.dose(x) * torch.from_numpy(dose)).sum().backward()
    np.testing.assert_allclose(x.grad, made.adjoint(dose), rtol=1e-4, atol=1e-6)
    own = mimic(made, dose, 10)
    theirs = mimic(twin, torch.from_numpy(dose).requires_grad_(), 10)
    np.testing.assert_allclose(theirs.dose.detach(), own.dose, rtol=1e-3, atol=1e-4)
    theirs.dose.sum().backward()  # through the whole solver


def test_a_dose_of_the_beams_is_found_again_and_one_of_others_is_not() -> None:
    anatomy = water((40, 40, 20), (6.0, 6.0, 6.0), (50.0, 50.0, 50.0))
    beams, model = arrangement(0, 72, 144, 216, 288), RayModel()
    made = operator(beams, anatomy, model)
    fluence = np.random.default_rng(1).random(made.elements).astype(np.float32)
    dose = made.dose(fluence)
    found = mimic(made, dose, 80)
    assert (found.fluence >= 0).all()
    off = float(np.abs(found.dose - dose).mean())
    assert off < 0.01 * dose.mean()
    turned = operator(arrangement(36, 108, 180, 252, 324), anatomy, model)
    wanted = turned.of_volume(made.as_volume(dose))
    assert np.abs(mimic(turned, wanted, 80).dose - wanted).mean() > 5 * off
    # Voxels without weight are free; a start that is the solution stays it.
    weights = (np.arange(dose.size) % 2).astype(np.float32)
    spoilt = np.where(weights > 0, dose, 1e3).astype(np.float32)
    weighted = mimic(made, spoilt, 80, weights).dose
    assert np.abs(weighted - dose)[weights > 0].mean() < 0.03 * dose.mean()
    stays = mimic(made, dose, 1, start=fluence)
    np.testing.assert_allclose(stays.dose, dose, rtol=1e-3, atol=1e-3)


def test_any_matrix_without_negative_entries_can_be_mimicked() -> None:
    random = np.random.default_rng(0)
    matrix = random.random((200, 20)) * (random.random((200, 20)) > 0.7)
    matrix[:, 7] = 0  # an element that no voxel sees
    wanted = random.random(20).astype(np.float32)
    wanted[[3, 7]] = 0
    found = mimic(MatrixOperator(matrix), (matrix @ wanted).astype(np.float32), 300)
    np.testing.assert_allclose(found.fluence, wanted, atol=2e-3)
    nothing = mimic(MatrixOperator(matrix), np.zeros(200, dtype=np.float32), 5)
    assert not nothing.dose.any()
