"""What makes a cohort of simulated plans."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CohortSettings", "PlanLimits", "PlanSettings"]


@dataclass(frozen=True)
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

    beams: int = 9
    bixel_mm: float = 10.0
    dose_grid_mm: float = 5.0
    lateral_cutoff_mm: float = 60.0
    iterations: int = 120
    smoothing_mm: float = 6.0
    goals: str = "pelvis_nodal_45_50"


@dataclass(frozen=True)
class PlanLimits:
    """What a plan must reach, as shares of the prescription; after ICRU Report 83.

    Args:
        coverage: D95 % of the PTV, at least.
        near_maximum: D2 % of the PTV, at most.
        conformity: Paddick's index at the prescription isodose, at least.
        hottest_outside: D2cc of the body outside the PTV, at most.
    """

    coverage: float = 0.99
    near_maximum: float = 1.12
    conformity: float = 0.75
    hottest_outside: float = 1.07


@dataclass(frozen=True)
class CohortSettings:
    """What makes a cohort.

    Args:
        seed: of everything in it.
        spacing_mm: of CT and structures (x, y, z).
        prescription_gy: to 95 % of the PTV.
        plan: how each patient is planned.
        limits: what each plan must reach, or it is thrown away.
    """

    seed: int
    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)
    prescription_gy: float = 45.0
    plan: PlanSettings = field(default_factory=PlanSettings)
    limits: PlanLimits = field(default_factory=PlanLimits)
