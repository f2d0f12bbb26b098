"""The published training loss, worked in numpy term by term on tensors that a formula stores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from DosePredictionLib.losses import PUBLISHED_PELVIS, LossInput, WeightedSum
from DosePredictionLib.structures.protocol import StructureProtocol

PELVIS = StructureProtocol.load("pelvis")
SHAPE = (6, 10, 12)


def tensors() -> dict[str, np.ndarray]:
    """Two patients; the second lacks an organ, and is smaller."""
    z, y, x = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    wave = np.stack([np.sin(0.7 * z + 0.3 * y - 0.2 * x + shift) for shift in (0, 1.3)])
    reference = np.clip(0.5 + 0.4 * wave, 0, None)
    final = reference + 0.1 * np.cos(1.7 * wave) - 0.03
    coarse = reference - 0.2 * np.cos(0.9 * wave) + 0.01
    masks = np.zeros((2, 9, *SHAPE), dtype=bool)
    for channel in range(8):
        masks[:, channel, 1:5, channel : channel + 3, 2 : 4 + channel] = True
    masks[1, 5] = False
    masks[:, 8, :, 1:9, 1:11] = True
    masks[1, 8, :2] = False
    strips = np.zeros((2, 4, *SHAPE), dtype=bool)
    for angle in range(4):
        strips[:, angle, 1:5, angle : angle + 5, 3 : 9 - angle] = True
    return {"final": final, "coarse": coarse, "reference": reference} | {
        "masks": masks,
        "strips": strips & masks[:, 8:],
    }


def worked(t: dict[str, np.ndarray]) -> dict[str, float]:
    """The six terms as the design states them, in float64."""
    body = t["masks"][:, 8].astype(float)
    final, plan = t["final"] * body, t["reference"]
    error = np.abs(final - plan)
    coarse = np.abs(t["coarse"] * body - plan)
    terms = {"coarse_mae": (coarse * body).sum() / body.sum()}
    terms["mae"] = (error * body).sum() / body.sum()
    by_strip = (error[:, None] * t["strips"]).reshape(2, -1).sum(1)
    terms["strip_mae"] = (by_strip / t["strips"].reshape(2, -1).sum(1)).mean()
    union = t["strips"].any(1)
    slopes = []
    for axis in (1, 2, 3):
        low = [slice(None)] * 4
        low[axis] = slice(0, -1)
        high = [slice(None)] * 4
        high[axis] = slice(1, None)
        both = union[tuple(low)] & union[tuple(high)]
        difference = np.abs(np.diff(final, axis=axis) - np.diff(plan, axis=axis))
        slopes.append(difference[both].mean())
    terms["gradient_l1"] = np.mean(slopes)
    means = []
    for patient in (0, 1):
        organs = [t["masks"][patient, c] for c in range(1, 8) if t["masks"][patient, c].any()]
        means.append(np.mean([abs((final - plan)[patient][o].mean()) for o in organs]))
    terms["mean_dose"] = np.mean(means)
    terms["soft_vx"] = 0.0
    for channel in range(1, 8):
        organ = t["masks"][:, channel]
        for level in (10, 15, 20, 25, 30, 35, 40):
            soft = 1 / (1 + np.exp(-10 * (52 * final[organ] - level)))
            hard = 52 * plan[organ] >= level
            terms["soft_vx"] += (soft.mean() - hard.mean()) ** 2 / 2
    return terms


def test_every_term_and_the_sum_agree_to_a_millionth():
    stored = tensors()
    torch_of = {key: torch.from_numpy(value) for key, value in stored.items()}
    x = LossInput(
        prediction=torch_of["final"][:, None].float(),
        coarse=torch_of["coarse"][:, None].float(),
        reference=torch_of["reference"][:, None].float(),
        region=torch_of["masks"][:, 8:],
        structures=torch_of["masks"],
        names=[channel.name for channel in PELVIS.inputs],
        roles=[channel.role for channel in PELVIS.inputs],
        dose_scale_gy=52.0,
        strips=torch_of["strips"],
    )
    total, parts = WeightedSum(PUBLISHED_PELVIS)(x)
    expected = worked(stored)
    assert set(parts) == set(expected)
    for name, value in expected.items():
        assert parts[name].item() == pytest.approx(value, abs=1e-6), name
    second = 0.7 * expected["mae"] + 0.1 * expected["strip_mae"] + 0.1 * expected["gradient_l1"]
    second += 0.05 * 52 * expected["mean_dose"] + 0.05 * expected["soft_vx"]
    assert expected["soft_vx"] > 0.1 and expected["mean_dose"] > 0.01
    assert total.item() == pytest.approx(0.5 * expected["coarse_mae"] + 0.5 * second, abs=1e-6)
