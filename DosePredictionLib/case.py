"""A patient case: CT, named structures, prescription and, where there is one, the plan's dose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any, Generic, TypeVar, overload

import numpy as np

from .beams.arrangement import BeamArrangement
from .errors import CaseError, GeometryError
from .findings import Finding
from .kept import kept
from .mask import Mask
from .origin import DicomOrigin
from .volume import Grid, Volume
from .wishes import Wish

__all__ = ["DOSE_MASK", "Case", "Prescription"]

DOSE_MASK = "possible_dose_mask"
"""Name of the structure that says where a dose may be, whatever file, ROI or segment it is."""


@dataclass(frozen=True)
class Prescription:
    """Dose per target, Gy, and the number of fractions it is given in.

    Raises:
        CaseError: no target, a dose that is not positive, or a fraction count below one.
    """

    target_gy: Mapping[str, float]
    fractions: int | None = None
    technique: str | None = None

    def __post_init__(self) -> None:
        if not self.target_gy:
            raise CaseError("A prescription needs at least one target and its dose in Gy.")
        for target, dose_gy in self.target_gy.items():
            if not np.isfinite(dose_gy) or not 0 < dose_gy <= 200:
                raise CaseError(
                    f"The prescription of {target} must lie above 0 and at most at 200 Gy; "
                    f"got {dose_gy}."
                )
        if self.fractions is not None and self.fractions < 1:
            raise CaseError(f"A prescription has at least one fraction; got {self.fractions}.")

    @property
    def highest_gy(self) -> float:
        """Dose of the highest target level, Gy."""
        return max(self.target_gy.values())


_Given = TypeVar("_Given")
_Kept = TypeVar("_Kept")


class _Masks(Generic[_Given, _Kept]):
    """A field of `Case` that takes volumes and keeps them as masks."""

    def __init__(self, default: Any = MISSING) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, case: None, owner: type) -> Any: ...
    @overload
    def __get__(self, case: Case, owner: type) -> _Kept: ...
    def __get__(self, case: Case | None, owner: type) -> Any:
        if case is not None:
            return case.__dict__[self._name]
        if self._default is MISSING:
            raise AttributeError(self._name)  # how `dataclass` learns that the field is required
        return self._default

    def __set__(self, case: Case, given: _Given) -> None:
        kept: Any = given
        if isinstance(given, Mapping):
            label = "Structure {}" if self._name == "structures" else "Strip {}°"
            kept = {key: _as_mask(case.name, label.format(key), v) for key, v in given.items()}
        elif given is not None:
            kept = _as_mask(case.name, "The dose mask", given)
        case.__dict__[self._name] = kept


@dataclass(frozen=True, eq=False)
class Case:
    """Everything known of one patient's plan, on the CT's grid.

    Args:
        name: how the case is called in outputs (the folder's name, the npz's stem).
        ct: Hounsfield units.
        structures: name as the clinic typed it → mask; volumes (bool, or occupancy in 0…1 as
            float) become masks.
        plan_dose: the plan's dose, Gy.
        prescription: dose per target and fractions.
        dose_mask: where a dose may be non-zero, when the data set states it (for scoring and
            `dose_region`; never a network input). A structure called `DOSE_MASK` becomes
            it, so that every reader gives the same case.
        strips: tangent strip masks that came with the case, angle in degrees → mask.
        findings: what was noticed while the case was read.
        origin: what a result in DICOM must name, when the case came from there.
        beams: how the beams of its plan stand, where that is known.
        wishes: what is asked of the plan's organs.

    Raises:
        GeometryError: a volume lies on another grid than the CT. Readers resample; this does not.
        CaseError: NaN or infinite voxels, an occupancy outside 0…1, or two dose masks.
    """

    name: str
    ct: Volume
    structures: _Masks[Mapping[str, Volume], Mapping[str, Mask]] = _Masks()
    plan_dose: Volume | None = None
    prescription: Prescription | None = None
    dose_mask: _Masks[Volume | None, Mask | None] = _Masks(None)
    strips: _Masks[Mapping[int, Volume] | None, Mapping[int, Mask] | None] = _Masks(None)
    findings: tuple[Finding, ...] = field(default=())
    origin: DicomOrigin | None = None
    beams: BeamArrangement | None = None
    wishes: tuple[Wish, ...] = ()

    def __post_init__(self) -> None:
        self._take_dose_mask()
        if min(self.ct.grid.size) < 2:
            raise GeometryError(
                f"The CT of {self.name} has {self.ct.grid}: a volume needs at least two voxels "
                "along every axis."
            )
        _require_finite(self.name, "CT", self.ct)
        for label, volume in self._other_volumes():
            if not volume.grid.matches(self.ct.grid):
                raise GeometryError(
                    f"{label} of {self.name} lies on {volume.grid}, the CT on {self.ct.grid}. "
                    "Resample it to the CT's grid first."
                )
        if self.plan_dose is not None:
            _require_finite(self.name, "The plan dose", self.plan_dose)

    def _take_dose_mask(self) -> None:
        """Make the structure that is called like it the dose mask."""
        named = [name for name in self.structures if name.lower() == DOSE_MASK]
        if not named:
            return
        if len(named) > 1 or self.dose_mask is not None:
            raise CaseError(f"{self.name} has two dose masks ({DOSE_MASK}): remove one.")
        others = {name: mask for name, mask in self.structures.items() if name not in named}
        mask = self.structures[named[0]]
        object.__setattr__(self, "structures", others)
        if not mask.is_empty:  # all-zero, it says nothing
            object.__setattr__(self, "dose_mask", mask.as_binary())

    def _other_volumes(self) -> list[tuple[str, Volume]]:
        volumes: list[tuple[str, Volume]] = []
        volumes += [(f"Structure {name}", volume) for name, volume in self.structures.items()]
        volumes += [(f"Strip {angle}°", volume) for angle, volume in (self.strips or {}).items()]
        optional = (("The plan dose", self.plan_dose), ("The dose mask", self.dose_mask))
        return volumes + [(label, volume) for label, volume in optional if volume is not None]

    @property
    def grid(self) -> Grid:
        """The CT's grid, on which everything in the case lies."""
        return self.ct.grid


def _require_finite(case: str, label: str, volume: Volume) -> None:
    if not _is_finite(volume):
        count = int(np.count_nonzero(~np.isfinite(volume.array)))
        raise CaseError(
            f"{label} of {case} holds {count} voxels that are NaN or infinite. Export it again."
        )


@kept
def _is_finite(volume: Volume) -> bool:
    floating = np.issubdtype(volume.array.dtype, np.floating)
    return not floating or bool(np.all(np.isfinite(volume.array)))


def _as_mask(case: str, label: str, volume: Any) -> Mask:
    if isinstance(volume, Mask):
        return volume
    try:
        return Mask.of(volume)
    except CaseError as exception:
        raise CaseError(f"{label} of {case}{str(exception).removeprefix('A mask')}") from exception
