"""The goal-template loss: driven by a goals file, each measure worked by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.losses import goal_template, moments


@pytest.fixture
def goals(tmp_path):
    def write(*entries):
        path = tmp_path / "goals.json"
        listed = [{"structure": name, "goal": goal} for name, goal in entries]
        path = path.with_name(f"goals{abs(hash(entries))}.json")
        path.write_text(json.dumps({"schema": "dose-prediction-goals/1", "goals": listed}))
        return str(path)

    return write


def doses(x, channel):
    """Voxels of the first patient's structure, prediction and reference, Gy."""
    mask = x.structures[0, channel]
    return [(t[0, 0][mask] * 52).numpy() for t in (x.dose, x.reference)]


def first_patient(x):
    keys = ("prediction", "reference", "region", "structures", "strips", "spacing_mm", "coarse")
    return replace(x, **{key: getattr(x, key)[:1] for key in keys})


@pytest.mark.parametrize(
    ("goal", "measure"),
    [
        ("Dmean <= 20 Gy", np.mean),
        ("Dmax <= 50 Gy", np.max),
        ("Dmin >= 5 Gy", np.min),
        ("D2% <= 48 Gy", lambda d: np.percentile(d, 98)),
        ("D98% >= 95 %Rx", lambda d: np.percentile(d, 2)),
        ("D0.1cc < 50 Gy", lambda d: np.percentile(d, 100 - 100 * (100 / 40) / len(d))),
        ("gEUD(a=8) <= 45 Gy", lambda d: np.mean(np.maximum(d, 1e-3) ** 8) ** (1 / 8)),
    ],
)
def test_a_dose_measure_is_compared_with_the_plans(goal, measure, batch, goals):
    x = first_patient(batch())
    ours, theirs = doses(x, 1)
    value = goal_template(x, goals(("Rectum", goal)))
    assert 52 * value.item() == pytest.approx(abs(measure(ours) - measure(theirs)), rel=1e-9)


def test_volumes_are_shares_and_may_follow_the_prescription(batch, goals):
    x = first_patient(batch())
    ours, theirs = doses(x, 0)
    absolute, relative = goals(("PTV", "V20Gy >= 5 %")), goals(("PTV", "V50%Rx >= 5 %"))
    value = goal_template(x, absolute, slope_per_gy=1e4)
    assert value.item() == pytest.approx(abs((ours >= 20).mean() - (theirs >= 20).mean()))
    assert goal_template(x, relative, {"PTV": 40.0}, slope_per_gy=1e4).item() == value.item()
    with pytest.raises(DosePredictionError, match="prescription"):
        goal_template(x, relative)


def test_a_measure_counts_once_whatever_its_limits(batch, goals):
    x = first_patient(batch())
    twice = goals(("PTV", "Dmean >= 40 Gy"), ("PTV", "Dmean <= 60 Gy"), ("Rectum", "Dmax <= 5 Gy"))
    once = goals(("PTV", "Dmean >= 40 Gy"), ("Rectum", "Dmax <= 5 Gy"))
    assert goal_template(x, twice).item() == goal_template(x, once).item()


def test_a_crop_with_less_than_the_volume_has_no_such_term(batch, goals):
    x = first_patient(batch())
    both = goals(("Rectum", "D2cc <= 40 Gy"), ("Rectum", "Dmean <= 40 Gy"))
    ours, theirs = doses(x, 1)  # 12 voxels of 0.04 cc
    expected = abs(ours.mean() - theirs.mean()) / 52
    assert goal_template(x, both).item() == pytest.approx(expected)


def test_goals_without_a_structure_of_the_model_are_refused(batch, goals):
    with pytest.raises(DosePredictionError, match="none of the structures PTV, Rectum"):
        goal_template(batch(), goals(("Larynx", "Dmean <= 40 Gy"), ("PTV", "CI >= 0.8")))


def test_the_moment_of_order_one_is_the_mean(batch):
    x = first_patient(batch())
    x = replace(x, prediction=x.prediction.clamp(min=0.01))
    means = [abs(np.subtract(*doses(x, channel)).mean()) / 52 for channel in (0, 1, 2)]
    ours, theirs = doses(x, 0)
    assert moments(x, orders=(1.0,)).item() == pytest.approx(np.mean(means), rel=1e-6)
    only = torch.zeros_like(x.structures)
    only[:, 0] = x.structures[:, 0]
    tenth = moments(replace(x, structures=only), orders=(10.0,)).item()
    expected = abs(np.mean(ours**10) ** 0.1 - np.mean(theirs**10) ** 0.1) / 52
    assert tenth == pytest.approx(expected, rel=1e-6)
