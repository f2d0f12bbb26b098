"""One training step as the published loop takes it, for `benchmarks.training`.

Eager, float32 with TF32 off, contiguous tensors, every organ's mask over the whole volume, the loss
terms one after the other, the strips' SSIM beside them though no weight is given to it, and after
every step the metrics: MAE, SSIM and two DVH scores, each number fetched at once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["LEVELS_GY", "SCALE_GY", "loss_of", "metrics_of", "strip_ssim_of"]

SCALE_GY = 52.0
LEVELS_GY = (10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0)


def loss_of(
    coarse: Tensor, final: Tensor, plan: Tensor, body: Tensor, organs: list[Tensor], strips: Tensor
) -> Tensor:
    """The published training loss; masks are float `(batch, 1, z, y, x)`, strips have four."""
    dose = final * body
    first = ((coarse * body - plan).abs() * body).sum() / body.sum().clamp_min(1)
    second = 0.7 * ((dose - plan).abs() * body).sum() / body.sum().clamp_min(1)
    errors = (dose - plan).abs().unsqueeze(1) * strips.unsqueeze(2)
    counts = strips.flatten(1).sum(1)
    second = second + 0.1 * (errors.flatten(1).sum(1) / counts.clamp_min(1)).mean()
    union = (strips.sum(1, keepdim=True) > 0.5).float()
    second = second + 0.1 * _gradient(dose, plan, union)
    means = []
    for patient in range(len(dose)):
        each = []
        for organ in organs:
            inside = organ[patient] > 0.5
            if inside.any():
                ours, theirs = dose[patient][inside].mean(), plan[patient][inside].mean()
                each.append((ours - theirs).abs() * SCALE_GY)
        means.append(torch.stack(each).mean())
    second = second + 0.05 * torch.stack(means).mean()
    volumes = dose.new_zeros(())
    for organ in organs:
        for level in LEVELS_GY:
            soft = torch.sigmoid(10 * SCALE_GY * (dose - level / SCALE_GY))
            hard = (plan * SCALE_GY >= level).float()
            total = organ.sum().clamp_min(1)
            volumes = volumes + ((soft * organ).sum() / total - (hard * organ).sum() / total) ** 2
    second = second + 0.05 * volumes / len(dose)
    return 0.5 * first + 0.5 * second


def _gradient(dose: Tensor, plan: Tensor, mask: Tensor) -> Tensor:
    terms = []
    for axis in (2, 3, 4):
        length = dose.shape[axis] - 1
        both = mask.narrow(axis, 1, length) * mask.narrow(axis, 0, length)
        error = (dose.diff(dim=axis) - plan.diff(dim=axis)).abs()
        terms.append((error * both).sum() / both.sum().clamp_min(1))
    return torch.stack(terms).mean()


def _dissimilarity(one: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    """1 − SSIM with a dense window of 7³ weights."""
    axis = torch.arange(7, dtype=torch.float32, device=one.device) - 3
    line = torch.exp(-(axis**2) / (2 * 1.5**2))
    line = line / line.sum()
    window = (line[:, None, None] * line[None, :, None] * line[None, None, :])[None, None]
    means = [F.conv3d(t, window, padding=3) for t in (one, other)]
    squares = [F.conv3d(t, window, padding=3) for t in (one * one, other * other, one * other)]
    variances = [squares[0] - means[0] ** 2, squares[1] - means[1] ** 2]
    covariance = squares[2] - means[0] * means[1]
    similar = (2 * means[0] * means[1] + 1e-4) * (2 * covariance + 9e-4)
    similar = similar / ((means[0] ** 2 + means[1] ** 2 + 1e-4) * (sum(variances) + 9e-4))
    return ((1 - similar) * mask).sum() / mask.sum().clamp_min(1)


def strip_ssim_of(final: Tensor, plan: Tensor, body: Tensor, strips: Tensor) -> Tensor:
    """The strips' SSIM loss: one SSIM for each strip of each patient."""
    dose = final * body
    patients = []
    for i in range(len(dose)):
        losses, voxels = dose.new_zeros(()), dose.new_zeros(())
        for strip in strips[i].split(1):
            count = strip.sum()
            losses = losses + count * _dissimilarity(dose[i : i + 1], plan[i : i + 1], strip[None])
            voxels = voxels + count
        patients.append(losses / voxels.clamp_min(1))
    return torch.stack(patients).mean()


@torch.no_grad()
def metrics_of(
    final: Tensor, plan: Tensor, body: Tensor, target: Tensor, organs: list[Tensor]
) -> list[float]:
    """MAE, SSIM, a DVH score of clinical endpoints, and the OpenKBP one."""
    dose, gy = final * body, SCALE_GY
    mae = ((dose - plan).abs() * body).sum() * gy / body.sum()
    ssim = 1 - _dissimilarity(dose, plan, body)
    clinical, challenge = [], []
    inside = target > 0.5
    for quantile in (0.02, 0.98, 0.5):
        clinical.append(_apart(lambda d, q=quantile: torch.quantile(d, q), dose, plan, inside))
    for level in (0.95 * 45, 45.0):
        clinical.append(_apart(lambda d, x=level: (d >= x).float().mean(), dose, plan, inside))
    for organ in organs:
        mask = organ > 0.5
        clinical.append(_apart(torch.mean, dose, plan, mask))
        for level in (30.0, 40.0):
            clinical.append(_apart(lambda d, x=level: (d >= x).float().mean(), dose, plan, mask))
    for i in range(len(dose)):
        mask = target[i] > 0.5
        for quantile in (0.01, 0.05, 0.99):
            challenge.append(
                _apart(lambda d, q=quantile: torch.quantile(d, q), dose[i], plan[i], mask)
            )
        for organ in organs:
            if (organ[i] > 0.5).any():
                challenge.append(_apart(torch.max, dose[i], plan[i], organ[i] > 0.5))
                challenge.append(_apart(torch.mean, dose[i], plan[i], organ[i] > 0.5))
    values = (mae, ssim, sum(clinical) / len(clinical), sum(challenge) / len(challenge))
    return [float(value) for value in values]


def _apart(measure, dose: Tensor, plan: Tensor, mask: Tensor) -> float:  # type: ignore[no-untyped-def]
    return float((measure(dose[mask] * SCALE_GY) - measure(plan[mask] * SCALE_GY)).abs())
