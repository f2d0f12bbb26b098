"""The dose of a plan by Monte Carlo: ompMC, in a process of its own.

Dörner, E. and Caprile, P., Med. Phys. 44 (2017) 6672, doi 10.1002/mp.12642; its package is GPL-3,
is not part of this software and is not imported by it: `ompmc_run.py` runs alone, and files go
between. The patient is water of the CT's electron density, as for `recompute`; photons of a 6 MV
spectrum (ompMC's own, Mohan's) start from a Gaussian source in proportion to the fluence that
leaves and jaws let through. What the head scatters is not modelled, nor contamination by electrons,
nor that the beam hardens in leaves.
"""

from __future__ import annotations

import importlib.util
import math
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from ..beams.arrangement import Beam, BeamArrangement
from ..beams.geometry import beam_frame
from ..beams.tracing import Anatomy
from ..delivery import TreatmentBeam
from ..errors import DosePredictionError
from ..schema import Range, validated
from ..volume import Grid, Volume
from .kernels import FieldLattice, KernelModel
from .machine import Machine
from .recompute import fluence_mu, require_modelled

__all__ = ["MonteCarloDose", "MonteCarloSettings", "monte_carlo_dose", "require_ompmc"]

INSTALL = "python -m pip install ompmc"
_SCRIPT = Path(__file__).with_name("ompmc_run.py")
_ELEMENT_MM = 2.5
_WATER_MM = 300.0  # edge of the cube that the monitor unit is defined in
_AROUND_MM = 15.0  # what is averaged around the point of calibration
_UNIT_HISTORIES = 200_000
_RUNS, _MOST_HISTORIES = 10, 100_000  # runs at least; histories of one at most
_SECONDS, _SECONDS_A_HISTORY = 60.0, 4e-3  # CPU time of a run; ten times what was measured
_TIMES_LONGEST = 5.0  # the longest run that ended
_TOO_LONG = -int(getattr(signal, "SIGXCPU", 1 << 16))  # exit code; Windows has no such signal
_KEPT_LINES = 20

Array = NDArray[np.float64]
Progress = Callable[[float], None]


@dataclass(frozen=True)
@validated
class MonteCarloSettings:
    """How much is simulated.

    Args:
        histories: of the plan; each splits into twenty photons. The monitor unit, read in a large
            open field, takes 200,000 at most.
        grid_mm: isotropic.
        seed: of the random numbers.
    """

    histories: Annotated[int, Range(1000, 1_000_000_000)] = 1_000_000
    grid_mm: Annotated[float, Range(2, 20)] = 5.0
    seed: Annotated[int, Range(1, 2**31 - 1)] = 97


@dataclass(frozen=True, eq=False)
class MonteCarloDose:
    """A simulated dose of one fraction.

    Args:
        dose: Gy, within the anatomy's region.
        noise: standard deviation, as a share of the dose of each voxel.
        unit_noise: standard deviation of the monitor unit, as a share.
    """

    dose: Volume
    noise: Volume
    unit_noise: float

    @property
    def noise_percent(self) -> float:
        """Root mean square of the noise where the dose is above half of its maximum."""
        high = self.dose.array > 0.5 * self.dose.array.max()
        return 100 * float(np.sqrt(np.mean(self.noise.array[high].astype(float) ** 2)))


@dataclass(frozen=True, eq=False)
class _Source:
    """Rectangles in planes of isocenters that photons of a beam pass, cm, LPS.

    Args:
        focus: `(beam, 3)`.
        beam: of each element.
        corner, side1, side2: `(element, 3)`.
        weights: of each element.
    """

    focus: Array
    beam: NDArray[np.int32]
    corner: Array
    side1: Array
    side2: Array
    weights: Array


def require_ompmc() -> None:
    """Refuse to go on where ompMC is absent.

    Raises:
        DosePredictionError: it is.
    """
    if importlib.util.find_spec("ompmc") is None:
        raise DosePredictionError(
            f"--monte-carlo needs ompMC (GPL-3), which is not installed. Install it: {INSTALL}"
        )


