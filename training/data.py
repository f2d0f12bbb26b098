"""Training cases in memory, and the crops that are cut from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from DosePredictionLib.encoding import EncodingSettings, encode, mirrored_channels
from DosePredictionLib.errors import CaseError
from DosePredictionLib.io import read_case
from DosePredictionLib.mapping import map_structures
from DosePredictionLib.protocol import StructureProtocol

from .config import TrainingConfig

__all__ = ["Batch", "TrainingCase", "load_cases", "training_batches"]


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """One encoded patient, small enough that a cohort stays in memory.

    Args:
        ct: float32 `(z, y, x)`, scaled as the encoding does.
        mask_bits: uint32 `(z, y, x)`, bit i for the i-th mask channel (structures, then strips).
        dose_gy: float32 `(z, y, x)`.
        region: where the dose is scored: the case's dose mask, else the body.
    """

    name: str
    ct: NDArray[np.float32]
    mask_bits: NDArray[np.uint32]
    dose_gy: NDArray[np.float32]
    region: NDArray[np.bool_]

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
        mapping = map_structures(list(case.structures), protocol)
        encoded = encode(case, protocol, mapping, settings)
        bits = np.zeros(encoded.grid.shape, dtype=np.uint32)
        for index, mask in enumerate(encoded.input[1:]):
            bits |= (mask > 0.5).astype(np.uint32) << np.uint32(index)
        region = encoded.body
        if case.dose_mask is not None:
            region = case.dose_mask.resampled_to(encoded.grid, "nearest").array > 0
        dose = case.plan_dose.resampled_to(encoded.grid, "linear").array.astype(np.float32)
        return cls(case.name, encoded.input[0], bits, dose, region)

    @property
    def region_box(self) -> tuple[slice, slice, slice]:
        """The smallest block that holds the region."""
        axes = ((1, 2), (0, 2), (0, 1))
        ranges = [np.flatnonzero(self.region.any(axis=axis)) for axis in axes]
        z, y, x = (slice(int(r[0]), int(r[-1]) + 1) for r in ranges)
        return (z, y, x)


@dataclass(frozen=True, eq=False)
class Batch:
    """Tensors `(batch, channel, z, y, x)`; dose in units of the dose scale."""

    input: Tensor
    dose: Tensor
    region: Tensor
    names: tuple[str, ...]


def load_cases(
    folder: Path, protocol: StructureProtocol, settings: EncodingSettings, workers: int = 2
) -> list[TrainingCase]:
    """Every case of a folder, encoded in parallel, sorted by name."""
    paths = sorted(path for path in folder.iterdir() if path.suffix == ".npz" or path.is_dir())
    if not paths:
        raise CaseError(f"{folder} holds no cases (npz files or case folders).")
    count = len(paths)
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(TrainingCase.read, paths, [protocol] * count, [settings] * count))


def training_batches(
    cases: Sequence[TrainingCase],
    config: TrainingConfig,
    protocol: StructureProtocol,
    first_step: int = 0,
) -> Iterator[Batch]:
    """Batches for steps `first_step …`, drawn from the seed alone, whatever came before."""
    mirrored = mirrored_channels(protocol, config.encoding)
    sample = first_step * config.batch_size
    while True:
        crops = []
        for index in range(sample, sample + config.batch_size):
            epoch, position = divmod(index, len(cases))
            order = np.random.default_rng((config.seed, epoch)).permutation(len(cases))
            case = cases[order[position]]
            rng = np.random.default_rng((config.seed, epoch, int(order[position])))
            crops.append(_augmented_crop(case, config, rng, mirrored))
        sample += config.batch_size
        inputs, doses, regions, names = zip(*crops, strict=True)
        yield Batch(
            torch.from_numpy(np.stack(inputs)),
            torch.from_numpy(np.stack(doses))[:, None],
            torch.from_numpy(np.stack(regions))[:, None],
            names,
        )


def _augmented_crop(
    case: TrainingCase,
    config: TrainingConfig,
    rng: np.random.Generator,
    mirrored: Sequence[int],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], str]:
    """One random crop over the dose region, randomly mirrored, with CT noise and shift."""
    start = random_start(case, config.crop, rng)
    ct = cut(case.ct, start, config.crop)
    bits = cut(case.mask_bits, start, config.crop)
    dose = cut(case.dose_gy, start, config.crop) / np.float32(config.encoding.dose_scale_gy)
    region = cut(case.region, start, config.crop).astype(np.float32)
    width_hu = config.encoding.ct_window_hu[1] - config.encoding.ct_window_hu[0]
    shift = rng.normal(0, config.ct_shift_hu) / width_hu
    noise = rng.normal(0, config.ct_noise_hu / width_hu, size=ct.shape).astype(np.float32)
    # Air stays air: outside the patient the encoder writes exactly 0.
    ct = np.where(ct > 0, np.clip(ct + noise + np.float32(shift), 0, 1), np.float32(0))
    stacked = np.concatenate([ct[None], unpack_masks(bits, len(mirrored) - 1)])
    if rng.random() < config.flip_probability:
        stacked = np.ascontiguousarray(stacked[list(mirrored)][..., ::-1])
        dose, region = dose[..., ::-1], region[..., ::-1]
    return stacked, np.ascontiguousarray(dose), np.ascontiguousarray(region), case.name


def random_start(
    case: TrainingCase, crop: tuple[int, int, int], rng: np.random.Generator
) -> list[int]:
    """A crop's first voxel, so that the crop lies in the region's box, or holds it all."""
    start = []
    for extent, box in zip(crop, case.region_box, strict=True):
        low, high = sorted((box.start, box.stop - extent))
        start.append(int(rng.integers(low, high + 1)))
    return start


def cut(array: NDArray, start: Sequence[int], size: Sequence[int]) -> NDArray:
    """A block of an array; zeros where it reaches beyond."""
    result = np.zeros(size, dtype=array.dtype)
    source, target = [], []
    for first, extent, length in zip(start, size, array.shape, strict=True):
        low, high = max(first, 0), min(first + extent, length)
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    result[tuple(target)] = array[tuple(source)]
    return result


def unpack_masks(bits: NDArray[np.uint32], channels: int) -> NDArray[np.float32]:
    """Mask channels `(channel, z, y, x)` from their bits."""
    shifts = np.arange(channels, dtype=np.uint32).reshape(-1, 1, 1, 1)
    return ((bits[None] >> shifts) & 1).astype(np.float32)
