"""From a case and a model to a dose: device, precision, fallbacks, progress, cancel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..case import Case, Prescription
from ..checks.preflight import check_case
from ..encoding.encoder import EncodedCase, EncodingSettings, decode, encode, mirrored_channels
from ..encoding.prescription import prescription_factor
from ..errors import MemoryExhaustedError, ModelError, PredictionError
from ..findings import Finding, worst_first
from ..mask import majority
from ..models.dose_model import DoseModel
from ..networks import DoseNetwork, fold_batch_norm
from ..prediction import Prediction
from ..structures.bound import bind, empty_structures
from ..structures.mapping import fitting_protocol
from ..volume import Volume
from .device import (
    DTYPES,
    Precision,
    available_memory_bytes,
    resolve_device,
    resolve_precision,
)
from .ensemble import RunningSpread
from .running import Cancelled, Progress, run_tiled, run_whole, tile_starts, watched

__all__ = ["Inference", "Predictor", "default_model", "predict"]

_TILE, _OVERLAP = 64, 32


class Inference(NamedTuple):
    """The network's output in units of the dose scale, and how it was computed.

    `output` is `(z, y, x)`, or with the coarse dose `(2, z, y, x)`: final, coarse. `spread` is the
    standard deviation of an ensemble's networks, likewise.
    """

    output: NDArray[np.float32]
    device: str
    precision: str
    fallbacks: tuple[str, ...]
    spread: NDArray[np.float32] | None = None


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
        precision: `auto` (bfloat16 where the hardware has it), `fp32` (TF32 off), `bf16`, `fp16`.

    Raises:
        ModelError: the model is missing or damaged.
        PredictionError: the device or the precision is not to be had.
    """

    def __init__(
        self, model: DoseModel | str, device: str = "auto", precision: str = "auto"
    ) -> None:
        self.model = model if isinstance(model, DoseModel) else DoseModel.load(model)
        self.device = resolve_device(device)
        self.precision = resolve_precision(precision, self.device)
        manifest = self.model.manifest
        self._mirrored: list[int] | None = None
        if manifest.mirror:
            self._mirrored = mirrored_channels(self.model.protocol, manifest.encoding)
        self._placed: tuple[tuple[torch.device, Precision], list[DoseNetwork]] | None = None
        networks = self._networks(_Attempt(self.device, self.precision, tiled=False))
        self._bytes_per_voxel = max(network.bytes_per_voxel for network in networks)

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
    ) -> Prediction:
        """Predict the dose of a case.

        Args:
            mapping: channel → structure where the automatic choice is overruled; None leaves a
                channel empty.
            prescription: overrules the case's own.
            recompute_strips: ignore strip masks that came with the case.
            progress: called with the share done and the stage in words.
            cancelled: asked between layers; true ends the work.
            strip_margin_mm: margin of the strips instead of the model's own; strip masks that came
                with the case are ignored then.
            keep_coarse: return the coarse dose, too.
            keep_strips: return the strip masks that the network received, too.

        Raises:
            MappingError: structures and channels do not fit.
            PredictionError: a check blocks, the dose is not finite, or memory runs out for good.
            PredictionCancelled: `cancelled()` returned true.
        """
        clock = _Clock()
        report = progress or (lambda share, stage: None)
        if prescription is not None:
            case = replace(case, prescription=prescription)
        report(0.0, "checks and encoding")
        manifest, protocol = self.model.manifest, self.model.protocol
        required = [channel.name for channel in protocol.channels if channel.required]
        bound = bind(case, protocol, mapping, prescription, required)
        assert bound.mapping is not None
        findings = list(bound.findings)
        findings += check_case(case, protocol, bound.mapping, manifest.expectations)
        settings, told = _with_strip_margin(manifest.encoding, strip_margin_mm)
        findings += told
        encoded = encode(
            bound,
            settings,
            DoseNetwork.divisor,
            recompute_strips or strip_margin_mm is not None,
        )
        findings += encoded.findings
        _refuse_blocking(case.name, findings)
        clock.lap("encode")
        inference = self.infer(encoded.input, report, cancelled, keep_coarse)
        if not np.all(np.isfinite(inference.output)):
            raise PredictionError(
                f"The dose of {case.name} holds NaN or infinite values (precision "
                f"{inference.precision}); nothing was written. Try --precision fp32."
            )
        clock.lap("inference")
        scale, target, scaling = _prescription_scale(bound.prescription, self.model)
        findings += scaling
        unit_gy = np.float32(manifest.encoding.dose_scale_gy * scale)

        def decoded(output: NDArray[np.float32], stage: int = 0) -> Volume:
            return decode((output[stage] if keep_coarse else output) * unit_gy, encoded, case)

        dose = decoded(inference.output)
        coarse = decoded(inference.output, 1) if keep_coarse else None
        spread = None if inference.spread is None else decoded(inference.spread)
        strips = _strips(encoded, case, settings) if keep_strips else None
        clock.lap("decode")
        return Prediction(
            case=case,
            model=self.model,
            dose=dose,
            mapping=bound.mapping,
            prescription=target,
            external=encoded.external,
            findings=tuple(worst_first(_unique(findings))),
            fallbacks=inference.fallbacks,
            device=inference.device,
            precision=inference.precision,
            seconds=clock.seconds(),
            coarse=coarse,
            strips=strips,
            spread=spread,
        )

    def infer(
        self,
        encoded: NDArray[np.float32],
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        coarse: bool = False,
    ) -> Inference:
        """Run the network; steps down when memory runs out.

        Args:
            encoded: the network's input `(channel, z, y, x)`.
            coarse: return the coarse dose, too.

        Raises:
            MemoryExhaustedError: memory runs out for good.
            PredictionCancelled: `cancelled()` returned true.
        """
        fallbacks: list[str] = []
        for attempt in self._attempts(encoded[0].size):
            if attempt.fallback:
                fallbacks.append(attempt.fallback)
            try:
                doses = self._run(encoded, attempt, progress, cancelled, coarse)
                device, precision = str(attempt.device), attempt.precision
                return Inference(doses.mean, device, precision, tuple(fallbacks), doses.spread)
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

    def _attempts(self, voxels: int) -> list[_Attempt]:
        """What to try, in order: as asked, less precision, tiles, then the CPU."""
        device, precision = self.device, self.precision
        attempts = [_Attempt(device, precision, tiled=False)]
        if device.type == "cuda" and precision == "fp32":
            precision = resolve_precision("auto", device)
            text = f"{device} ran out of memory in fp32; {precision} instead"
            attempts.append(_Attempt(device, precision, False, text))
        text = f"{device} ran out of memory; slabs of {_TILE} slices that overlap by {_OVERLAP}"
        attempts.append(_Attempt(device, precision, True, text))
        if device.type == "cuda":
            on_cpu = resolve_precision("auto", torch.device("cpu"))
            text = f"{device} ran out of memory even in slabs; the CPU in {on_cpu} instead"
            attempts.append(_Attempt(torch.device("cpu"), on_cpu, False, text))
        elif _exceeds_memory(voxels * self._bytes_per_voxel, precision):
            # Linux would not refuse the memory but end the process: step down beforehand.
            text = (
                f"the memory left would not do; slabs of {_TILE} slices overlapping by {_OVERLAP}"
            )
            attempts = [_Attempt(device, precision, True, text)]
        return attempts

    def _run(
        self,
        encoded: NDArray[np.float32],
        attempt: _Attempt,
        progress: Progress | None,
        cancelled: Cancelled | None,
        coarse: bool,
    ) -> RunningSpread:
        networks = self._networks(attempt)
        x = torch.from_numpy(encoded)[None]
        x = x.to(attempt.device, DTYPES[attempt.precision], memory_format=torch.channels_last_3d)
        run: Callable[[DoseNetwork, Tensor, bool], Tensor] = run_whole
        slices = x.shape[2]
        if attempt.tiled:
            run, slices = _run_tiled, _tiled_slices(slices)
        voxels = slices * x.shape[3] * x.shape[4] * (2 if self._mirrored else 1)
        doses = RunningSpread()
        for index, network in enumerate(networks):
            watch = watched(network, voxels, _part(progress, index, len(networks)), cancelled)
            with torch.inference_mode(), _plain_float32(), watch:
                dose = run(network, x, coarse)
                if self._mirrored:
                    mirrored = x[:, self._mirrored].flip(-1)
                    dose = (dose + run(network, mirrored, coarse).flip(-1)) / 2
                doses.add(dose.cpu().numpy())
        return doses

    def _networks(self, attempt: _Attempt) -> list[DoseNetwork]:
        """The folded networks as an attempt wants them; kept for the next."""
        key = (attempt.device, attempt.precision)
        if self._placed is None or self._placed[0] != key:
            self._placed = None  # one set of networks at a time in the device's memory
            networks = []
            for member in self.model.members:
                network = fold_batch_norm(self.model.network(member))
                network.to(attempt.device, DTYPES[attempt.precision])
                network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
                networks.append(network)
            self._placed = (key, networks)
        return self._placed[1]


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
    """The default model of the protocol whose channels the case's structures fill best.

    The protocol is chosen first, among all: a pelvis never goes to a head-and-neck model for want
    of one of its own.

    Raises:
        MappingError: no protocol fits; the message says what each lacked.
        ModelError: the protocol that fits has no default model.
    """
    protocol = fitting_protocol(list(case.structures), mapping, empty_structures(case))
    for model in DoseModel.installed():
        if model.manifest.default and model.manifest.protocol == protocol.id:
            return model
    raise ModelError(
        f"No installed model fits the structures of {case.name}: they are those of the protocol "
        f"{protocol.id}, which has no default model. Name one (--model), or import a checkpoint "
        "(models import)."
    )


