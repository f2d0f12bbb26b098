"""A plan in segments whose dose comes nearest to a given one.

influence   pyRadPlan: what each fluence element of each beam gives (`engine`)
fluence     the one whose dose comes nearest, built from smooth pieces (`beams.mimic`)
sequence    leaf positions that give it, to the step (`sequence`)
units       of the shapes, fitted to the dose, none below the machine's least (`units`)
dose        of what is written (`recompute`); what the influence matrix leaves out of it, leakage
            and scatter beyond its cut-off, is taken off the wanted dose, and the units are
            fitted anew
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from ..beams.density import relative_electron_density
from ..beams.mimic import mimic
from ..beams.operator import MatrixOperator
from ..beams.tracing import Anatomy
from ..delivery import TreatmentBeam
from ..errors import CaseError, DosePredictionError
from ..mask import majority
from ..memory import available_memory_bytes
from ..schema import Range, validated
from ..structures.bound import BoundCase
from ..volume import Grid, Volume
from . import engine
from .fields import Field, fields_of, open_fluence, sequenced, treatment_beams
from .kernels import KernelModel
from .machine import Machine
from .recompute import plan_dose
from .units import fit_units

__all__ = ["DeliverablePlan", "Planner", "PlanningSettings", "equally_spaced"]

Single = NDArray[np.float32]
Progress = Callable[[float, str], None]

_ALL_VOXELS_WITHIN_MM = 20.0
_ONE_IN = 4  # of the voxels farther away
_BYTES_AN_ENTRY = 8
_COPIES = 2.5  # of the matrix while it is put together and cut to the voxels that count


@dataclass(frozen=True)
@validated
class PlanningSettings:
    """How a plan is made.

    Args:
        bixel_mm: edge of the fluence elements at the isocenter; two narrow leaves.
        dose_grid_mm: of the optimizer.
        lateral_cutoff_mm: how far from its axis a fluence element gives dose to the optimizer.
        smoothing_mm: standard deviation of the Gaussians that the fluence is built from.
        iterations: of the fluence, and of each fit of monitor units.
        steps: in which the highest fluence is given.
        recompute_grid_mm: of the final dose, isotropic.
        corrections: how often the units are fitted to what the matrix leaves out.
    """

    bixel_mm: Annotated[float, Range(5, 20)] = 10.0
    dose_grid_mm: Annotated[float, Range(2, 10)] = 5.0
    lateral_cutoff_mm: Annotated[float, Range(20, 200)] = 60.0
    smoothing_mm: Annotated[float, Range(0.1, 50)] = 6.0
    iterations: Annotated[int, Range(1, 10_000)] = 120
    steps: Annotated[int, Range(1, 100)] = 7
    recompute_grid_mm: Annotated[float, Range(1, 2.5)] = 2.5
    corrections: Annotated[int, Range(0, 5)] = 2


@dataclass(frozen=True, eq=False)
class DeliverablePlan:
    """A plan and its doses, Gy of the whole treatment, on the case's grid.

    Args:
        beams: with the monitor units of one fraction.
        dose: from the leaf positions and monitor units.
        optimized: what the optimizer takes it for.
        fluence_dose: of the fluence before it was sequenced: the best that these beams do.
    """

    beams: tuple[TreatmentBeam, ...]
    dose: Volume
    optimized: Volume
    fluence_dose: Volume


@dataclass(frozen=True, eq=False)
class _Influence:
    """What each element gives each voxel, and the voxels that the fits look at.

    Args:
        matrix: `(voxel, element)`, Gy.
        positions: of each beam's elements.
        basis: smooth fluences `(element, element)`.
        rows, weights: voxels that count, and by how much.
        seen: those rows of the matrix.
    """

    matrix: sparse.csc_array
    positions: list[NDArray[np.float64]]
    basis: sparse.csc_array
    rows: NDArray[np.intp]
    weights: Single
    seen: sparse.csc_array


class _SmoothOperator:
    """From the weights of smooth fluences to dose; the product of both matrices is never formed."""

    def __init__(self, inner: MatrixOperator, basis: sparse.csc_array) -> None:
        self._inner, self._basis, self._transposed = inner, basis, basis.T

    @property
    def elements(self) -> int:
        """Number of smooth fluences."""
        return int(self._basis.shape[1])

    def dose(self, fluence: Single) -> Single:
        """See `DoseOperator`."""
        return self._inner.dose(np.asarray(self._basis @ fluence))

    def adjoint(self, dose: Single) -> Single:
        """See `DoseOperator`."""
        return np.asarray(self._transposed @ self._inner.adjoint(dose))


def equally_spaced(count: int) -> list[float]:
    """Gantry angles of coplanar beams, the first from above.

    Raises:
        CaseError: no beam, or more than pays.
    """
    if not 1 <= count <= 72:
        raise CaseError(f"A plan has 1 to 72 beams; got {count}.")
    return [index * 360.0 / count for index in range(count)]


class Planner:
    """Plans one patient.

    Args:
        bound: with a target; the CT axis-aligned, the patient head first and supine.
        machine: what delivers it.
        gantry_degrees: of coplanar beams.
        fractions: of the treatment.
        settings: how; None: the defaults.

    Raises:
        DosePredictionError: pyRadPlan is absent, there is no target, the CT is oblique, or the
            patient lies otherwise.
    """

    def __init__(
        self,
        bound: BoundCase,
        machine: Machine,
        gantry_degrees: Sequence[float],
        fractions: int,
        settings: PlanningSettings | None = None,
    ) -> None:
        engine.require_planner("Plans need")
        _require_plannable(bound)
        self.machine, self.fractions = machine, fractions
        self.settings = settings or PlanningSettings()
        self._angles = list(gantry_degrees)
        self._known: _Influence | None = None
        self._case_grid = bound.case.grid
        self._ct = bound.case.ct.reordered_to_lps()
        self._external = bound.external.reordered_to_lps()
        target = np.logical_or.reduce([mask.binary() for mask in bound.targets])
        self._target = bound.case.ct.with_array(target.astype(np.float32)).reordered_to_lps()
        self._grid = engine.dose_grid(self._ct.grid, self.settings.dose_grid_mm)
        self._anatomy = self._anatomy_on(self._grid)
        self.isocenter_mm = _middle_of(self._anatomy.targets["target"], self._grid)
        # Of the whole treatment, for a fluence of one monitor unit.
        self.model: KernelModel = engine.kernel_model(machine.energies_mv[0])
        self._gy_per_mu = np.float32(self.model.gy_per_mu(machine.calibration) * fractions)

    def planned(
        self,
        wanted: Volume,
        progress: Progress = lambda share, stage: None,
        weights: Volume | None = None,
    ) -> DeliverablePlan:
        """The plan whose dose comes nearest to a wanted one.

        Args:
            wanted: Gy of the whole treatment, on the case's grid.
            progress: hears share and stage; may raise to cancel.
            weights: by how much each voxel counts, on the case's grid; None: all alike.

        Raises:
            CaseError: the target lies beyond the jaws or the leaves, or the dose is all zero.
            DosePredictionError: memory does not suffice for the influence matrix.
        """
        settings = self.settings
        goal = wanted.resampled_to(self._grid, "linear").array.ravel()
        if not goal.max(initial=0) > 0:
            raise CaseError("The wanted dose is zero everywhere: there is nothing to plan for.")
        influence = self._influence_of(progress)
        if weights is not None:
            by_voxel = weights.resampled_to(self._grid, "linear", outside=1.0).array.ravel()
            influence = replace(influence, weights=influence.weights * by_voxel[influence.rows])
        progress(0.45, "fluence")
        smooth = _SmoothOperator(MatrixOperator(influence.seen), influence.basis)
        mimicked = mimic(smooth, goal[influence.rows], settings.iterations, influence.weights)
        fluence = influence.basis @ mimicked.fluence
        progress(0.55, "leaf sequence")
        fields = fields_of(influence.positions, self._angles, fluence, settings.bixel_mm)
        fields = sequenced(fields, settings.steps, self.machine)
        beams, dose, optimized = self._with_units(influence, fields, goal, progress)
        progress(1.0, "done")
        return DeliverablePlan(
            beams,
            self._on_case_grid(dose),
            self._on_case_grid(Volume(optimized, self._grid)),
            self._on_case_grid(self._shaped(influence.matrix @ fluence)),
        )

    def _with_units(
        self, influence: _Influence, fields: list[Field], goal: Single, progress: Progress
    ) -> tuple[tuple[TreatmentBeam, ...], Volume, Single]:
        """Beams with fitted monitor units, their dose, and what the optimizer takes it for."""
        settings, machine = self.settings, self.machine
        rows = influence.rows
        opened = open_fluence(fields, machine, influence.matrix.shape[1]) * self._gy_per_mu
        seen = np.asarray(influence.seen @ opened, dtype=np.float32)
        left_out = np.zeros_like(goal)
        share = 0.4 / (settings.corrections + 1)
        for round_ in range(settings.corrections + 1):
            begun = 0.6 + round_ * share
            progress(begun, "monitor units")
            least = machine.min_segment_mu
            left = (goal - left_out)[rows]
            mu = fit_units(seen, left, influence.weights, least, settings.iterations)
            by_matrix = influence.matrix @ (opened @ mu.astype(np.float32))
            optimized = (by_matrix + left_out).clip(0).reshape(self._grid.shape)
            beams = treatment_beams(fields, mu, machine, self.isocenter_mm)
            dose = plan_dose(
                beams,
                self._fine_anatomy,
                self.model,
                machine,
                _part(progress, begun, share, "dose of the plan"),
            )
            dose = dose.with_array(dose.array * np.float32(self.fractions))
            here = dose.resampled_to(self._grid, "linear").array.ravel()
            left_out = np.where(self._anatomy.region.ravel(), here - by_matrix, 0)
        return beams, dose, optimized

    def _influence_of(self, progress: Progress) -> _Influence:
        """The influence matrix, calculated once."""
        if self._known is None:
            self._known = self._calculated(progress)
        return self._known

    def _calculated(self, progress: Progress) -> _Influence:
        settings = self.settings
        stage = "influence matrix"
        progress(0.0, stage)
        ct, structures = engine.patient_of(self._anatomy)
        step = settings.bixel_mm / 2
        setup = engine.Setup(
            self._angles,
            settings.bixel_mm,
            settings.dose_grid_mm,
            settings.lateral_cutoff_mm,
            self.isocenter_mm,
            # Two narrow leaves to an element: their borders lie on multiples of its edge.
            (0.0, step),
        )
        with engine.quiet():
            plan, beams = engine.set_up(ct, structures, setup)
            positions = engine.element_positions(beams)
            _require_memory(self._bytes(positions), settings)
            matrix = engine.influence_by_beam(
                ct, structures, plan, beams, _part(progress, 0.0, 0.45, stage)
            )
        basis = engine.smooth_fluences(beams, settings.bixel_mm, settings.smoothing_mm)
        rows, weights = self._rows_that_count()
        return _Influence(matrix, positions, basis, rows, weights, _only_rows(matrix, rows))

    def _rows_that_count(self) -> tuple[NDArray[np.intp], Single]:
        """Every voxel of the body near the target, and one in four elsewhere, for all of them."""
        region = self._anatomy.region
        spacing = self.settings.dose_grid_mm
        distance = ndimage.distance_transform_edt(~self._anatomy.targets["target"]) * spacing
        near = distance <= _ALL_VOXELS_WITHIN_MM
        pattern = np.indices(self._grid.shape).sum(axis=0) % _ONE_IN == 0
        rows = np.flatnonzero(region & (near | pattern))
        weights = np.where(near.ravel()[rows], 1.0, float(_ONE_IN))
        return rows, weights.astype(np.float32)

    def _bytes(self, positions: Sequence[NDArray[np.float64]]) -> float:
        """What the influence matrix takes: a cylinder of voxels for each element."""
        step, cutoff = self.settings.dose_grid_mm, self.settings.lateral_cutoff_mm
        elements = sum(len(each) for each in positions)
        region = self._anatomy.region
        length_mm = np.cbrt(float(region.sum())) * step
        voxels = np.pi * cutoff**2 * length_mm / step**3
        return elements * min(voxels, float(region.sum())) * _BYTES_AN_ENTRY * _COPIES

    def _anatomy_on(self, grid: Grid) -> Anatomy:
        body = self._external.resampled_to(grid).majority()
        target = majority(self._target.resampled_to(grid, "occupancy").array)
        hu = self._ct.resampled_to(grid, "linear", outside=-1000.0).array
        density = np.where(body, relative_electron_density(hu), np.float32(0))
        return Anatomy(grid, density, body, {"target": target})

    @cached_property
    def _fine_anatomy(self) -> Anatomy:
        """Where the final dose is calculated."""
        return self._anatomy_on(engine.dose_grid(self._ct.grid, self.settings.recompute_grid_mm))

    def _shaped(self, dose: Any) -> Volume:
        return Volume(np.asarray(dose, dtype=np.float32).reshape(self._grid.shape), self._grid)

    def _on_case_grid(self, dose: Volume) -> Volume:
        body = self._external.resampled_to(self._case_grid).majority()
        fine = dose.resampled_to(self._case_grid, "linear")
        return fine.with_array(np.where(body, fine.array, np.float32(0)).clip(0))


def _only_rows(matrix: sparse.csc_array, rows: NDArray[np.intp]) -> sparse.csc_array:
    """Some rows of a matrix, without a copy of it by rows."""
    place = np.full(matrix.shape[0], -1, dtype=np.int32)
    place[rows] = np.arange(rows.size, dtype=np.int32)
    at = place[matrix.indices]
    kept = at >= 0
    before = np.concatenate(([0], np.cumsum(kept)))
    parts = (matrix.data[kept], at[kept], before[matrix.indptr])
    return sparse.csc_array(parts, shape=(rows.size, matrix.shape[1]))


def _part(progress: Progress, begun: float, share: float, stage: str) -> Callable[[float], None]:
    """What hears a stage's own share, as a part of the whole work."""
    return lambda done: progress(begun + share * done, stage)


