"""Cross entropy and soft Dice of organs, where not every patient has every organ contoured."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["dice_ce"]

_SMOOTH = 1e-5


def dice_ce(
    logits: Tensor,
    labels: Tensor,
    known: Tensor | None = None,
    balance: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """L = CE + 1 − mean over organs c of (2 Σ pₖ yₖ + ε) / (Σ pₖ + Σ yₖ + ε), k over the batch.

    With all organs known this is MONAI's `DiceCELoss(softmax=True, include_background=False,
    batch=True, weight=…)` but for organs that no crop of the batch holds, which only the cross
    entropy sees.
    Where an organ was not contoured, its voxels are among the background's: there the probabilities
    of both are added before they are compared, so that nothing is learned against the organ.

    Args:
        logits: `(batch, 1 + organs, z, y, x)`, background first.
        labels: class of each voxel, `(batch, z, y, x)`, integers; 0 is the background.
        known: `(batch, 1 + organs)`, whether the patient has the organ's contour; None: all.
        balance: a voxel of a class that has the share s of the batch weighs s^−balance in the cross
            entropy: 0 as any other, 1 so that all classes weigh the same.
        weights: of each voxel, `(batch, z, y, x)`, in all sums; None: 1.
    """
    chances = functional.log_softmax(logits.float(), dim=1)
    if known is not None and not bool(known.all()):
        hidden = known[:, :, None, None, None]
        background = chances.masked_fill(hidden, -torch.inf)
        background = torch.cat((chances[:, :1], background[:, 1:]), dim=1).logsumexp(1, True)
        chances = torch.cat((background, chances[:, 1:]), dim=1)
    share = torch.bincount(labels.flatten(), minlength=logits.shape[1]) / labels.numel()
    scarce = share.clamp(min=1 / labels.numel()) ** -balance
    scarce = scarce.to(chances.dtype)
    if weights is None:
        entropy = functional.nll_loss(chances, labels, scarce)
    else:
        each = functional.nll_loss(chances, labels, scarce, reduction="none")
        entropy = (each * weights).sum() / (scarce[labels] * weights).sum()
    truth = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(chances.dtype)
    weight = torch.ones_like(chances[:, :, 0, 0, 0]) if known is None else known.to(chances.dtype)
    p = chances.exp() * weight[:, :, None, None, None]
    axes = (0, 2, 3, 4)
    counted = truth if weights is None else truth * weights[:, None]
    overlap = (p * counted).sum(axes)[1:]
    believed = p if weights is None else p * weights[:, None]
    total = (believed.sum(axes) + counted.sum(axes))[1:]
    present = truth.sum(axes)[1:] > 0
    dice = (2 * overlap + _SMOOTH) / (total + _SMOOTH)
    if not bool(present.any()):
        return entropy
    return entropy + 1 - dice[present].mean()
