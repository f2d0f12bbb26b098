"""The training loop of any task: steps, moving average, validation, checkpoints."""

from __future__ import annotations

import copy
import json
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed, nn
from tqdm import tqdm

from DosePredictionLib.encoding.encoder import EncodingSettings, network_channels
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.files import write_json
from DosePredictionLib.inference.device import DTYPES
from DosePredictionLib.inference.slicewise import over_volumes, volume_format
from DosePredictionLib.networks import DoseNetwork, build_network
from DosePredictionLib.networks.encoder_decoder import EncoderDecoder3D
from DosePredictionLib.schema import from_json, read_json, to_json
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.tasks.registry import task_class
from DosePredictionLib.tasks.task import LabelledBatch

from .checkpoints import load_checkpoint, save_checkpoint
from .config import AugmentationConfig, TrainingConfig, model_prescription_gy, upgraded
from .data import TrainingCase
from .distributed import broadcast_module, gathered, is_first, this_share
from .metrics import MetricsLog
from .pictures import dvh_picture, slices_picture
from .resident import fitting_device
from .sampling import Batch, training_batches
from .schedule import ema_decay, learning_rate_factor, plateaus
from .short_grids import compute_short_grids_in_float32
from .validation import validation_figures

__all__ = ["Trainer", "network_arguments"]

_PICTURED = 2  # validation patients whose pictures TensorBoard shows
_SAVED_EVERY_S = 120.0  # what an interruption costs at most, where validations are rare


def network_arguments(config: TrainingConfig, protocol: StructureProtocol) -> dict[str, Any]:
    """Arguments of the recipe's network class."""
    return network_channels(protocol, config.encoding) | config.network.arguments


