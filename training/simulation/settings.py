"""What makes a cohort of simulated plans."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from DosePredictionLib.ranges import DoseGy, Seed
from DosePredictionLib.schema import Length, Name, Range, validated

__all__ = [
    "MOST_LEVELS",
    "TECHNIQUES",
    "CohortSettings",
    "EdgeMm",
    "FastPlanSettings",
    "PlanCohortSettings",
    "PlanLimits",
    "PlanSettings",
    "Technique",
]

Technique = Literal["open", "4", "5", "7", "9", "arc"]
"""Open fields with weights alone; as many modulated fields; an arc of fields 10° apart."""

TECHNIQUES: tuple[Technique, ...] = get_args(Technique)
MOST_LEVELS = 3

_OfPrescription = Annotated[float, Range(0, 10)]
EdgeMm = Annotated[float, Range(1, 20)]  # a body at less is beyond any memory


@dataclass(frozen=True)
@validated
class PlanSettings:
    """How a simulated patient is planned.

    Args:
        beams: coplanar and equally spaced from 0°.
        bixel_mm: width of the fluence elements at the isocenter.
        dose_grid_mm: isotropic.
        lateral_cutoff_mm: how far from its axis a fluence element gives dose. Beyond it lies the
            far scatter, a part of the low-dose bath.
        iterations: of the optimizer at most.
        smoothing_mm: standard deviation of the Gaussians that the fluence is built from.
        goals: name of the shipped goals that the objectives follow.
    """

    beams: Annotated[int, Range(1, 72)] = 9
    bixel_mm: Annotated[float, Range(1, 100)] = 10.0
    dose_grid_mm: Annotated[float, Range(1, 50)] = 5.0
    lateral_cutoff_mm: Annotated[float, Range(1, 2000)] = 60.0
    iterations: Annotated[int, Range(1, 100_000)] = 120
    smoothing_mm: Annotated[float, Range(0, 200)] = 6.0
    goals: Name = "pelvis_nodal_45_50"


@dataclass(frozen=True)
@validated
class FastPlanSettings:
    """How a simulated patient is planned by `fast_planning`.

    Args:
        bixel_mm: edge of the fluence elements at the isocenter.
        dose_grid_mm: isotropic.
        iterations: of the optimizer at most, from a flat fluence.
        further_iterations: from the fluence of other wishes.
        smoothing_mm: standard deviation of the Gaussians that the fluence is built from.
        goals: name of the shipped goals that the objectives follow.
    """

    bixel_mm: Annotated[float, Range(2, 20)] = 5.0
    dose_grid_mm: Annotated[float, Range(2, 20)] = 5.0
    iterations: Annotated[int, Range(1, 10_000)] = 50
    further_iterations: Annotated[int, Range(1, 10_000)] = 30
    smoothing_mm: Annotated[float, Range(0, 200)] = 6.0
    goals: Name = "pelvis_nodal_45_50"


@dataclass(frozen=True)
@validated
class PlanLimits:
    """What a plan must reach, as shares of the prescription; after ICRU Report 83.

    Args:
        coverage: D95 % of the PTV, at least.
        near_maximum: D2 % of the PTV, at most.
        conformity: Paddick's index at the prescription isodose, at least.
        hottest_outside: D2cc of the body outside the PTV, at most.
    """

    coverage: _OfPrescription = 0.99
    near_maximum: _OfPrescription = 1.12
    conformity: _OfPrescription = 0.75
    hottest_outside: _OfPrescription = 1.07


@dataclass(frozen=True)
@validated
class CohortSettings:
    """What makes a cohort.

    Args:
        seed: of everything in it.
        spacing_mm: of CT and structures (x, y, z).
        prescription_gy: to 95 % of the PTV.
        plan: how each patient is planned.
        limits: what each plan must reach, or it is thrown away.
    """

    seed: Seed
    spacing_mm: tuple[EdgeMm, EdgeMm, EdgeMm] = (3.0, 3.0, 3.0)
    prescription_gy: DoseGy = 45.0
    plan: PlanSettings = field(default_factory=PlanSettings)
    limits: PlanLimits = field(default_factory=PlanLimits)


@dataclass(frozen=True)
@validated
class PlanCohortSettings:
    """What makes a cohort of many plans an anatomy.

    Args:
        seed: of everything in it.
        techniques: those of modulated fields over the cohort equally often.
        arrangements: of modulated fields, of each anatomy; open fields are one more.
        levels: of wishes, of each arrangement of modulated fields: 1 is without any.
        spacing_mm: of the anatomy (x, y, z); the distance of the slices is the scan's.
        prescription_gy: to 95 % of the PTV.
        plan: how each is planned.
        kind: keeps its folder apart from other cohorts.
    """

    seed: Seed
    techniques: Annotated[tuple[Technique, ...], Length(1, 6, unique=True)] = TECHNIQUES
    arrangements: Annotated[int, Range(1, 6)] = 2
    levels: Annotated[int, Range(1, MOST_LEVELS)] = MOST_LEVELS
    spacing_mm: tuple[EdgeMm, EdgeMm, EdgeMm] = (3.0, 3.0, 3.0)
    prescription_gy: DoseGy = 45.0
    plan: FastPlanSettings = field(default_factory=FastPlanSettings)
    kind: Literal["plans"] = "plans"
