"""From a case and a model to a prediction: device, precision, fallbacks, progress, cancel."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..beams.ray_dose import RayDose
from ..case import Case, Prescription
from ..checks.body_site import OTHER_SITE
from ..checks.distribution import usable_distribution
from ..checks.registry import check_case
from ..encoding.encoder import EncodedCase, encode, mirrored_channels
from ..encoding.prescription import require_each_level
from ..errors import MemoryExhaustedError, ModelError
from ..findings import Finding, each_once, worst_first
from ..mask import majority
from ..memory import available_memory_bytes
from ..models.dose_model import DoseModel
from ..models.heads import usable_heads
from ..networks import ARCHITECTURES, DoseNetwork, cast_network, fold_batch_norm
from ..prediction import OutputRole, Prediction
from ..structures.bound import BoundCase, bind, empty_structures
from ..structures.mapping import fitting_protocol
from ..tasks.registry import task_class, task_entry
from ..tasks.task import Combined, Decoding, Passes, Pick
from ..volume import Volume
from .clock import Clock
from .device import (
    DTYPES,
    Precision,
    has_hardware_bf16,
    resolve_device,
    resolve_precision,
)
from .ensemble import RunningSpread
from .running import Cancelled, Progress, Watch, run_tiled, run_whole, tile_starts
from .sampling import BEFORE_SAMPLES, Drawing, head_outputs, require_samples
from .slicewise import SLICES_AT_ONCE, volume_format
from .stated import checked, refuse_blocking, require_finite, with_strip_margin

__all__ = ["Inference", "Predictor", "default_model", "predict"]

_TILE, _OVERLAP = 64, 32

_SHARE_OF_16_BITS = 0.7
"""Peak memory in 16 bits over that in float32: the dose and the features before it are float32."""


class Inference(NamedTuple):
    """What the task's networks gave on the model's grid, and how it was computed.

    `arrays` are those of `Task.predict` by name, over all networks, the most important one first.
    """

    arrays: Mapping[str, Combined]
    device: str
    precision: str
    fallbacks: tuple[str, ...]

    @property
    def output(self) -> NDArray[np.float32]:
        """The first array `(…, z, y, x)`, the mean over all networks."""
        return next(iter(self.arrays.values())).mean


@dataclass(frozen=True, eq=False)
class _Request:
    """What one run of the networks is asked for."""

    progress: Progress | None = None
    cancelled: Cancelled | None = None
    keep: frozenset[OutputRole] = frozenset()
    seed: int = 0
    beams: RayDose | None = None
    earlier: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class _Attempt:
    """One way to run the network, with what led to it in words."""

    device: torch.device
    precision: Precision
    tiled: bool
    fallback: str = ""


class Predictor:
    """A model ready to predict: weights verified, batch norm folded, layout chosen.

    Args:
        model: a model, its name, or the path of its folder.
        device: `auto`, `cpu`, `cuda` or `cuda:n`.
        precision: `auto` (16 bits where the hardware has them and the network keeps its dose),
            `fp32` (TF32 off), `bf16`, `fp16`.

    Raises:
        ModelError: the model is missing or damaged, or of a task that this version does not know.
        PredictionError: the device or the precision is not to be had.
    """

    def __init__(
        self, model: DoseModel | str, device: str = "auto", precision: str = "auto"
    ) -> None:
        self.model = model if isinstance(model, DoseModel) else DoseModel.load(model)
        self.device = resolve_device(device)
        self._keeps_dose = _keeps_dose_in_16_bits(self.model)
        self.precision = resolve_precision(precision, self.device, self._keeps_dose)
        manifest = self.model.manifest
        of = f"The model {manifest.name}"
        self._required = task_entry(manifest.task, of).required(self.model.protocol)
        self.task = task_class(manifest.task, of)(self.model.protocol, manifest.encoding)
        self._mirrored: list[int] | None = None
        if manifest.mirror:
            self._mirrored = mirrored_channels(self.model.protocol, manifest.encoding)
        self._placed: tuple[tuple[torch.device, Precision], list[DoseNetwork]] | None = None
        networks = self._networks(_Attempt(self.device, self.precision, tiled=False))
        self._bytes_per_voxel = max(network.bytes_per_voxel for network in networks)
        self._divisor = math.lcm(*(network.divisor for network in networks))
        self._is_slicewise = all(network.dimensions == 2 for network in networks)
        heads, self._unusable = usable_heads(self.model)
        self.heads = {name: Predictor(head, device, precision) for name, head in heads.items()}

    def predict(
        self,
        case: Case,
        mapping: Mapping[str, str | None] | None = None,
        prescription: Prescription | None = None,
        recompute_strips: bool = False,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        strip_margin_mm: float | None = None,
        keep_coarse: bool = False,
        keep_strips: bool = False,
        keep: Collection[OutputRole] = (),
        seed: int = 0,
        force_model: bool = False,
        samples: int = 0,
    ) -> Prediction:
        """Predict a case: its dose, or whatever the model's task gives.

        Args:
            mapping: channel → structure where the automatic choice is overruled; None leaves a
                channel empty.
            prescription: overrules the case's own.
            recompute_strips: ignore strip masks that came with the case.
            progress: called with the share done and the stage in words.
            cancelled: asked between layers; true ends the work.
            strip_margin_mm: margin of the strips instead of the model's own; strip masks that came
                with the case are ignored then.
            keep_coarse: short for the role `coarse dose` in `keep`.
            keep_strips: return the strip masks that the network received, too.
            keep: roles of outputs that are only given when they are asked for.
            seed: of whatever the task draws.
            force_model: a model of another body site is a warning, not a refusal.
            samples: how many doses are drawn about the predicted one, by the seeds from `seed` on.

        Raises:
            MappingError: structures and channels do not fit.
            CaseError: the prescription lacks a level; see `require_each_level`.
            ModelError: samples are asked of a model that draws none.
            PredictionError: a check blocks, an output is not finite or cannot be kept, or memory
                runs out for good.
            PredictionCancelled: `cancelled()` returned true.
        """
        require_samples(self.model.manifest.name, self.heads, samples)
        clock = Clock()
        report = progress or (lambda share, stage: None)
        if prescription is not None:
            case = replace(case, prescription=prescription)
        report(0.0, "checks and encoding")
        bound = bind(case, self.model.protocol, mapping, required=self._required)
        if prescription is not None:
            require_each_level(bound, self.model.manifest.expectations.prescription_gy)
        encoded, findings = self._encoded(bound, recompute_strips, strip_margin_mm, force_model)
        clock.lap("encode")
        asked: list[OutputRole] = [*keep, "coarse dose"] if keep_coarse else [*keep]
        wanted = frozenset(asked)
        first = (
            report if not samples else lambda share, stage: report(share * BEFORE_SAMPLES, stage)
        )
        request = _Request(first, cancelled, wanted, seed, encoded.beams)
        inference = self._infer(encoded.input, request)
        require_finite(case.name, inference)
        clock.lap("inference")
        manifest = self.model.manifest
        decoding = Decoding(bound, encoded, manifest.expectations, wanted, manifest.between_voxels)
        decoded = self.task.decode(inference.arrays, decoding)
        findings += [*decoded.findings, *checked(bound, decoded)]
        drawing = Drawing(samples, seed, progress, cancelled)
        further = head_outputs(self.heads, inference.output, decoding, drawing)
        if further:
            clock.lap("heads")
        strips = self._strips(encoded, case) if keep_strips else None
        clock.lap("decode")
        assert bound.mapping is not None
        return Prediction(
            case=case,
            model=self.model,
            outputs=(*decoded.outputs, *further),
            mapping=bound.mapping,
            prescription=decoded.prescription,
            external=encoded.external,
            findings=tuple(worst_first(each_once(findings))),
            fallbacks=inference.fallbacks,
            device=inference.device,
            precision=inference.precision,
            seconds=clock.seconds(),
            strips=strips,
            seed=seed if samples else None,
        )

    def _encoded(
        self, bound: BoundCase, recompute_strips: bool, strip_margin_mm: float | None, force: bool
    ) -> tuple[EncodedCase, list[Finding]]:
        """The case as the networks see it, and what was noticed on the way.

        Raises:
            PredictionError: a check blocks.
        """
        manifest = self.model.manifest
        findings = [*self.model.findings, *self._unusable, *bound.findings]
        distribution, unusable = usable_distribution(self.model)
        findings += unusable
        for found in check_case(bound, manifest.expectations, distribution):
            forced = force and found.id == OTHER_SITE
            findings.append(replace(found, severity="warning") if forced else found)
        settings, stated = with_strip_margin(manifest.encoding, strip_margin_mm)
        findings += stated
        recompute = recompute_strips or strip_margin_mm is not None
        encoded = encode(bound, settings, self._divisor, recompute)
        findings += encoded.findings
        refuse_blocking(bound.case.name, findings)
        return encoded, findings

    def _strips(self, encoded: EncodedCase, case: Case) -> dict[int, Volume]:
        """The strip masks that the network received, on the case's grid."""
        angles = self.model.manifest.encoding.strips.angles
        masks = majority(encoded.input[encoded.channels.indices("strips")])
        return {
            angle: Volume(mask, encoded.grid).resampled_to(case.grid, "nearest")
            for angle, mask in zip(angles, masks, strict=True)
        }

    def infer(
        self,
        encoded: NDArray[np.float32],
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        keep: Collection[OutputRole] = (),
        seed: int = 0,
        earlier: NDArray[np.float32] | None = None,
    ) -> Inference:
        """Run the networks; steps down when memory runs out.

        Args:
            encoded: the network's input `(channel, z, y, x)`.
            keep: roles of outputs that are only given when they are asked for.
            seed: of whatever the task draws.
            earlier: doses of the stages before the last, where they are known.

        Raises:
            MemoryExhaustedError: memory runs out for good.
            PredictionCancelled: `cancelled()` returned true.
        """
        request = _Request(progress, cancelled, frozenset(keep), seed, earlier=earlier)
        return self._infer(encoded, request)

    def dose_of(self, encoded: EncodedCase) -> NDArray[np.float32]:
        """The first array of an encoded case with its beams, `(z, y, x)`; raises as `infer`."""
        return self._infer(encoded.input, _Request(beams=encoded.beams)).output

    def _infer(self, encoded: NDArray[np.float32], request: _Request) -> Inference:
        fallbacks: list[str] = []
        for attempt in self._attempts(encoded.shape[1:]):
            if attempt.fallback:
                fallbacks.append(attempt.fallback)
            try:
                arrays = self._run(encoded, attempt, request)
                device, precision = str(attempt.device), attempt.precision
                return Inference(arrays, device, precision, tuple(fallbacks))
            except (MemoryError, RuntimeError) as exception:
                if not _is_out_of_memory(exception):
                    raise
                self._placed = None
                if attempt.device.type == "cuda":
                    torch.cuda.empty_cache()
        raise MemoryExhaustedError(
            f"Memory ran out even so: {'; '.join(fallbacks) or 'no fallback was left'}. Close "
            "other programs, or predict on a machine with more memory.",
            fallbacks,
        )

    def _attempts(self, shape: tuple[int, ...]) -> list[_Attempt]:
        """What to try, in order: as asked, less precision, tiles, then the CPU.

        Args:
            shape: of the volume, (z, y, x).
        """
        device, precision = self.device, self.precision
        attempts = [_Attempt(device, precision, tiled=False)]
        if device.type == "cuda" and precision == "fp32":
            precision = resolve_precision("auto", device)
            text = f"{device} ran out of memory in fp32; {precision} instead"
            attempts.append(_Attempt(device, precision, False, text))
        pieces = f"slabs of {_TILE} slices that overlap by {_OVERLAP}"
        together = shape[0]
        if self._is_slicewise:
            pieces, together = "one slice after the other", min(shape[0], SLICES_AT_ONCE)
        text = f"{device} ran out of memory; {pieces}"
        attempts.append(_Attempt(device, precision, True, text))
        if device.type == "cuda":
            on_cpu = resolve_precision("auto", torch.device("cpu"), self._keeps_dose)
            text = f"{device} ran out of memory even so; the CPU in {on_cpu} instead"
            attempts.append(_Attempt(torch.device("cpu"), on_cpu, False, text))
        elif _exceeds_memory(together * shape[1] * shape[2] * self._bytes_per_voxel, precision):
            # Linux would not refuse the memory but end the process: step down beforehand.
            text = f"the memory left would not do; {pieces}"
            attempts = [_Attempt(device, precision, True, text)]
        return attempts

    def _run(
        self, encoded: NDArray[np.float32], attempt: _Attempt, request: _Request
    ) -> dict[str, Combined]:
        """The task's arrays, from every network of the model; one network's are held at a time."""
        networks = self._networks(attempt)
        self.task.to(attempt.device, DTYPES[attempt.precision])
        layout = volume_format(networks[0])
        x = torch.from_numpy(encoded)[None]
        x = x.to(attempt.device, DTYPES[attempt.precision], memory_format=layout)
        slices = x.shape[2]
        if attempt.tiled and not self._is_slicewise:
            slices = _tiled_slices(slices)
        passes = Passes(
            run=_run_tiled if attempt.tiled else _run_whole,
            mirrored=self._mirrored,
            keep=request.keep,
            generator=torch.Generator(attempt.device).manual_seed(request.seed),
            beams=request.beams,
            earlier=None if request.earlier is None else torch.from_numpy(request.earlier),
        )
        found: dict[str, RunningSpread] = {}
        draws = request.seed % len(networks)  # a sample is one network's
        for index, network in enumerate(networks):
            part = _part(request.progress, index, len(networks))
            watch = Watch(slices * x.shape[3] * x.shape[4], part, request.cancelled)
            keep = request.keep if index == draws else request.keep - {"sample"}
            with torch.inference_mode(), _plain_float32():
                arrays = self.task.predict(network, x, replace(passes, watch=watch, keep=keep))
                for name, values in arrays.items():
                    if index == draws or name not in self.task.drawn:
                        found.setdefault(name, RunningSpread()).add(values.cpu().numpy())
                del arrays
        return {name: Combined(each.mean, each.spread) for name, each in found.items()}

    def _networks(self, attempt: _Attempt) -> list[DoseNetwork]:
        """The folded networks as an attempt wants them; kept for the next."""
        key = (attempt.device, attempt.precision)
        if self._placed is None or self._placed[0] != key:
            self._placed = None  # one set of networks at a time in the device's memory
            networks = []
            for member in self.model.members:
                network = fold_batch_norm(self.model.network(member))
                fast = attempt.device.type != "cpu" or has_hardware_bf16()
                cast_network(network, DTYPES[attempt.precision], fast).to(attempt.device)
                network.to(memory_format=network.memory_format)  # type: ignore[call-overload]
                networks.append(network)
            self._placed = (key, networks)
        return self._placed[1]


