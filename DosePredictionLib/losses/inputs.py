"""What every loss receives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import DosePredictionError
from ..mask import majority
from ..structures.protocol import Role

__all__ = ["LossInput", "StructureDoses"]


class StructureDoses(NamedTuple):
    """Both doses in one structure of one patient, `(voxels,)`, never empty, in the dose's unit."""

    patient: int
    channel: int
    predicted: Tensor
    reference: Tensor


@dataclass(frozen=True, eq=False)
class LossInput:
    """One batch, as the losses see it; z, y, x may be those of a crop.

    Doses are in units of the model's dose scale. Half-precision doses are widened to float32 when
    the object is built, so that every loss sums in at least float32. What is derived from the
    tensors is computed once, however many losses ask for it.

    Args:
        prediction: the network's final dose `(batch, 1, z, y, x)`, unclamped.
        reference: the plan's dose, likewise.
        region: where the dose is scored (body, or the case's dose mask), likewise, 0 or 1.
        structures: masks `(batch, channel, z, y, x)`; inside where more than half. Boolean
            masks are the fastest.
        names: channel names of `structures`, in order.
        roles: their roles; DVH-like losses pass over `external`.
        dose_scale_gy: Gy that the dose 1.0 stands for.
        strips: tangent strip masks `(batch, angle, z, y, x)`.
        spacing_mm: `(batch, 3)`, x, y, z; keep it on the CPU.
        coarse: the first stage's dose, if the network has one.

    Raises:
        DosePredictionError: shapes or channel names do not fit each other.
    """

    prediction: Tensor
    reference: Tensor
    region: Tensor
    structures: Tensor
    names: Sequence[str]
    roles: Sequence[Role]
    dose_scale_gy: float
    strips: Tensor | None = None
    spacing_mm: Tensor | None = None
    coarse: Tensor | None = None

    def __post_init__(self) -> None:
        self._check()
        for name in ("prediction", "reference", "coarse"):
            tensor = getattr(self, name)
            if tensor is not None and tensor.dtype in (torch.float16, torch.bfloat16):
                object.__setattr__(self, name, tensor.float())

    def _check(self) -> None:
        shape = self.prediction.shape
        if len(shape) != 5 or shape[1] != 1:
            raise DosePredictionError(
                f"A loss takes doses of the shape (batch, 1, z, y, x); got {tuple(shape)}."
            )
        for name in ("reference", "region", "coarse"):
            tensor = getattr(self, name)
            if tensor is not None and tensor.shape != shape:
                raise DosePredictionError(
                    f"The loss's {name} has the shape {tuple(tensor.shape)}, its prediction "
                    f"{tuple(shape)}: cut them alike."
                )
        for name in ("structures", "strips"):
            tensor = getattr(self, name)
            if tensor is not None and (
                tensor.shape[0] != shape[0] or tensor.shape[2:] != shape[2:]
            ):
                raise DosePredictionError(
                    f"The loss's {name} have the shape {tuple(tensor.shape)}, which does not fit "
                    f"the prediction's {tuple(shape)}."
                )
        channels = self.structures.shape[1]
        if not channels == len(self.names) == len(self.roles):
            raise DosePredictionError(
                f"A loss got {channels} structures, {len(self.names)} names and "
                f"{len(self.roles)} roles: one of each for every channel."
            )

    def of_coarse(self) -> LossInput:
        """The same batch with the first stage's dose in the prediction's place.

        Raises:
            DosePredictionError: there is no coarse dose.
        """
        if self.coarse is None:
            raise DosePredictionError(
                'A term of the stage "coarse" needs the coarse dose; this network has none.'
            )
        return replace(self, prediction=self.coarse)

    @cached_property
    def dose(self) -> Tensor:
        """The prediction, 0 outside the region, as it will be scored: `(batch, 1, z, y, x)`."""
        return self.prediction * self.region

    @property
    def zero(self) -> Tensor:
        """A scalar 0 through which `backward()` runs."""
        return self.prediction[:0].sum()

    @cached_property
    def voxel_mm3(self) -> list[float]:
        """Each patient's voxel volume.

        Raises:
            DosePredictionError: the spacing was not given.
        """
        if self.spacing_mm is None:
            raise DosePredictionError("This loss measures volumes in cc: give spacing_mm.")
        return self.spacing_mm.double().prod(dim=1).tolist()

    @cached_property
    def structure_doses(self) -> list[StructureDoses]:
        """Doses in every target and organ that is present in the batch, patient by patient."""
        channels = [index for index, role in enumerate(self.roles) if role != "external"]
        if not channels:
            return []
        masks = self.structures
        batch = masks.shape[0]
        inside = majority(masks)
        rows = inside.flatten(2)[:, channels].reshape(batch * len(channels), -1)
        row, voxel = rows.nonzero(as_tuple=True)
        voxels = voxel + (row // len(channels)) * rows.shape[1]
        sizes = torch.bincount(row, minlength=rows.shape[0]).tolist()
        # One gather for all: its backward then fills one gradient, not one for each structure.
        predicted = torch.split(self.dose.reshape(-1).index_select(0, voxels), sizes)
        reference = torch.split(self.reference.reshape(-1).index_select(0, voxels), sizes)
        return [
            StructureDoses(
                number // len(channels),
                channels[number % len(channels)],
                predicted[number],
                reference[number],
            )
            for number, size in enumerate(sizes)
            if size
        ]

    @cached_property
    def sorted_doses(self) -> list[StructureDoses]:
        """`structure_doses`, each dose sorted from the lowest voxel to the highest."""
        return [
            each._replace(
                predicted=torch.sort(each.predicted).values,
                reference=torch.sort(each.reference).values,
            )
            for each in self.structure_doses
        ]

    @cached_property
    def organ_doses(self) -> list[StructureDoses]:
        """`structure_doses` of the organs at risk."""
        return [each for each in self.structure_doses if self.roles[each.channel] == "organ"]

    @cached_property
    def strip_count(self) -> Tensor:
        """In how many strips each voxel lies, `(batch, 1, z, y, x)`.

        Raises:
            DosePredictionError: the strips were not given.
        """
        if self.strips is None:
            raise DosePredictionError("This loss weighs by the tangent strips: give strips.")
        return majority(self.strips).sum(dim=1, keepdim=True).to(self.prediction.dtype)

    def mean_of_patients(
        self, terms: Sequence[tuple[int, Tensor]], skip_absent: bool = False
    ) -> Tensor:
        """Each patient's mean of its terms, then the mean over the batch; without terms 0.

        A patient without terms counts as 0: two ranks of one patient then equal one of two.

        Args:
            terms: patient and scalar.
            skip_absent: leave patients without terms out of the mean instead.
        """
        if not terms:
            return self.zero
        counts = [0] * self.prediction.shape[0]
        for patient, _ in terms:
            counts[patient] += 1
        patients = sum(count > 0 for count in counts) if skip_absent else len(counts)
        weights = [1.0 / (counts[patient] * patients) for patient, _ in terms]
        stacked = torch.stack([value for _, value in terms])
        return (stacked * stacked.new_tensor(weights)).sum()
