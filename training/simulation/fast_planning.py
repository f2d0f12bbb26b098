"""Plans of one patient by many arrangements and wishes, at a tenth of `planning`'s cost.

Same kernels, same objectives, same normalization as `planning`, but the dose operator is
`pencil_beams`, computed once an arrangement, and the optimizer's plumbing is L-BFGS-B on a sum of
squares (Byrd, R. H. et al., SIAM J. Sci. Comput. 16 (1995) 1190, doi 10.1137/0916069). Every
further set of wishes begins at the fluence before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from DosePredictionLib.beams.arrangement import BeamArrangement
from DosePredictionLib.beams.density import relative_electron_density
from DosePredictionLib.beams.tracing import Anatomy
from DosePredictionLib.case import Case
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.evaluation.dvh import dvh
from DosePredictionLib.planning.engine import dose_grid, kernel_model, require_planner
from DosePredictionLib.volume import Volume
from DosePredictionLib.wishes import Wish

from .pencil_beams import PencilBeams, SeenField, seen_fields
from .planning import ORGAN, SHELLS, TARGET, Plan, volume_goals
from .settings import FastPlanSettings

__all__ = ["Arranged", "FastPlanner"]

Single = NDArray[np.float32]

_ALL_VOXELS_WITHIN_MM = 20.0
_SPARSE_BEYOND_MM = 50.0
# Priorities, of a mean over the voxels of a structure.
_GOAL, _WISH, _HOTTEST = 40.0, 6000.0, 32_000.0
_ASIDE = 0.98  # of a wished limit: a penalty stops short of it


@dataclass(frozen=True, eq=False)
class _Term:
    """One penalty: mean square of what is above (or below) a level, times a priority.

    Args:
        rows: voxels among those that count.
        level_gy: of the penalty.
        priority: its weight.
        below: whether what lies below the level is penalized.
        share: of the volume that may exceed the level: the voxels with the highest doses, which are
            left out.
        volumes: that each voxel stands for; None: all alike.
    """

    rows: NDArray[np.intp]
    level_gy: float
    priority: float
    below: bool = False
    share: float = 0.0
    volumes: Single | None = None

    def add_to(self, dose: Single, gradient: Single) -> float:
        """The penalty's value; its gradient is added."""
        own = dose[self.rows]
        apart = own - np.float32(self.level_gy)
        apart = np.minimum(apart, 0) if self.below else np.maximum(apart, 0)
        if self.share:
            highest = np.argsort(own)[::-1]
            volumes = np.ones(own.size) if self.volumes is None else self.volumes[highest]
            within = np.cumsum(volumes) <= (self.share + 1e-6) * volumes.sum()
            apart[highest[within]] = 0
        weight = self.priority / own.size
        gradient[self.rows] += np.float32(2 * weight) * apart  # rows of a term differ
        return weight * float(apart @ apart)


