"""Open fields in water: the dose of plans against Monte Carlo.

    python -m benchmarks.monte_carlo [--histories N]

Output factors at 10 cm, SSD 90 cm, of square fields over that of 10 cm × 10 cm. Both models have
the phantom's scatter alone; what the head scatters is in neither.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from DosePredictionLib.beams.tracing import Anatomy
from DosePredictionLib.delivery import TreatmentBeam
from DosePredictionLib.planning import engine
from DosePredictionLib.planning.machine import Machine
from DosePredictionLib.planning.monte_carlo import MonteCarloSettings, monte_carlo_dose
from DosePredictionLib.planning.recompute import plan_dose
from DosePredictionLib.volume import Grid, Volume

__all__ = ["main", "open_field", "water_cube"]

_EDGES_MM = (50.0, 100.0, 200.0)
_STEP_MM, _VOXELS = 10.0, 30
_DEPTH_MM, _SSD_MM = 100.0, 900.0
_HALF_MM = 12.0  # of the cube that doses are averaged in


def main() -> None:
    """Print both models' output factors and what the simulated ones are worth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=60_000, help="of each field")
    call = parser.parse_args()
    machine, model = Machine.load("generic-120"), engine.kernel_model()
    anatomy = water_cube()
    settings = MonteCarloSettings(call.histories, _STEP_MM)
    begun = time.perf_counter()
    found = {}
    for edge in _EDGES_MM:
        beam = open_field(machine, edge)
        ours = _around(plan_dose([beam], anatomy, model, machine))[0]
        simulated = monte_carlo_dose([beam], anatomy, model, machine, settings)
        found[edge] = (ours, *_around(simulated.dose, simulated.noise), simulated.unit_noise)
    of_reference = found[100.0]
    sys.stdout.write(f"{'field':<16}{'plan':>8}{'ompMC':>8}{'noise %':>9}{'apart %':>9}\n")
    for edge, (ours, theirs, noise, unit) in found.items():
        factors = ours / of_reference[0], theirs / of_reference[1]
        # Each run finds the monitor unit anew.
        noises = np.array([noise, unit, *of_reference[2:]]) * (edge != 100.0)
        sys.stdout.write(
            f"{edge / 10:g} cm × {edge / 10:g} cm".ljust(16) + f"{factors[0]:>8.3f}"
            f"{factors[1]:>8.3f}{100 * np.hypot.reduce(noises):>9.1f}"
            f"{100 * (factors[0] / factors[1] - 1):>+9.1f}\n"
        )
    ours, theirs, noise, unit = of_reference
    sys.stdout.write(
        f"100 MU, 10 cm × 10 cm: {ours:.3f} Gy; ompMC {theirs:.3f} Gy, noise "
        f"{100 * np.hypot(noise, unit):.1f} %. {time.perf_counter() - begun:.0f} s\n"
    )


def water_cube() -> Anatomy:
    """A cube of water of 30 cm; its surface lies at y = 0."""
    first = -(_VOXELS - 1) / 2 * _STEP_MM
    grid = Grid((_VOXELS,) * 3, (_STEP_MM,) * 3, (first, _STEP_MM / 2, first))
    inside = np.ones(grid.shape, dtype=bool)
    return Anatomy(grid, inside.astype(np.float32), inside, {"target": inside})


def open_field(machine: Machine, edge_mm: float, mu: float = 100.0) -> TreatmentBeam:
    """A square field from above, SSD 90 cm, the leaves on the jaws."""
    ends, points = np.array([-edge_mm / 2, edge_mm / 2]), 2
    still, jaws = np.zeros(points), np.tile(ends, (points, 1))
    pairs = machine.borders_mm.size - 1
    return TreatmentBeam(
        number=1,
        name=f"{edge_mm:g} mm",
        machine=machine.id,
        kind="STATIC",
        radiation="PHOTON",
        energy_mv=machine.energies_mv[0],
        meterset=mu,
        weight=np.array([0.0, 1.0]),
        gantry_degrees=still,
        collimator_degrees=still,
        couch_degrees=still,
        jaws_x_mm=jaws,
        jaws_y_mm=jaws,
        leaves_mm=np.tile(ends[None, :, None], (points, 1, pairs)),
        leaf_borders_mm=machine.borders_mm,
        leaves_along="X",
        isocenter_mm=(0.0, machine.sad_mm - _SSD_MM, 0.0),
        dose_rate_mu_min=np.full(points, 300.0),
        stated_points=points,
        sad_mm=machine.sad_mm,
    )


def _around(dose: Volume, noise: Volume | None = None) -> tuple[float, float]:
    """Mean dose around the depth of calibration on the axis, and its noise as a share."""
    z, y, x = np.indices(dose.grid.shape)
    mm = dose.grid.world_from_index(np.stack([x, y, z], axis=-1))
    near = np.all(np.abs(mm - np.array([0.0, _DEPTH_MM, 0.0])) <= _HALF_MM, axis=-1)
    mean = float(dose.array[near].mean())
    if noise is None:
        return mean, 0.0
    spread = (dose.array[near].astype(float) * noise.array[near]) ** 2
    return mean, float(np.sqrt(spread.sum())) / int(near.sum()) / mean


if __name__ == "__main__":
    main()
