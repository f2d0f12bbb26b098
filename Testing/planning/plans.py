"""Plans that a generic machine delivers, for tests that break them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from DosePredictionLib.delivery import TreatmentBeam
from DosePredictionLib.planning.machine import Machine

MACHINE = Machine.load("generic-120")
PAIRS = len(MACHINE.leaf_boundaries_mm) - 1


def sound_beam(
    number: int = 1, segments: int = 3, mu: float = 60.0, seed: int = 0
) -> TreatmentBeam:
    """Static segments of random leaves within jaws of 12 cm × 10 cm, each of its own shape."""
    random = np.random.default_rng(seed)
    points = 2 * segments
    left = random.uniform(-50, -20, (segments, PAIRS))
    right = random.uniform(20, 50, (segments, PAIRS))
    leaves = np.repeat(np.stack([left, right], axis=1), 2, axis=0)
    shares = np.cumsum(np.full(segments, 1 / segments))
    weight = np.stack([np.concatenate([[0.0], shares[:-1]]), shares], axis=1).ravel()
    weight[-1] = 1.0
    return TreatmentBeam(
        number=number,
        name=f"Beam {number}",
        machine=MACHINE.id,
        kind="DYNAMIC",
        radiation="PHOTON",
        energy_mv=6.0,
        meterset=mu,
        weight=weight,
        gantry_degrees=np.full(points, 40.0 * (number - 1)),
        collimator_degrees=np.zeros(points),
        couch_degrees=np.zeros(points),
        jaws_x_mm=np.tile([-60.0, 60.0], (points, 1)),
        jaws_y_mm=np.tile([-50.0, 50.0], (points, 1)),
        leaves_mm=leaves,
        leaf_borders_mm=MACHINE.borders_mm,
        leaves_along="X",
        isocenter_mm=(1.25, -20.5, 33.125),
        dose_rate_mu_min=np.full(points, 300.0),
        stated_points=points,
        sad_mm=1000.0,
    )


def changed(beam: TreatmentBeam, field: str, index: Any, value: float) -> TreatmentBeam:
    """The beam with one number of one array set."""
    array = getattr(beam, field).copy()
    array[index] = value
    return replace(beam, **{field: array})
