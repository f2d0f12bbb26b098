"""Doses that beams can give and doses that they cannot, on a real patient and worked by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import OPENKBP_SAMPLE, SAMPLES, centered_grid, write_nifti

from DosePredictionLib.beams.arrangement import BeamArrangement
from DosePredictionLib.errors import CaseError
from DosePredictionLib.evaluation.deliverability import (
    RESIDUALS,
    Deliverability,
    ResidualLimits,
    deliverability,
    nearest_dose,
    residuals_gy,
)
from DosePredictionLib.io import read_case
from DosePredictionLib.mask import Mask
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.structures.bound import BoundCase, bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Volume

Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture(scope="module")
def bound() -> BoundCase:
    return bind(read_case(OPENKBP_SAMPLE), StructureProtocol.load("openkbp"))


@pytest.fixture(scope="module")
def plan(bound: BoundCase) -> Volume:
    dose = bound.case.plan_dose
    assert dose is not None
    return dose


@pytest.fixture(scope="module")
def of_plan(bound: BoundCase, plan: Volume) -> Deliverability:
    return deliverability(bound, plan)


def highest_target(bound: BoundCase) -> Mask:
    levels = bound.prescriptions_gy
    return bound.structures[max(levels, key=lambda name: levels[name])].mask


def middle_of_target(bound: BoundCase) -> tuple[int, int, int]:
    places = np.argwhere(highest_target(bound).binary())
    z, y, x = places[len(places) // 2]
    return int(z), int(y), int(x)


def with_hole(bound: BoundCase, plan: Volume, radius_mm: float = 8.0) -> Volume:
    """0 Gy in a sphere inside the target."""
    center = middle_of_target(bound)
    offsets = np.indices(plan.array.shape) - np.reshape(center, (3, 1, 1, 1))
    mm = offsets * np.reshape(plan.grid.spacing[::-1], (3, 1, 1, 1))
    return plan.with_array(np.where((mm**2).sum(axis=0) <= radius_mm**2, np.float32(0), plan.array))


def with_column(bound: BoundCase, plan: Volume) -> Volume:
    """120 % of the prescription in one column of voxels, as far as the target goes."""
    _, y, x = middle_of_target(bound)
    array = plan.array.copy()
    inside = highest_target(bound).binary()[:, y, x]
    array[inside, y, x] = 1.2 * max(bound.prescriptions_gy.values())
    return plan.with_array(array)


def test_a_plan_that_was_made_is_not_excluded(of_plan: Deliverability) -> None:
    found = of_plan
    assert found.beyond == [] and found.finding.id == "deliverability-not-excluded"
    assert found.finding.severity == "info"
    assert found.finding.message.startswith("A plan on 9 beams reproduces this dose to 0.")
    assert "not excluded, which is not to say that it can be delivered" in found.finding.message


@pytest.mark.parametrize("invented", [with_hole, with_column])
def test_doses_that_no_beam_can_give_are_suspected(
    bound: BoundCase, plan: Volume, invented: Callable[[BoundCase, Volume], Volume]
) -> None:
    found = deliverability(bound, invented(bound, plan))
    assert "fine_target" in found.beyond
    assert found.finding.id == "dose-hardly-deliverable" and found.finding.severity == "warning"
    assert RESIDUALS["fine_target"] in found.finding.message


def test_limits_of_the_pelvis_tell_a_plan_from_a_hole_in_its_target() -> None:
    pelvis = bind(read_case(SAMPLES / "simulated_pelvis"), StructureProtocol.load("pelvis"))
    plan = pelvis.case.plan_dose
    assert plan is not None
    assert deliverability(pelvis, plan).finding.id == "deliverability-not-excluded"
    assert "fine_target" in deliverability(pelvis, with_hole(pelvis, plan)).beyond


def test_a_dose_without_falloff_is_suspected_and_loses_goals(
    bound: BoundCase, plan: Volume
) -> None:
    target = np.any([mask.binary() for mask in bound.targets], axis=0)
    array = np.where(target, np.maximum(plan.array, 70.0), np.minimum(plan.array, 5.0))
    found = deliverability(bound, plan.with_array(array.astype(np.float32)))
    assert {"body", "target"} <= set(found.beyond)
    assert found.lost and "met by it but not by the plan" in found.finding.message


def test_what_the_beams_gave_is_given_again(bound: BoundCase, plan: Volume) -> None:
    beams = BeamArrangement.of_angles(range(0, 360, 40))
    nearest, before = nearest_dose(bound, plan, beams)
    _, again = nearest_dose(bound, nearest, beams)
    for name in ("body", "target"):
        assert again[name] < 0.3 * before[name]  # type: ignore[operator]


def test_of_other_beams_nothing_is_known(
    bound: BoundCase, plan: Volume, of_plan: Deliverability
) -> None:
    beams = BeamArrangement.of_angles([10, 130, 250])
    found = deliverability(replace(bound, case=replace(bound.case, beams=beams)), plan)
    assert found.limits is None and found.beyond == []
    assert found.finding.id == "deliverability-unknown"
    assert found.as_json()["limits_gy"] is None
    # Three beams reproduce a plan of nine less well.
    nine = of_plan.residuals_gy["body"]
    assert found.residuals_gy["body"] > 2 * nine  # type: ignore[operator]


def test_without_target_or_known_beams_one_line_says_so(bound: BoundCase, plan: Volume) -> None:
    nameless = bind(replace(bound.case, structures={"A": plan.with_array(plan.array > 60)}))
    with pytest.raises(CaseError, match="states no beams: name them"):
        deliverability(nameless, plan)
    beams = BeamArrangement.of_angles([0, 90])
    with pytest.raises(CaseError, match="has no target that beams aim at"):
        deliverability(bind(replace(nameless.case, beams=beams)), plan)


def test_residuals_worked_by_hand() -> None:
    grid = centered_grid((40, 30, 20), (3.0, 2.0, 1.0))
    region = np.ones(grid.shape, dtype=bool)
    target = np.zeros_like(region)
    target[5:15, 10:20, 10:30] = True
    flat = residuals_gy(np.full(grid.shape, -2.0), region, target, grid)
    assert flat["body"] == flat["target"] == pytest.approx(2.0)
    assert flat["fine_body"] == pytest.approx(0, abs=1e-3)
    # 0.3 cc are 50 voxels of 6 mm³: of a spot of 60 voxels they all differ, of one of 40 some.
    spot = np.zeros(grid.shape)
    spot[8:13, 13:16, 18:22] = 10.0
    assert residuals_gy(spot, region, target, grid)["fine_target"] > 5.0  # type: ignore[operator]
    spot[10:13] = 0
    assert residuals_gy(spot, region, target, grid)["fine_target"] < 5.0  # type: ignore[operator]
    outside = residuals_gy(spot, region, ~region, grid)
    assert outside["target"] is None and outside["fine_target"] is None


def test_shipped_limits_say_whose_plans_they_are() -> None:
    limits = ResidualLimits.of("openkbp")
    assert limits is not None and limits.protocol == "openkbp"
    assert set(limits.limits_gy) == set(limits.medians_gy) == set(RESIDUALS)
    assert all(limits.limits_gy[name] > limits.medians_gy[name] for name in RESIDUALS)
    assert limits.plans >= 5 and limits.source and limits.command
    assert ResidualLimits.of("other") is None


def test_evaluate_says_it_and_the_report_shows_it(
    bound: BoundCase, plan: Volume, tmp_path: Path, run: Run
) -> None:
    dose = write_nifti(tmp_path / "dose.nii.gz", with_hole(bound, plan))
    report = tmp_path / "report.html"
    call = ("evaluate", "--case", OPENKBP_SAMPLE, "--prediction", dose, "--report", report)
    code, record, _ = run(*call, "--deliverable")
    assert code == 0 and record["deliverability"]["status"] == "dose-hardly-deliverable"
    assert "fine_target" in record["deliverability"]["beyond"]
    assert "dose-hardly-deliverable" in {check["id"] for check in record["checks"]}
    assert "A plan on 9 beams reproduces this dose" in report.read_text()
    code, record, _ = run(*call)
    assert code == 0 and "deliverability" not in record


def test_predict_says_it_too(
    case_folder: Path, pelvis_model: DoseModel, tmp_path: Path, run: Run
) -> None:
    """Of three beams: what plans on them leave is not known."""
    code, record, _ = run(
        *("predict", case_folder, "--model", pelvis_model.folder, "--beams", "0,120,240"),
        *("--deliverable", "--output", tmp_path / "out"),
    )
    assert code == 0
    (said,) = [c for c in record["cases"][0]["checks"] if "deliverab" in c["id"]]
    assert said["message"].startswith("A plan on 3 beams reproduces this dose to")
