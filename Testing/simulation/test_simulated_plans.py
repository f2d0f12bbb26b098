"""What makes a simulated plan good, and what is asked of it; without planning one."""

from __future__ import annotations

import importlib
import importlib.metadata
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage, sparse
from support import pelvis_case

from DosePredictionLib.case import Case
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.planning.engine import dose_grid
from DosePredictionLib.volume import Volume
from training.simulation.planning import (
    _only_rows,
    plan_quality,
    require_planner,
    volume_goals,
)
from training.simulation.settings import PlanLimits

GY = 45.0


def case_and_dose(inside_gy: float, outside_gy: float) -> tuple[Case, Volume]:
    """One dose in the PTV and a voxel around it, another in the rest of the body."""
    case = pelvis_case((96, 80, 44), (2.5, 2.5, 2.5))
    target = ndimage.binary_dilation(case.structures["PTV"].array > 0.5)
    body = case.structures["Body"].array > 0.5
    dose = np.where(target, inside_gy, np.where(body, outside_gy, 0)).astype(np.float32)
    return case, case.ct.with_array(dose)


def test_a_conformal_homogeneous_dose_is_good() -> None:
    quality = plan_quality(*case_and_dose(1.01 * GY, 0.5 * GY))
    assert quality.coverage == pytest.approx(1.01, abs=0.002)
    assert quality.near_maximum == pytest.approx(1.01, abs=0.002)
    assert quality.hottest_outside == pytest.approx(1.01, abs=0.002)
    assert 0.75 < quality.conformity < 0.95  # the voxel around it
    assert quality.faults(PlanLimits()) == []


@pytest.mark.parametrize(
    ("inside", "outside", "named"),
    [
        (0.97, 0.5, "D95"),
        (1.15, 0.5, "D2 "),
        (1.01, 1.005, "conformity"),
        (1.09, 1.08, "D2cc outside"),
    ],
)
def test_each_fault_is_named(inside: float, outside: float, named: str) -> None:
    faults = plan_quality(*case_and_dose(inside * GY, outside * GY)).faults(PlanLimits())
    assert any(named in fault for fault in faults)


def test_a_small_hot_spot_outside_is_let_through_and_a_larger_one_is_not() -> None:
    case, dose = case_and_dose(1.01 * GY, 0.5 * GY)
    for edge, good in ((4, True), (8, False)):  # 1 cc and 8 cc
        hot = dose.array.copy()
        hot[4 : 4 + edge, 36 : 36 + edge, 4 : 4 + edge] = 1.2 * GY
        assert (not plan_quality(case, dose.with_array(hot)).faults(PlanLimits())) is good


def test_limits_can_be_wider() -> None:
    quality = plan_quality(*case_and_dose(1.15 * GY, 0.5 * GY))
    assert quality.faults(PlanLimits())
    assert not quality.faults(PlanLimits(near_maximum=1.2, hottest_outside=1.2))


def test_the_goals_of_the_organs_become_volume_limits() -> None:
    goals = volume_goals("pelvis_nodal_45_50", GY)
    assert goals
    for limits in goals.values():
        assert all(0 < dose_gy < 60 and 0 <= percent < 100 for dose_gy, percent in limits)


def test_the_dose_grid_covers_the_middle_of_the_case() -> None:
    grid = pelvis_case().grid
    coarse = dose_grid(grid, 8.0)
    assert coarse.spacing == (8.0, 8.0, 8.0)
    for axis in range(3):
        first = coarse.origin[axis] - 4.0
        last = first + 8.0 * coarse.size[axis]
        low = grid.origin[axis] - grid.spacing[axis] / 2
        high = low + grid.size[axis] * grid.spacing[axis]
        assert low - 1e-6 <= first and last <= high + 1e-6
        assert first - low == pytest.approx(high - last)


def test_rows_that_are_left_out_are_zero_and_the_others_unchanged() -> None:
    dense = np.random.default_rng(0).random((12, 5))
    dense[dense < 0.5] = 0
    rows = np.arange(12) % 4 == 0
    kept = _only_rows(sparse.csc_array(dense), rows).toarray()
    assert np.array_equal(kept[rows], dense[rows])
    assert not kept[~rows].any()


def test_without_pyradplan_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> ModuleType:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(DosePredictionError, match=r"pip install .*pyRadPlan==0\.5\.0"):
        require_planner()


def test_a_pydantic_that_it_fails_with_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", ModuleType)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.1")
    with pytest.raises(DosePredictionError, match=r"pydantic 2\.13\.1.*below 2\.13"):
        require_planner()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.12.5")
    require_planner()
