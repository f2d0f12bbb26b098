"""A photon plan for a simulated patient, by pyRadPlan's dose engine and optimizer.

See `DosePredictionLib.planning.engine` for what it rests on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from DosePredictionLib.case import Case
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.evaluation.dvh import dvh, dvhs
from DosePredictionLib.evaluation.goals import GoalSet
from DosePredictionLib.evaluation.indices import paddick_conformity
from DosePredictionLib.hounsfield import AIR_HU
from DosePredictionLib.planning.engine import (
    Setup,
    dose_grid,
    image_of,
    influence_matrix,
    quiet,
    require_planner,
    set_up,
    smooth_fluences,
)
from DosePredictionLib.schema import Range, validated
from DosePredictionLib.volume import Volume

from .settings import PlanLimits, PlanSettings

__all__ = [
    "ORGAN",
    "SHELLS",
    "TARGET",
    "Plan",
    "PlanQuality",
    "Planner",
    "plan_quality",
    "require_planner",
    "volume_goals",
]

_ALL_VOXELS_WITHIN_MM = 20.0

TARGET = (10_000.0, 1.01, 1.02)
"""Priority, and between which shares of the prescription the target is wanted."""
ORGAN = (12.0, 0.3)
"""Priority, and the share of the prescription above which dose in an organ counts."""
SHELLS = (
    (0.0, 10.0, 1.0, 300.0),
    (10.0, 20.0, 0.8, 200.0),
    (20.0, 40.0, 0.6, 200.0),
    (40.0, np.inf, 0.4, 150.0),
)
"""Around the target, mm: within which, the share of the prescription, and the priority."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A dose that gives 95 % of the PTV the prescription, and the fluence behind it.

    Args:
        dose: Gy, on the case's grid.
        fluence: weight of each fluence element, scaled with the dose.
    """

    dose: Volume
    fluence: NDArray[np.float64]


_Ratio = Annotated[float, Range(0, 1000)]


@dataclass(frozen=True)
@validated
class PlanQuality:
    """What a plan is accepted or thrown away for, relative to the prescription.

    Args:
        coverage: D95 % of the PTV.
        near_maximum: D2 % of the PTV.
        conformity: Paddick's index at the prescription isodose.
        hottest_outside: D2cc of the body outside the PTV.
    """

    coverage: _Ratio
    near_maximum: _Ratio
    conformity: _Ratio
    hottest_outside: _Ratio

    def faults(self, limits: PlanLimits) -> list[str]:
        """Why the plan is no good; empty for a good one."""
        checks = {
            f"PTV D95 is {self.coverage:.1%} of the prescription, below {limits.coverage:.0%}": (
                self.coverage < limits.coverage
            ),
            f"PTV D2 is {self.near_maximum:.1%}, above {limits.near_maximum:.0%}": (
                self.near_maximum > limits.near_maximum
            ),
            f"conformity is {self.conformity:.2f}, below {limits.conformity:.2f}": (
                self.conformity < limits.conformity
            ),
            f"D2cc outside the PTV is {self.hottest_outside:.1%}, above "
            f"{limits.hottest_outside:.0%}": self.hottest_outside > limits.hottest_outside,
        }
        return [fault for fault, present in checks.items() if present]


def plan_quality(case: Case, dose: Volume) -> PlanQuality:
    """The quality of a dose for a case with PTV, Body and prescription."""
    assert case.prescription is not None
    prescription_gy = case.prescription.highest_gy
    target, body = case.structures["PTV"], case.structures["Body"]
    outside = body.with_array(body.majority() & ~target.majority())
    curves = dvhs(dose, {"PTV": target, "Body": body, "outside": outside})
    return PlanQuality(
        coverage=(curves["PTV"].dose_at_percent(95) or 0.0) / prescription_gy,
        near_maximum=(curves["PTV"].dose_at_percent(2) or 0.0) / prescription_gy,
        conformity=paddick_conformity(curves["PTV"], curves["Body"], prescription_gy) or 0.0,
        hottest_outside=(curves["outside"].dose_at_cc(2.0) or 0.0) / prescription_gy,
    )


class Planner:
    """Plans one patient.

    Args:
        case: axis-aligned CT in HU, structures by the names of the pelvis protocol, among them PTV
            and Body, and a prescription.
        settings: how.

    Raises:
        DosePredictionError: see `require_planner`.
    """

    def __init__(self, case: Case, settings: PlanSettings) -> None:
        require_planner()
        if case.prescription is None:
            raise DosePredictionError(f"{case.name} has no prescription to plan for.")
        self._case = case
        self._settings = settings
        self._prescription_gy = case.prescription.highest_gy
        self._grid = dose_grid(case.grid, settings.dose_grid_mm)
        self._masks = {
            name: mask.resampled_to(self._grid).majority() for name, mask in case.structures.items()
        }
        hu = case.ct.resampled_to(self._grid, "linear").array.astype(np.float32)
        # The table top is left out, as planning systems do that do not model it.
        self._hu = np.where(self._masks["Body"], hu, np.float32(AIR_HU))
        target = self._masks["PTV"]
        self._distance_mm = ndimage.distance_transform_edt(~target) * settings.dose_grid_mm
        # Far from the target the dose is smooth: the optimizer sees a quarter of the voxels.
        pattern = np.indices(self._grid.shape).sum(axis=0) % 4 == 0
        self._sampled = pattern | (self._distance_mm <= _ALL_VOXELS_WITHIN_MM)

    def optimized(self) -> Plan:
        """The plan whose fluence meets the objectives best."""
        with quiet():
            return self._optimized()

    def with_fluence(self, plan: Plan, lateral_cutoff_mm: float) -> Volume:
        """The dose of a plan's fluence with another lateral cut-off, Gy, not scaled anew."""
        with quiet():
            settings = replace(self._settings, lateral_cutoff_mm=lateral_cutoff_mm)
            influence = influence_matrix(*self._set_up(settings))
            return self._on_case_grid(_matrix(influence) @ plan.fluence)

    def _optimized(self) -> Plan:
        from pyRadPlan import fluence_optimization

        ct, structures, plan, beams = everything = self._set_up(self._settings)
        influence = influence_matrix(*everything)
        matrix = _matrix(influence)
        basis = smooth_fluences(beams, self._settings.bixel_mm, self._settings.smoothing_mm)
        influence.physical_dose.flat[0] = _only_rows(matrix, self._sampled) @ basis
        weights = fluence_optimization(ct, structures, beams, influence, plan)
        fluence = basis @ np.asarray(weights, dtype=np.float64)
        dose = self._on_case_grid(matrix @ fluence)
        covered_gy = dvh(dose, self._case.structures["PTV"]).dose_at_percent(95)
        if not covered_gy:
            raise DosePredictionError(f"The plan of {self._case.name} leaves its target cold.")
        scale = self._prescription_gy / covered_gy
        return Plan(dose.with_array(dose.array * np.float32(scale)), fluence * scale)

    def _set_up(self, settings: PlanSettings) -> tuple[Any, Any, Any, Any]:
        from pyRadPlan.cst import create_cst
        from pyRadPlan.ct import create_ct

        ct = create_ct(cube_hu=image_of(self._hu, self._grid))
        structures = create_cst(self._structures(ct), ct=ct)
        angles = np.arange(settings.beams) * 360.0 / settings.beams
        setup = Setup(
            angles.tolist(), settings.bixel_mm, settings.dose_grid_mm, settings.lateral_cutoff_mm
        )
        plan, beams = set_up(ct, structures, setup)
        plan.prop_opt = {"solver": "scipy", "max_iter": settings.iterations}
        return ct, structures, plan, beams

    def _structures(self, ct: Any) -> list[Any]:
        from pyRadPlan.cst import create_voi

        def voi(name: str, mask: NDArray[np.bool_], kind: str, objectives: list[Any]) -> Any:
            if objectives:
                mask = mask & self._sampled
            return create_voi(
                name=name,
                ct_image=ct,
                mask=image_of(mask.astype(np.uint8), self._grid),
                voi_type=kind,
                objectives=objectives,
                # The target goes first; the others share their voxels.
                overlap_priority=0 if kind == "TARGET" else 1,
            )

        target = self._masks["PTV"]
        vois = [
            voi("PTV", target, "TARGET", _target_objectives(self._prescription_gy)),
            # Without an objective: the dose is calculated wherever a structure is.
            voi("Body", self._masks["Body"], "EXTERNAL", []),
        ]
        goals = volume_goals(self._settings.goals, self._prescription_gy)
        for name, mask in self._masks.items():
            outside = mask & ~target
            if name not in ("PTV", "Body") and outside.any():
                share = outside.sum() / mask.sum()
                objectives = _organ_objectives(goals.get(name, []), share, self._prescription_gy)
                vois.append(voi(name, outside, "OAR", objectives))
        body = self._masks["Body"] & ~target
        for name, ring, objectives in _rings(body, self._distance_mm, self._prescription_gy):
            vois.append(voi(name, ring, "OAR", objectives))
        return vois

    def _on_case_grid(self, dose: NDArray[Any]) -> Volume:
        coarse = Volume(dose.reshape(self._grid.shape).astype(np.float32), self._grid)
        fine = coarse.resampled_to(self._case.grid, "linear", outside=0.0)
        body = self._case.structures["Body"].majority()
        return fine.with_array(np.where(body, fine.array, np.float32(0)))