class FastPlanner:
    """Plans one patient.

    Args:
        case: axis-aligned CT in HU, structures by the names of the pelvis protocol, among them PTV
            and Body, and a prescription.
        settings: how.

    Raises:
        DosePredictionError: see `require_planner`.
    """

    def __init__(self, case: Case, settings: FastPlanSettings) -> None:
        require_planner()
        if case.prescription is None:
            raise DosePredictionError(f"{case.name} has no prescription to plan for.")
        self.case, self.settings = case, settings
        self.prescription_gy = case.prescription.highest_gy
        self.model = kernel_model()
        grid = dose_grid(case.grid, settings.dose_grid_mm)
        self.masks = {name: m.resampled_to(grid).majority() for name, m in case.structures.items()}
        body, target = self.masks["Body"], self.masks["PTV"] & self.masks["Body"]
        hu = case.ct.resampled_to(grid, "linear").array
        density = np.where(body, relative_electron_density(hu), np.float32(0))
        self.anatomy = Anatomy(grid, density, body, {"PTV": target})
        self.distance_mm = ndimage.distance_transform_edt(~target) * settings.dose_grid_mm
        # Far from the target the dose is smooth: the optimizer sees fewer voxels.
        place = np.indices(grid.shape).sum(axis=0)
        wanted = self.distance_mm <= _ALL_VOXELS_WITHIN_MM
        wanted |= (place % 4 == 0) & (self.distance_mm <= _SPARSE_BEYOND_MM)
        wanted |= np.all(np.indices(grid.shape) % 2 == 0, axis=0)
        self.rows = np.flatnonzero(wanted & body)
        # Volumes of organs are shares of all voxels, not of those seen.
        edges = (_ALL_VOXELS_WITHIN_MM, _SPARSE_BEYOND_MM)
        zone = np.digitize(self.distance_mm.ravel(), edges, right=True)
        seen = np.bincount(zone[self.rows], minlength=3)
        per_row = np.bincount(zone[body.ravel()], minlength=3) / np.maximum(seen, 1)
        self._volumes = per_row[zone[self.rows]].astype(np.float32)

    def arranged(self, arrangement: BeamArrangement) -> Arranged:
        """What one arrangement can do: the operator is computed here, once."""
        return Arranged(self, arrangement)

    def among_rows(self, mask: NDArray[np.bool_]) -> NDArray[np.intp]:
        """The places of a mask's voxels among the rows."""
        return np.flatnonzero(mask.ravel()[self.rows])

    def terms(self, limits: Sequence[Wish], wishes: Sequence[Wish]) -> list[_Term]:
        """What is asked of a plan: target, organs and shells, goals, and wishes before them."""
        gy, target, body = self.prescription_gy, self.masks["PTV"], self.masks["Body"]
        inside = self.among_rows(target)
        priority, low, high = TARGET
        terms = [
            _Term(inside, low * gy, priority, below=True),
            _Term(inside, high * gy, priority),
        ]
        for name, mask in self.masks.items():
            if name not in ("PTV", "Body") and (mask & ~target).any():
                terms.append(_Term(self.among_rows(mask & ~target), ORGAN[1] * gy, ORGAN[0]))
        for goal in limits:
            terms += self._limited(goal, _GOAL)
        for wish in wishes:
            terms += self._limited(wish, _WISH, _ASIDE)
        outside = body & ~target
        for inner, outer, part, priority in SHELLS:
            shell = outside & (self.distance_mm > inner) & (self.distance_mm <= outer)
            terms.append(_Term(self.among_rows(shell), part * gy, priority))
        terms.append(_Term(self.among_rows(outside), gy, _HOTTEST))
        return [term for term in terms if term.rows.size]

    def _limited(self, limit: Wish, priority: float, aside: float = 1.0) -> list[_Term]:
        """A limit on the part of an organ outside the target; what is inside uses its share up.

        Args:
            aside: part of the limit at which the penalty begins; 1 for goals, which are left out
                where the target alone exceeds them.
        """
        mask = self.masks.get(limit.structure)
        if mask is None or not (outside := mask & ~self.masks["PTV"]).any():
            return []
        share = float(outside.sum() / mask.sum())
        allowed = (aside * limit.percent / 100 - (1 - share)) / share
        if allowed >= 1 or (allowed < 0 and aside == 1):
            return []
        rows = self.among_rows(outside)
        share, level_gy = max(allowed, 0.0), aside * limit.dose_gy
        return [_Term(rows, level_gy, priority, share=share, volumes=self._volumes[rows])]