def _refuse_blocking(case: str, findings: list[Finding]) -> None:
    blocking = [finding for finding in findings if finding.severity == "blocking"]
    if blocking:
        first = blocking[0]
        more = f" (and {len(blocking) - 1} more)" if len(blocking) > 1 else ""
        raise PredictionError(f"{case}: {first.message} {first.remedy}{more}".strip())


def _with_strip_margin(
    settings: EncodingSettings, margin_mm: float | None
) -> tuple[EncodingSettings, list[Finding]]:
    """The encoding with another margin of the strips, and what is to be said of it."""
    own_mm = settings.strips.margin_mm
    if margin_mm is None or margin_mm == own_mm:
        return settings, []
    if not np.isfinite(margin_mm) or margin_mm < 0:
        raise PredictionError(f"The margin of the strips must be 0 mm or more; got {margin_mm}.")
    finding = Finding(
        "strip-margin-unlike-model",
        "warning",
        f"The strips have a margin of {margin_mm:g} mm; the model was trained with {own_mm:g} mm.",
        "Set it back, unless this is an experiment.",
    )
    return replace(settings, strips=replace(settings.strips, margin_mm=margin_mm)), [finding]


def _strips(encoded: EncodedCase, case: Case, settings: EncodingSettings) -> dict[int, Volume]:
    """The strip masks that the network received, on the case's grid."""
    masks = majority(encoded.input[encoded.channels.indices("strips")])
    return {
        angle: Volume(mask, encoded.grid).resampled_to(case.grid, "nearest")
        for angle, mask in zip(settings.strips.angles, masks, strict=True)
    }


