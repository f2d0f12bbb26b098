"""Encoded training cases: read from cases of any kind, or memory-mapped from a cache."""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from DosePredictionLib.encoding.encoder import EncodingSettings, encode
from DosePredictionLib.errors import CaseError
from DosePredictionLib.io import read_case
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol

__all__ = ["DOSE_STEP_GY", "TrainingCase", "case_paths", "load_cases", "unpack_masks"]

DOSE_STEP_GY = 0.05  # finer than any score reads a dose


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """One encoded patient, small enough that a cohort stays in memory.

    Args:
        ct: float32 `(z, y, x)`, scaled as the encoding does.
        mask_bits: uint32 `(z, y, x)`, bit i for the i-th mask channel (structures, then strips).
        dose_gy: float32 `(z, y, x)`.
        region: where the dose is scored: the case's dose mask, else the body.
        body: the external contour.
        spacing_mm: (x, y, z).
        derived: float16 `(channel, z, y, x)`, what the encoding computes from the masks.
    """

    name: str
    ct: NDArray[np.float32]
    mask_bits: NDArray[np.uint32]
    dose_gy: NDArray[np.float32]
    region: NDArray[np.bool_]
    body: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    derived: NDArray[np.float16]

    @classmethod
    def read(
        cls, path: Path, protocol: StructureProtocol, settings: EncodingSettings
    ) -> TrainingCase:
        """Read and encode a case exactly as prediction does.

        Raises:
            CaseError: the case has no plan dose.
        """
        case = read_case(path)
        if case.plan_dose is None:
            raise CaseError(f"{path} has no plan dose to learn from.")
        encoded = encode(bind(case, protocol, required=protocol.required), settings)
        bits = np.zeros(encoded.grid.shape, dtype=np.uint32)
        masks = len(protocol.inputs) + len(settings.strips.angles)
        for index, mask in enumerate(encoded.input[1 : 1 + masks]):
            bits |= (mask > 0.5).astype(np.uint32) << np.uint32(index)
        region = encoded.body
        if case.dose_mask is not None:
            region = case.dose_mask.resampled_to(encoded.grid, "nearest").array > 0
        dose = case.plan_dose.resampled_to(encoded.grid, "linear").array.astype(np.float32)
        derived = encoded.input[1 + masks :].astype(np.float16)
        x, y, z = (float(mm) for mm in encoded.grid.spacing)
        return cls(
            case.name, encoded.input[0], bits, dose, region, encoded.body, (x, y, z), derived
        )

    @cached_property
    def fingerprint(self) -> str:
        """The same for the same plan dose, whatever the case is called and however it is kept."""
        return hashlib.sha256(self.dose_steps.tobytes()).hexdigest()

    @property
    def dose_steps(self) -> NDArray[np.uint16]:
        """The dose in the region's box, in steps of `DOSE_STEP_GY`; 0 outside the region."""
        dose_gy = self.dose_gy[self.region_box] * self.region[self.region_box]
        return np.round(np.clip(dose_gy / DOSE_STEP_GY, 0, 2**16 - 1)).astype(np.uint16)

    def input(self, masks: int) -> NDArray[np.float32]:
        """The network's input `(channel, z, y, x)`: CT, that many masks, derived channels."""
        unpacked = unpack_masks(self.mask_bits, masks)
        return np.concatenate([self.ct[None], unpacked, self.derived.astype(np.float32)])

    @cached_property
    def region_box(self) -> tuple[slice, slice, slice]:
        """The smallest block that holds the region."""
        axes = ((1, 2), (0, 2), (0, 1))
        ranges = [np.flatnonzero(self.region.any(axis=axis)) for axis in axes]
        z, y, x = (slice(int(r[0]), int(r[-1]) + 1) for r in ranges)
        return (z, y, x)


def case_paths(folder: Path) -> list[Path]:
    """What may be cases in a folder, sorted by name.

    Raises:
        CaseError: it holds none.
    """
    if not folder.is_dir():
        raise CaseError(f"{folder} is no folder of cases.")
    seen = (path for path in folder.iterdir() if not path.name.startswith("."))
    paths = sorted(path for path in seen if path.suffix == ".npz" or path.is_dir())
    if not paths:
        raise CaseError(f"{folder} holds no cases (npz files or case folders).")
    return paths


def load_cases(
    folder: Path, protocol: StructureProtocol, settings: EncodingSettings, workers: int = 2
) -> list[TrainingCase]:
    """Every case of a folder, encoded in parallel, sorted by name."""
    paths = case_paths(folder)
    count = len(paths)
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(TrainingCase.read, paths, [protocol] * count, [settings] * count))


def unpack_masks(bits: NDArray[np.uint32], channels: int) -> NDArray[np.float32]:
    """Mask channels `(channel, z, y, x)` from their bits."""
    shifts = np.arange(channels, dtype=np.uint32).reshape(-1, 1, 1, 1)
    return ((bits[None] >> shifts) & 1).astype(np.float32)
