"""Which crop of which case a step sees: drawn from (seed, epoch, case) alone."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from DosePredictionLib.encoding.channels.registry import model_channels
from DosePredictionLib.encoding.prescription import prescription_factor
from DosePredictionLib.mask import majority
from DosePredictionLib.structures.protocol import StructureProtocol

from .augmentation import (
    Crop,
    draw_dropped,
    draw_edges,
    draw_elastic,
    draw_spatial,
    varied_crop,
    vary_contrast,
    vary_ct,
    vary_masks,
)
from .config import TrainingConfig, model_prescription_gy
from .data import TrainingCase, cut
from .resident import ResidentCase, block

__all__ = ["Batch", "Samples", "Share", "random_start", "training_batches"]


@dataclass(frozen=True)
class Share:
    """Which part of every batch this process takes: the crops of `rank` of `ranks`."""

    rank: int = 0
    ranks: int = 1


@dataclass(frozen=True, eq=False)
class Batch:
    """Tensors `(batch, channel, z, y, x)`: what the network sees, apart from what it learns.

    Args:
        input: the network's; float16 where training computes in 16 bits.
        labels: by name: `dose` in units of the dose scale, `region` (0 or 1), `structures` and
            `strips` (boolean) as they lie after augmentation; `earlier`, if the cases have it.
            Where structures are learned, `structures`, `dose` and `contoured`: which of them the
            case has at all, `(batch, channel, 1, 1, 1)`; `derived`, channels for a guide, if any.
        spacing_mm: `(batch, 3)`, x, y, z.
        names: of the cases.
    """

    input: Tensor
    labels: Mapping[str, Tensor]
    spacing_mm: Tensor
    names: tuple[str, ...]

    def pin_memory(self) -> Batch:
        """The same in pinned memory; the loader calls it."""
        labels = {name: label.pin_memory() for name, label in self.labels.items()}
        return replace(self, input=self.input.pin_memory(), labels=labels)

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
    """Crops by their number in the whole training, 0, 1, 2 …; each case once an epoch.

    Args:
        resident_on: a device that is to hold the cases and to make the crops; None: the CPU makes
            them of what it has. The noise of the CT is another one then.
    """

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        config: TrainingConfig,
        protocol: StructureProtocol,
        resident_on: torch.device | None = None,
    ) -> None:
        self.cases, self.config, self.protocol = cases, config, protocol
        self.resident: dict[str, ResidentCase] = {}
        if resident_on is not None:
            self.resident = {case.name: ResidentCase.of(case, resident_on) for case in cases}
        self.channels = model_channels(protocol, config.encoding)
        self.model_gy = model_prescription_gy(config, protocol)

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
        if config.crops == "structures":
            start = start_on_structure(case, config.crop, rng)
        else:
            start = random_start(case, config.crop, rng)
        low_hu, high_hu = config.encoding.ct_window_hu
        width_hu = high_hu - low_hu
        shift = rng.normal(0, policy.ct_shift_hu) / width_hu
        noise = self._noise(case, policy.ct_noise_hu / width_hu, rng)
        flip = rng.random() < policy.flip_probability
        motion = draw_spatial(policy, rng)
        elastic = draw_elastic(policy, config.crop, case.spacing_mm, rng)
        dropped = draw_dropped(policy, self.protocol, rng)
        crop = self._crop(case, start)
        if policy.drop_wishes and rng.random() < policy.drop_wishes:
            crop = replace(crop, wishes={})
        for index in self.channels.indices("ct"):
            air = self.channels.channels[index].padding
            crop.input[index] = vary_ct(crop.input[index], shift, noise, air)
            if policy.ct_contrast:
                factor, water = math.exp(rng.normal(0, policy.ct_contrast)), -low_hu / width_hu
                crop.input[index] = vary_contrast(crop.input[index], factor, water, air)
        crop = varied_crop(crop, self.channels, motion, dropped, elastic)
        x, dose, region, earlier = crop.input, crop.dose, crop.region, crop.earlier
        if flip:
            x, dose, region = x[self.channels.mirrored].flip(-1), dose.flip(-1), region.flip(-1)
            earlier = earlier.flip(-1)
        if config.encoding.structures == "learned":
            return self._contours(x, dose, case, flip)
        labels = self._labels(x, dose, region)
        if policy.mask_edges and rng.random() < policy.mask_edges:
            x = self._with_other_edges(x, rng)
        if len(earlier):
            labels["earlier"] = earlier
        return Sample(x, labels, case.spacing_mm, case.name)

    def _noise(self, case: TrainingCase, deviation: float, rng: np.random.Generator) -> Tensor:
        """Normal noise of a crop `(z, y, x)`, where the crop is made; nothing is drawn for none."""
        if not deviation:
            return torch.zeros(())
        if not self.resident:
            return torch.from_numpy(rng.normal(0, deviation, size=self.config.crop)).float()
        device = self.resident[case.name].input.device
        generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
        return deviation * torch.randn(self.config.crop, device=device, generator=generator)

    def _with_other_edges(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """An input whose organs end a little elsewhere, and whose targets are softer or harder."""
        inputs = self.protocol.inputs
        level, steepness, blur = draw_edges(len(inputs), rng)
        level[[i for i, each in enumerate(inputs) if each.role == "target"]] = 0.5
        for index, own in enumerate(range(*self.channels.structures.indices(len(x)))):
            if inputs[index].role != "external":
                part = slice(index, index + 1)
                x[own] = vary_masks(x[own : own + 1], level[part], steepness[part], blur)[0]
        return x

    def _labels(self, x: Tensor, dose: Tensor, region: Tensor) -> dict[str, Tensor]:
        """What is learned from a crop whose input is `x`, each `(channel, z, y, x)`."""
        return {
            "dose": dose,
            "region": region,
            "structures": majority(x[self.channels.indices("structures")]),
            "strips": majority(x[self.channels.indices("strips")]),
        }

    def _contours(self, x: Tensor, dose: Tensor, case: TrainingCase, flip: bool) -> Sample:
        """A crop whose structures are learned: the network's input is the CT alone."""
        contoured = case.contoured[list(self.protocol.mirrored)] if flip else case.contoured
        labels = {
            "structures": majority(x[self.channels.indices("structures")]),
            "contoured": torch.from_numpy(contoured).reshape(-1, 1, 1, 1).to(x.device),
            "dose": dose,
        }
        if derived := self.channels.indices("derived"):
            labels["derived"] = x[derived]
        return Sample(x[self.channels.indices("ct")], labels, case.spacing_mm, case.name)

    def _crop(self, case: TrainingCase, start: Sequence[int]) -> Crop:
        size, factor = self.config.crop, prescription_factor(case.prescription_gy, self.model_gy)
        unit_gy = np.float32(self.config.encoding.dose_scale_gy * factor)
        if (kept := self.resident.get(case.name)) is not None:
            return Crop(
                kept.input_block(start, size),
                block(kept.dose_gy, start, size) / float(unit_gy),
                block(kept.region, start, size),
                block(kept.body, start, size).bool(),
                case.spacing_mm,
                earlier=block(kept.earlier, start, size),
                wishes=case.wishes,
            )
        arrays = (
            cut(case.dose_gy, start, size) / unit_gy,
            cut(case.region, start, size).astype(np.float32),
            cut(case.body, start, size),
        )
        dose, region, body = (torch.from_numpy(each)[None] for each in arrays)
        x = torch.from_numpy(case.stored_block(start, size))
        crop = Crop(x, dose, region, body, case.spacing_mm, wishes=case.wishes)
        if case.earlier is None:
            return crop
        stages = [cut(stage, start, size).astype(np.float32) for stage in case.earlier]
        return replace(crop, earlier=torch.from_numpy(np.stack(stages)))


