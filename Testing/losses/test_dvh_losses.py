"""Losses on DVHs: worked by hand, and against the challenge's score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from DosePredictionLib.evaluation.differentiable import percentiles
from DosePredictionLib.evaluation.scores import dvh_score
from DosePredictionLib.losses import criteria_dvh, value_dvh


def test_percentiles_are_those_of_numpy():
    values = np.sort(np.random.default_rng(0).random(37))
    wanted = [0.0, 1.0, 5.0, 62.3, 99.0, 100.0]
    ours = percentiles(torch.from_numpy(values), wanted)
    np.testing.assert_allclose(ours.numpy(), np.percentile(values, wanted), rtol=1e-12)
    assert percentiles(torch.tensor([4.0]), [50.0]).tolist() == [4.0]


def test_value_dvh_compares_sorted_doses(batch):
    x = batch()
    expected = []
    for patient in (0, 1):
        distances = []
        for channel in range(3):
            mask = x.structures[patient, channel]
            ours, theirs = (np.sort(d[patient, 0][mask]) for d in (x.prediction, x.reference))
            if mask.any():
                distances.append(np.abs(ours - theirs).mean())
        expected.append(np.mean(distances))
    assert len(distances) == 2  # the second patient has no spinal cord
    assert value_dvh(x).item() == pytest.approx(np.mean(expected), rel=1e-12)


def test_value_dvh_is_blind_to_where_the_dose_lies(batch):
    x = batch()
    mask = x.structures[0, 0]
    moved = x.reference * x.region
    values = moved[0, 0][mask]
    moved[0, 0][mask] = values.roll(1)
    alone = x.structures.clone()
    alone[:, 1:3] = False
    x = replace(x, prediction=moved, reference=x.reference * x.region, structures=alone)
    assert value_dvh(x).item() == pytest.approx(0, abs=1e-15)


def test_criteria_dvh_is_the_challenges_score(batch):
    x = batch()
    scores = []
    for i in (0, 1):
        structures = {
            name: x.structures[i, channel].numpy()
            for channel, name in enumerate(x.names)
            if name != "Body"
        }
        ours, theirs = (x.dose[i, 0] * 52).numpy(), (x.reference[i, 0] * 52).numpy()
        score = dvh_score(
            ours, theirs, structures, targets=["PTV"], spacing_mm=x.spacing_mm[i].tolist()
        )
        scores.append(score)
    assert 52 * criteria_dvh(x).item() == pytest.approx(np.mean(scores), rel=1e-9)


def test_d99_pulls_at_the_coldest_voxels_of_the_target(batch):
    x = batch()
    only_target = x.structures.clone()
    only_target[:, 1:3] = False
    prediction = x.prediction.clone().requires_grad_()
    x = replace(x, prediction=prediction, structures=only_target)
    criteria_dvh(x).backward()
    pulled = (prediction.grad[0, 0] != 0).nonzero().tolist()
    in_target = prediction.detach()[0, 0][x.structures[0, 0]]
    doses = sorted(prediction[tuple([0, 0, *voxel])].item() for voxel in pulled)
    # Of 18 voxels, quantiles 0.01 and 0.05 lie between the lowest two, 0.99 between the highest.
    assert doses == sorted(in_target.tolist())[:2] + sorted(in_target.tolist())[-2:]
