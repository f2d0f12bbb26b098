"""The C-shape of AAPM TG-119 on a phantom made here: goals, plan, checks.

    python -m benchmarks.tg119 [--core 25] [--core-weight 10] [--beams 9] [--output DIR]

A target that bends around a core, nine beams, 50 Gy in 25 fractions. No dose is predicted: the
wanted one is drawn, and the monitor units are scaled afterwards so that 95 % of the target get
the prescription, as planners do. Goals: Ezzell et al., Med. Phys. 36 (2009) 5359, doi
10.1118/1.3238104. The prescription was found in Mynampati et al., J. Appl. Clin. Med. Phys. 13
(2012) 108, doi 10.1120/jacmp.v13i5.3382; measures and limits are from memory of the report, the
angle over which the target bends is this project's.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.delivery import TreatmentBeam
from DosePredictionLib.evaluation.gamma import gamma_pass_rates
from DosePredictionLib.io.nifti import write_case_folder
from DosePredictionLib.planning.aperture import complexity
from DosePredictionLib.planning.check import check_plan
from DosePredictionLib.planning.machine import Machine
from DosePredictionLib.planning.planner import Planner, PlanningSettings, equally_spaced
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume

__all__ = ["CShape", "c_shape", "main", "wanted_dose"]

_PRESCRIBED_GY, _FRACTIONS, _BEAMS = 50.0, 25, 9
_CORE_RADIUS_MM, _CORE_LENGTH_MM = 10.0, 100.0
_INNER_MM, _OUTER_MM, _LENGTH_MM = 15.0, 37.0, 80.0
_BENDS_OVER_DEGREES = 240.0
_SPACING_MM = 2.5
_PHANTOM_MM = (300.0, 200.0, 200.0)
_HALVED_WITHIN_MM = 20.0  # of the target's edge
_FARTHEST_GY = 12.0
_TARGET_MARGIN = 1.03  # of the prescription
_CORE_SHARE = 0.4  # of its limit
_CORE_WEIGHT = 10.0
_NEAR_WEIGHT, _FAR_WEIGHT = 0.3, 0.1
# Five millimeters lie between target and core: elements are as narrow as the leaves.
_SETTINGS = PlanningSettings(
    bixel_mm=5.0, dose_grid_mm=4.0, lateral_cutoff_mm=30.0, target_weight=10.0
)


@dataclass(frozen=True, eq=False)
class CShape:
    """The phantom; masks `(z, y, x)`."""

    case: Case
    target: NDArray[np.bool_]
    core: NDArray[np.bool_]


def main() -> None:
    """Plan and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", type=float, default=25.0, help="Gy that 5 %% of the core may get")
    parser.add_argument(
        "--core-weight", type=float, default=_CORE_WEIGHT, help="of its voxels; the target's is 1"
    )
    parser.add_argument("--beams", type=int, default=_BEAMS, help="equally spaced")
    parser.add_argument("--output", type=Path, help="folder for the phantom as a case")
    call = parser.parse_args()
    phantom = c_shape()
    if call.output:
        write_case_folder(call.output, phantom.case)
    begun = time.process_time()
    machine = Machine.load("generic-120")
    bound = bind(phantom.case, StructureProtocol.load("pelvis"))
    planner = Planner(bound, machine, equally_spaced(call.beams), _FRACTIONS, _SETTINGS)
    ct = phantom.case.ct
    wanted = ct.with_array(wanted_dose(phantom, call.core))
    plan = planner.planned(wanted, weights=ct.with_array(_weights(phantom, call.core_weight)))
    factor = _PRESCRIBED_GY / float(np.percentile(plan.dose.array[phantom.target], 5))
    beams = [_scaled(beam, factor) for beam in plan.beams]
    dose = plan.dose.array * factor
    for line in _lines(phantom, dose, call.core):
        sys.stdout.write(line + "\n")
    rows = check_plan(beams, machine, _PRESCRIBED_GY / _FRACTIONS)
    rates = gamma_pass_rates(plan.optimized, plan.dose, ["3%/3mm"])
    figures = complexity(beams, _PRESCRIBED_GY / _FRACTIONS)
    sys.stdout.write(
        f"{sum(not row.passed for row in rows)} of {len(rows)} limits broken, "
        f"{figures['segments']} segments, {figures['monitor_units']:.0f} MU (scaled by "
        f"{factor:.3f}), recomputed against optimized "
        f"{rates['3%/3mm']['pass_rate_percent']:.1f} % at 3%/3mm, "
        f"{time.process_time() - begun:.0f} s of CPU\n"
    )


