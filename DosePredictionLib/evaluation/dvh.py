"""Dose-volume histograms from sub-voxel occupancy, exact between samples rather than binned.

Conventions: D_x is the highest dose that at least x (percent or cc) of the structure receives; V_d
is the part that receives at least d. Dose between voxel centers is interpolated (`sampling`), the
surface lies inside the voxels that it cuts (`cells`). Of a binary mask whole voxels count; only
its lowest and highest dose are sought on a smoothed surface (`surface`). A structure of more than
300,000 voxels is counted by dose instead (`large`). Only the structure's box is looked at. Doses
and occupancies on different grids are refused, never resampled here. Dust belongs to no structure,
and no sliver of a voxel carries its lowest or highest dose (`mask`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DosePredictionError, GeometryError
from ..findings import Finding
from ..geometry import bounding_box
from ..kept import kept
from ..mask import Mask, weights_of
from ..volume import Volume
from .arrays import as_array, require_finite, require_same_grid, voxel_mm
from .curve import VolumeCurve, curve_of_cells
from .large import LARGE_VOXELS, CountedDose, counted_dose
from .sampling import Cells, structure_cells
from .surface import MARGIN as SURFACE_MARGIN
from .surface import estimated_occupancy

__all__ = [
    "Dvh",
    "DvhRegion",
    "checked_dose",
    "dvh",
    "dvh_region",
    "dvhs",
    "known_dvh",
    "parse_endpoint",
]

Array = NDArray[np.float64]

_FEW_VOXELS = 10.0
_NEGATIVE_GY = -0.5  # resampling leaves a little below 0; more is a mistake in the file
_ENDPOINT = re.compile(
    r"(?:D(?P<word>mean|min|max)_gy"
    r"|D(?P<dose_at>\d+(?:\.\d+)?)(?P<dose_cc>cc)?_gy"
    r"|V(?P<volume_at>\d+(?:\.\d+)?)(?P<volume_of>Gy|percent)_(?P<unit>percent|cc))\Z"
)


@dataclass(frozen=True)
class Dvh:
    """The dose in one structure. A structure without volume has None for every dose.

    Args:
        name: the structure's name.
        volume_cc: its volume.
        min_gy: lowest interpolated dose anywhere in it, up to its surface; not a voxel's value.
        max_gy: highest interpolated dose anywhere in it. Clinics report near-maximum doses, which
            are less sensitive: D2 % (`dose_at_percent(2)`), D0.03cc (`dose_at_cc(0.03)`).
        mean_gy: mean dose, weighted by volume.
        findings: warnings on its size and its dose.
        curve: volume in cc over dose; None without volume.
    """

    name: str
    volume_cc: float
    min_gy: float | None = None
    max_gy: float | None = None
    mean_gy: float | None = None
    findings: tuple[Finding, ...] = ()
    curve: VolumeCurve | None = field(default=None, repr=False, compare=False)

    def dose_at_percent(self, percent: float) -> float | None:
        """D_x%: highest dose in Gy that at least `percent` of the volume receives (0…100)."""
        if not 0 <= percent <= 100:
            raise DosePredictionError(f"D_x takes 0 to 100 % of a volume; got {percent:g} %.")
        if self.curve is None:
            return None
        return float(self.curve.dose_at(np.asarray(percent / 100.0 * self.curve.total)))

    def dose_at_cc(self, volume_cc: float) -> float | None:
        """D_x cc in Gy; None when the structure is smaller than `volume_cc`."""
        if not volume_cc >= 0:
            raise DosePredictionError(f"D_x takes a volume of 0 cc or more; got {volume_cc:g} cc.")
        if self.curve is None or volume_cc > self.volume_cc * (1 + 1e-9):
            return None
        return float(self.curve.dose_at(np.asarray(volume_cc)))

    def volume_at_gy(self, dose_gy: float) -> float | None:
        """V_d: percent of the volume that receives at least `dose_gy`."""
        if self.curve is None:
            return None
        return 100.0 * float(self.curve.volume_at(np.asarray(dose_gy))) / self.curve.total

    def volume_at_gy_cc(self, dose_gy: float) -> float | None:
        """V_d in cc."""
        if self.curve is None:
            return None
        return float(self.curve.volume_at(np.asarray(dose_gy)))

    def geud(self, a: float) -> float | None:
        """Generalized equivalent uniform dose, (mean of dose^a)^(1/a), in Gy.

        Niemierko 1999 (Med Phys 26:1100). `a` above 1 weighs hot spots (organs), below 0 cold
        spots (targets); with a negative `a` and a part of the volume at 0 Gy it is 0.
        """
        if self.curve is None or self.max_gy is None or self.min_gy is None:
            return None
        if a == 0:
            raise DosePredictionError("gEUD's exponent a may not be 0; 1 gives the mean dose.")
        if self.max_gy <= 0 or (a < 0 and self.min_gy <= 0):
            return 0.0
        # Scaled by the highest dose (the lowest, for a < 0) so that no power overflows.
        scale = self.max_gy if a > 0 else self.min_gy
        scaled = VolumeCurve(self.curve.dose_gy / scale, self.curve.volume)
        return float(scale * (scaled.integral(a) / self.curve.total) ** (1.0 / a))

    @property
    def integral_dose_gy_cc(self) -> float | None:
        """Integral dose, mean × volume, Gy·cc."""
        return None if self.mean_gy is None else self.mean_gy * self.volume_cc

    def cumulative(self, dose_axis_gy: NDArray) -> Array:
        """Percent of the volume that receives at least each dose, in the axis' shape.

        Raises:
            DosePredictionError: the structure has no volume.
        """
        if self.curve is None:
            raise DosePredictionError(f"{self.name or 'The structure'} is empty: it has no DVH.")
        return 100.0 * self.curve.volume_at(np.asarray(dose_axis_gy)) / self.curve.total

    def differential(self, dose_edges_gy: NDArray) -> Array:
        """Percent of the volume per Gy between neighboring edges, `(edges - 1,)`.

        Dose at the last edge itself belongs to the bin beyond it.
        """
        edges = np.asarray(dose_edges_gy, dtype=np.float64)
        if edges.ndim != 1 or edges.size < 2 or not np.all(np.diff(edges) > 0):
            raise DosePredictionError("A differential DVH needs two or more rising dose edges.")
        return -np.diff(self.cumulative(edges)) / np.diff(edges)

    def endpoint(self, key: str, prescription_gy: float | None = None) -> float | None:
        """The value of an endpoint key such as `D95_gy`, `D0.1cc_gy`, `V20Gy_percent`.

        Args:
            key: `Dmean_gy`, `Dmin_gy`, `Dmax_gy`, `D<percent>_gy`, `D<cc>cc_gy`,
                `V<dose>Gy_percent`, `V<dose>Gy_cc`, `V<percent of prescription>percent_percent`
                or `V<percent of prescription>percent_cc`.
            prescription_gy: needed by the last two; without it they are None.

        Returns:
            Gy, percent or cc as the key says; None where it is undefined.

        Raises:
            DosePredictionError: the key cannot be read.
        """
        match = parse_endpoint(key)
        if match["word"]:
            return {"mean": self.mean_gy, "min": self.min_gy, "max": self.max_gy}[match["word"]]
        if match["dose_at"]:
            amount = float(match["dose_at"])
            return self.dose_at_cc(amount) if match["dose_cc"] else self.dose_at_percent(amount)
        dose_gy = float(match["volume_at"] or 0.0)
        if match["volume_of"] == "percent":
            if prescription_gy is None:
                return None
            dose_gy *= prescription_gy / 100.0
        percent = match["unit"] == "percent"
        return self.volume_at_gy(dose_gy) if percent else self.volume_at_gy_cc(dose_gy)

    def endpoints(
        self, keys: Sequence[str], prescription_gy: float | None = None
    ) -> dict[str, float | None]:
        """Several endpoints by key."""
        return {key: self.endpoint(key, prescription_gy) for key in keys}


def parse_endpoint(key: str) -> dict[str, str | None]:
    """The parts of an endpoint key.

    Raises:
        DosePredictionError: the key is none of the known forms.
    """
    match = _ENDPOINT.match(key)
    if match is None:
        raise DosePredictionError(
            f"Endpoint {key!r} cannot be read. Known forms: Dmean_gy, Dmin_gy, Dmax_gy, D95_gy, "
            "D0.1cc_gy, V20Gy_percent, V20Gy_cc, V95percent_percent, V95percent_cc."
        )
    return match.groupdict()


class DvhRegion:
    """A structure made ready for its DVHs in several doses: its surface is sought once.

    Args:
        mask: as of `dvh`.
        name: the structure's name, for messages.

    Raises:
        DosePredictionError: the mask leaves 0…1.
    """

    def __init__(self, mask: Volume | Any, name: str = "") -> None:
        self.name = name
        if isinstance(mask, Mask):
            self._box = mask.bounding_box(SURFACE_MARGIN)
            block = None if self._box is None else mask.within(self._box)
        else:
            array = as_array(mask)
            self._box = bounding_box(array, SURFACE_MARGIN)
            block = None if self._box is None else array[self._box]
        if block is not None:
            self._occupancy = _checked_mask(block, name)
            self._is_large = np.count_nonzero(self._occupancy) > LARGE_VOXELS
            self._surface = None if self._is_large else estimated_occupancy(self._occupancy)
            if not self._occupancy.any():  # nothing but dust
                self._box = None

    def dvh_in(self, dose: NDArray, voxel_cc: float) -> Dvh:
        """The DVH in a dose on the mask's grid; see `checked_dose`."""
        name = self.name
        if self._box is None:
            message = f"{name or 'The structure'} is empty."
            finding = Finding("structure-empty", "warning", message, structure=name)
            return Dvh(name, 0.0, findings=(finding,))
        voxels = float(self._occupancy.sum(dtype=np.float64))
        found: CountedDose | Cells
        if self._is_large:
            found = counted_dose(dose[self._box], self._occupancy)
            curve = found.curve
        else:
            found = structure_cells(dose[self._box], self._occupancy, self._surface)
            curve = curve_of_cells(found)
        in_cc = VolumeCurve(curve.dose_gy, curve.volume * (voxels * voxel_cc / curve.total))
        if isinstance(found, CountedDose):
            mean_gy = found.mean_gy
        else:
            mean_gy = in_cc.integral() / in_cc.total
        return Dvh(
            name=name,
            volume_cc=voxels * voxel_cc,
            min_gy=found.lowest_gy,
            max_gy=found.highest_gy,
            mean_gy=mean_gy,
            findings=_size_and_dose_findings(name, voxels, found.highest_gy),
            curve=in_cc,
        )