def monte_carlo_dose(
    beams: Sequence[TreatmentBeam],
    anatomy: Anatomy,
    model: KernelModel,
    machine: Machine,
    settings: MonteCarloSettings,
    progress: Progress = lambda share: None,
) -> MonteCarloDose:
    """Dose of one fraction on the anatomy's grid; the monitor unit is the machine's definition.

    Args:
        beams: as `recompute.plan_dose` takes them.
        model: whose penumbra the source's width is.
        progress: hears the share done; may raise to cancel, which ends the process.

    Raises:
        DosePredictionError: ompMC is absent or failed, or a beam is none that is modelled.
    """
    require_ompmc()
    width_cm = model.penumbra_mm / np.sqrt(8 * np.log(2)) / 10
    water, reference = _reference_field(machine, settings.grid_mm)
    of_unit = replace(settings, histories=min(settings.histories, _UNIT_HISTORIES))
    share = of_unit.histories / (of_unit.histories + settings.histories)
    unit, unit_noise = _simulated(
        water, np.ones(water.shape), reference, of_unit, width_cm, lambda s: progress(s * share)
    )
    given, relative = _around_calibration(water, unit, unit_noise, machine)
    source = _source_of(beams, machine)
    density = np.where(anatomy.region, anatomy.density, 0)
    dose, noise = _simulated(
        anatomy.grid,
        density,
        source,
        settings,
        width_cm,
        lambda s: progress(share + s * (1 - share)),
    )
    scale = machine.calibration.gy_per_mu / given
    array = np.where(anatomy.region, dose * scale, 0).astype(np.float32)
    return MonteCarloDose(
        Volume(array, anatomy.grid), Volume(noise.astype(np.float32), anatomy.grid), relative
    )


def _reference_field(machine: Machine, grid_mm: float) -> tuple[Grid, _Source]:
    """A cube of water, its surface at y = 0, and the field from above that defines the unit."""
    calibration = machine.calibration
    edge = round(_WATER_MM / grid_mm)
    first = -(edge - 1) / 2 * grid_mm
    grid = Grid((edge,) * 3, (grid_mm,) * 3, (first, grid_mm / 2, first))
    half, axis = calibration.field_mm / 2, machine.sad_mm - calibration.ssd_mm
    elements = (calibration.field_mm / _ELEMENT_MM) ** 2
    return grid, _Source(
        focus=np.array([[0.0, -calibration.ssd_mm, 0.0]]) / 10,
        beam=np.zeros(1, dtype=np.int32),
        corner=np.array([[-half, axis, -half]]) / 10,
        side1=np.array([[2 * half, 0, 0]]) / 10,
        side2=np.array([[0, 0, 2 * half]]) / 10,
        weights=np.array([elements]),
    )


def _around_calibration(
    grid: Grid, dose: Array, noise: Array, machine: Machine
) -> tuple[float, float]:
    """Mean dose around the point that defines the unit, and its noise as a share."""
    z, y, x = np.indices(grid.shape)
    mm = grid.world_from_index(np.stack([x, y, z], axis=-1))
    place = np.array([0.0, machine.calibration.depth_mm, 0.0])
    near = np.all(np.abs(mm - place) <= _AROUND_MM, axis=-1)
    mean = float(dose[near].mean())
    spread = float(np.sqrt(np.sum((dose[near] * noise[near]) ** 2))) / int(near.sum())
    return mean, spread / mean