def _matrix(influence: Any) -> sparse.csc_array:
    """Dose of each fluence element, Gy: `(voxel, element)`."""
    return sparse.csc_array(influence.physical_dose.flat[0])


def _only_rows(matrix: sparse.csc_array, rows: NDArray[np.bool_]) -> sparse.csc_array:
    """A matrix of the same shape that keeps the entries of some rows."""
    kept = rows.reshape(-1)[matrix.indices]
    before = np.concatenate(([0], np.cumsum(kept)))
    return sparse.csc_array(
        (matrix.data[kept], matrix.indices[kept], before[matrix.indptr]), shape=matrix.shape
    )


def _target_objectives(prescription_gy: float) -> list[Any]:
    from pyRadPlan.optimization.objectives import SquaredOverdosing, SquaredUnderdosing

    return [
        SquaredUnderdosing(priority=TARGET[0], d_min=TARGET[1] * prescription_gy),
        SquaredOverdosing(priority=TARGET[0], d_max=TARGET[2] * prescription_gy),
    ]


def _organ_objectives(
    goals: list[tuple[float, float]], outside_share: float, prescription_gy: float
) -> list[Any]:
    """What the goals ask of the part of an organ outside the target, and less where it is cheap.

    Args:
        goals: dose in Gy and the percentage of the organ that may get it.
        outside_share: of the organ; the part inside the target gets the target's dose anyway.
    """
    from pyRadPlan.optimization.objectives import MaxDVH, SquaredOverdosing

    limit_gy = ORGAN[1] * prescription_gy
    objectives: list[Any] = [SquaredOverdosing(priority=ORGAN[0], d_max=limit_gy)]
    for dose_gy, percent in goals:
        allowed = (percent - 100 * (1 - outside_share)) / outside_share
        if 0 < allowed < 100:
            objectives.append(MaxDVH(priority=40, d=dose_gy, v_max=allowed))
    return objectives


