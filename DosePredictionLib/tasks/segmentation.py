"""The organs of a protocol on a CT: which voxel belongs to which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..case import Prescription
from ..errors import DosePredictionError, PredictionError
from ..findings import Finding
from ..prediction import Output
from ..structures.protocol import Channel
from ..volume import Volume
from .found_organs import WHOLE_CC, connected, in_one_piece, judged, not_found
from .task import (
    Combined,
    Decoded,
    Decoding,
    LabelledBatch,
    LabelledCase,
    Passes,
    Task,
    Validated,
)

if TYPE_CHECKING:
    from ..losses import LossTerm, WeightedLoss
    from .guidance import DoseGuidance

__all__ = ["Segmentation", "class_map", "dice_of_masks"]

_ORGANS = "organs"
_LOSS, _BALANCE = "dice_ce", "balance"
_SMALLEST_CC = 0.5
_FEWEST = 2  # organs in one piece that a CT of the body site shows
_LARGEST_SHARE = 0.25  # of the body, all organs together; 0.09 to 0.13 on pelvic CTs
_UNLIKELY = 0.02  # a probability that no organ's surface depends on


class Segmentation(Task):
    """A `MultiPassUNet3D` maps the CT to the probabilities of background and organs.

    The target stays the user's and the body is derived from the CT. Labels: `structures`, the
    protocol's masks in its order, `contoured`, which of them the patient has at all, and `dose`,
    the plan's, if the dose guides; `derived`, channels that a guide needs beside contours.
    """

    stages: ClassVar[Mapping[str, str]] = {"": "organs"}
    _guidance: DoseGuidance | None = None

    @cached_property
    def organs(self) -> tuple[Channel, ...]:
        """What is found, in the order of the network's classes from 1 on."""
        return tuple(channel for channel in self.protocol.inputs if channel.role == "organ")

    @cached_property
    def _inputs(self) -> list[int]:
        """Where the organs stand among the protocol's inputs."""
        return [self.protocol.inputs.index(organ) for organ in self.organs]

    @cached_property
    def mirrored_classes(self) -> list[int]:
        """For each class the one that takes its place in the mirrored patient."""
        partner = [self.protocol.mirrored[index] for index in self._inputs]
        return [0, *(1 + self._inputs.index(index) for index in partner)]

    def predict(self, network: nn.Module, x: Tensor, passes: Passes) -> Mapping[str, Tensor]:
        """The last pass's probabilities `(1 + organs, z, y, x)`; averaged with the mirrored ones'.

        Only the CT is looked at, whatever masks the input holds.
        """
        ct = x[:, :1]
        count = 1 if passes.mirrored is None else 2
        with passes.watch(network, count, self.stages, (0.0, 1.0)):
            found = passes.run(network, ct, _probabilities)
            if passes.mirrored is not None:
                turned = passes.run(network, ct.flip(-1), _probabilities).flip(-1)
                found = (found + turned[self.mirrored_classes]) / 2
        return {_ORGANS: found}

    def decode(self, arrays: Mapping[str, Combined], decoding: Decoding) -> Decoded:
        """A segment on the CT's grid for every organ that was found.

        Of an organ that the protocol has once and in one piece, the largest piece is kept. Where
        probabilities meet between the model's voxels, the higher one wins.

        Raises:
            PredictionError: the CT shows another body site: of the organs in one piece hardly one
                was found.
        """
        found = connected(arrays[_ORGANS].mean, self.organs)
        model_grid, grid = decoding.encoded.grid, decoding.bound.case.grid
        best, taken = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
        owner = np.zeros(grid.shape, dtype=np.uint8)
        for index in range(1, len(found)):
            likely = np.where(found[index] > _UNLIKELY, found[index], 0)
            if not likely.any():
                continue
            chance = Volume(likely, model_grid).resampled_to(grid, "linear").array
            taken += chance
            higher = chance > best
            np.copyto(best, chance, where=higher)
            owner[higher] = index
        owner[best <= 1 - taken] = 0  # the background is more likely
        outputs: list[Output] = []
        findings: list[Finding] = []
        for index, organ in enumerate(self.organs, start=1):
            mask = owner == index
            if np.count_nonzero(mask) * grid.voxel_volume_cc < _SMALLEST_CC:
                findings.append(not_found(organ))
                continue
            findings += judged(organ, mask, grid)
            key = organ.name.lower()
            outputs.append(Output(key, Volume(mask, grid), "segment", "none", organ.name))
        body_cc = float(decoding.encoded.external.weights().sum()) * grid.voxel_volume_cc
        self._require_a_pelvis(decoding.bound.case.name, outputs, body_cc)
        return Decoded(tuple(outputs), _prescription(decoding), tuple(findings))

    def _require_a_pelvis(self, case: str, outputs: Sequence[Output], body_cc: float) -> None:
        """Refuse a CT on which hardly a whole organ was found, or too much of the body is organ."""
        volumes_cc = {
            output.structure or output.key: output.volume.grid.voxel_volume_cc
            * np.count_nonzero(output.volume.array)
            for output in outputs
        }
        pieces = [organ.name for organ in self.organs if in_one_piece(organ)]
        whole = [name for name in pieces if volumes_cc.get(name, 0.0) >= WHOLE_CC]
        share = sum(volumes_cc.values()) / max(body_cc, 1e-9)
        if len(whole) >= _FEWEST and share <= _LARGEST_SHARE:
            return
        found = ", ".join(f"{name} {cc:.0f} cc" for name, cc in volumes_cc.items()) or "none"
        raise PredictionError(
            f"{case} shows no {self.protocol.id}, or too little of it: of its {len(self.organs)} "
            f"organs {found} was found, {100 * share:.0f} % of the body. Check which part of the "
            "body the CT shows, that its values are HU, and how the patient lies."
        )

    def begin_training(self, terms: Sequence[LossTerm], options: Mapping[str, Any]) -> None:
        """Take the terms on the last pass (`final`) and on the others (`coarse`).

        Options are `guidance.GuidanceSettings`; none: the dose does not guide.
        """
        super().begin_training(terms, {})
        wrong = [t.loss for t in terms if t.loss != _LOSS or t.start or set(t.options) - {_BALANCE}]
        if wrong:
            raise DosePredictionError(
                f"Segmentation is trained with the loss {_LOSS} from the start, on the stages "
                f"final and coarse, with no option but {_BALANCE}; the recipe has "
                f"{', '.join(wrong)}."
            )
        self._terms = {term.stage: term for term in terms}
        if options:
            from .guidance import DoseGuidance

            self._guidance = DoseGuidance(options, self.protocol, self.encoding)
            if self._guidance.frozen is not None:
                self.frozen["dose"] = self._guidance.frozen.network

    @property
    def needs_plans(self) -> bool:
        """See `Task.needs_plans`: the dose guides."""
        return self._guidance is not None

    def training_step(
        self, network: nn.Module, batch: LabelledBatch, progress: float
    ) -> WeightedLoss:
        """The weighted loss of all passes, and the last one's soft Dice."""
        from ..losses import WeightedLoss
        from ..losses.dice_ce import dice_ce

        logits: tuple[Tensor, ...] = network(batch.input[:, :1])
        labels = class_map(batch.labels["structures"], self._inputs)
        contoured = batch.labels["contoured"][:, self._inputs, 0, 0, 0]
        known = torch.cat((torch.ones_like(contoured[:, :1]), contoured), dim=1)
        guidance = self._guidance
        total, parts = logits[0].new_zeros(()), {}
        with torch.autocast(logits[0].device.type, enabled=False):
            weights = None
            if guidance is not None:
                truth, dose = _organs(labels, known), batch.labels["dose"]
                weights = guidance.weights(truth, dose, batch.spacing_mm, progress)
            for number, each in enumerate(logits, start=1):
                is_last = number == len(logits)
                term = self._terms.get("final" if is_last else "coarse")
                if term is not None:
                    given = weights if is_last else None
                    part = dice_ce(each, labels, known, **term.options, weights=given)
                    total = total + term.weight * part
                    parts[_LOSS if is_last else f"pass_{number}_{_LOSS}"] = part.detach()
        order = sorted(parts, key=lambda name: name != _LOSS)
        parts = {name: parts[name] for name in order}
        parts["dice"] = _hard_dice(logits[-1], labels)
        if guidance is not None:
            from .guidance import Seen, Trained

            soft = guidance.soft(logits[-1], truth, dose)
            contours, derived = batch.labels["structures"], batch.labels.get("derived")
            seen = Seen(batch.input[:, :1], contours, batch.spacing_mm, derived)
            trained = Trained(list(network.parameters()), progress)
            total, more = guidance.added(total, soft, seen, trained)
            parts |= more
        return WeightedLoss(total, parts)

    def shown(self, parts: Mapping[str, Tensor]) -> str:
        """Loss and Dice, for the progress bar."""
        return f"{self.headline(parts):.3f}, Dice {parts['dice'].item():.3f}"

    def validate(self, network: nn.Module, case: LabelledCase) -> Validated:
        """1 − Dice of all organs, Dice of each, and of the passes, on the model's grid."""
        device = next(network.parameters()).device
        logits = network(torch.from_numpy(case.input[:1])[None].to(device))
        structures = case.bound.structures
        terms: dict[str, list[float]] = {"validation_dice_error": []}
        for number, each in enumerate(logits, start=1):
            classes = each[0].argmax(0).cpu().numpy()
            for index, organ in enumerate(self.organs, start=1):
                if organ.name not in structures:
                    continue
                dice = dice_of_masks(classes == index, structures[organ.name].mask.majority())
                terms.setdefault(f"pass_{number}_dice", []).append(dice)
                if number == len(logits):
                    terms["validation_dice_error"].append(1 - dice)
                    terms.setdefault(f"dice_{organ.name.lower()}", []).append(dice)
        return Validated(terms)


