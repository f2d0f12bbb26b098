"""Slices lie as a radiologist expects, however the scan is stored."""

from __future__ import annotations

import numpy as np
import pytest
from support import centered_grid, ellipsoid, pelvis_case

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.report import ReportInput, ReportStructure
from DosePredictionLib.report.planes import Plane, choose_planes
from DosePredictionLib.report.slices import slice_views
from DosePredictionLib.volume import Grid, Volume

# Index axes along R, P, S; and along S, L, A: flipped and permuted.
RPS = ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
SLA = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0))
STORED = {"LPS": None, "RPS": RPS, "SLA": SLA}


def coordinates(grid: Grid, axis: int) -> Volume:
    """A volume that holds its own LPS coordinate along one patient axis."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    return Volume(grid.world_from_index(np.stack([x, y, z], axis=-1))[..., axis], grid)


def planes_of(direction: tuple | None) -> tuple[Grid, dict[str, Plane]]:
    spacing = (4.0, 5.0, 6.0)
    if direction is SLA:
        size, spacing = (40, 56, 44), (6.0, 4.0, 5.0)
    else:
        size = (56, 44, 40)
    case = pelvis_case(size=size, spacing=spacing, direction=direction)
    structures = [
        ReportStructure("PTV", "#ff0000", case.structures["PTV"], "target"),
        ReportStructure("Body", "#cccccc", case.structures["Body"], "external"),
    ]
    assert case.plan_dose is not None
    planes = choose_planes(ReportInput(case, case.plan_dose, structures))
    return case.grid, {plane.name: plane for plane in planes}


@pytest.mark.parametrize("stored", STORED)
def test_patient_left_is_right_anterior_and_superior_are_up(stored: str) -> None:
    grid, planes = planes_of(STORED[stored])
    x, y, z = (coordinates(grid, axis) for axis in range(3))
    for name, across, down, down_sign in (
        ("axial", x, y, 1),
        ("coronal", x, z, -1),
        ("sagittal", y, z, -1),
    ):
        plane = planes[name]
        rows, columns = plane.cut(down), plane.cut(across)
        assert np.all(np.diff(columns, axis=1) > 0)
        assert np.all(down_sign * np.diff(rows, axis=0) > 0)
        assert np.abs(np.diff(columns, axis=1)).mean() == pytest.approx(plane.spacing_mm[1])
        assert np.abs(np.diff(rows, axis=0)).mean() == pytest.approx(plane.spacing_mm[0])


@pytest.mark.parametrize("stored", STORED)
def test_every_slice_passes_through_the_target(stored: str) -> None:
    grid, planes = planes_of(STORED[stored])
    for name, axis in (("sagittal", 0), ("coronal", 1), ("axial", 2)):
        depth = planes[name].cut(coordinates(grid, axis))
        assert np.ptp(depth) == pytest.approx(0, abs=1e-9)
        assert abs(depth.flat[0]) < 25  # the target lies around the origin
        assert f"{abs(depth.flat[0]):.1f} mm" in planes[name].position


def test_slices_are_cropped_to_the_body() -> None:
    grid, planes = planes_of(None)
    x = planes["axial"].cut(coordinates(grid, 0))
    inside = (-112 + np.arange(56) * 4)[5:-5]
    assert x.min() <= inside.min() and x.shape[1] <= grid.size[0]
    wide = pelvis_case(size=(100, 80, 24), spacing=(5.0, 5.0, 8.0))
    body = ReportStructure("Body", "#cccccc", wide.structures["Body"], "external")
    assert wide.plan_dose is not None
    axial = choose_planes(ReportInput(wide, wide.plan_dose, [body]))[0]
    rows, columns = axial.cut(wide.ct).shape
    assert columns * 5 == pytest.approx(300, abs=40) and rows * 5 == pytest.approx(200, abs=40)


def test_the_highest_target_is_shown_whatever_the_order() -> None:
    grid = centered_grid((40, 40, 40), (5.0, 5.0, 5.0))
    low = Volume(ellipsoid(grid, (0, 0, -50), (20, 20, 20)), grid)
    high = Volume(ellipsoid(grid, (0, 0, 50), (20, 20, 20)), grid)
    case = Case(
        "two levels",
        Volume(np.zeros(grid.shape, dtype=np.int16), grid),
        {"low": low, "high": high},
        prescription=Prescription({"low": 56.0, "high": 70.0}),
    )
    structures = [
        ReportStructure("low", "#ff8800", low, "target"),
        ReportStructure("high", "#ff0000", high, "target"),
    ]
    axial = choose_planes(ReportInput(case, Volume(high.array * 70.0, grid), structures))[0]
    assert axial.cut(high).any() and not axial.cut(low).any()


def test_an_organ_of_one_voxel_keeps_its_outline() -> None:
    grid = centered_grid((24, 20, 16), (4.0, 4.0, 3.0))
    mask = np.zeros(grid.shape, dtype=bool)
    mask[8, 10, 12] = True
    speck = Volume(mask, grid)
    case = Case("speck", Volume(np.zeros(grid.shape, dtype=np.int16), grid), {"speck": speck})
    report = ReportInput(
        case,
        Volume(mask * np.float32(10), grid),
        [ReportStructure("speck", "#ff0000", speck, "target")],
    )
    views, scales = slice_views(report)
    assert all(len(view.contours) == 1 for view in views)
    (line,) = views[0].contours[0].lines
    width, height = np.ptp(line, axis=0)
    assert 2 < width < 6 and 2 < height < 6
    assert scales.dose_high_gy == 10


def test_outlines_lie_where_the_structure_lies_on_an_anisotropic_grid() -> None:
    grid = centered_grid((60, 90, 40), (3.0, 2.0, 5.0))
    mask = Volume(ellipsoid(grid, (20, -30, 0), (40, 25, 50)), grid)
    case = Case("one", Volume(np.zeros(grid.shape, dtype=np.int16), grid), {"PTV": mask})
    report = ReportInput(
        case,
        Volume(mask.array * np.float32(50), grid),
        [ReportStructure("PTV", "#ff0000", mask, "target")],
    )
    axial = slice_views(report)[0][0]
    (line,) = axial.contours[0].lines
    x, y = coordinates(grid, 0), coordinates(grid, 1)
    left = axial.plane.cut(x)[0, 0] - 1.5  # the picture's edges, not its first voxel's center
    top = axial.plane.cut(y)[0, 0] - 1.0
    x_mm, y_mm = line.mean(axis=0)
    assert (x_mm + left, y_mm + top) == pytest.approx((20, -30), abs=2.0)
    assert np.ptp(line, axis=0) == pytest.approx((80, 50), abs=4.0)