class Arranged:
    """A patient's beams, and the plans that they give.

    Args:
        planner: of the patient.
        arrangement: of the beams.
    """

    def __init__(self, planner: FastPlanner, arrangement: BeamArrangement) -> None:
        self._planner, self.arrangement = planner, arrangement
        step = planner.settings.bixel_mm
        self._lattice, self._fields = seen_fields(arrangement, planner.anatomy, planner.model, step)
        self._smoothing_mm = planner.settings.smoothing_mm if arrangement.modulated else 0.0
        self._operator = self._on(planner.rows, self._fields)
        self._limits = [
            Wish(name, dose_gy, percent)
            for name, goals in volume_goals(planner.settings.goals, planner.prescription_gy).items()
            for dose_gy, percent in goals
        ]

    def planned(self, wishes: Sequence[Wish] = (), start: Plan | None = None) -> Plan:
        """The plan that meets goals and wishes best.

        Args:
            start: a plan of the same beams, whose fluence is nearer than a flat one.

        Raises:
            DosePredictionError: the target stays cold.
        """
        if not self.arrangement.modulated:
            return self._normalized(self._weighted())
        settings = self._planner.settings
        terms = self._planner.terms(self._limits, wishes)
        fluence = self._flat() if start is None else start.fluence.astype(np.float32)
        iterations = settings.iterations if start is None else settings.further_iterations
        unit = max(float(fluence.mean()), 1e-12)

        def penalty(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            dose = self._operator.dose((x * unit).astype(np.float32))
            gradient = np.zeros_like(dose)
            value = sum(term.add_to(dose, gradient) for term in terms)
            return value, unit * self._operator.adjoint(gradient).astype(np.float64)

        found = optimize.minimize(
            penalty,
            fluence / unit,
            jac=True,
            method="L-BFGS-B",
            bounds=optimize.Bounds(0, np.inf),
            options={"maxiter": iterations, "maxcor": 12},
        )
        return self._normalized((found.x * unit).astype(np.float32))

    def _flat(self) -> Single:
        """One fluence everywhere, which gives the target its dose in the mean."""
        ones = np.ones(self._operator.elements, dtype=np.float32)
        inside = self._planner.among_rows(self._planner.masks["PTV"])
        mean = float(self._operator.dose(ones)[inside].mean())
        return ones * np.float32(self._planner.prescription_gy / mean)

    def _weighted(self) -> Single:
        """Fluence of open fields whose weights alone are chosen, as box plans are made.

        Least squares: the target at its dose, and a little of what lies outside at none.
        """
        planner, operator = self._planner, self._operator
        columns = []
        for elements in operator.elements_of:
            alone = np.zeros(operator.elements, dtype=np.float32)
            alone[elements] = 1
            columns.append(operator.dose(alone))
        target = np.zeros(planner.rows.size, dtype=bool)
        target[planner.among_rows(planner.masks["PTV"])] = True
        weight = np.where(target, 1 / target.sum(), 0.02 / (~target).sum()) ** 0.5
        matrix = np.stack(columns, axis=1) * weight[:, None]
        weights, _ = optimize.nnls(matrix, weight * target * planner.prescription_gy)
        counts = [each.stop - each.start for each in operator.elements_of]
        return np.repeat(weights, counts).astype(np.float32)

    def _normalized(self, fluence: Single) -> Plan:
        """The plan whose PTV gets its prescription to 95 %."""
        planner = self._planner
        region = np.flatnonzero(planner.anatomy.region)
        total = np.zeros(region.size, dtype=np.float32)
        # One field after the other: the matrix of all voxels and fields is large.
        for field, elements in zip(self._fields, self._operator.elements_of, strict=True):
            total += self._on(region, [field]).dose(fluence[elements])
        grid, case = planner.anatomy.grid, planner.case
        coarse = np.zeros(grid.shape, dtype=np.float32)
        coarse.ravel()[region] = total
        fine = Volume(coarse, grid).resampled_to(case.grid, "linear", outside=0.0)
        body = case.structures["Body"].majority()
        dose = fine.with_array(np.where(body, fine.array, np.float32(0)))
        covered_gy = dvh(dose, case.structures["PTV"]).dose_at_percent(95)
        if not covered_gy:
            raise DosePredictionError(f"The plan of {case.name} leaves its target cold.")
        scale = planner.prescription_gy / covered_gy
        scaled = fluence.astype(np.float64) * scale
        return Plan(dose.with_array(dose.array * np.float32(scale)), scaled)

    def _on(self, rows: NDArray[np.intp], fields: Sequence[SeenField]) -> PencilBeams:
        model = self._planner.model
        return PencilBeams(self._lattice, fields, model, rows, self._smoothing_mm)
