"""Segmentation under guidance of the dose: a frozen dose model sees the contours in the making."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..encoding.beams import beam_inputs
from ..encoding.channels.base import Source
from ..encoding.channels.registry import ModelChannels, model_channels
from ..encoding.settings import EncodingSettings
from ..errors import DosePredictionError, ModelError
from ..losses.dose_guidance import (
    dose_weights,
    guided_share,
    near_surfaces,
    plan_effect,
    ramp,
    reading_effect,
)
from ..models.dose_model import DoseModel
from ..schema import Length, Range, from_json, validated
from ..structures.protocol import StructureProtocol

__all__ = ["DoseGuidance", "Effects", "FrozenDose", "GuidanceSettings", "Seen", "Soft", "Trained"]


@dataclass(frozen=True)
@validated
class GuidanceSettings:
    """`task_options` of a segmentation whose training knows doses.

    Args:
        kind: `guided`: by what contours cost in dose. `weighted`: voxels weigh by the plan's dose,
            without a dose model. `published`: the dose term as DOSELO published it, on thresholded
            contours and without a gradient; it changes nothing and is there to show that.
        dose_model: name or folder of a dose model that was trained on occupancies; `weighted` needs
            none.
        weight: λ, of the dose terms, 1/Gy.
    """

    kind: Literal["guided", "weighted", "published"] = "guided"
    dose_model: Annotated[str, Length(0, 4096)] = ""
    weight: Annotated[float, Range(0, 1e6, above=True)] = 1.0


class Soft(NamedTuple):
    """Contours of a batch in the making, and what they should be.

    Args:
        chances: of the organs, `(batch, organ, z, y, x)`.
        truth: likewise, 0 or 1; empty where an organ was not contoured.
        dose_gy: the plan's, `(batch, 1, z, y, x)`.
    """

    chances: Tensor
    truth: Tensor
    dose_gy: Tensor


class Seen(NamedTuple):
    """What a frozen dose model sees of a batch.

    Args:
        ct: `(batch, 1, z, y, x)`, scaled as the encoding does.
        structures: masks of the protocol's inputs, `(batch, channel, z, y, x)`.
        spacing_mm: `(batch, 3)`, x, y, z, on the CPU.
        derived: channels of beams, as the segmentation's encoding orders them, `(batch, channel, z,
            y, x)`; None: it makes none.
    """

    ct: Tensor
    structures: Tensor
    spacing_mm: Tensor
    derived: Tensor | None = None

    def of(self, patients: Tensor) -> Seen:
        """Some of the patients, by a boolean `(batch,)`."""
        derived = None if self.derived is None else self.derived[patients]
        spacing_mm = self.spacing_mm[patients.cpu()]
        return Seen(self.ct[patients], self.structures[patients], spacing_mm, derived)


class FrozenDose:
    """The dose that a frozen model predicts for soft organs.

    Target, strips, distances, beams, body and CT are the reference's; no wishes are stated.
    Distances are those of the voxels of the crop, however finely the model's own are sampled.

    Args:
        model: name or folder.
        protocol, encoding: of the segmentation.

    Raises:
        ModelError: the model does not fit: above all, it was trained on binary masks. Between 0
            and 1 it has learned nothing, so that its gradient there means nothing.
    """

    def __init__(self, model: str, protocol: StructureProtocol, encoding: EncodingSettings) -> None:
        found = DoseModel.load(model)
        found.require("dose")
        settings = found.manifest.encoding
        _require_fitting(found, protocol, encoding)
        plain = replace(settings, derived=replace(settings.derived, refinement=1))
        self.channels: ModelChannels = model_channels(protocol, plain)
        self.protocol = protocol
        self.dose_scale_gy, self._reach_mm = settings.dose_scale_gy, settings.grid.reach_mm
        self.network = found.network()
        inputs = protocol.inputs
        self._organs = [i for i, channel in enumerate(inputs) if channel.role == "organ"]
        self._targets = [i for i, channel in enumerate(inputs) if channel.role == "target"]
        (self._body,) = (i for i, channel in enumerate(inputs) if channel.role == "external")
        made = model_channels(protocol, encoding)
        given = [made.channels[i].name for i in made.indices("derived")]
        names = [channel.name for channel in self.channels.channels]
        self._beams = [(names.index(name), i) for i, name in enumerate(given) if name in names]

    def reference(self, seen: Seen) -> Tensor:
        """The model's input for the true contours, `(batch, channel, z, y, x)`."""
        ct, masks = seen.ct, seen.structures.cpu().numpy().astype(np.float32)
        settings, made = self.channels.settings, []
        given = {*self.channels.indices("ct"), *(own for own, _ in self._beams)}
        others = [i for i in range(len(self.channels)) if i not in given]
        for patient, spacing in zip(masks, seen.spacing_mm.tolist(), strict=True):
            body = patient[self._body] > 0
            source = Source(self.protocol, settings, tuple(spacing), patient, body)
            x = np.zeros((len(self.channels), *body.shape), dtype=np.float32)
            self.channels.compute(others, source, x)
            made.append(torch.from_numpy(x))
        result = torch.stack(made).to(ct)
        result[:, self.channels.indices("ct")] = ct
        for own, theirs in self._beams:
            assert seen.derived is not None
            result[:, own] = seen.derived[:, theirs].to(result)
        return result

    def reached(self, structures: NDArray[np.bool_], spacing_mm: Sequence[float]) -> slice:
        """The slices of a case that the model's own grid would hold, and a few more.

        Args:
            structures: masks of the protocol's inputs `(channel, z, y, x)`.
        """
        slices = structures.shape[1]
        held = np.flatnonzero(structures[self._targets].any(axis=(0, 2, 3)))
        if self._reach_mm is None or not held.size:
            return slice(0, slices)
        reach = math.ceil(self._reach_mm / spacing_mm[2])
        low, high = max(held[0] - reach, 0), min(held[-1] + 1 + reach, slices)
        divisor = int(self.network.divisor)
        count = -(-(high - low) // divisor) * divisor
        low = max(min(low, slices - count), 0)
        return slice(int(low), int(min(low + count, slices)))

    def has_target(self, structures: Tensor) -> Tensor:
        """Which patients of a batch have a target in their crop, `(batch,)`: others get no plan."""
        return structures[:, self._targets].flatten(1).any(1)

    def dose_gy(self, reference: Tensor, chances: Tensor | None = None) -> Tensor:
        """The dose `(batch, 1, z, y, x)`, Gy; 0 outside the body.

        Args:
            reference: `reference`'s.
            chances: occupancies of the organs in place of the true ones; the gradient reaches them.
        """
        first = self.channels.structures.start
        x = reference
        if chances is not None:
            channels = list(reference.unbind(1))
            for number, index in enumerate(self._organs):
                channels[first + index] = chances[:, number].to(reference.dtype)
            x = torch.stack(channels, dim=1)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        dose = self.network(x).final.to(reference.dtype)
        body = reference[:, first + self._body].unsqueeze(1)
        scaled: Tensor = dose * body * self.dose_scale_gy
        return scaled


class DoseGuidance:
    """Adds the dose to the loss of a segmentation, in one of three ways (`GuidanceSettings`).

    Args:
        options: of the recipe.
        protocol, encoding: of the segmentation.

    Raises:
        DosePredictionError: an option is unknown, or the dose model does not fit.
    """

    def __init__(
        self, options: Mapping[str, Any], protocol: StructureProtocol, encoding: EncodingSettings
    ) -> None:
        self.settings = from_json(GuidanceSettings, dict(options), "task_options")
        self.frozen: FrozenDose | None = None
        self._scale_gy = encoding.dose_scale_gy
        if self.settings.kind == "weighted":
            return
        if not self.settings.dose_model:
            raise DosePredictionError(
                f"A segmentation of the kind {self.settings.kind} needs a dose model: set "
                "task_options.dose_model to the folder of one that was trained on occupancies "
                "(recipe pelvis_occupancy)."
            )
        self.frozen = FrozenDose(self.settings.dose_model, protocol, encoding)

    def weights(
        self, truth: Tensor, dose: Tensor, spacing_mm: Tensor, progress: float
    ) -> Tensor | None:
        """`weighted`: what each voxel weighs, `(batch, z, y, x)`; None: all the same."""
        share = ramp(progress)
        if self.settings.kind != "weighted" or not share:
            return None
        weights = dose_weights(dose, truth, near_surfaces(truth, spacing_mm))
        return 1 + share * (weights - 1)

    def soft(self, logits: Tensor, truth: Tensor, dose: Tensor) -> Soft:
        """What the last pass believes, beside the truth."""
        return Soft(logits.float().softmax(1)[:, 1:], truth, dose * self._scale_gy)

    def effects(self, soft: Soft, batch: Seen) -> Effects:
        """What soft contours cost, Gy; of the plan as far as patients have a target in the crop."""
        assert self.frozen is not None
        reading = reading_effect(soft.chances, soft.dose_gy, soft.truth)
        chosen = self.frozen.has_target(batch.structures)
        if not bool(chosen.any()):
            return Effects(reading.new_zeros(()), reading)
        reference = self.frozen.reference(batch.of(chosen))
        with torch.no_grad():
            on_truth = self.frozen.dose_gy(reference)
        on_chances = self.frozen.dose_gy(reference, soft.chances[chosen])
        plan = plan_effect(on_chances, on_truth, soft.truth[chosen])
        return Effects(plan * chosen.float().mean(), reading)

    def added(
        self, overlap: Tensor, soft: Soft, batch: Seen, trained: Trained
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss with what the dose adds to it, and parts for the log.

        Args:
            overlap: the loss without doses.
            soft: the last pass's contours.
            trained: the network in training.
        """
        if self.frozen is None or not ramp(trained.progress):
            return overlap, {}
        if self.settings.kind == "published":
            constant, parts = self._published(soft, batch)
            return overlap + constant, parts
        return self._guided(overlap, soft, batch, trained)

    def _guided(
        self, overlap: Tensor, soft: Soft, batch: Seen, trained: Trained
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The guided loss.

        Both gradients are carried to the weights, where their norms are balanced. The loss that is
        returned is linear in the weights about where they are, with the balanced gradient: so the
        network is differentiated twice, not three times.
        """
        term, cost = self.guiding(soft, batch)
        parameters, share = trained.parameters, ramp(trained.progress)
        theirs = _gradients(overlap, parameters, retain_graph=True)
        ours = _gradients(term, parameters)
        factor, ratio = guided_share(theirs, ours, self.settings.weight)
        factor, ratio = factor * share, ratio * share
        value = overlap.detach() + factor * (cost.plan + cost.reading).detach()
        linear = torch.stack(
            [
                ((p - p.detach()) * (one + factor * other)).sum()
                for p, one, other in zip(parameters, theirs, ours, strict=True)
            ]
        ).sum()
        parts = cost.parts() | {"dose_gradient_ratio": overlap.new_tensor(ratio)}
        return value + linear, parts

    def guiding(self, soft: Soft, batch: Seen) -> tuple[Tensor, Effects]:
        """A scalar whose gradient is that of both effects near the true surfaces, and 0 far away.

        The effects are differentiated to the probabilities and forgotten: the frozen model's
        activations do not wait for the network's backward pass.
        """
        leaf = soft.chances.detach().requires_grad_()
        cost = self.effects(soft._replace(chances=leaf), batch)
        (slope,) = torch.autograd.grad(cost.plan + cost.reading, leaf)
        slope = slope * near_surfaces(soft.truth, batch.spacing_mm)
        return (soft.chances * slope).sum(), cost

    @torch.no_grad()
    def _published(self, soft: Soft, batch: Seen) -> tuple[Tensor, dict[str, Tensor]]:
        """The dose term as published: of thresholded contours, outside the graph; a constant."""
        hard = soft._replace(chances=(soft.chances > 0.5).float())
        cost = self.effects(hard, batch)
        return self.settings.weight * (cost.plan + cost.reading), cost.parts()


class Effects(NamedTuple):
    """What contours cost: of the plan that is made for them, and of reading the dose on them."""

    plan: Tensor
    reading: Tensor

    def parts(self) -> dict[str, Tensor]:
        """For the log."""
        return {
            "plan_effect_gy": self.plan.detach(),
            "reading_effect_gy": self.reading.detach(),
        }


class Trained(NamedTuple):
    """The parameters in training, and the share of it that is done."""

    parameters: Sequence[nn.Parameter]
    progress: float


def _gradients(
    value: Tensor, parameters: Sequence[nn.Parameter], retain_graph: bool = False
) -> list[Tensor]:
    found = torch.autograd.grad(value, parameters, retain_graph=retain_graph, allow_unused=True)
    return [
        torch.zeros_like(p) if each is None else each
        for p, each in zip(parameters, found, strict=True)
    ]


def _require_fitting(
    model: DoseModel, protocol: StructureProtocol, encoding: EncodingSettings
) -> None:
    """Refuse a dose model that cannot guide.

    Raises:
        ModelError: names what does not fit, and the remedy.
    """
    theirs, name = model.manifest.encoding, model.manifest.name
    if theirs.masks != "occupancy":
        raise ModelError(
            f"{name} was trained on {theirs.masks} masks: between 0 and 1 it has learned nothing, "
            "and its gradient there would guide nowhere. Train one on occupancies "
            "(python -m training train --recipe pelvis_occupancy)."
        )
    wrong = []
    if model.manifest.protocol != protocol.id:
        wrong.append(f"its protocol is {model.manifest.protocol}, not {protocol.id}")
    if model.manifest.members:
        wrong.append("it is an ensemble")
    if other := sorted(set(theirs.further) - {"beam", "wish"}):
        wrong.append(f"it needs {', '.join(other)} beside contours")
    beams = beam_inputs(theirs)
    if beams is not None and beams != beam_inputs(encoding):
        own = json.dumps(theirs.further["beam"])
        wrong.append(f"it sees beams (add --set 'encoding.further.beam={own}')")
    if theirs.grid.spacing_mm != encoding.grid.spacing_mm:
        wrong.append(f"its voxels are {theirs.grid.spacing_mm} mm, not {encoding.grid.spacing_mm}")
    if theirs.ct_window_hu != encoding.ct_window_hu:
        wrong.append(f"its CT window is {theirs.ct_window_hu}, not {encoding.ct_window_hu}")
    if theirs.air_outside_external != encoding.air_outside_external:
        wrong.append("it sees the CT outside the external contour otherwise")
    if protocol.external is None:
        wrong.append(f"the protocol {protocol.id} has no external contour")
    if wrong:
        raise ModelError(f"{name} cannot guide this recipe: {'; '.join(wrong)}.")