class Trainer:
    """Trains a recipe's network and keeps `last.pt` and `best.pt` in the run folder.

    Args:
        config: the recipe, resolved.
        protocol: that of the recipe.
        run: folder of checkpoints, `config.json` and `metrics.jsonl`.
        device: where to train.
        workers: processes that prepare batches, where the device does not hold all cases and
            prepares them itself, as a GPU does if they fit.
        checkpoint_activations: compute activations again in the backward pass instead of keeping
            them, which changes nothing but memory and time.

    Raises:
        DosePredictionError: the batch cannot be shared among the ranks, the precision is not to be
            had on the device, the task is unknown, or the run folder is another recipe's.
    """

    def __init__(
        self,
        config: TrainingConfig,
        protocol: StructureProtocol,
        run: Path,
        device: str | torch.device = "cpu",
        workers: int = 0,
        checkpoint_activations: bool = False,
    ) -> None:
        self.config, self.protocol, self.run, self.workers = config, protocol, run, workers
        self.model_gy = model_prescription_gy(config, protocol)
        self.device = torch.device(device)
        _require_possible(config, self.device)
        torch.manual_seed(config.seed)
        if config.deterministic != torch.are_deterministic_algorithms_enabled():
            torch.use_deterministic_algorithms(config.deterministic)  # which imports for seconds
        # Crops are all of one size: the fastest convolution is worth looking for.
        torch.backends.cudnn.benchmark = not config.deterministic
        built = build_network(config.network.architecture, network_arguments(config, protocol))
        if checkpoint_activations:
            _checkpoint_activations(built)
        self._frozen = _frozen_parts(built, config.frozen)
        self.network: DoseNetwork = built.to(self.device)
        self.network.to(memory_format=self.network.memory_format)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval()
        if self.device.type == "cpu" and config.precision == "bf16":
            compute_short_grids_in_float32(self.network)
        self._forward: nn.Module = over_volumes(self.network)
        if distributed.is_initialized():
            # A 1³ kernel's strides are the same bytes either way.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            self._forward = nn.parallel.DistributedDataParallel(self._forward)
        self.task = task_class(config.task, "The recipe")(protocol, config.encoding)
        self.task.begin_training(config.loss, config.task_options)
        self.task.to(self.device)
        self.optimizer = _optimizer(self.network, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.step, self.best, self.stale, self.plateaus = 0, math.inf, 0, 0
        self._sums: dict[str, float] = {}
        self._shown = ""
        self._waited_s, self._worked_s, self._saved_at = 0.0, 0.0, time.monotonic()
        run.mkdir(parents=True, exist_ok=True)
        self.log = MetricsLog(run)
        if is_first():
            _write_config(run / "config.json", config)

    def train(
        self,
        training: Sequence[TrainingCase],
        validation: Sequence[TrainingCase],
        time_limit_s: float = math.inf,
    ) -> None:
        """Run to the end of the recipe, or stop cleanly with a checkpoint at the time limit.

        Raises:
            FloatingPointError: the loss is not finite; the message names the batch's cases.
            DosePredictionError: a checkpoint could not be written, or cases lack plans that the
                task needs.
        """
        if self.task.needs_plans:
            _require_plans(training)
        deadline = time.monotonic() + time_limit_s
        if self.step == 0 and is_first():
            self.log.cut_back(0)  # of a run that was killed before its first checkpoint
        share = this_share()
        maker = fitting_device(training, self.device) or self.workers
        batches = training_batches(training, self.config, self.protocol, self.step, maker, share)
        bar = tqdm(total=self.config.steps, initial=self.step, unit="step", disable=not is_first())
        with bar:
            while self.step < self.config.steps and not self._tired():
                if self._any_rank(time.monotonic() > deadline):
                    break
                started = time.monotonic()
                batch = next(batches)
                waited = time.monotonic() - started
                self.train_step(batch)
                self._waited_s += waited
                self._worked_s += time.monotonic() - started - waited
                bar.update()
                bar.set_postfix(
                    loss=self._shown,
                    best=f"{self.best:.2f} {self.task.unit}".strip(),
                    waiting=f"{100 * self.waiting_share:.0f} %",
                )
                if self.step % self.config.validate_every == 0:
                    self.validate(validation)
                elif time.monotonic() - self._saved_at > _SAVED_EVERY_S:
                    self.save("last.pt")
        self.save("last.pt")
        self.log.close()

    @property
    def waiting_share(self) -> float:
        """Share of the time since the last validation that was spent waiting for data."""
        return self._waited_s / max(self._waited_s + self._worked_s, 1e-9)

    def train_step(self, batch: Batch) -> float:
        """One optimizer step; the task's `headline` of the loss.

        Raises:
            FloatingPointError: the loss or its gradient is not finite; nothing was changed.
        """
        config = self.config
        self._set_training_mode()
        factor = learning_rate_factor(self.step, config, self.plateaus)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        labelled = self._on_device(batch)
        with self._autocast():
            total, parts = self.task.training_step(
                self._forward, labelled, progress=self.step / config.steps
            )
        self._require_finite(total, "loss", batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_clip)
        if not self.scaler.is_enabled():  # the scaler passes over such steps itself
            self._require_finite(norm, "gradient", batch)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self._update_average()
        values = {"loss": total.item()} | {name: part.item() for name, part in parts.items()}
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._sums[f"{name}#"] = self._sums.get(f"{name}#", 0.0) + 1.0
        self._shown = self.task.shown(parts)
        return self.task.headline(parts)

    def validate(self, cases: Sequence[TrainingCase]) -> None:
        """Score the averaged weights on whole cases, log it, and save."""
        broadcast_module(self.average)  # batch norm's statistics are each rank's own till here
        shown = {case.name for case in cases[:: this_share().ranks][:_PICTURED]}

        def show(case: TrainingCase, dose_gy: NDArray[np.float32]) -> None:
            if is_first() and case.name in shown:
                self._show(case, dose_gy)

        figures = validation_figures(self.task, self.average, cases, self.model_gy, show)
        record = {"step": self.step, **self._means(), **figures}
        judged = next(iter(figures.values()))
        better = judged < self.best
        self.stale = 0 if better else self.stale + 1
        self.plateaus = plateaus(self.plateaus, better, self.config)
        self.best = min(judged, self.best)
        if is_first():
            self.log.write(record, {"waiting_share": self.waiting_share})
            tqdm.write(json.dumps(record | {"waiting_share": round(self.waiting_share, 3)}))
        self._sums, self._waited_s, self._worked_s = {}, 0.0, 0.0
        if better:
            self.save("best.pt")
        self.save("last.pt")

    def _show(self, case: TrainingCase, dose_gy: NDArray[np.float32]) -> None:
        """Slices and DVHs of a validation patient in TensorBoard."""
        for name, draw in (("slices", slices_picture), ("dvh", dvh_picture)):
            self.log.picture(f"{case.name}/{name}", draw(case, dose_gy, self.protocol), self.step)

    def save(self, name: str) -> None:
        """Write a checkpoint whole or not at all; the first rank does.

        Raises:
            DosePredictionError: there is no space; the one before is whole.
        """
        self._saved_at = time.monotonic()
        if is_first():
            save_checkpoint(self.run / name, self.state())

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "model": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "best_gy": self.best,  # as it was called when every task was of doses
            "stale": self.stale,
            "plateaus": self.plateaus,
            "sums": self._sums,
            "random": torch.get_rng_state(),
            "metrics_bytes": self.log.length,
            "architecture": _architecture(self.config),
        }

    def resume(self, path: Path) -> None:
        """Continue exactly where a checkpoint of the same recipe stopped.

        Raises:
            DosePredictionError: it is damaged, or of another architecture.
        """
        state = load_checkpoint(path, self.device)
        try:
            self.network.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as exception:
            theirs = state.get("architecture", "another architecture")
            raise DosePredictionError(
                f"{path} is of {theirs}, this recipe trains {_architecture(self.config)}. "
                "Choose another --output, or the recipe that made the run."
            ) from exception
        self.step, self.best = state["step"], state["best_gy"]
        self.scaler.load_state_dict(state.get("scaler", {}) or self.scaler.state_dict())
        self.stale, self._sums = state.get("stale", 0), dict(state.get("sums", {}))
        self.plateaus = state.get("plateaus", 0)
        if "random" in state:
            torch.set_rng_state(state["random"].cpu())
        if is_first() and "metrics_bytes" in state:
            self.log.cut_back(state["metrics_bytes"])

    def start_from(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Begin with a model's weights; optimizer, schedule and average begin anew."""
        try:
            self.network.load_state_dict(weights)
        except RuntimeError as exception:
            raise DosePredictionError(
                f"The model to continue from is no {_architecture(self.config)}."
            ) from exception
        self.average.load_state_dict(self.network.state_dict())

    def _on_device(self, batch: Batch) -> LabelledBatch:
        """The batch where the network is, its labels beside it."""
        layout = volume_format(self.network)
        return LabelledBatch(
            batch.input.to(self.device, memory_format=layout, non_blocking=True).float(),
            {
                name: label.to(self.device, non_blocking=True)
                for name, label in batch.labels.items()
            },
            batch.spacing_mm,
        )

    def _set_training_mode(self) -> None:
        self.network.train()
        if self.step >= self.config.freeze_norm_after * self.config.steps:
            for module in self.network.modules():
                if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
                    module.eval()
        for part in self._frozen:
            part.eval()

    def _autocast(self) -> AbstractContextManager[Any]:
        precision = self.config.precision
        context: AbstractContextManager[Any] = torch.autocast(
            self.device.type,
            DTYPES[precision] if precision != "fp32" else torch.bfloat16,
            enabled=precision != "fp32",
        )
        return context

    def _require_finite(self, value: torch.Tensor, what: str, batch: Batch) -> None:
        if not torch.isfinite(value):
            kept = "The last checkpoint is good; l" if (self.run / "last.pt").is_file() else "L"
            raise FloatingPointError(
                f"The {what} at step {self.step} is {value.item()} on {', '.join(batch.names)}. "
                f"{kept}ower the learning rate or look at these cases."
            )

    def _means(self) -> dict[str, float]:
        """Mean of the loss and its parts since the last validation, over all ranks."""
        every = gathered(self._sums)
        names = [name for name in self._sums if not name.endswith("#")]
        return {
            f"train_{name}": sum(each[name] for each in every)
            / sum(each[f"{name}#"] for each in every)
            for name in names
        }

    def _tired(self) -> bool:
        return 0 < self.config.patience <= self.stale

    def _any_rank(self, flag: bool) -> bool:
        """Whether it is so on any rank: all of them then stop at the same step."""
        if not distributed.is_initialized():
            return flag
        shared = torch.tensor(float(flag), device=self.device)
        distributed.all_reduce(shared, distributed.ReduceOp.MAX)
        return bool(shared.item())

    @torch.no_grad()
    def _update_average(self) -> None:
        """Exponential moving average of weights and batch norm statistics."""
        decay = ema_decay(self.step, self.config)
        current, average = self.network.state_dict(), self.average.state_dict()
        floating = [name for name, value in average.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [average[name] for name in floating], [current[name] for name in floating], 1 - decay
        )
        for name in average.keys() - floating:
            average[name].copy_(current[name])


def _checkpoint_activations(network: DoseNetwork) -> None:
    stages = [each for each in network.modules() if isinstance(each, EncoderDecoder3D)]
    if not stages:
        raise DosePredictionError(
            f"{type(network).__name__} cannot checkpoint activations: leave the option out."
        )
    for stage in stages:
        stage.checkpoint_activations = True


def _frozen_parts(network: DoseNetwork, names: Sequence[str]) -> list[nn.Module]:
    """The parts of these names, which learn nothing from now on.

    Raises:
        DosePredictionError: the network has none of a name.
    """
    parts = dict(network.named_modules())
    for name in names:
        if name not in parts:
            depth = name.count(".")
            near = ", ".join(each for each in parts if each and each.count(".") == depth)
            raise DosePredictionError(f"The network has no part {name!r} to freeze; it has {near}.")
        parts[name].requires_grad_(False)
    return [parts[name] for name in names]


def _optimizer(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW that leaves norms and biases undecayed."""
    decayed = [p for p in network.parameters() if p.dim() > 1]
    plain = [p for p in network.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}]
    groups.append({"params": plain, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def _architecture(config: TrainingConfig) -> str:
    """The network in words."""
    arguments = ", ".join(f"{k} {v}" for k, v in config.network.arguments.items())
    return f"{config.network.architecture} ({arguments})"


def _require_possible(config: TrainingConfig, device: torch.device) -> None:
    ranks = this_share().ranks
    if config.batch_size % ranks:
        raise DosePredictionError(
            f"A batch of {config.batch_size} cannot be shared among {ranks} ranks: "
            f"set batch_size to a multiple of {ranks}."
        )
    if config.precision == "fp16" and device.type == "cpu":
        raise DosePredictionError("Precision fp16 needs a GPU; on a CPU use fp32 or bf16.")


def _require_plans(cases: Sequence[TrainingCase]) -> None:
    """Refuse contours without the plans that are to guide their learning.

    Raises:
        DosePredictionError: names the cases.
    """
    lacking = []
    for case in cases:
        targets = [c.role == "target" for c in case.channels.protocol.inputs]
        if not case.dose_gy.any() or not case.contoured[targets].any():
            lacking.append(case.name)
    if lacking:
        raise DosePredictionError(
            f"The dose guides this recipe, and {', '.join(lacking[:5])}"
            f"{f' and {len(lacking) - 5} others' if len(lacking) > 5 else ''} "
            f"{'has' if len(lacking) == 1 else 'have'} no plan dose or no target: train on cases "
            "with plans (python -m training simulate)."
        )


def _write_config(path: Path, config: TrainingConfig) -> None:
    """Save the resolved configuration; a run folder belongs to one.

    Raises:
        DosePredictionError: the folder holds a checkpoint of another configuration.
    """
    ours = to_json(config)
    if (path.parent / "last.pt").is_file() and path.is_file():
        theirs = upgraded(read_json(path))
        for name, kind in (("encoding", EncodingSettings), ("augmentation", AugmentationConfig)):
            if name in theirs:  # what it did not know yet had its default
                theirs[name] = to_json(from_json(kind, theirs[name]))
        changed = sorted(key for key, value in theirs.items() if ours.get(key) != value)
        if changed:
            raise DosePredictionError(
                f"{path.parent} holds a run with other values of {', '.join(changed)}. Choose "
                "another --output, or give the same recipe and --set to go on with it."
            )
    write_json(path, ours)
