"""What makes a cohort of simulated plans."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CohortSettings", "PlanSettings"]


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
class CohortSettings:
    """What makes a cohort.

    Args:
        seed: of everything in it.
        spacing_mm: of CT and structures (x, y, z).
        prescription_gy: to 95 % of the PTV.
        plan: how each patient is planned.
    """

    seed: int
    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)
    prescription_gy: float = 45.0
    plan: PlanSettings = field(default_factory=PlanSettings)