def dvh(
    dose: Volume | Any,
    mask: Volume | Any,
    *,
    spacing_mm: Sequence[float] | None = None,
    name: str = "",
) -> Dvh:
    """The DVH of one structure.

    Args:
        dose: Gy; a `Volume`, or an array or tensor `(z, y, x)` with `spacing_mm`.
        mask: bool or 0/1, or occupancy in 0…1, on the same grid. An occupancy's surface is placed
            inside the voxels that it cuts; of a binary mask whole voxels count.
        spacing_mm: voxel spacing (x, y, z), for arrays only.
        name: the structure's name, for messages.

    Tensors are detached and copied to the CPU; `evaluation.differentiable` keeps gradients.

    Raises:
        GeometryError: the grids differ, or a spacing is missing.
        DosePredictionError: the dose is negative or not finite, or the mask leaves 0…1.
    """
    dose_array, voxel_cc = _dose_and_voxel(dose, spacing_mm)
    require_same_grid(dose, mask, "The dose", name or "the structure")
    return DvhRegion(mask, name).dvh_in(dose_array, voxel_cc)


@kept
def dvh_region(mask: Mask, name: str) -> DvhRegion:
    """A structure of a case made ready for its DVHs, once."""
    return DvhRegion(mask, name)


@kept
def known_dvh(mask: Mask, name: str, dose: Volume) -> Dvh:
    """A structure's DVH in a dose that stays, as a plan's, computed once."""
    return dvh_region(mask, name).dvh_in(*checked_dose(dose))


