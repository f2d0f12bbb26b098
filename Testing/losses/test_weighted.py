"""The weighted sum: parts, schedule, stages, learned weights, refusals."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.losses import LossTerm, WeightedSum, criteria_dvh, mae
from DosePredictionLib.schema import from_json, to_json

TERMS = (
    LossTerm("mae", 1.0),
    LossTerm("mae", 0.5, stage="coarse"),
    LossTerm("criteria_dvh", 0.1, start=0.6),
)


def test_it_adds_up_and_names_each_part(batch):
    x = batch()
    total, parts = WeightedSum(TERMS)(x)
    assert set(parts) == {"mae", "coarse_mae", "criteria_dvh"}
    final, coarse, criteria = mae(x), mae(x.of_coarse()), criteria_dvh(x)
    assert total.item() == pytest.approx((final + 0.5 * coarse + 0.1 * criteria).item())
    assert parts["coarse_mae"].item() == coarse.item()
    assert not any(part.requires_grad for part in parts.values())


def test_a_term_may_start_late(batch):
    loss = WeightedSum(TERMS)
    assert "criteria_dvh" not in loss(batch(), progress=0.59).parts
    assert "criteria_dvh" in loss(batch(), progress=0.6).parts


def test_terms_travel_through_json():
    again = [from_json(LossTerm, json.loads(json.dumps(to_json(term)))) for term in TERMS]
    assert tuple(again) == TERMS


def test_learned_weights_find_each_losses_scale(batch):
    """At the optimum ½ exp(−s) L + ½ s has s = log L: every part weighs the same."""
    loss = WeightedSum(TERMS[:2], learned=True)
    optimizer = torch.optim.SGD(loss.parameters(), lr=1.0)
    x = batch()
    for _ in range(200):
        optimizer.zero_grad()
        total, parts = loss(x)
        total.backward()
        optimizer.step()
    expected = torch.stack(list(parts.values())).log()
    assert torch.allclose(loss.log_variances.double(), expected, atol=1e-3)


def test_without_learned_weights_there_are_no_parameters():
    assert list(WeightedSum(TERMS).parameters()) == []


def test_what_cannot_be_added_is_refused(batch):
    for terms, words in (
        ([LossTerm("mea", 1.0)], "no loss 'mea'.*mae"),
        ([LossTerm("mae", 1.0, options={"mask": 1})], "mask"),
        ([LossTerm("mae", 1.0), LossTerm("mae", 2.0)], "different names"),
        ([], "one or more"),
    ):
        with pytest.raises(DosePredictionError, match=words):
            WeightedSum(terms)
    x = batch()
    with pytest.raises(DosePredictionError, match="coarse"):
        replace(x, coarse=None).of_coarse()
    with pytest.raises(DosePredictionError, match="reference"):
        replace(x, reference=x.reference[:1])
    with pytest.raises(DosePredictionError, match="names"):
        replace(x, names=("PTV",))
