"""The benchmark of what a network's own numbers say of a foreign case."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from support import pelvis_case

from benchmarks.after_inference import Measuring, Usual, largest, mahalanobis
from DosePredictionLib.models.dose_model import DoseModel


def patients(count: int = 200) -> list[dict[str, float]]:
    """Two numbers that go together, and one that half of them lack."""
    random = np.random.default_rng(0)
    every = []
    for index in range(count):
        size = random.normal()
        numbers = {"dose.a": size + 0.1 * random.normal(), "dose.b": size}
        every.append(numbers if index % 2 else numbers | {"dose.c": 5 + random.normal()})
    return every


def test_what_no_patient_has_together_deviates_though_each_number_is_usual() -> None:
    usual = Usual.of(patients())
    together, apart = {"dose.a": 1.5, "dose.b": 1.5}, {"dose.a": 1.5, "dose.b": -1.5}
    for score in (mahalanobis, largest):
        assert score(usual, together) < score(usual, apart)
        assert score(usual, {"dose.c": 5.0}) < score(usual, {"dose.c": 11.0})
    assert largest(usual, {"dose.c": 11.0}) == pytest.approx(6, rel=0.25)
    assert usual.away({"unknown": 9.0}).tolist() == [0, 0, 0]


def test_a_prediction_is_measured_in_every_way_that_its_network_allows(
    pelvis_model: DoseModel,
) -> None:
    manifest = pelvis_model.manifest
    grid = replace(manifest.encoding.grid, size=(48, 48, 32), spacing_mm=(8.0, 8.0, 8.0))
    encoding = replace(manifest.encoding, grid=grid)
    model = replace(pelvis_model, manifest=replace(manifest, encoding=encoding))
    measuring = Measuring(model)
    case = pelvis_case((40, 32, 24), (10.0, 10.0, 10.0))
    found, seconds = measuring.numbers(case)
    assert {name.split(".")[0] for name in found} == {"features", "spread", "dose"}
    assert all(math.isfinite(value) for value in found.values()) and seconds >= 0
    assert {"features.stage1.bridge.0", "features.stage2.bridge.0", "dose.Rectum.mean"} <= set(
        found
    )
