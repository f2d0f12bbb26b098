"""Encoded training cases: read from cases of any kind, or memory-mapped from a cache."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from DosePredictionLib.case import Case
from DosePredictionLib.checks.plan_dose import learning_finding
from DosePredictionLib.checks.registry import check_case
from DosePredictionLib.encoding.channels.registry import ModelChannels
from DosePredictionLib.encoding.encoder import EncodedCase, EncodingSettings, encode
from DosePredictionLib.errors import CaseError, DosePredictionError
from DosePredictionLib.findings import Finding, worst_first
from DosePredictionLib.geometry import Box, bounding_box
from DosePredictionLib.io import read_case
from DosePredictionLib.mask import to_binary
from DosePredictionLib.processes import parallel_map
from DosePredictionLib.structures.bound import BoundCase, bind
from DosePredictionLib.structures.protocol import StructureProtocol

from .config import TrainingConfig, model_prescription_gy

__all__ = [
    "DOSE_STEP_GY",
    "TrainingCase",
    "case_paths",
    "cut",
    "load_cases",
    "require_one_prescription",
    "unpack_masks",
]

DOSE_STEP_GY = 0.05  # finer than any score reads a dose
_MOST_BITS = 32


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """One encoded patient, small enough that a cohort stays in memory.

    Channels are kept as each states (`Channel.storage`).

    Args:
        mask_bits: uint32 `(z, y, x)`: bit i for the protocol's i-th input, the binary mask that
            losses and scores see; then one for each further channel that is kept as bits.
        float32, float16: the channels that are kept so, `(channel, z, y, x)`.
        dose_gy: float32 `(z, y, x)`, the plan's; zero where structures are learned and the case has
            none that is beyond doubt.
        region: where the dose is scored: the case's dose mask, else the body.
        body: the external contour.
        spacing_mm: (x, y, z).
        prescription_gy: the case's, of its highest target; None: it has none.
        channels: what the channels are.
        earlier: doses of the stages before the last, over the dose scale, float16 `(stage, z, y,
            x)`; None: none were computed.
        wishes: channel of an organ → share of it that may get the dose that the model limits.
    """

    name: str
    mask_bits: NDArray[np.uint32]
    float32: NDArray[np.float32]
    float16: NDArray[np.float16]
    dose_gy: NDArray[np.float32]
    region: NDArray[np.bool_]
    body: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    prescription_gy: float | None
    channels: ModelChannels
    earlier: NDArray[np.float16] | None = None
    wishes: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(
        cls, path: Path, protocol: StructureProtocol, settings: EncodingSettings
    ) -> TrainingCase:
        """Read and encode a case exactly as prediction does.

        Raises:
            CaseError: the case has no plan dose, or no organ where structures are learned;
                prediction would refuse it (the message is the finding's), or there is nothing in it
                to learn from.
        """
        case = read_case(path)
        if settings.structures == "learned":
            bound = _with_organs(_without_doubtful_dose(case, protocol), path)
        else:
            bound = _with_dose(bind(case, protocol, required=protocol.required), path)
        encoded = encode(bound, settings)
        _refuse_blocking(path, [*bound.findings, *check_case(bound), *encoded.findings])
        return cls._of(path, bound, encoded)

    @classmethod
    def _of(cls, path: Path, bound: BoundCase, encoded: EncodedCase) -> TrainingCase:
        case, channels = bound.case, encoded.channels
        region = encoded.body
        if case.dose_mask is not None:
            region = case.dose_mask.resampled_to(encoded.grid, "nearest").touched()
        dose_gy = np.zeros(encoded.grid.shape, dtype=np.float32)
        if case.plan_dose is not None:
            dose_gy[:] = case.plan_dose.resampled_to(encoded.grid, "linear").array
        if not np.isfinite(dose_gy).all():
            raise CaseError(f"{path}: the plan dose holds NaN or infinite values.")
        if not region.any():
            raise CaseError(f"{path}: the region in which dose is learned is empty.")
        x, y, z = (float(mm) for mm in encoded.grid.spacing)
        return cls(
            name=case.name,
            mask_bits=packed_masks(encoded.input, channels),
            float32=encoded.input[channels.stored_as("float32")],
            float16=encoded.input[channels.stored_as("float16")].astype(np.float16),
            dose_gy=dose_gy,
            region=region,
            body=encoded.body,
            spacing_mm=(x, y, z),
            prescription_gy=None if bound.prescription is None else bound.prescription.highest_gy,
            channels=channels,
            wishes=encoded.wishes,
        )

    @property
    def ct(self) -> NDArray[np.float32]:
        """The CT channel `(z, y, x)`, scaled as the encoding does."""
        (index,) = self.channels.indices("ct")
        return self.float32[self.channels.stored_as("float32").index(index)]

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Binary masks of the protocol's inputs `(channel, z, y, x)`."""
        return unpack_masks(self.mask_bits, len(self.channels.protocol.inputs)).astype(bool)

    @cached_property
    def fingerprint(self) -> str:
        """The same for the same plan dose, or the same contours where these are learned.

        Whatever the case is called and however it is kept.
        """
        learned = self.channels.settings.structures == "learned"
        what = self.mask_bits[self.region_box] if learned else self.dose_steps
        return hashlib.sha256(what.tobytes()).hexdigest()

    @cached_property
    def contoured(self) -> NDArray[np.bool_]:
        """Which of the protocol's inputs the case has at all, `(channel,)`."""
        bits = int(np.bitwise_or.reduce(self.mask_bits, axis=None))
        return np.array([bits >> i & 1 for i in range(len(self.channels.protocol.inputs))], bool)

    @property
    def dose_steps(self) -> NDArray[np.uint16]:
        """The dose in the region's box, in steps of `DOSE_STEP_GY`; 0 outside the region."""
        dose_gy = self.dose_gy[self.region_box] * self.region[self.region_box]
        return np.round(np.clip(dose_gy / DOSE_STEP_GY, 0, 2**16 - 1)).astype(np.uint16)

    def input(self) -> NDArray[np.float32]:
        """The network's input `(channel, z, y, x)`."""
        x = self.stored_block((0, 0, 0), self.body.shape)
        remade = self.channels.stored_as("recomputed")
        self.channels.remake(remade, x, np.asarray(self.body), self.spacing_mm, self.wishes)
        return x

    def stored_block(self, start: Sequence[int], size: Sequence[int]) -> NDArray[np.float32]:
        """A block of the input `(channel, z, y, x)`, padded as each channel states.

        Channels that are recomputed are left as their padding.

        Args:
            start: its first voxel (z, y, x); it may reach beyond the case.
        """
        channels = self.channels
        x = np.empty((len(channels), *size), dtype=np.float32)
        for index, channel in enumerate(channels.channels):
            x[index] = channel.padding
        bits = cut(self.mask_bits, start, size)
        for index, bit in bit_of_channel(channels).items():
            x[index] = (bits >> np.uint32(bit)) & np.uint32(1)
        for storage, kept in (("float32", self.float32), ("float16", self.float16)):
            for array, index in zip(kept, channels.stored_as(storage), strict=True):  # type: ignore[arg-type]
                x[index] = cut(array, start, size, channels.channels[index].padding)
        return x

    @cached_property
    def region_box(self) -> Box:
        """The smallest block that holds the region."""
        box = bounding_box(self.region)
        assert box is not None
        return box


def bit_of_channel(channels: ModelChannels) -> dict[int, int]:
    """Index of each channel that is kept as bits → its bit.

    Raises:
        DosePredictionError: there are more than fit.
    """
    names = [channel.name for channel in channels.protocol.inputs]
    bits: dict[int, int] = {}
    count = len(names)
    for index in channels.stored_as("bits"):
        structure = channels.channels[index]
        if structure.group == "structures":
            bits[index] = names.index(structure.name)
        else:
            bits[index] = count
            count += 1
    if count > _MOST_BITS:
        raise DosePredictionError(
            f"Training keeps at most {_MOST_BITS} masks; structures and strips are {count}."
        )
    return bits


def packed_masks(x: NDArray[np.float32], channels: ModelChannels) -> NDArray[np.uint32]:
    """`TrainingCase.mask_bits` of an input."""
    bits = np.zeros(x.shape[1:], dtype=np.uint32)
    for bit, mask in enumerate(x[channels.structures]):
        bits |= to_binary(mask).astype(np.uint32) << np.uint32(bit)
    for index, bit in bit_of_channel(channels).items():
        if channels.channels[index].group != "structures":
            bits |= to_binary(x[index]).astype(np.uint32) << np.uint32(bit)
    return bits


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
    """Every case of a folder, encoded in parallel, sorted by name.

    Raises:
        CaseError: as `TrainingCase.read`, for the first case that is refused.
    """
    read = functools.partial(TrainingCase.read, protocol=protocol, settings=settings)
    done = sorted(parallel_map(read, case_paths(folder), workers), key=lambda each: each[0])
    return [case for _, case in done]


def require_one_prescription(
    cases: Sequence[TrainingCase], config: TrainingConfig, protocol: StructureProtocol
) -> None:
    """Refuse plans of different prescriptions where nothing says what the model's is.

    Raises:
        DosePredictionError: names the prescriptions and the setting.
    """
    found = sorted({case.prescription_gy for case in cases if case.prescription_gy is not None})
    if len(found) > 1 and not model_prescription_gy(config, protocol):
        raise DosePredictionError(
            f"The plans are of {', '.join(f'{gy:g}' for gy in found[:-1])} and {found[-1]:g} Gy, "
            "and nothing says which the model's dose is to stand for: set prescription_gy in the "
            f"recipe, e.g. --set 'prescription_gy={{\"{protocol.targets[0].name}\": 45}}'."
        )


def unpack_masks(bits: NDArray[np.uint32], channels: int) -> NDArray[np.float32]:
    """Mask channels `(channel, z, y, x)` from their bits."""
    shifts = np.arange(channels, dtype=np.uint32).reshape(-1, 1, 1, 1)
    return ((bits[None] >> shifts) & 1).astype(np.float32)


def cut(array: NDArray, start: Sequence[int], size: Sequence[int], padding: float = 0.0) -> NDArray:
    """A block of an array; `padding` where it reaches beyond."""
    result = np.full(size, padding, dtype=array.dtype)
    source, target = [], []
    for first, extent, length in zip(start, size, array.shape, strict=True):
        low, high = max(first, 0), min(first + extent, length)
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    result[tuple(target)] = array[tuple(source)]
    return result


def _with_dose(bound: BoundCase, path: Path) -> BoundCase:
    """The case, if its plan's dose can be learned.

    Raises:
        CaseError: it has none, or one in doubt.
    """
    if bound.case.plan_dose is None:
        raise CaseError(f"{path} has no plan dose to learn from.")
    doubt = learning_finding(bound)
    if doubt is not None:
        raise CaseError(f"{path} has no dose to learn from: {doubt.message} {doubt.remedy}")
    return bound


def _without_doubtful_dose(case: Case, protocol: StructureProtocol) -> BoundCase:
    """The case, with its plan dose only if that can be learned from."""
    bound = bind(case, protocol)
    if case.plan_dose is None or learning_finding(bound) is None:
        return bound
    return bind(replace(case, plan_dose=None), protocol)


def _with_organs(bound: BoundCase, path: Path) -> BoundCase:
    """The case, if it has an organ to learn.

    Raises:
        CaseError: it has none.
    """
    if not bound.named("organ"):
        raise CaseError(f"{path} has no contoured organ to learn from.")
    return bound


def _refuse_blocking(path: Path, findings: Sequence[Finding]) -> None:
    """Refuse what prediction refuses: a dose that it could not learn to predict.

    Raises:
        CaseError: a finding blocks.
    """
    first = next(iter(worst_first(tuple(findings))), None)
    if first is not None and first.severity == "blocking":
        raise CaseError(f"{path} cannot be learned from: {first.message} {first.remedy}".strip())
