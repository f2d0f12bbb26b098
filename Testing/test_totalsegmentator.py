"""TotalSegmentator's names, whole femurs and bones, and the rectum that it does not have."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from support import centered_grid, ellipsoid, pelvis_case, write_case_folder

from DosePredictionLib.io import read_case
from DosePredictionLib.io.totalsegmentator import in_pelvic_terms, is_totalsegmentator
from DosePredictionLib.mask import Mask
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume

RADIUS = 24.0
HEAD = np.array([85.0, 0.0, 40.0])


def femur(grid: Grid, side: int = 1, head: bool = True) -> np.ndarray:
    """A head, a neck down and outwards, a trochanter as high as the head's center, a shaft."""
    center = HEAD * (side, 1, 1)
    mask = ellipsoid(grid, tuple(center), (RADIUS,) * 3) if head else np.zeros(grid.shape, bool)
    for share in np.linspace(0, 1, 7):
        place = center + share * np.array([side * 45.0, 0, -38.0])
        mask |= ellipsoid(grid, tuple(place), (15, 15, 15))
    outside = center + np.array([side * 50, 0, -20])
    mask |= ellipsoid(grid, tuple(outside), (16, 18, 24))
    shaft = center + np.array([side * 50, 0, -90])
    return mask | ellipsoid(grid, tuple(shaft), (14, 14, 70))


def masks(spacing: tuple = (3.0, 3.0, 3.0), **more: np.ndarray) -> dict[str, Mask]:
    return {
        **_masks(spacing),
        **{n: Mask(m, _masks(spacing)["sacrum"].grid) for n, m in more.items()},
    }


@lru_cache
def _masks(spacing: tuple) -> dict[str, Mask]:
    size = tuple(round(edge / mm) for edge, mm in zip((360, 150, 240), spacing, strict=True))
    grid = centered_grid(size, spacing)
    found = {
        "femur_left": femur(grid),
        "femur_right": femur(grid, -1),
        "urinary_bladder": ellipsoid(grid, (0, -40, 0), (25, 20, 25)),
        "hip_left": ellipsoid(grid, (60, 10, 60), (20, 20, 40)),
        "hip_right": ellipsoid(grid, (-60, 10, 60), (20, 20, 40)),
        "sacrum": ellipsoid(grid, (0, 50, 60), (25, 12, 30)),
        "vertebrae_L5": ellipsoid(grid, (0, 40, 100), (20, 15, 12)),
    }
    return {name: Mask(mask, grid) for name, mask in found.items()}


@pytest.mark.parametrize("spacing", [(3.0, 3.0, 3.0), (2.0, 2.0, 5.0)])
def test_heads_are_cut_from_whole_femurs_on_their_sides(spacing: tuple) -> None:
    given = masks(spacing)
    made, findings = in_pelvic_terms(given)
    assert "femur_left" not in made and "femur_right" not in made
    for name, side in (("FemurHead_L", 1), ("FemurHead_R", -1)):
        head = made[name].majority()
        sphere = ellipsoid(made[name].grid, tuple(HEAD * (side, 1, 1)), (RADIUS,) * 3)
        dice = 2 * (head & sphere).sum() / (head.sum() + sphere.sum())
        assert dice > 0.94, (name, dice)
        (said,) = [each for each in findings if each.structure == name]
        assert said.id == "derived-femoral-head" and said.severity == "info"
        assert np.linalg.norm(np.array(said.position_mm) - HEAD * (side, 1, 1)) < 3


def test_marrow_is_hips_sacrum_and_l5() -> None:
    given = masks()
    made, findings = in_pelvic_terms(given)
    parts = [given[n].majority() for n in ("hip_left", "hip_right", "sacrum", "vertebrae_L5")]
    assert np.array_equal(made["Marrow"].majority(), np.any(parts, axis=0))
    assert any(each.id == "derived-marrow" for each in findings)
    without = {name: mask for name, mask in given.items() if name != "vertebrae_L5"}
    made, findings = in_pelvic_terms(without)
    assert "Marrow" in made and "L5 is missing" in next(
        each.message for each in findings if each.id == "derived-marrow"
    )
    del without["hip_left"]
    made, findings = in_pelvic_terms(without)
    (said,) = [each for each in findings if each.id == "marrow-not-derived"]
    assert "Marrow" not in made and "hip_left" in said.message and said.remedy


def test_that_there_is_no_rectum_is_said_once() -> None:
    ids = [each.id for each in in_pelvic_terms(masks())[1]]
    assert ids.count("totalsegmentator-no-rectum") == 1
    drawn = masks(Rectum=masks()["urinary_bladder"].majority())
    assert "totalsegmentator-no-rectum" not in [each.id for each in in_pelvic_terms(drawn)[1]]


def test_a_femur_without_a_head_stays_and_that_is_said() -> None:
    given = masks()
    grid = given["sacrum"].grid
    headless = {
        "femur_left": Mask(femur(grid, head=False), grid),
        "femur_right": Mask(np.zeros(grid.shape, bool), grid),
    }
    flat = ellipsoid(grid, (85, 0, 0), (14, 14, 300))
    for left in (headless["femur_left"], Mask(flat, grid)):
        made, findings = in_pelvic_terms({**given, **headless, "femur_left": left})
        assert "femur_right" in made and "FemurHead_R" not in made
        kept = [each.structure for each in findings if each.id == "femur-not-cut"]
        assert "femur_right" in kept
        assert "FemurHead_L" not in made and "femur_left" in kept


def test_own_heads_and_marrow_are_left_as_they_are() -> None:
    own = masks()["urinary_bladder"].majority()
    made, findings = in_pelvic_terms(masks(FemurHead_L=own, Marrow=own))
    assert np.array_equal(made["FemurHead_L"].majority(), own)
    assert np.array_equal(made["Marrow"].majority(), own)
    assert "femur_left" in made and "derived-marrow" not in [each.id for each in findings]


def test_other_contours_are_not_touched() -> None:
    given = masks()
    others = {"Femur_L": given["femur_left"], "femur_left": given["femur_left"]}
    assert not is_totalsegmentator(others)
    made, findings = in_pelvic_terms(others)
    assert list(made) == list(others) and not findings


def test_a_folder_of_its_masks_is_read_as_a_pelvis(tmp_path: Path) -> None:
    given = masks()
    grid = given["sacrum"].grid
    base = pelvis_case(grid.size, grid.spacing)
    target = base.structures["PTV"]
    structures = {name: Volume(mask.majority(), grid) for name, mask in given.items()}
    case = replace(base, structures={**structures, "PTV": target}, plan_dose=None)
    case = read_case(write_case_folder(tmp_path / "patient", case))
    ids = {each.id for each in case.findings}
    assert {"derived-femoral-head", "derived-marrow", "totalsegmentator-no-rectum"} <= ids
    bound = bind(case, StructureProtocol.load("pelvis"), required=())
    for channel in ("Bladder", "Marrow", "FemurHead_L", "FemurHead_R"):
        assert channel in bound.structures
