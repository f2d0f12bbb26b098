"""Samples in the panel: what is asked for, and why not of a model without the heads for it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from DosePredictionPanel.flow import effects as do
from DosePredictionPanel.flow import events as on
from DosePredictionPanel.flow.state import ModelFacts, PanelState
from DosePredictionPanel.model_card import model_facts
from DosePredictionPanel.views import advanced_view
from reducer_driver import HEAD, PELVIS, TEMPLATES, A, Driver

from DosePredictionLib.models.dose_model import DoseModel

DRAWING = replace(PELVIS, draws_samples=True)


@pytest.mark.parametrize(("model", "asked"), [(DRAWING, 4), (PELVIS, 0)])
def test_samples_are_asked_of_a_model_that_draws_them(model: ModelFacts, asked: int) -> None:
    driver = Driver()
    driver.send(on.ModelsListed((model, HEAD), TEMPLATES))
    driver.patient(A)
    driver.choose(samples=4, seed=7)
    driver.ready()
    order = driver.one(driver.apply(), do.StartPrediction).order
    assert (order.samples, order.seed) == (asked, 7)
    view = advanced_view(driver.state)
    assert view.can_sample == bool(asked)
    tip = "standard deviation" if asked else "Pelvis draws no samples: it has no head for it"
    assert tip in view.samples_tip


def test_without_a_model_nothing_is_sampled() -> None:
    assert advanced_view(PanelState()).samples_tip == "Choose a model first."


def test_a_model_draws_samples_by_both_of_its_heads(
    pelvis_model: DoseModel, tmp_path: Path
) -> None:
    manifest = pelvis_model.manifest
    assert not model_facts(manifest).draws_samples
    for head, draws in (("flow", False), ("scale", True)):
        shutil.copytree(pelvis_model.folder, tmp_path / head)
        assert model_facts(manifest, tmp_path).draws_samples is draws