def c_shape() -> CShape:
    """Water with a core and a target that bends around it, open towards the back."""
    size = tuple(round(edge / _SPACING_MM) for edge in _PHANTOM_MM)
    origin = tuple(-(n - 1) / 2 * _SPACING_MM for n in size)
    air = 8  # voxels around the phantom
    grid = Grid(
        tuple(n + 2 * air for n in size),  # type: ignore[arg-type]
        (_SPACING_MM,) * 3,
        tuple(o - air * _SPACING_MM for o in origin),  # type: ignore[arg-type]
    )
    z, y, x = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    mm = grid.world_from_index(np.stack([x, y, z], axis=-1))
    across, back, along = mm[..., 0], mm[..., 1], np.abs(mm[..., 2])
    radius = np.hypot(across, back)
    from_front = np.degrees(np.abs(np.arctan2(across, -back)))
    body = np.all(np.abs(mm) < np.array(_PHANTOM_MM) / 2, axis=-1)
    core = (radius <= _CORE_RADIUS_MM) & (along <= _CORE_LENGTH_MM / 2)
    target = (radius >= _INNER_MM) & (radius <= _OUTER_MM) & (along <= _LENGTH_MM / 2)
    target &= from_front <= _BENDS_OVER_DEGREES / 2
    masks = {"PTV": target, "Core": core, "Body": body}
    case = Case(
        name="tg119_c_shape",
        ct=Volume(np.where(body, 0, -1000).astype(np.float32), grid),
        structures={name: Volume(mask, grid) for name, mask in masks.items()},
        prescription=Prescription({"PTV": _PRESCRIBED_GY}, _FRACTIONS),
    )
    return CShape(case, target, core)


def wanted_dose(phantom: CShape, core_gy: float) -> NDArray[np.float32]:
    """Full dose in the target, less the farther from it, and less than its limit in the core."""
    apart = ndimage.distance_transform_edt(~phantom.target, sampling=_SPACING_MM)
    fall = np.exp(-apart * np.log(2) / _HALVED_WITHIN_MM)
    dose = _FARTHEST_GY + (_TARGET_MARGIN * _PRESCRIBED_GY - _FARTHEST_GY) * fall
    dose = np.where(phantom.core, np.minimum(dose, _CORE_SHARE * core_gy), dose)
    return np.where(phantom.case.structures["Body"].array, dose, 0).astype(np.float32)


def _weights(phantom: CShape, core: float) -> NDArray[np.float32]:
    """The core counts most, what lies far from the target least."""
    apart = ndimage.distance_transform_edt(~phantom.target, sampling=_SPACING_MM)
    weights = np.where(apart < _OUTER_MM, _NEAR_WEIGHT, _FAR_WEIGHT)
    weights = np.where(phantom.target, 1.0, weights)
    return np.where(phantom.core, core, weights).astype(np.float32)


def _scaled(beam: TreatmentBeam, factor: float) -> TreatmentBeam:
    return replace(beam, meterset=(beam.meterset or 0.0) * factor)


def _lines(phantom: CShape, dose: NDArray, core_gy: float) -> list[str]:
    """Each goal with the plan's value."""
    rows = [
        ("PTV D95 >= 50 Gy", float(np.percentile(dose[phantom.target], 5)), 1),
        ("PTV D10 <= 55 Gy", float(np.percentile(dose[phantom.target], 90)), -1),
        (f"core D5 <= {core_gy:g} Gy", float(np.percentile(dose[phantom.core], 95)), -1),
    ]
    lines = []
    for text, value, sense in rows:
        limit = float(text.split()[-2])
        met = sense * (value - limit) >= -1e-3
        lines.append(f"{text:<20}{value:>8.1f} Gy   {'met' if met else 'not met'}")
    return lines


if __name__ == "__main__":
    main()
