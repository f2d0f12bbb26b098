"""The scores against values worked by hand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from DosePredictionLib.errors import DosePredictionError, GeometryError
from DosePredictionLib.evaluation.scores import (
    bias,
    challenge_endpoints,
    dose_score,
    dvh_score,
    dvh_score_terms,
    isodose_dice,
    mae,
    mae_above,
    masked_mae_after_d97,
    ssim,
)
from DosePredictionLib.volume import Grid, Volume

SPACING = (2.0, 5.0, 5.0)  # 50 mm³ a voxel: 0.1 cc is two voxels


def column(values, shape=(1, 1)) -> np.ndarray:
    return np.asarray(values, dtype=float).reshape(-1, *shape)


def test_the_dose_score_sums_all_voxels_and_divides_by_the_mask():
    prediction, reference = column([1, 2, 3, 10]), column([0, 4, 3, 4])
    mask = column([1, 1, 0, 0]).astype(bool)
    # Differences 1, 2, 0, 6: nine in all, over two voxels; the voxel outside counts.
    assert dose_score(prediction, reference, mask) == pytest.approx(4.5)
    assert dose_score(prediction, reference, mask & False) is None


def test_challenge_endpoints_by_hand():
    # Doses 0, 1 … 100 Gy: the percentile p of 101 evenly spaced values is p itself.
    dose = column(np.arange(101))
    everywhere = np.ones_like(dose, dtype=bool)
    target = challenge_endpoints(dose, everywhere, True, SPACING)
    # D99 is the low dose that 99 % receive. Were D99 and D1 swapped, these would be 99 and 1.
    assert target == {"D99_gy": 1.0, "D95_gy": 5.0, "D1_gy": 99.0}
    organ = challenge_endpoints(dose, everywhere, False, SPACING)
    assert organ["Dmean_gy"] == 50.0
    assert organ["D0.1cc_gy"] == pytest.approx(100 - 2 / 101 * 100)


def test_a_tenth_of_a_cc_is_at_least_one_voxel_and_rounds_to_even():
    dose = column(np.arange(101))
    everywhere = np.ones_like(dose, dtype=bool)
    large = challenge_endpoints(dose, everywhere, False, (10.0, 10.0, 10.0))
    assert large["D0.1cc_gy"] == pytest.approx(100 - 1 / 101 * 100)
    tied = challenge_endpoints(dose, everywhere, False, (4.0, 5.0, 2.0))  # 100 / 40 = 2.5 → 2
    assert tied["D0.1cc_gy"] == pytest.approx(100 - 2 / 101 * 100)
    fewer = challenge_endpoints(column([3, 7]), np.ones((2, 1, 1), bool), False, (1.0, 1.0, 1.0))
    assert fewer["D0.1cc_gy"] == 3.0


def test_the_dvh_score_pools_endpoints_of_unequal_structures():
    reference = column(np.arange(101))
    prediction = reference.copy()
    prediction[:10] += 3.0  # cold voxels alone: D99 and D95 move, D1 does not
    everywhere = np.ones_like(reference, dtype=bool)
    structures = {"PTV70": everywhere, "Larynx": everywhere, "Mandible": everywhere & False}
    terms = dvh_score_terms(
        prediction, reference, structures, targets=["PTV70", "PTV56"], spacing_mm=SPACING
    )
    assert set(terms) == {
        ("PTV70", "D99_gy"),
        ("PTV70", "D95_gy"),
        ("PTV70", "D1_gy"),
        ("Larynx", "D0.1cc_gy"),
        ("Larynx", "Dmean_gy"),
    }
    assert terms["PTV70", "D99_gy"] == pytest.approx(3.0)
    assert terms["PTV70", "D95_gy"] == pytest.approx(3.0)
    assert terms["PTV70", "D1_gy"] == 0.0
    assert terms["Larynx", "Dmean_gy"] == pytest.approx(30 / 101)
    score = dvh_score(prediction, reference, structures, targets=["PTV70"], spacing_mm=SPACING)
    assert score == pytest.approx((3 + 3 + 0 + 0 + 30 / 101) / 5)
    nothing = {"Mandible": everywhere & False}
    assert dvh_score(prediction, reference, nothing, targets=[], spacing_mm=SPACING) is None


def test_errors_in_regions_by_hand():
    prediction, reference = column([1, 8, 6, 20]), column([0, 4, 8, 30])
    assert mae(prediction, reference) == pytest.approx((1 + 4 + 2 + 10) / 4)
    assert bias(prediction, reference) == pytest.approx((1 + 4 - 2 - 10) / 4)
    assert mae(prediction, reference, column([0, 1, 0.5, 0])) == pytest.approx((4 + 0.5 * 2) / 1.5)
    assert mae_above(prediction, reference) == pytest.approx((2 + 10) / 2)
    assert mae_above(prediction, reference, 100.0) is None
    assert bias(prediction, reference, np.zeros((4, 1, 1))) is None


def test_the_mae_after_d97_divides_by_the_reference_alone():
    reference = column([10, 10, 2, 1])  # D97 of the target is 10; scaled to 20 Gy: 20, 20, 4, 2
    prediction = column([18, 21, 7, 2])
    target = column([1, 1, 0, 0]).astype(bool)
    body = np.ones((4, 1, 1), bool)
    value = masked_mae_after_d97(
        prediction, reference, target=target, body=body, prescription_gy=20.0
    )
    assert value == pytest.approx((2 + 1 + 3) / 2)
    assert (
        masked_mae_after_d97(
            prediction, reference, target=target & False, body=body, prescription_gy=20.0
        )
        is None
    )


def test_ssim_is_one_for_equal_doses_and_matches_a_direct_sum():
    rng = np.random.default_rng(0)
    reference = rng.uniform(0, 50, (9, 10, 11))
    prediction = reference + rng.normal(0, 2, reference.shape)
    assert ssim(reference, reference, data_range_gy=50) == pytest.approx(1.0, abs=1e-6)
    region = np.zeros(reference.shape, bool)
    region[4, 5, 5] = True
    offsets = np.arange(-3, 4)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.einsum("i,j,k", window, window, window)
    window /= window.sum()
    x, y = prediction[1:8, 2:9, 2:9], reference[1:8, 2:9, 2:9]
    mx, my = (window * x).sum(), (window * y).sum()
    vx, vy = (window * x * x).sum() - mx**2, (window * y * y).sum() - my**2
    cxy = (window * x * y).sum() - mx * my
    c1, c2 = (0.01 * 50) ** 2, (0.03 * 50) ** 2
    expected = (2 * mx * my + c1) * (2 * cxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    value = ssim(prediction, reference, data_range_gy=50, region=region)
    assert value == pytest.approx(expected, abs=1e-5)
    assert ssim(prediction, reference, data_range_gy=50, region=region & False) is None
    with pytest.raises(DosePredictionError, match="positive data range"):
        ssim(prediction, reference, data_range_gy=0)


def test_isodose_dice_by_hand():
    prediction, reference = column([10, 30, 50, 50]), column([10, 50, 50, 5])
    dice = isodose_dice(prediction, reference, 50.0, (20, 100, 150))
    assert dice[20] == pytest.approx(2 * 3 / (4 + 3))
    assert dice[100] == pytest.approx(2 * 1 / (2 + 2))
    assert dice[150] is None


def test_volumes_arrays_and_tensors_are_taken_alike():
    grid = Grid((1, 1, 4), SPACING)
    prediction, reference = column([1, 2, 3, 10]), column([0, 4, 3, 4])
    mask = np.ones((4, 1, 1), bool)
    as_volumes = dose_score(*(Volume(a, grid) for a in (prediction, reference, mask)))
    as_tensors = dose_score(*(torch.from_numpy(a) for a in (prediction, reference, mask)))
    assert as_volumes == as_tensors == dose_score(prediction, reference, mask)
    moved = Volume(mask, Grid((1, 1, 4), SPACING, origin=(9, 0, 0)))
    with pytest.raises(GeometryError, match="lies on"):
        dose_score(Volume(prediction, grid), Volume(reference, grid), moved)


def test_nan_is_refused():
    with pytest.raises(DosePredictionError, match="The prediction holds 1 voxels"):
        mae(column([np.nan, 1]), column([1, 1]))


def test_the_package_imports_where_files_and_figures_cannot_be_read():
    blocked = ["nibabel", "SimpleITK", "pydicom", "matplotlib", "jinja2", "pandas", "torch"]
    program = (
        "import sys\n"
        f"for name in {blocked!r}: sys.modules[name] = None\n"
        "import DosePredictionLib.evaluation.dvh, DosePredictionLib.evaluation.scores\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
