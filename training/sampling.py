"""Which crop of which case a step sees: drawn from (seed, epoch, case) alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from DosePredictionLib.encoding.encoder import mirrored_channels
from DosePredictionLib.structures.protocol import StructureProtocol

from .augmentation import Spatial, draw_dropped, draw_spatial, moved_in_plane, strips_of, vary_ct
from .config import TrainingConfig
from .data import TrainingCase, unpack_masks

__all__ = ["Batch", "Share", "cut", "random_start", "training_batches"]


@dataclass(frozen=True)
class Share:
    """Which part of every batch this process takes: the crops of `rank` of `ranks`."""

    rank: int = 0
    ranks: int = 1


@dataclass(frozen=True, eq=False)
class Batch:
    """Tensors `(batch, channel, z, y, x)`: what the network sees, apart from what it learns.

    Args:
        input: the network's.
        labels: by name: `dose` in units of the dose scale, `region` (0 or 1), `structures` and
            `strips` (boolean) as they lie after augmentation.
        spacing_mm: `(batch, 3)`, x, y, z.
        names: of the cases.
    """

    input: Tensor
    labels: Mapping[str, Tensor]
    spacing_mm: Tensor
    names: tuple[str, ...]

    @property
    def dose(self) -> Tensor:
        """The plan's dose."""
        return self.labels["dose"]

    @property
    def region(self) -> Tensor:
        """Where the dose is scored."""
        return self.labels["region"]


@dataclass(frozen=True, eq=False)
class Sample:
    """One crop, `(channel, z, y, x)`."""

    input: Tensor
    labels: Mapping[str, Tensor]
    spacing_mm: tuple[float, float, float]
    name: str


class Samples(Dataset[Sample]):
    """Crops by their number in the whole training, 0, 1, 2 …; each case once an epoch."""

    def __init__(
        self, cases: Sequence[TrainingCase], config: TrainingConfig, protocol: StructureProtocol
    ) -> None:
        self.cases, self.config, self.protocol = cases, config, protocol
        self.mirrored = mirrored_channels(protocol, config.encoding)

    def __getitem__(self, number: int) -> Sample:
        """The crop of that number, whatever was asked for before."""
        epoch, position = divmod(number, len(self.cases))
        order = np.random.default_rng((self.config.seed, epoch)).permutation(len(self.cases))
        case = int(order[position])
        rng = np.random.default_rng((self.config.seed, epoch, case))
        return self._augmented(self.cases[case], rng)

    def _augmented(self, case: TrainingCase, rng: np.random.Generator) -> Sample:
        """One random crop over the dose region, varied as the recipe says."""
        config, policy = self.config, self.config.augmentation
        start = random_start(case, config.crop, rng)
        low_hu, high_hu = config.encoding.ct_window_hu
        shift = rng.normal(0, policy.ct_shift_hu) / (high_hu - low_hu)
        noise = rng.normal(0, policy.ct_noise_hu / (high_hu - low_hu), size=config.crop)
        flip = rng.random() < policy.flip_probability
        motion = draw_spatial(policy, rng)
        dropped = draw_dropped(policy, self.protocol, rng)
        x, dose, region, body = self._crop(case, start)
        x[0] = vary_ct(x[0], shift, torch.from_numpy(noise.astype(np.float32)))
        if motion is not None:
            x, dose, region = self._moved(x, dose, region, body, motion, case.spacing_mm)
        x[[1 + index for index in dropped]] = 0
        if flip:
            x, dose, region = x[self.mirrored].flip(-1), dose.flip(-1), region.flip(-1)
        return Sample(x, self._labels(x, dose, region), case.spacing_mm, case.name)

    def _labels(self, x: Tensor, dose: Tensor, region: Tensor) -> dict[str, Tensor]:
        """What is learned from a crop whose input is `x`, each `(channel, z, y, x)`."""
        strips = 1 + len(self.protocol.inputs)
        masks = x[1 : strips + len(self.config.encoding.strips.angles)] > 0.5
        return {
            "dose": dose,
            "region": region,
            "structures": masks[: strips - 1],
            "strips": masks[strips - 1 :],
        }

    def _crop(self, case: TrainingCase, start: Sequence[int]) -> tuple[Tensor, ...]:
        """Input, dose, region and body of a block, `(channel, z, y, x)`."""
        crop, settings = self.config.crop, self.config.encoding
        masks = len(self.protocol.inputs) + len(settings.strips.angles)
        derived = [cut(each, start, crop).astype(np.float32) for each in case.derived]
        unpacked = unpack_masks(cut(case.mask_bits, start, crop), masks)
        x = np.concatenate([cut(case.ct, start, crop)[None], unpacked, *(d[None] for d in derived)])
        dose = cut(case.dose_gy, start, crop) / np.float32(settings.dose_scale_gy)
        region = cut(case.region, start, crop).astype(np.float32)
        body = cut(case.body, start, crop)
        return (
            torch.from_numpy(x),
            torch.from_numpy(dose)[None],
            torch.from_numpy(region)[None],
            torch.from_numpy(body)[None],
        )

    def _moved(
        self,
        x: Tensor,
        dose: Tensor,
        region: Tensor,
        body: Tensor,
        motion: Spatial,
        spacing_mm: tuple[float, float, float],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A crop turned, scaled and shifted in plane, with strips of the target as it then lies."""
        structures, strips = len(self.protocol.inputs), self.config.encoding.strips
        after = 1 + structures + len(strips.angles)
        smooth = moved_in_plane(torch.cat([x[:1], x[after:], dose]), motion, spacing_mm)
        masks = torch.cat([x[1 : 1 + structures], region, body.float()])
        masks = moved_in_plane(masks, motion, spacing_mm, "nearest")
        roles = [channel.role == "target" for channel in self.protocol.inputs]
        target = (masks[:structures][torch.tensor(roles)] > 0.5).any(0)
        made = strips_of(target, masks[-1] > 0.5, strips.angles, spacing_mm, strips.margin_mm)
        stacked = torch.cat([smooth[:1], masks[:structures], made.float(), smooth[1:-1]])
        return stacked, smooth[-1:], masks[-2:-1]


def training_batches(
    cases: Sequence[TrainingCase],
    config: TrainingConfig,
    protocol: StructureProtocol,
    first_step: int = 0,
    workers: int = 0,
    share: Share = Share(),
) -> Iterator[Batch]:
    """This process's part of the batches of steps `first_step …`, whatever came before.

    Args:
        workers: processes that cut and vary crops; the batches do not depend on their number.
    """
    local = config.batch_size // share.ranks

    numbers = [
        range(
            step * config.batch_size + share.rank * local,
            step * config.batch_size + (share.rank + 1) * local,
        )
        for step in range(first_step, max(config.steps, first_step))
    ]
    loader = DataLoader(
        Samples(cases, config, protocol),
        batch_sampler=numbers,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=_collated,
        # A generator of its own: the loader then leaves the global random state alone.
        generator=torch.Generator().manual_seed(config.seed),
    )
    return iter(loader)


def _collated(samples: Sequence[Sample]) -> Batch:
    return Batch(
        torch.stack([each.input for each in samples]),
        {name: torch.stack([s.labels[name] for s in samples]) for name in samples[0].labels},
        torch.tensor([each.spacing_mm for each in samples]),
        tuple(each.name for each in samples),
    )


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