def _prescription_scale(
    prescription: Prescription | None, model: DoseModel
) -> tuple[float, Prescription, list[Finding]]:
    """By what a single-level model's dose is scaled, the prescription that results, and why."""
    expected = model.manifest.expectations
    own = Prescription(expected.prescription_gy, expected.fractions)
    if prescription is None:
        message = f"The case has no prescription; the model's own is used ({_levels(own)})."
        return 1.0, own, [Finding("prescription-of-model", "info", message)]
    factor = prescription_factor(prescription.highest_gy, own.target_gy)
    if factor == 1.0:
        return 1.0, prescription, []
    finding = Finding(
        "dose-scaled",
        "info",
        f"The dose is scaled by {factor:.3f}: from the model's {own.highest_gy:g} Gy to the "
        f"case's {prescription.highest_gy:g} Gy.",
    )
    return factor, prescription, [finding]


def _levels(prescription: Prescription) -> str:
    return ", ".join(f"{name} {gy:g} Gy" for name, gy in prescription.target_gy.items())


def _unique(findings: list[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))


def _is_out_of_memory(exception: BaseException) -> bool:
    if isinstance(exception, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(exception).lower()
    return "out of memory" in text or "not enough memory" in text or "can't allocate" in text


def _exceeds_memory(float32_bytes: int, precision: Precision) -> bool:
    available = available_memory_bytes()
    needed = float32_bytes * (1 if precision == "fp32" else 0.5)
    return available is not None and needed > available


def _run_tiled(network: DoseNetwork, x: Tensor, coarse: bool) -> Tensor:
    return run_tiled(network, x, _TILE, _OVERLAP, coarse)


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


class _Clock:
    """Seconds of each step since the last one."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self._laps[step] = now - self._last
        self._last = now

    def seconds(self) -> dict[str, float]:
        rounded = {step: round(seconds, 3) for step, seconds in self._laps.items()}
        return {**rounded, "total": round(sum(self._laps.values()), 3)}
