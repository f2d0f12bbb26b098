"""Gamma against closed forms, a dense search, pymedphys, and what must hold of any gamma."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from DosePredictionLib.errors import DosePredictionError, GeometryError
from DosePredictionLib.evaluation.gamma import (
    Criterion,
    gamma,
    gamma_pass_rates,
    gammas,
)
from DosePredictionLib.volume import Grid, Volume

SPACING = (2.0, 2.5, 3.0)


def ramp(shape=(12, 12, 12), step=1.0, start=40.0) -> np.ndarray:
    return np.broadcast_to(start + step * np.arange(shape[2]), shape).copy()


def test_a_shift_along_a_slope_has_its_closed_form():
    # 1 Gy a voxel of 2 mm: 0.5 Gy/mm. Criteria 1 Gy and 3 mm. A dose 1.2 Gy higher everywhere is
    # (dd/D) / sqrt(1 + (slope * d / D)²) = 1.2 / sqrt(1 + 1.5²) away.
    reference, evaluated = ramp(), ramp(start=41.2)
    result = gamma(reference, evaluated, "1%/3mm", spacing_mm=SPACING, normalization_gy=100.0)
    middle = result.gamma[4:8, 4:8, 4:8]
    assert middle == pytest.approx(np.full_like(middle, 1.2 / np.sqrt(1 + 1.5**2)), abs=2e-3)


def test_a_dose_difference_in_a_flat_dose_is_the_ratio_to_the_criterion():
    reference = np.full((6, 6, 6), 50.0)
    result = gamma(reference, reference + 2.0, "3%/3mm", spacing_mm=SPACING)
    assert result.gamma == pytest.approx(np.full((6, 6, 6), 2.0 / 1.5), abs=1e-4)
    assert result.pass_rate_percent() == 0.0


def test_a_shifted_edge_is_the_ratio_to_the_distance():
    reference = np.zeros((4, 4, 20))
    reference[..., 10:] = 100.0
    evaluated = np.zeros((4, 4, 20))
    evaluated[..., 12:] = 100.0
    # Where the reference jumped, the same dose lies two voxels (4 mm) on.
    result = gamma(reference, evaluated, "0.001%/2mm", spacing_mm=SPACING)
    assert result.gamma[2, 2, 10] == pytest.approx(2.0, abs=5e-3)


def test_a_least_gamma_inside_a_bent_cell_is_found():
    rng = np.random.default_rng(3)
    reference = ndimage.gaussian_filter(rng.uniform(20, 90, (12, 12, 12)), 1.0)
    evaluated = ndimage.shift(reference, (0.4, -0.7, 0.3), order=1, mode="nearest") + 1.0
    result = gamma(reference, evaluated, "2%/2mm", spacing_mm=SPACING, normalization_gy=100.0)
    offsets = np.linspace(-4, 4, 49)
    z, y, x = np.meshgrid(offsets, offsets, offsets, indexing="ij")
    for index in [(5, 5, 5), (6, 4, 7), (4, 6, 5), (7, 7, 6), (5, 6, 6)]:
        points = [index[0] + z / 3.0, index[1] + y / 2.5, index[2] + x / 2.0]
        dose = ndimage.map_coordinates(evaluated, points, order=1)
        dense = ((dose - reference[index]) / 2.0) ** 2 + (z**2 + y**2 + x**2) / 4.0
        assert result.gamma[index] <= np.sqrt(dense.min()) + 5e-3
        assert result.gamma[index] >= np.sqrt(dense.min()) - 0.06  # half a step of the lattice


def test_cut_off_local_and_cap():
    reference = ramp(start=1.0, step=9.0)
    result = gamma(reference, reference, "3%/3mm", spacing_mm=SPACING)
    assert not result.evaluated[..., :1].any()
    assert result.evaluated[..., 2:].all()
    flat = np.full((5, 5, 5), 20.0)
    flat[0, 0, 0] = 100.0
    higher = flat * 1.02
    local = gamma(flat, higher, "2%/1mm", spacing_mm=(9.0, 9.0, 9.0), local=True)
    assert local.gamma[3, 3, 3] == pytest.approx(1.0, abs=1e-3)
    globally = gamma(flat, higher, "2%/1mm", spacing_mm=(9.0, 9.0, 9.0))
    assert globally.gamma[3, 3, 3] == pytest.approx(0.2, abs=1e-3)
    capped = gamma(flat, flat + 50.0, "2%/1mm", spacing_mm=SPACING, max_gamma=1.5)
    assert capped.gamma.max() == pytest.approx(1.5)


def test_several_criteria_and_structures_come_with_their_conventions():
    grid = Grid((6, 6, 6), SPACING)
    reference = Volume(np.full((6, 6, 6), 50.0), grid)
    array = reference.array.copy()
    array[:3] += 2.0
    mask = np.zeros((6, 6, 6), bool)
    mask[5] = True
    rates = gamma_pass_rates(
        reference, reference.with_array(array), ["3%/0.1mm", "5%/3mm"], {"PTV": Volume(mask, grid)}
    )
    assert rates["3%/0.1mm"]["pass_rate_percent"] == pytest.approx(50.0)
    assert rates["3%/0.1mm"]["structures"]["PTV"]["pass_rate_percent"] == 100.0
    assert rates["5%/3mm"]["pass_rate_percent"] == 100.0
    assert rates["5%/3mm"] | {"structures": None, "mean": None} == {
        "pass_rate_percent": 100.0,
        "mean": None,
        "voxels": 216,
        "structures": None,
        "reference": "plan",
        "evaluated": "prediction",
        "normalization": "global",
        "normalization_gy": 50.0,
        "lower_cutoff_percent": 10.0,
        "interpolated": True,
        "pass_at": 1.0,
        "max_gamma": 2.0,
    }
    nowhere = Volume(np.zeros((6, 6, 6), bool), grid)
    result = gammas(reference, reference, ["3%/3mm"])["3%/3mm"]
    assert result.pass_rate_percent(nowhere) is None
    assert result.mean(nowhere) is None


def test_tensors_give_tensors():
    reference = torch.from_numpy(ramp().astype(np.float32))
    result = gamma(reference, reference + 0.5, spacing_mm=SPACING)
    assert isinstance(result.gamma, torch.Tensor)
    same = gamma(reference.numpy(), reference.numpy() + 0.5, spacing_mm=SPACING)
    assert np.allclose(result.gamma.numpy(), same.gamma)
    if torch.cuda.is_available():
        on_gpu = gamma(reference.cuda(), reference.cuda() + 0.5, spacing_mm=SPACING)
        assert np.allclose(on_gpu.gamma.cpu().numpy(), same.gamma, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"criterion": "0%/3mm"}, "above 0 %"),
        ({"criterion": "3%/0mm"}, "above 0 mm"),
        ({"criterion": "3/3"}, "write 3%/3mm"),
        ({"max_gamma": 0.0}, "max_gamma"),
    ],
)
def test_bad_criteria_are_refused(call, message):
    with pytest.raises(DosePredictionError, match=message):
        gamma(ramp(), ramp(), spacing_mm=SPACING, **call)


def test_bad_doses_are_refused():
    with pytest.raises(GeometryError, match="two voxels or more"):
        gamma(np.ones((1, 1, 1)), np.ones((1, 1, 1)), spacing_mm=SPACING)
    with pytest.raises(DosePredictionError, match="a reference with dose"):
        gamma(np.zeros((4, 4, 4)), ramp((4, 4, 4)), spacing_mm=SPACING)
    with pytest.raises(DosePredictionError, match="NaN"):
        gamma(ramp(), np.full((12, 12, 12), np.nan), spacing_mm=SPACING)
    one, moved = Grid((12, 12, 12)), Grid((12, 12, 12), origin=(3, 0, 0))
    with pytest.raises(GeometryError, match="lies on"):
        gamma(Volume(ramp(), one), Volume(ramp(), moved))
    assert str(Criterion.parse(" 2.5 % / 3 MM ")) == "2.5%/3mm"


doses = hnp.arrays(np.float32, (5, 6, 7), elements=st.floats(1, 80, width=32))


@settings(max_examples=25, deadline=None)
@given(doses)
def test_gamma_of_a_dose_with_itself_is_zero(dose):
    result = gamma(dose, dose, spacing_mm=SPACING)
    assert result.gamma.max() == 0.0
    assert result.pass_rate_percent() == 100.0


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_gamma_is_unchanged_when_both_doses_move_together(seed, moved_by):
    rng = np.random.default_rng(seed)
    smooth = [ndimage.gaussian_filter(rng.uniform(10, 90, (9, 9, 9)), 1.5) for _ in range(2)]
    reference, evaluated = (np.pad(each, 4, mode="edge") for each in smooth)
    one = gamma(reference, evaluated, "5%/4mm", spacing_mm=SPACING, max_gamma=1.5)
    rolled = [np.roll(each, moved_by, axis=(0, 1, 2)) for each in (reference, evaluated)]
    moved = gamma(*rolled, "5%/4mm", spacing_mm=SPACING, max_gamma=1.5)
    inner = slice(4, 13)
    back = np.roll(moved.gamma, -moved_by, axis=(0, 1, 2))
    assert np.allclose(back[inner, inner, inner], one.gamma[inner, inner, inner], atol=5e-3)


@settings(max_examples=10, deadline=None)
@given(doses, doses)
def test_gamma_never_exceeds_the_dose_difference_alone(reference, evaluated):
    result = gamma(reference, evaluated, "5%/4mm", spacing_mm=SPACING)
    alone = np.abs(evaluated - reference) / (0.05 * reference.max())
    assert np.all(result.gamma[result.evaluated] <= alone[result.evaluated] + 1e-4)
    assert np.all(np.isfinite(result.gamma))


def test_pymedphys_agrees_on_a_smooth_pair():
    pymedphys = pytest.importorskip("pymedphys")
    pytest.importorskip("numba")
    steps = zip((16, 18, 20), (3.0, 2.5, 2.0), strict=True)
    axes = tuple(np.arange(n) * step for n, step in steps)
    z, y, x = np.meshgrid(*axes, indexing="ij")
    square = ((z - 22) / 14) ** 2 + ((y - 21) / 12) ** 2 + ((x - 19) / 11) ** 2
    reference = 70 * np.exp(-0.5 * square)
    evaluated = 69 * np.exp(-0.5 * (square + 0.12 * (x - 19) / 11 - 0.15 * (z - 22) / 14))
    ours = gamma(reference, evaluated, "3%/3mm", spacing_mm=(2.0, 2.5, 3.0))
    # Its samples lie a tenth of the distance criterion apart by default: at gammas near 0 it is too
    # high by up to half that times the slope, and approaches ours with finer samples.
    apart = []
    for fraction in (10, 40):
        theirs = pymedphys.gamma(
            axes, reference, axes, evaluated, 3, 3, lower_percent_dose_cutoff=10,
            interp_fraction=fraction, max_gamma=1.5,
        )  # fmt: skip
        both = np.isfinite(theirs)
        assert np.array_equal(both, ours.evaluated)
        passed = 100 * (theirs[both] <= 1).mean()
        assert ours.pass_rate_percent() == pytest.approx(passed, abs=0.2)
        difference = ours.gamma[both] - theirs[both]
        assert difference.max() <= 0.02
        apart.append(np.abs(difference))
    assert (apart[1] <= 0.05).mean() >= 0.99
    assert apart[1].mean() < apart[0].mean()


def test_the_default_cap_changes_no_pass_rate_and_spares_the_search() -> None:
    grid = Grid((40, 40, 24), (3.0, 3.0, 3.0))
    z, y, x = np.indices(grid.shape)
    plan = Volume(60 * np.exp(-((x - 20) ** 2 + (y - 20) ** 2 + (z - 12) ** 2) / 150), grid)
    unlike = Volume(45 * np.exp(-(np.abs(x - 26) + np.abs(y - 16)) / 9), grid)
    capped, whole = gamma(plan, unlike), gamma(plan, unlike, max_gamma=None)
    assert capped.pass_rate_percent() == whole.pass_rate_percent()
    assert capped.gamma.max() == 2.0 < whole.gamma.max()
    assert np.allclose(np.minimum(whole.gamma, 2.0), capped.gamma, atol=5e-3)
