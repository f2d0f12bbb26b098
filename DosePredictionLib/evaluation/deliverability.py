"""Whether beams can give a dose: how far the nearest dose that they can give lies from it.

The nearest dose is the ray model's (`beams.ray_model`), which leaves things out; so even plans that
were delivered leave a residual. A dose is suspected where it leaves more than 95 of 100 such plans,
of patients whom no model was trained on, on the same beams. One that leaves less is not excluded;
it is not shown to be deliverable. `planning` looks for leaf positions and monitor units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..beams.arrangement import SENSE, BeamArrangement
from ..beams.density import relative_electron_density
from ..beams.mimic import mimic
from ..beams.ray_dose import RayDose
from ..beams.ray_model import RayModel
from ..beams.tracing import Anatomy, trace
from ..errors import CaseError
from ..findings import Finding
from ..mask import majority
from ..resources import resource_path
from ..schema import FreeText, Length, Name, Range, from_json, read_json, validated
from ..structures.bound import BoundCase
from ..volume import Grid, Volume
from .evaluate import EvaluationParts, evaluate

__all__ = [
    "RESIDUALS",
    "Deliverability",
    "ResidualLimits",
    "deliverability",
    "goal_is_lost",
    "nearest_dose",
    "residuals_gy",
]

RESIDUALS: Mapping[str, str] = {
    "body": "mean in the body",
    "target": "mean in the targets",
    "fine_body": "within 6 mm, exceeded in 1 cc of the body",
    "fine_target": "within 6 mm, exceeded in 0.3 cc of the targets",
}
"""Name → what it is: absolute differences, the fine ones from what they are on average around."""

_Gy = Annotated[float, Range(0, 1000)]
_FINE_MM = 6.0
_FINE_BODY_CC, _FINE_TARGET_CC = 1.0, 0.3
_ITERATIONS = 40
_FINEST_MM = 3.5  # of the grid that a dose is mimicked on: more voxels take longer, and no less
_COARSE_MM = 4.0
_LOST_GY, _LOST_PERCENT = 0.5, 1.0


@dataclass(frozen=True)
@validated
class ResidualLimits:
    """What plans that were made leave, by `python -m benchmarks.deliverability`.

    Args:
        protocol: id.
        gantry_degrees: of the plans' beams.
        plans: how many.
        limits_gy: 95th percentile of each of `RESIDUALS`.
        medians_gy: of each.
        beyond: plans beyond the limit of any.
        source: whose plans.
        command: that made the file.
    """

    schema: Literal["dose-prediction-deliverability/1"]
    protocol: Name
    gantry_degrees: Annotated[tuple[Annotated[float, Range(0, 360)], ...], Length(1, 400)]
    plans: Annotated[int, Range(1, 100_000)]
    limits_gy: Mapping[Name, _Gy]
    medians_gy: Mapping[Name, _Gy]
    beyond: Annotated[int, Range(0, 100_000)]
    source: FreeText
    command: FreeText

    @classmethod
    def of(cls, protocol: str) -> ResidualLimits | None:
        """The shipped ones of a protocol; None: there are none."""
        path = resource_path("Deliverability", f"{protocol}.json")
        return from_json(cls, read_json(path), str(path)) if path.is_file() else None

    @property
    def beams(self) -> BeamArrangement:
        """That the plans had."""
        return BeamArrangement.of_angles(self.gantry_degrees)


@dataclass(frozen=True, eq=False)
class Deliverability:
    """How near beams come to a dose.

    Args:
        nearest: the nearest dose that they can give, by the ray model, on the case's grid.
        beams: whose it is.
        residuals_gy: by the names of `RESIDUALS`; None: there is no target.
        limits: of plans on the same beams; None: unknown, and nothing is suspected.
        lost: goals that the dose meets and the nearest dose misses by more than 0.5 Gy or 1 %.
    """

    nearest: Volume
    beams: BeamArrangement
    residuals_gy: Mapping[str, float | None]
    limits: ResidualLimits | None
    lost: tuple[str, ...]

    @property
    def beyond(self) -> list[str]:
        """Residuals beyond the limits."""
        if self.limits is None:
            return []
        return [
            name
            for name, value in self.residuals_gy.items()
            if value is not None and value > self.limits.limits_gy[name]
        ]

    @property
    def finding(self) -> Finding:
        """What is to be said of it."""
        count = len(self.beams.fields)
        body = self.residuals_gy["body"]
        text = f"A plan on {count} beams reproduces this dose to {body:.1f} Gy in the body"
        if self.lost:
            text += f"; met by it but not by the plan: {', '.join(self.lost)}"
        if self.limits is None:
            text += ". What plans on these beams leave is not known."
            return Finding("deliverability-unknown", "info", text)
        of = f"{self.limits.plans} plans of patients that no model has seen"
        if not self.beyond:
            text += (
                f", as 95 % of {of}: not excluded, which is not to say that it can be delivered."
            )
            return Finding("deliverability-not-excluded", "info", text)
        parts = [
            f"{RESIDUALS[name]} {self.residuals_gy[name]:.1f} Gy, plans "
            f"{self.limits.limits_gy[name]:.1f} Gy"
            for name in self.beyond
        ]
        text += f". It leaves more than 95 % of {of} ({'; '.join(parts)})."
        remedy = "Do not rely on what it shows there; look where it differs from the plan's dose."
        return Finding("dose-hardly-deliverable", "warning", text, remedy)

    def as_json(self) -> dict[str, Any]:
        """A JSON object; undefined values are null."""
        limits = self.limits
        return {
            "gantry_degrees": self.beams.gantry_degrees,
            "residuals_gy": dict(self.residuals_gy),
            "limits_gy": None if limits is None else dict(limits.limits_gy),
            "plans": None if limits is None else limits.plans,
            "beyond": self.beyond,
            "goals_lost": list(self.lost),
            "status": self.finding.id,
        }


def deliverability(bound: BoundCase, dose: Volume) -> Deliverability:
    """Hold a dose against what the case's beams can give.

    Args:
        bound: with a target, and beams or a protocol whose plans' beams are known.
        dose: Gy, on the case's grid.

    Raises:
        CaseError: there is no target, no beams are known, or the CT is oblique.
    """
    case = bound.case
    known = None if bound.protocol is None else ResidualLimits.of(bound.protocol.id)
    beams = case.beams
    if beams is None and known is not None:
        beams = _for_patient(known.beams, bound)
    if beams is None:
        raise CaseError(f"{case.name} states no beams: name them (--beams 0,40,80).")
    nearest, left = nearest_dose(bound, dose, beams)
    limits = known if known is not None and _alike(beams, known) else None
    return Deliverability(nearest, beams, left, limits, _lost(bound, dose, nearest))


def nearest_dose(
    bound: BoundCase, dose: Volume, beams: BeamArrangement
) -> tuple[Volume, dict[str, float | None]]:
    """The nearest dose that beams can give, on the dose's grid, and the residuals.

    Raises:
        CaseError: there is no target, or the CT is oblique.
    """
    if not bound.targets:
        raise CaseError(f"{bound.case.name} has no target that beams aim at: map one by --map.")
    if not dose.grid.is_axis_aligned:
        raise CaseError(f"The CT of {bound.case.name} is oblique: rays need axes along it.")
    wanted = dose.reordered_to_lps()
    grid = _working_grid(wanted.grid)
    wanted = wanted.resampled_to(grid, "linear")
    anatomy = _anatomy(bound, grid)
    region = majority(bound.region.reordered_to_lps().resampled_to(grid).weights())
    model = RayModel()
    operator = RayDose(trace(beams, anatomy, model), model, grid.shape)
    seen = operator.of_volume(region)
    found = mimic(operator, operator.of_volume(wanted.array), _ITERATIONS, seen)
    nearest = wanted.with_array(operator.as_volume(found.dose) * region)
    target = np.any(list(anatomy.targets.values()), axis=0) & region
    left = residuals_gy(wanted.array - nearest.array, region, target, grid)
    return nearest.resampled_to(dose.grid, "linear"), left


def residuals_gy(
    difference: NDArray, region: NDArray[np.bool_], target: NDArray[np.bool_], grid: Grid
) -> dict[str, float | None]:
    """`RESIDUALS` of a difference of doses, all `(z, y, x)`.

    Rays and penumbra give nothing that changes from one voxel to the next: what a difference has
    beyond its mean around a voxel is what no fluence makes, whatever the model leaves out.
    """
    within = np.where(region, difference, 0).astype(np.float32)
    sigmas = [_FINE_MM / spacing for spacing in grid.spacing[::-1]]
    share = ndimage.gaussian_filter(region.astype(np.float32), sigmas)
    around = ndimage.gaussian_filter(within, sigmas) / np.maximum(share, 0.05)
    fine = np.abs(within - around)
    cc = grid.voxel_volume_cc
    return {
        "body": _mean(np.abs(within[region])),
        "target": _mean(np.abs(within[target])),
        "fine_body": _exceeded(fine[region], _FINE_BODY_CC / cc),
        "fine_target": _exceeded(fine[target], _FINE_TARGET_CC / cc),
    }


def _mean(values: NDArray) -> float | None:
    return float(values.mean()) if values.size else None


def _exceeded(values: NDArray, voxels: float) -> float | None:
    """What so many voxels reach."""
    count = min(max(1, round(voxels)), values.size)
    return float(np.partition(values, -count)[-count]) if count else None


def _working_grid(grid: Grid) -> Grid:
    """A grid, or a coarser one over it along the axes in which it is fine."""
    spacing = tuple(
        _COARSE_MM if s < _FINEST_MM and a < 2 else s for a, s in enumerate(grid.spacing)
    )
    if spacing == grid.spacing:
        return grid
    size = tuple(
        max(1, int(n * old / new))
        for n, old, new in zip(grid.size, grid.spacing, spacing, strict=True)
    )
    origin = tuple(
        o + (new - old) / 2 for o, old, new in zip(grid.origin, grid.spacing, spacing, strict=True)
    )
    return Grid(size, spacing, origin)  # type: ignore[arg-type]


def _anatomy(bound: BoundCase, grid: Grid) -> Anatomy:
    body = majority(bound.external.reordered_to_lps().resampled_to(grid).weights())
    hu = bound.case.ct.reordered_to_lps().resampled_to(grid, "linear", outside=-1000.0).array
    density = np.where(body, relative_electron_density(hu), np.float32(0))
    targets = {
        name: bound.structures[name].mask.reordered_to_lps().resampled_to(grid).majority()
        for name in bound.named("target")
    }
    return Anatomy(grid, density, body, targets)


def _for_patient(beams: BeamArrangement, bound: BoundCase) -> BeamArrangement:
    """Beams for a patient who lies as the CT says."""
    position = bound.case.origin.patient_position if bound.case.origin else ""
    return replace(beams, patient_position=position) if position in SENSE else beams  # type: ignore[arg-type]


def _alike(beams: BeamArrangement, known: ResidualLimits) -> bool:
    ours, theirs = sorted(beams.gantry_degrees), sorted(known.gantry_degrees)
    return len(ours) == len(theirs) and bool(np.allclose(ours, theirs, atol=1.0))


def _lost(bound: BoundCase, dose: Volume, nearest: Volume) -> tuple[str, ...]:
    """Goals that a dose meets and the nearest one misses by more than 0.5 Gy or 1 %."""
    found = evaluate(
        bound, dose, EvaluationParts(reference=nearest, scores=frozenset(), goals="default")
    )
    return tuple(
        f"{goal['structure']} {goal['goal']}" for goal in found.goal_records if goal_is_lost(goal)
    )


def goal_is_lost(goal: Mapping[str, Any]) -> bool:
    """Whether a dose meets a goal that its reference misses by more than 0.5 Gy or 1 %.

    Args:
        goal: a record of `Evaluation.goal_records`.
    """
    plan = goal["reference"]
    if goal["status"] != "met" or plan["status"] == "met" or plan["margin"] is None:
        return False
    allowed = _LOST_GY if goal["unit"] == "Gy" else _LOST_PERCENT
    return bool(-plan["margin"] > allowed)
