"""A plan in segments whose dose comes nearest to a given one.

influence   pyRadPlan: what each fluence element of each beam gives (`engine`), and what scatters
            farther (`influence`)
fluence     the one whose dose comes nearest (`beams.mimic`): what these beams could do at best
segments    leaf positions and monitor units, fitted to the dose that they give when it is
            recomputed (`shaping`), none below the machine's least; the units once more for
            goals that this loses (`keeping`)
dose        of what is written, on a finer grid (`recompute`)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from ..beams.density import relative_electron_density
from ..beams.tracing import Anatomy
from ..delivery import TreatmentBeam
from ..errors import CaseError, DosePredictionError
from ..mask import majority
from ..memory import available_memory_bytes
from ..schema import Range, Share, validated
from ..structures.bound import BoundCase
from ..volume import Grid, Volume
from . import engine
from .fields import Field, fields_of, shaped_fluence, treatment_beams
from .influence import FarScatter, Influence, only_rows
from .kernels import KernelModel
from .machine import Machine
from .nearness import nearest_fluence, tolerance_weights
from .recompute import plan_dose
from .seen import SeenVoxels
from .sequence import require_reach
from .shaping import SegmentDoses, Segments, Shaper

__all__ = ["DeliverablePlan", "Planner", "PlanningSettings", "equally_spaced"]

Single = NDArray[np.float32]
Progress = Callable[[float, str], None]
Keep = Callable[[Volume], "Volume | None"]

_COARSEST_MM = 10.0
_ALL_VOXELS_WITHIN_MM = 20.0
_ONE_IN = 4  # of the voxels farther away
_BYTES_AN_ENTRY = 8
_ROUNDS = 60  # of segments, at most
_KEEPING_ROUNDS, _GROWING_ROUNDS, _FASTER = 20, 3, 1.15
_COPIES = 2.5  # of the matrix while it is put together and cut to the voxels that count


@dataclass(frozen=True)
@validated
class PlanningSettings:
    """How a plan is made.

    Args:
        bixel_mm: edge of the fluence elements at the isocenter; two narrow leaves.
        dose_grid_mm: of the optimizer.
        lateral_cutoff_mm: how far from its axis a fluence element gives dose to the optimizer.
        iterations: of the fluence.
        target_weight: by how much a voxel of the target counts more than one of the body.
        segments: at most; a last round may add one for each beam.
        least_gain: of a round that adds a segment to each beam, as a share of what is left of the
            squared differences; what gains less ends the search.
        recompute_grid_mm: of the final dose, isotropic.
    """

    bixel_mm: Annotated[float, Range(5, 20)] = 10.0
    dose_grid_mm: Annotated[float, Range(2, _COARSEST_MM)] = 5.0
    lateral_cutoff_mm: Annotated[float, Range(20, 200)] = 60.0
    iterations: Annotated[int, Range(1, 10_000)] = 60
    target_weight: Annotated[float, Range(1, 1000)] = 5.0
    segments: Annotated[int, Range(1, 2000)] = 500
    least_gain: Share = 0.002
    recompute_grid_mm: Annotated[float, Range(1, 2.5)] = 2.5


@dataclass(frozen=True, eq=False)
class DeliverablePlan:
    """A plan and its doses, Gy of the whole treatment, on the case's grid.

    Args:
        beams: with the monitor units of one fraction.
        dose: from the leaf positions and monitor units.
        optimized: what the influence matrix says of the same segments, and the far scatter.
        fluence_dose: of any fluence, without leaves: the best that these beams do.
    """

    beams: tuple[TreatmentBeam, ...]
    dose: Volume
    optimized: Volume
    fluence_dose: Volume


@dataclass(frozen=True, eq=False)
class _Known:
    """What does not depend on the wanted dose.

    Args:
        matrix: `(voxel, element)`, Gy.
        fields: the beams' elements.
        rows, weights: voxels that count, and by how much.
        operator: of those voxels.
    """

    matrix: sparse.csc_array
    fields: list[Field]
    rows: NDArray[np.intp]
    weights: Single
    operator: Influence


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
        self._once: _Known | None = None
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
        keep: Keep = lambda given: None,
    ) -> DeliverablePlan:
        """The plan whose dose comes nearest to a wanted one.

        Args:
            wanted: Gy of the whole treatment, on the case's grid.
            progress: hears share and stage; may raise to cancel.
            weights: by how much each voxel counts, on the case's grid; None: all alike.
            keep: what a plan's dose lacks, Gy, both on the case's grid; None: it is good.

        Raises:
            CaseError: the target lies beyond the jaws or the leaves, or the dose is all zero.
            DosePredictionError: memory does not suffice for the influence matrix.
        """
        machine = self.machine
        whole = wanted.resampled_to(self._grid, "linear").array
        if not whole.max(initial=0) > 0:
            raise CaseError("The wanted dose is zero everywhere: there is nothing to plan for.")
        known = self._known_once(progress)
        goal = whole.ravel()[known.rows]
        count, firm = self._counted(known, whole, weights)
        progress(0.45, "fluence")
        found, count = nearest_fluence(known.operator, goal, count, firm, self.settings.iterations)
        segments, shaper, asked = Segments(goal, count), self._shaper(known), wanted
        shaper.grow(segments, _ROUNDS, _part(progress, 0.55, 0.25, "segments"))
        for round_ in range(_KEEPING_ROUNDS):
            progress(0.8 + 0.1 * round_ / _KEEPING_ROUNDS, "goals")
            lack = keep(self._by_segments(known, segments))
            if lack is None:
                break
            # On top of what was asked, time and again (integral control): where steep edges count
            # little, that takes long, so more each time.
            asked = asked.with_array(asked.array + np.float32(_FASTER**round_) * lack.array)
            segments.want(asked.resampled_to(self._grid, "linear").array.ravel()[known.rows])
            shaper.grow(segments, _GROWING_ROUNDS, lambda done: None)
        fields, mu = segments.of(known.fields)
        beams = treatment_beams(fields, mu, machine, self.isocenter_mm)
        heard = _part(progress, 0.9, 0.1, "dose of the plan")
        dose = plan_dose(beams, self._fine_anatomy, self.model, machine, heard)
        progress(1.0, "done")
        return DeliverablePlan(
            beams,
            self.on_case_grid(dose.with_array(dose.array * np.float32(self.fractions))),
            self._by_segments(known, segments),
            self._by_influence(known, found.fluence),
        )

    def _shaper(self, known: _Known) -> Shaper:
        return Shaper(
            known.fields,
            known.operator,
            self._segment_doses(known),
            self.machine,
            self.settings.segments,
            self.settings.least_gain,
        )

    def _counted(
        self, known: _Known, wanted: Single, weights: Volume | None
    ) -> tuple[Single, NDArray[np.bool_]]:
        """By how much each voxel that counts does, and those that a person asked for."""
        target = self._anatomy.targets["target"]
        near = tolerance_weights(wanted, self.settings.dose_grid_mm, target).ravel()[known.rows]
        if weights is None:
            return known.weights * near, np.zeros(near.size, dtype=bool)
        by_voxel = weights.resampled_to(self._grid, "linear", outside=1.0).array.ravel()
        asked = by_voxel[known.rows] > 1
        factor = np.where(asked, by_voxel[known.rows], near * by_voxel[known.rows])
        return known.weights * factor.astype(np.float32), asked

    def _by_segments(self, known: _Known, segments: Segments) -> Volume:
        """What the influence matrix says of segments."""
        fields, mu = segments.of(known.fields)
        size = known.operator.elements
        return self._by_influence(known, shaped_fluence(fields, mu, self.machine, size))

    def _by_influence(self, known: _Known, fluence: Single) -> Volume:
        """Dose of a fluence, on the case's grid."""
        region = np.flatnonzero(self._anatomy.region)
        far = self._far_scatter(known.fields, region)
        dose = np.asarray(known.matrix @ fluence)
        dose[region] += far.dose(fluence)
        array = (self._gy_per_mu * dose).astype(np.float32)
        return self.on_case_grid(Volume(array.reshape(self._grid.shape), self._grid))

    def _far_scatter(self, fields: Sequence[Field], voxels: NDArray[np.intp]) -> FarScatter:
        seen = self._seen(voxels)
        return FarScatter(fields, seen, self.model, self.settings.lateral_cutoff_mm, voxels)

    def _segment_doses(self, known: _Known) -> list[SegmentDoses]:
        return [
            SegmentDoses(seen, self.model, self.machine, self._gy_per_mu, known.rows)
            for seen in self._seen(known.rows)
        ]

    def _seen(self, voxels: NDArray[np.intp]) -> list[SeenVoxels]:
        """Voxels as each beam sees them."""
        only = np.zeros(self._anatomy.region.size, dtype=bool)
        only[voxels] = True
        anatomy, model = self._anatomy, self.model
        return [
            SeenVoxels.of(angle, self.isocenter_mm, anatomy, model, only) for angle in self._angles
        ]

    def _known_once(self, progress: Progress) -> _Known:
        """The influence matrix, calculated once."""
        if self._once is None:
            self._once = self._calculated(progress)
        return self._once

    def _calculated(self, progress: Progress) -> _Known:
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
            fields = fields_of(positions, self._angles, settings.bixel_mm)
            for each in fields:
                require_reach(each.elements_on, self.machine)
            _require_memory(self._bytes(positions), settings)
            matrix = engine.influence_by_beam(
                ct, structures, plan, beams, _part(progress, 0.0, 0.45, stage)
            )
        rows, weights = self._rows_that_count()
        far = self._far_scatter(fields, rows)
        operator = Influence(only_rows(matrix, rows), far, self._gy_per_mu)
        return _Known(matrix, fields, rows, weights, operator)

    def _rows_that_count(self) -> tuple[NDArray[np.intp], Single]:
        """Every voxel of the body near the target, and one in four elsewhere, for all of them."""
        region, target = self._anatomy.region, self._anatomy.targets["target"]
        distance = ndimage.distance_transform_edt(~target) * self.settings.dose_grid_mm
        near = distance <= _ALL_VOXELS_WITHIN_MM
        pattern = np.indices(self._grid.shape).sum(axis=0) % _ONE_IN == 0
        rows = np.flatnonzero(region & (near | pattern))
        weights = np.where(near, 1.0, float(_ONE_IN))
        weights[target] *= self.settings.target_weight
        return rows, weights.ravel()[rows].astype(np.float32)

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
        return self.anatomy(self.settings.recompute_grid_mm)

    def anatomy(self, spacing_mm: float) -> Anatomy:
        """The patient on an isotropic grid of another spacing."""
        return self._anatomy_on(engine.dose_grid(self._ct.grid, spacing_mm))

    def on_case_grid(self, dose: Volume) -> Volume:
        """A dose as it lies on the case's grid: none outside the body."""
        body = self._external.resampled_to(self._case_grid).majority()
        fine = dose.resampled_to(self._case_grid, "linear")
        return fine.with_array(np.where(body, fine.array, np.float32(0)).clip(0))


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
    coarser = f"a grid of {grid:g} mm (--dose-grid {grid:g})"
    if grid > _COARSEST_MM:
        coarser = "close other programs"
    raise DosePredictionError(
        f"The influence matrix needs about {wanted_bytes / 2**30:.1f} GiB; {available / 2**30:.1f} "
        f"GiB are free. Take fewer beams, or {coarser}."
    )