def _source_of(beams: Sequence[TreatmentBeam], machine: Machine) -> _Source:
    """The elements of a plan that photons pass."""
    foci, parts = [], []
    for number, beam in enumerate(beams):
        require_modelled(beam)
        assert beam.isocenter_mm is not None
        gantry = float(beam.gantry_degrees[0])
        arrangement = BeamArrangement((Beam(gantry % 360.0),), beam.isocenter_mm, machine.sad_mm)
        frame = beam_frame(arrangement, gantry, beam.isocenter_mm)
        reach_x, reach_y = (np.nanmax(np.abs(jaws)) for jaws in (beam.jaws_x_mm, beam.jaws_y_mm))
        lattice = FieldLattice.covering(float(reach_x), float(reach_y), _ELEMENT_MM)
        fluence = fluence_mu(beam, lattice, machine.transmission)
        rows, columns = np.nonzero(fluence)
        turn = np.radians(float(beam.collimator_degrees[0]))
        across, along = np.array([*frame.across, 0.0]), np.array([0.0, 0.0, 1.0])
        u = across * np.cos(turn) + along * np.sin(turn)
        v = along * np.cos(turn) - across * np.sin(turn)
        left = (columns - lattice.half_u - 0.5) * _ELEMENT_MM
        low = (rows - lattice.half_v - 0.5) * _ELEMENT_MM
        corner = np.asarray(beam.isocenter_mm) + left[:, None] * u + low[:, None] * v
        foci.append(frame.source_mm)
        parts.append((np.full(rows.size, number), corner, u, v, fluence[rows, columns]))
    sizes = [part[4].size for part in parts]
    return _Source(
        focus=np.array(foci) / 10,
        beam=np.concatenate([part[0] for part in parts]).astype(np.int32),
        corner=np.concatenate([part[1] for part in parts]) / 10,
        side1=np.repeat([part[2] * _ELEMENT_MM / 10 for part in parts], sizes, axis=0),
        side2=np.repeat([part[3] * _ELEMENT_MM / 10 for part in parts], sizes, axis=0),
        weights=np.concatenate([part[4] for part in parts]),
    )


def _simulated(
    grid: Grid,
    density: NDArray,
    source: _Source,
    settings: MonteCarloSettings,
    width_cm: float,
    progress: Progress,
) -> tuple[Array, Array]:
    """Dose and its noise as a share `(z, y, x)`; Gy for as many photons as the weights say.

    The mean of independent runs, and how far they lie apart. A run that does not end is replaced
    by one with other random numbers.
    """
    borders = {
        f"bounds_{axis}": (start + (np.arange(count + 1) - 0.5) * step) / 10
        for axis, start, count, step in zip(
            "xyz", grid.origin, grid.size, grid.spacing, strict=True
        )
    }
    runs = max(_RUNS, math.ceil(settings.histories / _MOST_HISTORIES))
    each = max(2, settings.histories // runs)
    doses: list[Array] = []
    seconds = _SECONDS + each * _SECONDS_A_HISTORY
    with tempfile.TemporaryDirectory() as folder:
        job, done = Path(folder) / "job.npz", Path(folder) / "dose.npz"
        content: dict[str, Any] = {
            "density": np.asarray(density, dtype=float),
            "histories": each,
            "seed": settings.seed,
            "width_cm": width_cm,
            **borders,
            **source.__dict__,
        }
        np.savez(job, **content)
        for number in range(2 * runs):
            found = _run(job, done, number, seconds)
            if found is None:
                continue
            dose, taken = found
            doses.append(dose)
            progress(len(doses) / runs)
            if len(doses) == runs:
                break
            seconds = min(seconds, _SECONDS + _TIMES_LONGEST * taken)
        else:
            raise DosePredictionError(
                f"ompMC did not end in {2 * runs - len(doses)} of {2 * runs} runs of {each} "
                f"histories, within {seconds:.0f} s of CPU time each."
            )
    mean: Array = np.mean(doses, axis=0)
    error = np.std(doses, axis=0, ddof=1) / np.sqrt(runs)
    return mean, np.divide(error, mean, out=np.ones_like(mean), where=mean > 0)


def _run(job: Path, done: Path, number: int, seconds: float) -> tuple[Array, float] | None:
    """One run of ompMC, which ends with this call, whatever ends it.

    Returns:
        Its dose and CPU seconds; None: it took more than `seconds`.
    """
    command = [sys.executable, str(_SCRIPT), str(job), str(done), str(number), f"{seconds:.0f}"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    try:
        said, _ = process.communicate()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode == _TOO_LONG:
        return None
    lines = [line.strip() for line in said.splitlines() if line.strip()][-_KEPT_LINES:]
    if process.returncode or not done.is_file():
        reason = lines[-1] if lines else f"exit code {process.returncode}"
        failure = DosePredictionError(f"ompMC failed: {reason}")
        failure.details = "\n".join(lines)
        raise failure
    with np.load(done) as found:
        result: tuple[Array, float] = found["dose"], float(found["seconds"])
    done.unlink()
    return result