def dvhs(dose: Volume, structures: Mapping[str, Volume]) -> dict[str, Dvh]:
    """The DVHs of several structures in one dose; checks the dose once. See `dvh`."""
    dose_array, voxel_cc = _dose_and_voxel(dose, None)
    result = {}
    for name, mask in structures.items():
        require_same_grid(dose, mask, "The dose", name or "the structure")
        result[name] = DvhRegion(mask, name).dvh_in(dose_array, voxel_cc)
    return result


@kept
def checked_dose(dose: Volume) -> tuple[NDArray, float]:
    """A dose's array and the volume of its voxels, cc, for `DvhRegion.dvh_in`.

    Raises:
        DosePredictionError: the dose is negative or not finite.
    """
    return _dose_and_voxel(dose, None)


def _dose_and_voxel(
    dose: Volume | Any, spacing_mm: Sequence[float] | None
) -> tuple[NDArray, float]:
    array = as_array(dose)
    voxel_cc = float(np.prod(voxel_mm(dose, spacing_mm))) / 1000.0
    if array.ndim != 3:
        raise GeometryError(f"A dose has the shape (z, y, x); got {array.shape}.")
    _require_plausible(array)
    return array, voxel_cc


def _require_plausible(dose: NDArray) -> None:
    require_finite(dose, "The dose")
    lowest = float(dose.min())
    if lowest < _NEGATIVE_GY:
        raise DosePredictionError(
            f"The dose is negative, down to {lowest:.3g} Gy. Clamp it at 0, or check its scaling."
        )


def _checked_mask(mask: NDArray, name: str) -> NDArray:
    if mask.dtype == bool:
        return mask
    low, high = float(mask.min()), float(mask.max())
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise DosePredictionError(
            f"{name or 'The mask'} holds values from {low:g} to {high:g}: a mask is boolean, or an "
            "occupancy from 0 to 1."
        )
    return weights_of(mask.astype(np.float32, copy=False))


def _size_and_dose_findings(name: str, voxels: float, highest_gy: float) -> tuple[Finding, ...]:
    label = name or "The structure"
    findings = []
    if voxels < _FEW_VOXELS:
        findings.append(
            Finding(
                "structure-few-voxels",
                "warning",
                f"{label} fills {voxels:.1f} voxels: its DVH is a best guess.",
                "Use a finer grid, or contours instead of a mask.",
                structure=name,
            )
        )
    if highest_gy <= 0:
        findings.append(
            Finding("dose-zero", "warning", f"The dose is 0 everywhere in {label}.", structure=name)
        )
    return tuple(findings)
