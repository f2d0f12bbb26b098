"""Simulated anatomies without plans: how scans differ, and that sides and contours stay true."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from DosePredictionLib.case import Case
from DosePredictionLib.io import read_case
from training.__main__ import main
from training.simulation.scan import Scan, draw_scan, scanned

PLAIN = replace(
    draw_scan(0),
    slice_mm=6.0,
    blur_mm=0.0,
    noise_hu=0.0,
    offset_hu=0.0,
    scale=1.0,
    top_mm=0.0,
    bottom_mm=0.0,
    field_mm=0.0,
    metal="none",
    bladder_hu=0.0,
)


def mean_hu(case: Case, name: str) -> float:
    return float(case.ct.array[case.structures[name].binary()].mean())


def test_scans_are_those_of_their_seed_and_differ_in_everything() -> None:
    scans = [draw_scan(seed) for seed in range(60)]
    assert scans == [draw_scan(seed) for seed in range(60)]
    for name, least in (("slice_mm", 5), ("metal", 5), ("field_mm", 5), ("bladder_hu", 4)):
        assert len({getattr(scan, name) for scan in scans}) >= least, name


@pytest.mark.parametrize("kind", ["nail", "prosthesis"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_metal_lies_in_the_hip_of_its_side_and_leaves_its_contour(
    anatomy: Callable[..., Case], kind: str, side: str
) -> None:
    case = anatomy("prostate")
    with_metal = scanned(case, replace(PLAIN, metal=f"{kind}_{side}"))  # type: ignore[arg-type]
    plain = scanned(case, PLAIN)
    replaced, other = ("FemurHead_L", "FemurHead_R")[:: 1 if side == "left" else -1]
    rise = mean_hu(with_metal, replaced) - mean_hu(plain, replaced)
    assert rise > 80 and abs(mean_hu(with_metal, other) - mean_hu(plain, other)) < 40
    metal = np.argwhere(with_metal.ct.array > 2300)[:, ::-1].mean(0)
    assert (with_metal.grid.world_from_index(metal)[0] > 0) == (side == "left")
    for name in case.structures:
        assert np.array_equal(with_metal.structures[name].array, plain.structures[name].array)


def test_a_cut_field_of_view_takes_ct_and_contours_away_together(
    anatomy: Callable[..., Case],
) -> None:
    case = anatomy("cervix")
    cut = scanned(case, replace(PLAIN, field_mm=110.0, top_mm=70.0, bottom_mm=40.0))
    nx, ny, nz = cut.grid.size
    assert (nx, ny) == case.grid.size[:2] and nz * 6.0 == pytest.approx(282 - 110, abs=6)
    y, x = np.mgrid[:ny, :nx]
    beyond = np.hypot(x - (nx - 1) / 2, y - (ny - 1) / 2) * 6.0 > 55.0
    assert (cut.ct.array[:, beyond] == -1000).all() and cut.ct.array[:, ~beyond].max() > 200
    for mask in cut.structures.values():
        assert not mask.array[:, beyond].any() and not mask.is_empty
    assert "Bladder" in cut.structures and "FemurHead_L" not in cut.structures


def test_contrast_fills_the_bladder_alone(anatomy: Callable[..., Case]) -> None:
    case = anatomy("rectum")
    plain, bright = scanned(case, PLAIN), scanned(case, replace(PLAIN, bladder_hu=300.0))
    assert mean_hu(bright, "Bladder") - mean_hu(plain, "Bladder") > 180
    assert abs(mean_hu(bright, "FemurHead_L") - mean_hu(plain, "FemurHead_L")) < 1


def test_the_command_makes_cases_without_plans_that_are_the_same_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {}
    for folder, share in (("one", []), ("two", ["--index", "1/2"])):
        call = ["--cases", "2", "--seed", "3", "--spacing", "8", "8", "8", "--workers", "1"]
        output = tmp_path / folder
        assert main(["simulate", "--anatomy-only", *call, *share, "--output", str(output)]) == 0
        case = read_case(output / "training" / "anatomy_3_0001")
        assert case.plan_dose is None and "Body" not in case.structures
        assert {"PTV", "Bladder", "Marrow"} <= set(case.structures)
        made[folder] = case
    assert np.array_equal(made["one"].ct.array, made["two"].ct.array)
    assert "2 anatomies of this share (1 test, 1 training)" in capsys.readouterr().out
    record = json.loads((tmp_path / "one/records/anatomy_3_0001.json").read_text())
    assert record["split"] == "training" and Scan(**record["scan"]).slice_mm == pytest.approx(
        made["one"].grid.spacing[2]
    )
    call = ["--cases", "1", "--seed", "3", "--spacing", "6", "6", "6", "--workers", "1"]
    assert main(["simulate", *call, "--output", str(tmp_path / "one")]) == 2
    said = capsys.readouterr().err
    assert "cohort.json" in said and "kind" in said
