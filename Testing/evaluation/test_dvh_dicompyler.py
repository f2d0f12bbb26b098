"""The DVH beside dicompyler-core's, where that one is right: large structures, smooth doses."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from DosePredictionLib.evaluation.dvh import dvh

pytest.importorskip("dicompylercore")
sys.path.insert(0, str(Path(__file__).parents[2]))


def test_dicompyler_agrees_on_a_large_ball_in_a_smooth_dose(scene):
    from benchmarks.dicompyler_adapter import (
        contours_of,
        dose_dataset,
        dvh_by_dicompyler,
        structure_dataset,
    )

    spacing, origin = (2.0, 2.0, 2.0), (0.0, 0.0, 0.0)
    space = scene((36, 36, 36))
    dose = (40 + 0.4 * space.x + 0.2 * space.y).astype(np.float32)
    ball = space.ball(28.0, (0.3, -0.4, 0.2)).array
    structures = structure_dataset({"Ball": contours_of(ball, spacing, origin)})
    theirs = dvh_by_dicompyler(structures, dose_dataset(dose, spacing, origin), 1)
    ours = dvh(dose, ball, spacing_mm=spacing)
    assert theirs.volume == pytest.approx(ours.volume_cc, rel=0.02)
    assert theirs.mean == pytest.approx(ours.mean_gy, abs=0.1)
    for percent in (95, 50, 5):
        value = theirs.dose_constraint(percent).value
        assert value == pytest.approx(ours.dose_at_percent(percent), abs=0.35)