def training_batches(
    cases: Sequence[TrainingCase],
    config: TrainingConfig,
    protocol: StructureProtocol,
    first_step: int = 0,
    workers: int | torch.device = 0,
    share: Share = Share(),
) -> Iterator[Batch]:
    """This process's part of the batches of steps `first_step …`, whatever came before.

    Args:
        workers: processes that cut and vary crops, on whose number the batches do not depend; or a
            device that is to hold all cases and do it.
    """
    local = config.batch_size // share.ranks
    numbers = [
        range(
            step * config.batch_size + share.rank * local,
            step * config.batch_size + (share.rank + 1) * local,
        )
        for step in range(first_step, max(config.steps, first_step))
    ]
    # Training in 16 bits sees no more of its input: half the bytes to hand over and to pin.
    collated = functools.partial(_collated, halved=config.precision != "fp32")
    if isinstance(workers, torch.device):
        samples = Samples(cases, config, protocol, resident_on=workers)
        return (collated([samples[number] for number in batch]) for batch in numbers)
    loader = DataLoader(
        Samples(cases, config, protocol),
        batch_sampler=numbers,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=collated,
        worker_init_fn=_outlive_parent_quietly,
        pin_memory=torch.cuda.is_available(),  # a GPU copies from there without waiting
        # A generator of its own: the loader then leaves the global random state alone.
        generator=torch.Generator().manual_seed(config.seed),
    )
    return iter(loader)


def _collated(samples: Sequence[Sample], halved: bool) -> Batch:
    return Batch(
        torch.stack([each.input.half() if halved else each.input for each in samples]),
        {name: torch.stack([s.labels[name] for s in samples]) for name in samples[0].labels},
        torch.tensor([each.spacing_mm for each in samples]),
        tuple(each.name for each in samples),
    )


def _outlive_parent_quietly(worker: int) -> None:
    """In a worker: a parent that ends while it takes a batch over is no defect to report.

    Tensors are handed over by a thread that gives every exception to `sys.excepthook`; what a
    crop's own work raises reaches the parent otherwise.
    """
    report = sys.excepthook

    def unless_parent_left(
        kind: type[BaseException], value: BaseException, trace: TracebackType | None
    ) -> None:
        if not issubclass(kind, (EOFError, ConnectionError)):
            report(kind, value, trace)

    sys.excepthook = unless_parent_left


def start_on_structure(
    case: TrainingCase, crop: tuple[int, int, int], rng: np.random.Generator
) -> list[int]:
    """A crop's first voxel, so that it holds a voxel of an organ; all organs equally often.

    As far as it can, the crop lies in the region's box.
    """
    inputs = case.channels.protocol.inputs
    organs = [i for i in np.flatnonzero(case.contoured) if inputs[i].role == "organ"]
    organ = organs[int(rng.integers(len(organs)))]
    voxels = np.flatnonzero(case.mask_bits & np.uint32(1 << organ))
    place = np.unravel_index(voxels[int(rng.integers(len(voxels)))], case.mask_bits.shape)
    start = []
    for at, extent, box in zip(place, crop, case.region_box, strict=True):
        low, high = sorted((box.start, box.stop - extent))
        first = int(at) - int(rng.integers(extent // 4, extent - extent // 4))
        start.append(min(max(first, low), high))
    return start


def random_start(
    case: TrainingCase, crop: tuple[int, int, int], rng: np.random.Generator
) -> list[int]:
    """A crop's first voxel, so that the crop lies in the region's box, or holds it all."""
    start = []
    for extent, box in zip(crop, case.region_box, strict=True):
        low, high = sorted((box.start, box.stop - extent))
        start.append(int(rng.integers(low, high + 1)))
    return start
