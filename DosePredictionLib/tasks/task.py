"""What every task states: how its networks are trained, run over a volume, and judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..beams.ray_dose import RayDose
from ..case import Prescription
from ..encoding.encoder import EncodedCase, EncodingSettings
from ..errors import DosePredictionError
from ..findings import Finding
from ..interpolation import BetweenVoxels
from ..models.expectations import ModelExpectations
from ..prediction import Output, OutputRole
from ..structures.bound import BoundCase
from ..structures.protocol import StructureProtocol

if TYPE_CHECKING:
    from ..losses import LossTerm, WeightedLoss

__all__ = [
    "Combined",
    "Decoded",
    "Decoding",
    "LabelledBatch",
    "LabelledCase",
    "Passes",
    "Pick",
    "Task",
    "Validated",
]

Pick = Callable[[Any], Tensor]
"""From what a network returns for one volume to what is kept of it: `(…, z, y, x)`, float32."""


def _whole(network: nn.Module, x: Tensor, pick: Pick) -> Tensor:
    return pick(network(x))


def _unwatched(*arguments: object) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True, eq=False)
class Passes:
    """How a task runs a network over a volume; by default plainly, which is what validation does.

    Args:
        run: `run(network, x, pick)` of an input `(1, channel, z, y, x)`: whole, in slabs or slice
            by slice, as the device's memory allows. A network of two dimensions runs as one of
            three.
        watch: `with watch(network, passes, stages, share):` reports progress and asks for
            cancellation at each of the network's layers. `passes`: how often the network will see
            the volume in there. `stages`: the network's part → what it does in words; "" stands
            for every other part. `share`: the part of the whole work, 0…1, that is done in there.
        mirrored: for each channel of the input the one that takes its place in the mirrored
            patient; None: the model does not average with the mirrored patient.
        keep: roles of outputs that are only given when they are asked for.
        generator: for whatever is drawn; on the network's device.
        beams: from the fluence of the case's beams to dose on the model's grid
            (`EncodedCase.beams`); None: the encoding knows no beams.
        earlier: doses of the stages before the last `(stage, z, y, x)`, where they are known; in
            units of the dose scale.
    """

    run: Callable[[nn.Module, Tensor, Pick], Tensor] = _whole
    watch: Callable[
        [nn.Module, int, Mapping[str, str], tuple[float, float]], AbstractContextManager[None]
    ] = _unwatched
    mirrored: Sequence[int] | None = None
    keep: frozenset[OutputRole] = frozenset()
    generator: torch.Generator | None = None
    beams: RayDose | None = None
    earlier: Tensor | None = None


class Combined(NamedTuple):
    """One array of `Task.predict` over all networks of a model, `(…, z, y, x)`.

    `spread` is the standard deviation; None for a single network.
    """

    mean: NDArray[np.float32]
    spread: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Decoding:
    """What a task needs to bring its arrays to the case.

    Args:
        bound: the case, bound to the model's protocol.
        encoded: the case as the network saw it.
        expectations: the cases that the model was made for.
        keep: roles of outputs that are only given when they are asked for.
        between: how a dose between the model's voxels is read.
    """

    bound: BoundCase
    encoded: EncodedCase
    expectations: ModelExpectations
    keep: frozenset[OutputRole] = frozenset()
    between: BetweenVoxels = "linear"


class Decoded(NamedTuple):
    """The named outputs on the case's grid, the prescription that they stand for, and findings."""

    outputs: tuple[Output, ...]
    prescription: Prescription
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, eq=False)
class LabelledBatch:
    """What one training step sees.

    Args:
        input: the network's, `(batch, channel, z, y, x)`.
        labels: what is learned, by name, `(batch, channel, z, y, x)`; a dose in units of the dose
            scale, masks boolean.
        spacing_mm: `(batch, 3)`, x, y, z, on the CPU.
    """

    input: Tensor
    labels: Mapping[str, Tensor]
    spacing_mm: Tensor


@dataclass(frozen=True, eq=False)
class LabelledCase:
    """A whole case, for validation.

    Args:
        input: the network's, float32 `(channel, z, y, x)`.
        bound: the case on the model's grid: plan dose, structures, body and scored region.
        prescription_factor: the case's prescription over the model's.
        earlier: see `Passes.earlier`.
    """

    input: NDArray[np.float32]
    bound: BoundCase
    prescription_factor: float = 1.0
    earlier: NDArray[np.float32] | None = None


