"""How the learning rate and the average's decay depend on the step, never on the clock."""

from __future__ import annotations

import math

from .config import TrainingConfig

__all__ = ["ema_decay", "learning_rate_factor", "plateaus"]


def learning_rate_factor(step: int, config: TrainingConfig, stale: int = 0) -> float:
    """Linear warm-up from a tenth, then the recipe's schedule; of the peak rate.

    Args:
        stale: validations without a better one, as `plateaus` counts them.
    """
    warm_up = max(1, round(config.warm_up * config.steps))
    if step < warm_up:
        return 0.1 + 0.9 * step / warm_up
    if config.schedule == "plateau":
        return config.plateau_factor ** (stale // config.plateau_patience)
    done = (step - warm_up) / max(1, config.steps - warm_up)
    return 1e-3 + (1 - 1e-3) * 0.5 * (1 + math.cos(math.pi * done))


def plateaus(stale: int, better: bool, config: TrainingConfig) -> int:
    """Validations without a better one, in whole runs of `plateau_patience` and the last one.

    A better one ends the last run; the runs before it have lowered the rate for good.
    """
    patience = config.plateau_patience
    return stale // patience * patience if better else stale + 1


def ema_decay(step: int, config: TrainingConfig) -> float:
    """Decay after `step` steps: geometric from `ema_start` to `ema`, and short at the beginning.

    1 − decay falls from 1 − `ema_start` to 1 − `ema` by a constant factor a step.
    """
    decay = config.ema
    if config.ema_start is not None:
        done = min(step / max(1, config.steps), 1.0)
        first = 1 - config.ema_start
        decay = 1 - first * ((1 - config.ema) / first) ** done
    return min(decay, (1 + step) / (10 + step))