def _middle_of(target: NDArray[np.bool_], grid: Grid) -> tuple[float, float, float]:
    """The center of the box around a target, to a millimeter, LPS."""
    ends = [np.flatnonzero(target.any(axis=axes))[[0, -1]] for axes in ((0, 1), (0, 2), (1, 2))]
    x, y, z = np.round(grid.world_from_index([each.mean() for each in ends]))
    return (float(x), float(y), float(z))


def _require_plannable(bound: BoundCase) -> None:
    case = bound.case
    if not bound.targets:
        raise CaseError(f"{case.name} has no target to plan for: map one by --map.")
    if not case.grid.is_axis_aligned:
        raise CaseError(
            f"The CT of {case.name} is oblique by {case.grid.obliquity_degrees:.1f}°: plans need "
            "axes along the patient's. Resample it."
        )
    position = case.origin.patient_position if case.origin else ""
    if position not in ("", "HFS"):
        raise CaseError(
            f"The patient of {case.name} lies {position}: plans are made head first, supine (HFS)."
        )


def _require_memory(wanted_bytes: float, settings: PlanningSettings) -> None:
    available = available_memory_bytes()
    if available is None or wanted_bytes <= available:
        return
    factor = (wanted_bytes / available) ** (1 / 3)
    grid = np.ceil(2 * settings.dose_grid_mm * factor) / 2
    raise DosePredictionError(
        f"The influence matrix needs about {wanted_bytes / 2**30:.1f} GiB; {available / 2**30:.1f} "
        f"GiB are free. Take fewer beams, or a grid of {grid:g} mm (--dose-grid {grid:g})."
    )