class Validated(NamedTuple):
    """How good a network is on one case.

    Args:
        terms: name of a figure → the values of this case. A figure is the mean over the values of
            all cases; by the first one, the lower the better, checkpoints are chosen.
        dose_gy: the dose as prediction would write it, for pictures; None: there is none.
    """

    terms: Mapping[str, Sequence[float]]
    dose_gy: NDArray[np.float32] | None = None


@dataclass(eq=False)
class Task(ABC):
    """One kind of prediction.

    Args:
        protocol: whose channels the networks see.
        encoding: how a case becomes their input.

    Attributes:
        frozen: auxiliary models by name, filled by `begin_training` or a subclass: moved to the
            device with the task, never trained, in no checkpoint.
        stages: a part of the network → what it does in words; "" stands for every other part.
        unit: of `headline`.
        drawn: arrays of `predict` that are samples. The mean of two samples is none: of a model of
            several networks one draws, which the seed chooses.
    """

    protocol: StructureProtocol
    encoding: EncodingSettings
    frozen: dict[str, nn.Module] = field(default_factory=dict, init=False)

    stages: ClassVar[Mapping[str, str]] = {"": "prediction"}
    unit: ClassVar[str] = ""
    drawn: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def predict(self, network: nn.Module, x: Tensor, passes: Passes) -> Mapping[str, Tensor]:
        """Run one network over an encoded case, `(1, channel, z, y, x)`.

        Returns:
            Arrays by name, `(…, z, y, x)`, float32, the most important one first. They are
            averaged over the networks of a model, but for those in `drawn`, and then decoded.

        Raises:
            PredictionCancelled: the caller cancelled.
        """

    @abstractmethod
    def decode(self, arrays: Mapping[str, Combined], decoding: Decoding) -> Decoded:
        """From the arrays on the model's grid to named outputs on the case's own."""

    @abstractmethod
    def training_step(
        self, network: nn.Module, batch: LabelledBatch, progress: float
    ) -> WeightedLoss:
        """The loss of a batch, and its parts by name.

        Args:
            progress: share of the training that is done, 0…1.
        """

    @abstractmethod
    def validate(self, network: nn.Module, case: LabelledCase) -> Validated:
        """Judge a network on a whole case; called without gradients."""

    def begin_training(self, terms: Sequence[LossTerm], options: Mapping[str, Any]) -> None:
        """Make what training alone needs: the loss, frozen auxiliary models.

        Args:
            terms: the recipe's loss.
            options: what the recipe sets for this task.

        Raises:
            DosePredictionError: the task takes no such term or option.
        """
        if options:
            raise DosePredictionError(
                f"{type(self).__name__} takes no task_options; the recipe sets "
                f"{', '.join(sorted(options))}. Leave them out."
            )

    @property
    def needs_plans(self) -> bool:
        """Whether contours are learned with the help of plan doses, which cases must then have."""
        return False

    def headline(self, parts: Mapping[str, Tensor]) -> float:
        """What a progress bar shows of a step's loss, in `unit`: the first part of it."""
        return next(iter(parts.values())).item()

    def shown(self, parts: Mapping[str, Tensor]) -> str:
        """What a progress bar shows of a step's loss, in words."""
        return f"{self.headline(parts):.2f} {self.unit}".strip()

    def arrays_of(
        self,
        network: nn.Module,
        encoded: NDArray[np.float32],
        earlier: NDArray[np.float32] | None = None,
    ) -> dict[str, NDArray[np.float32]]:
        """What `predict` gives for an encoded case `(channel, z, y, x)`, run plainly.

        Args:
            earlier: see `Passes.earlier`.
        """
        device = next(network.parameters()).device
        x = torch.from_numpy(encoded)[None].to(device, memory_format=torch.channels_last_3d)
        known = None if earlier is None else torch.from_numpy(earlier).to(device)
        found = self.predict(network, x, Passes(earlier=known))
        return {name: values.cpu().numpy() for name, values in found.items()}

    def dose_gy(
        self, arrays: Mapping[str, NDArray[np.float32]], prescription_factor: float = 1.0
    ) -> NDArray[np.float32]:
        """The dose `(z, y, x)` on the model's grid, Gy, unclamped, from what `predict` returns.

        Args:
            prescription_factor: the case's prescription over the model's.

        Raises:
            DosePredictionError: the task predicts none.
        """
        raise DosePredictionError(
            f"{type(self).__name__} predicts no dose: there is none to score. Evaluate a model "
            "of doses."
        )

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """Move the frozen models; they stay in eval mode and take no gradient of their own."""
        for module in self.frozen.values():
            module.requires_grad_(False).eval().to(device, dtype)