def class_map(structures: Tensor, organs: Sequence[int]) -> Tensor:
    """The class of each voxel, `(batch, z, y, x)`, from masks `(batch, channel, z, y, x)`.

    Where two organs overlap, the later one has the voxel: a femoral head before the marrow.

    Args:
        organs: which channels are the classes 1, 2, …
    """
    labels = torch.zeros_like(structures[:, 0], dtype=torch.long)
    for number, channel in enumerate(organs, start=1):
        labels.masked_fill_(structures[:, channel].bool(), number)
    return labels


def dice_of_masks(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """2 |A ∩ B| / (|A| + |B|); 1 where both are empty."""
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / total if total else 1.0


def _probabilities(logits: tuple[Tensor, ...]) -> Tensor:
    return logits[-1][0].float().softmax(0)


def _organs(labels: Tensor, known: Tensor) -> Tensor:
    """Masks of the organs `(batch, organ, z, y, x)` from classes, without those not contoured."""
    classes = torch.arange(1, known.shape[1], device=labels.device)
    masks = labels[:, None] == classes[None, :, None, None, None]
    return (masks & known[:, 1:, None, None, None]).float()


def _hard_dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean Dice of the organs that the batch holds."""
    count = logits.shape[1]
    pairs = labels * count + logits.detach().argmax(1)
    table = torch.bincount(pairs.flatten(), minlength=count * count).view(count, count).float()
    total = table.sum(0) + table.sum(1)
    dice = (2 * table.diagonal() / total.clamp(min=1))[1:]
    present = table.sum(1)[1:] > 0
    return dice[present].mean() if bool(present.any()) else dice.new_ones(())


def _prescription(decoding: Decoding) -> Prescription:
    """The case's own; organs do not depend on it."""
    levels = dict(decoding.expectations.prescription_gy)
    return decoding.bound.prescription or Prescription(levels or {"PTV": 45.0})