def _keeps_dose_in_16_bits(model: DoseModel) -> bool:
    """Whether all of a model's networks do; an unknown architecture is refused when it is built."""
    own = model.manifest.architecture
    known = [ARCHITECTURES.get((member.architecture or own).name) for member in model.members]
    return all(each is not None and each.config.keeps_dose_in_16_bits for each in known)


def _part(progress: Progress | None, index: int, count: int) -> Progress | None:
    """Progress of one network among several, as a share of all."""
    if progress is None or count == 1:
        return progress
    return lambda share, stage: progress((index + share) / count, stage)


def predict(
    case: Case,
    model: DoseModel | str | None = None,
    mapping: Mapping[str, str | None] | None = None,
    prescription: Prescription | None = None,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Prediction:
    """Predict one case; `Predictor` keeps the model for several.

    Without a model, the default one of the protocol that fits the case's structures is used.
    """
    chosen = default_model(case, mapping) if model is None else model
    predictor = Predictor(chosen, device, precision)
    return predictor.predict(case, mapping, prescription, progress=progress, cancelled=cancelled)


def default_model(case: Case, mapping: Mapping[str, str | None] | None = None) -> DoseModel:
    """The default model of doses of the protocol whose channels the case's structures fill best.

    The protocol is chosen first, among all: a pelvis never goes to a head-and-neck model for want
    of one of its own.

    Raises:
        MappingError: no protocol fits; the message says what each lacked.
        ModelError: the protocol that fits has no default model.
    """
    protocol = fitting_protocol(list(case.structures), mapping, empty_structures(case))
    for model in DoseModel.installed():
        manifest = model.manifest
        gives = task_entry(manifest.task).gives
        if manifest.default and manifest.protocol == protocol.id and gives == "dose":
            return model
    raise ModelError(
        f"No installed model fits the structures of {case.name}: they are those of the protocol "
        f"{protocol.id}, which has no default model. Name one (--model), or import a checkpoint "
        "(models import)."
    )


def _is_out_of_memory(exception: BaseException) -> bool:
    if isinstance(exception, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(exception).lower()
    return "out of memory" in text or "not enough memory" in text or "can't allocate" in text


def _exceeds_memory(float32_bytes: int, precision: Precision) -> bool:
    available = available_memory_bytes()
    needed = float32_bytes * (1 if precision == "fp32" else _SHARE_OF_16_BITS)
    return available is not None and needed > available


def _run_whole(network: nn.Module, x: Tensor, pick: Pick) -> Tensor:
    return run_whole(network, x, pick)


def _run_tiled(network: nn.Module, x: Tensor, pick: Pick) -> Tensor:
    return run_tiled(network, x, _TILE, _OVERLAP, pick)


def _tiled_slices(depth: int) -> int:
    """Slices that all slabs together run over."""
    return sum(min(_TILE, depth - start) for start in tile_starts(depth, _TILE, _OVERLAP))


@contextmanager
def _plain_float32() -> Iterator[None]:
    """TF32 off for the time of a run: `fp32` means full float32."""
    backends: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    saved = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, value in zip(backends, saved, strict=True):
            backend.allow_tf32 = value
