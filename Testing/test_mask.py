"""What belongs to a structure: named rules, one place."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import ROOT, centered_grid, ellipsoid, pelvis_case

from DosePredictionLib.case import Case
from DosePredictionLib.errors import CaseError
from DosePredictionLib.evaluation.dvh import dvh
from DosePredictionLib.geometry import bounding_box, signed_distance_mm
from DosePredictionLib.mask import DUST, EMPTY_BELOW, Mask, majority, to_binary
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume

GRID = Grid((5, 1, 1), (2.0, 3.0, 4.0))


def mask_of(*values: float, dtype: type = np.float32) -> Mask:
    return Mask(np.array(values, dtype=dtype).reshape(1, 1, 5), GRID)


def row(array: np.ndarray) -> list:
    return array.reshape(-1).tolist()


def test_the_named_operations_worked_by_hand() -> None:
    mask = mask_of(0, 0.25, 0.5, 0.75, 1)
    assert row(mask.weights()) == [0, 0.25, 0.5, 0.75, 1]
    assert row(mask.touched()) == [False, True, True, True, True]
    assert row(mask.binary()) == [False, False, True, True, True]
    assert row(mask.majority()) == [False, False, False, True, True]
    assert mask.bounding_box() == (slice(0, 1), slice(0, 1), slice(1, 5))
    thin = mask_of(0, 0.1, 0.2, 0.05, 0)
    assert row(thin.binary()) == [False, True, True, False, False]
    assert not thin.majority().any()


@pytest.mark.parametrize("dust", [1e-20, 1e-16, 1e-9, 1e-5, DUST * 0.99])
def test_dust_belongs_to_no_structure(dust: float) -> None:
    mask = mask_of(dust, dust, 0, 0.5, 1)
    for inside in (mask.weights(), mask.touched(), mask.binary()):
        assert not row(inside)[0] and row(inside)[4]
    assert mask.bounding_box() == (slice(0, 1), slice(0, 1), slice(3, 5))
    if dust < EMPTY_BELOW:
        alone = mask_of(dust, 0, 0, 0, 0)
        assert alone.is_empty and alone.bounding_box() is None and not alone.binary().any()


def test_dust_sets_no_lowest_or_highest_dose() -> None:
    dose = Volume(np.array([70.0, 20, 30, 40, 1], dtype=np.float32).reshape(1, 1, 5), GRID)
    dusty = np.array([1e-16, 1, 1, 1, 1e-9], dtype=np.float32).reshape(1, 1, 5)
    clean = np.where(dusty == 1, dusty, 0)
    ours, expected = dvh(dose, Volume(dusty, GRID)), dvh(dose, Volume(clean, GRID))
    assert (ours.min_gy, ours.max_gy) == (expected.min_gy, expected.max_gy)
    assert dvh(dose, Volume(dusty * np.float32(1e-9), GRID)).volume_cc == 0


def test_a_structure_far_smaller_than_a_voxel_is_kept() -> None:
    fine = centered_grid((40, 40, 40), (0.5, 0.5, 0.5))
    array = np.zeros(fine.shape, dtype=bool)
    array[20, 20, 20] = True
    coarse = Mask(array, fine).resampled_to(centered_grid((4, 4, 4), (5.5, 5.5, 5.5)))
    assert 0 < coarse.array.max() < DUST
    assert np.count_nonzero(coarse.binary()) == 1 and not coarse.is_empty


def test_other_values_are_refused_and_whole_numbers_are_whole_voxels() -> None:
    assert mask_of(0, 1, 0, 1, 1, dtype=np.uint8).array.dtype == bool
    for wrong, said in ((255.0, "from 0 to 1"), (-0.1, "from -0.1"), (np.nan, "1 voxels")):
        with pytest.raises(CaseError, match=said):
            mask_of(0, 0, 0, 1, wrong)
    assert mask_of(0, -1e-7, 0, 1 + 1e-7, 1).array.max() == 1


def test_resampling_returns_a_mask_that_keeps_its_volume() -> None:
    grid = centered_grid((40, 40, 20), (2.0, 2.0, 4.0))
    mask = Mask(ellipsoid(grid, (0, 0, 0), (20, 15, 25)), grid)
    moved = mask.resampled_to(centered_grid((30, 26, 22), (3.1, 3.7, 4.4)))
    assert isinstance(moved, Mask) and moved.array.dtype == np.float32
    ours, before = (m.array.sum(dtype=float) * m.grid.voxel_volume_cc for m in (moved, mask))
    assert ours == pytest.approx(before, rel=1e-3)
    assert isinstance(mask.reordered_to_lps(), Mask) and mask.resampled_to(grid) is mask


def test_a_case_keeps_masks_whatever_it_is_given() -> None:
    case = pelvis_case()
    ptv = case.structures["PTV"]
    dusty = np.where(ptv.array, np.float32(1), np.float32(1e-12))
    specks = np.full(dusty.shape, 1e-9, dtype=np.float32)
    own = replace(
        case,
        structures={"PTV": Volume(dusty, case.grid), "Bladder": Volume(specks, case.grid)},
        dose_mask=Volume(ptv.array.astype(np.uint8), case.grid),
        strips={0: Volume(ptv.array, case.grid)},
    )
    assert all(isinstance(mask, Mask) for mask in own.structures.values())
    assert np.array_equal(own.structures["PTV"].touched(), ptv.array)
    assert list(bind(own, StructureProtocol.load("pelvis")).structures) == ["PTV"]
    assert own.dose_mask is not None and own.dose_mask.array.dtype == bool
    with pytest.raises(CaseError, match=r"Structure PTV of phantom holds values .* to 255"):
        replace(case, structures={"PTV": Volume(dusty * 255, case.grid)})
    with pytest.raises(TypeError, match="structures"):
        Case("none", case.ct)  # type: ignore[call-arg]


def test_arrays_and_tensors_have_one_majority() -> None:
    values = [0.2, 0.5, 0.7]
    assert majority(np.array(values)).tolist() == majority(torch.tensor(values)).tolist()
    assert majority(torch.tensor([True, False])).tolist() == [True, False]
    assert not to_binary(np.zeros((2, 2, 2), np.float32)).any()


def test_a_limited_distance_is_the_clipped_one() -> None:
    grid = centered_grid((40, 30, 20), (2.0, 3.0, 5.0))
    mask = ellipsoid(grid, (10, 5, 0), (12, 14, 20))
    whole = signed_distance_mm(mask, grid.spacing)
    limited = signed_distance_mm(mask, grid.spacing, 15.0)
    np.testing.assert_allclose(limited, np.clip(whole, -15, 15), atol=1e-5)
    plane = signed_distance_mm(mask[10], grid.spacing[:2])
    assert plane.shape == mask[10].shape and (plane[mask[10]] < 0).all()
    assert (signed_distance_mm(mask & False, grid.spacing, 15.0) == 15).all()
    assert (signed_distance_mm(mask | True, grid.spacing, 15.0) == -15).all()


def test_a_box_holds_every_voxel_and_a_margin_within_the_grid() -> None:
    mask = np.zeros((4, 5, 6), dtype=bool)
    mask[1, 2, 3] = mask[3, 2, 5] = True
    assert bounding_box(mask) == (slice(1, 4), slice(2, 3), slice(3, 6))
    assert bounding_box(mask, 2) == (slice(0, 4), slice(0, 5), slice(1, 6))
    assert bounding_box(mask & False) is None


# --- One place ----------------------------------------------------------------------------------

_FOLDERS = ("DosePredictionLib", "training", "DosePrediction", "benchmarks")
_EXEMPT = {
    "DosePredictionLib/mask.py": "the one place",
    "DosePredictionLib/io/": "readers make masks of what a format holds",
    "benchmarks/published_loop.py": "a copy of the published loop in its own terms, the baseline",
}
_MASK = re.compile(
    r"mask|occupanc|strips?\b|structures?\b|\bbody\b|\btargets?\b|\borgans?\b|region|external"
)
_NO_MASK = re.compile(r"count|\bsize|len\(|\.sum\(|share|\.max|_cc\b|_mm\b|\bvoxels\b|distance")


def _compared_masks(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        numbers = [side.value for side in sides if isinstance(side, ast.Constant)]
        text = " ".join(ast.unparse(s) for s in sides if not isinstance(s, ast.Constant))
        if any(n in (0, 0.5) and not isinstance(n, bool) for n in numbers) and (
            _MASK.search(text) and not _NO_MASK.search(text)
        ):
            found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    return found


def test_no_other_module_compares_a_mask_with_a_number() -> None:
    found = []
    for folder in _FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not any(name.startswith(exempt) for exempt in _EXEMPT):
                found += _compared_masks(path)
    assert not found, "\n".join(found)
