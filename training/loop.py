"""The training loop: steps, moving average, validation, checkpoints."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from DosePredictionLib.losses import masked_mae
from DosePredictionLib.networks import TwoStageNetwork
from DosePredictionLib.protocol import StructureProtocol
from DosePredictionLib.schema import to_json

from .config import TrainingConfig
from .data import TrainingCase, training_batches, unpack_masks

__all__ = ["Trainer", "learning_rate_factor"]


def learning_rate_factor(step: int, config: TrainingConfig) -> float:
    """Linear warm-up from a tenth, then one cosine to a thousandth of the peak."""
    warm_up = max(1, round(config.warm_up * config.steps))
    if step < warm_up:
        return 0.1 + 0.9 * step / warm_up
    done = (step - warm_up) / max(1, config.steps - warm_up)
    return 1e-3 + (1 - 1e-3) * 0.5 * (1 + math.cos(math.pi * done))


class Trainer:
    """Trains the two-stage network and keeps `last.pt` and `best.pt` in the run folder.

    Args:
        config: the recipe, resolved.
        protocol: that of the recipe.
        run: folder of checkpoints, `config.json` and `metrics.jsonl`.
        device: where to train.
    """

    def __init__(
        self, config: TrainingConfig, protocol: StructureProtocol, run: Path, device: str = "cpu"
    ) -> None:
        self.config, self.protocol, self.run = config, protocol, run
        self.device = torch.device(device)
        torch.manual_seed(config.seed)
        channels = len(protocol.inputs), len(config.encoding.strips.angles)
        filters = config.network.stage1_filters, config.network.stage2_filters
        self.network = TwoStageNetwork(*channels, *filters).to(self.device)
        self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval()
        decayed = [p for p in self.network.parameters() if p.dim() > 1]
        plain = [p for p in self.network.parameters() if p.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}]
        groups.append({"params": plain, "weight_decay": 0.0})
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        self.step = 0
        self.best_gy = math.inf
        run.mkdir(parents=True, exist_ok=True)
        (run / "config.json").write_text(json.dumps(to_json(config), indent=2), encoding="utf-8")

    def train(
        self,
        training: Sequence[TrainingCase],
        validation: Sequence[TrainingCase],
        time_limit_s: float = math.inf,
    ) -> None:
        """Run to the end of the recipe, or stop cleanly with a checkpoint at the time limit.

        Raises:
            FloatingPointError: the loss is not finite; the message names the batch's cases.
        """
        deadline = time.monotonic() + time_limit_s
        batches = training_batches(training, self.config, self.protocol, self.step)
        with tqdm(total=self.config.steps, initial=self.step, unit="step") as bar:
            for batch in batches:
                if self.step >= self.config.steps or time.monotonic() > deadline:
                    break
                loss_gy = self._step(batch.input, batch.dose, batch.region, batch.names)
                bar.update()
                bar.set_postfix(loss=f"{loss_gy:.2f} Gy", best=f"{self.best_gy:.2f} Gy")
                if self.step % self.config.validate_every == 0:
                    self._validate(validation, loss_gy)
        self.save("last.pt")

    def _step(self, x: Tensor, dose: Tensor, region: Tensor, names: Sequence[str]) -> float:
        config = self.config
        self.network.train()
        if self.step >= config.freeze_norm_after * config.steps:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm3d):
                    module.eval()
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(self.step, config)
        x = x.to(self.device, memory_format=torch.channels_last_3d)
        dose, region = dose.to(self.device), region.to(self.device)
        predicted = self.network(x)
        final = masked_mae(predicted.final, dose, region)
        loss = final + config.coarse_weight * masked_mae(predicted.coarse, dose, region)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"The loss at step {self.step} is {loss.item()} on {', '.join(names)}. "
                "The last checkpoint is good; lower the learning rate or look at these cases."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_clip)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return final.item() * config.encoding.dose_scale_gy

    @torch.no_grad()
    def _update_average(self) -> None:
        """Exponential moving average of weights and batch norm statistics."""
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        current = self.network.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[name], 1 - decay)
            else:
                value.copy_(current[name])

    @torch.no_grad()
    def _validate(self, cases: Sequence[TrainingCase], loss_gy: float) -> None:
        """Mean absolute error of the averaged weights in the dose region, Gy, over whole cases."""
        errors = []
        for case in cases:
            masks = unpack_masks(case.mask_bits, self.network.input_channels - 1)
            x = torch.from_numpy(np.concatenate([case.ct[None], masks]))[None].to(
                self.device, memory_format=torch.channels_last_3d
            )
            final = self.average(x).final[0, 0].cpu().numpy() * self.config.encoding.dose_scale_gy
            predicted = np.clip(final, 0, None)
            errors.append(float(np.abs(predicted - case.dose_gy)[case.region].mean()))
        mae_gy = float(np.mean(errors))
        record = {"step": self.step, "train_mae_gy": loss_gy, "validation_mae_gy": mae_gy}
        with (self.run / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        tqdm.write(json.dumps(record))
        if mae_gy < self.best_gy:
            self.best_gy = mae_gy
            self.save("best.pt")
        self.save("last.pt")

    def save(self, name: str) -> None:
        """Write a checkpoint whole or not at all."""
        state = {
            "model": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "best_gy": self.best_gy,
        }
        partial = self.run / f"{name}.partial"
        torch.save(state, partial)
        partial.replace(self.run / name)

    def resume(self, path: Path) -> None:
        """Continue exactly where a checkpoint of the same recipe stopped."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.best_gy = state["step"], state["best_gy"]