def volume_goals(name: str, prescription_gy: float) -> Mapping[str, list[tuple[float, float]]]:
    """Upper limits of V_d in percent by structure, from a shipped set of goals."""
    goals: dict[str, list[tuple[float, float]]] = {}
    for goal in GoalSet.load(name).goals:
        metric = goal.metric
        if metric.kind != "volume" or metric.unit != "%" or goal.comparison not in ("<", "<="):
            continue
        dose_gy = float(metric.amount or 0.0)
        if metric.of_prescription:
            dose_gy *= prescription_gy / 100
        goals.setdefault(goal.structure, []).append((dose_gy, goal.limit))
    return goals


def _rings(
    body: NDArray[np.bool_], distance_mm: NDArray[np.float64], prescription_gy: float
) -> Iterator[tuple[str, NDArray[np.bool_], list[Any]]]:
    """Shells around the target in which the dose has to fall, and no hot spot anywhere."""
    from pyRadPlan.optimization.objectives import SquaredOverdosing

    for inner, outer, part, priority in SHELLS:
        shell = body & (distance_mm > inner) & (distance_mm <= outer)
        if shell.any():
            limit = SquaredOverdosing(priority=priority, d_max=part * prescription_gy)
            yield f"Shell beyond {inner:g} mm", shell, [limit]
    hottest = SquaredOverdosing(priority=32_000, d_max=prescription_gy)
    yield "Rest", body, [hottest]
