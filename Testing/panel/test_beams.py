"""The choice of beams: events, what the section shows, and the dose that comes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from beams.beam_phantoms import beam_model
from DosePredictionPanel.beams_view import beams_view
from DosePredictionPanel.flow import effects as do
from DosePredictionPanel.flow import events as on
from DosePredictionPanel.flow.beams import from_text
from DosePredictionPanel.flow.state import ModelFacts
from DosePredictionPanel.model_card import model_facts
from reducer_driver import HEAD, PELVIS, TEMPLATES, A, B, Driver
from support import DICOM_SAMPLE

from DosePredictionLib.beams.arrangement import ARRANGEMENTS, BeamArrangement, parse_beams
from DosePredictionLib.encoding.encoder import EncodingSettings, GridSettings
from DosePredictionLib.encoding.strips import StripSettings
from DosePredictionLib.errors import CaseError
from DosePredictionLib.io.dicom.beams import read_beams
from DosePredictionLib.models.manifest import installed_manifests
from DosePredictionLib.schema import to_json

RTPLAN = DICOM_SAMPLE / "RP.dcm"


def as_text(beams: BeamArrangement) -> str:
    return json.dumps(to_json(beams))


KNOWING = replace(PELVIS, beams=as_text(parse_beams("20,130,200")))


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.send(on.ModelsListed((KNOWING, HEAD), TEMPLATES))
    driver.patient(A)
    return driver


def order(driver: Driver) -> Any:
    """Of the next prediction."""
    driver.ready()
    return driver.one(driver.apply(), do.StartPrediction).order


def with_plan(driver: Driver, beams: BeamArrangement) -> None:
    driver.nodes = tuple(
        replace(node, beams=as_text(beams)) if node.id == "ctA" else node for node in driver.nodes
    )
    driver.send(on.NodesListed(driver.nodes))


def test_the_models_own_beams_are_used_unless_others_are_chosen(driver: Driver) -> None:
    view = beams_view(driver.state)
    assert view.can_choose and view.chosen == "" and view.angles == "20, 130, 200"
    assert view.items[""] == "The model's own (20°, 130°, 200°)"
    assert list(view.items)[1:] == list(ARRANGEMENTS)
    assert view.directions[0] == pytest.approx((0.342, -0.940), abs=1e-3)
    asked = order(driver)
    assert asked.beams == "" and "beams" not in asked.label


@pytest.mark.parametrize("model", [PELVIS, HEAD])
def test_a_model_that_knows_no_beams_says_so(driver: Driver, model: ModelFacts) -> None:
    driver.choose(beams="four-field")
    driver.send(on.ModelsListed((PELVIS, HEAD), TEMPLATES))
    driver.choose(model=model.name)
    view = beams_view(driver.state)
    assert not view.can_choose and not view.directions and not view.items
    assert view.sentence.startswith(f"{model.title} knows nothing of beams")
    assert view.title == "Beams – not of this model"
    if model is PELVIS:
        assert order(driver).beams == ""


def test_other_beams_are_a_result_beside_the_earlier_one(driver: Driver) -> None:
    driver.predict("doseA")
    effects = driver.choose(beams="four-field")
    assert do.StartTimer("rest", 400) in effects  # the preflight depends on them
    assert "changed since this prediction: beams" in driver.notices[0]
    asked = order(driver)
    assert from_text(asked.beams).gantry_degrees == [0, 90, 180, 270]
    assert asked.label.startswith("45 Gy, four fields, Pelvis")
    assert (asked.replaces, asked.before) == ("", "doseA")
    driver.finish("doseB", change=True)
    driver.shown()
    assert [each.dose for each in driver.state.results] == ["doseA", "doseB"]
    driver.send(on.ResultChosen("doseA"))
    assert driver.parameters.beams == "" and driver.notices == []
    driver.send(on.ResultChosen("doseB"))
    assert driver.parameters.beams == "four-field" and driver.notices == []


def test_angles_are_typed_and_what_is_none_changes_nothing(driver: Driver) -> None:
    driver.send(on.BeamsTyped(" 0, 75, 181-179 "))
    assert driver.parameters.beams == "0, 75, 181-179"
    view = beams_view(driver.state)
    assert (view.chosen, view.angles) == ("0, 75, 181-179", "0, 75, 181-179")
    assert view.items[view.chosen] == "Typed: 0, 75, 181-179" and len(view.directions) == 2 + 36
    for wrong, said in (("0, ninety", "gantry angles in degrees"), ("0, 0", "must differ")):
        driver.send(on.BeamsTyped(wrong))
        assert said in driver.notices[0]
        driver.choose(beams=wrong)  # as a script would
        assert said in driver.notices[0]
        assert driver.parameters.beams == "0, 75, 181-179"
    driver.send(on.BeamsTyped(""))
    assert driver.parameters.beams == "" and beams_view(driver.state).angles == "20, 130, 200"


def test_the_plans_own_beams_and_how_the_patient_lies(driver: Driver) -> None:
    assert "plan" not in beams_view(driver.state).items
    with_plan(driver, replace(parse_beams("10,100"), patient_position="FFS"))
    assert beams_view(driver.state).items["plan"] == "The plan's own (10°, 100°)"
    driver.choose(beams="plan")
    view = beams_view(driver.state)
    assert (view.title, view.angles) == ("Beams – the plan's own", "10, 100")
    assert "feet first, supine" in view.sentence
    assert view.directions[1][0] < 0  # a patient who lies feet first has 100° on the right
    driver.choose(beams="0,90")
    assert from_text(order(driver).beams).patient_position == "FFS"
    driver.send(on.RunFailed(driver.state.run.token, "no"))  # type: ignore[union-attr]
    driver.choose(beams="plan")
    with_plan(driver, ARRANGEMENTS["arc"])
    assert from_text(order(driver).beams) == ARRANGEMENTS["arc"]


def test_beams_belong_to_a_patient(driver: Driver) -> None:
    driver.choose(beams="four-field")
    driver.choose(ct=B[0])
    assert driver.parameters.beams == ""
    driver.choose(ct=A[0])
    assert driver.parameters.beams == "four-field"


def test_beams_over_the_slices_follow_whatever_changes_them(driver: Driver) -> None:
    assert driver.state.beam_marks is None
    drawn = driver.one(driver.choose(show_beams=True), do.MarkBeams).marks
    assert drawn is not None and drawn.ct == "ctA" and drawn.targets == ("PTV",)
    assert drawn.directions[0] == pytest.approx((0.342, -0.940), abs=1e-3)
    drawn = driver.one(driver.send(on.BeamsTyped("0,90")), do.MarkBeams).marks
    assert drawn is not None and drawn.directions == ((0.0, -1.0), (1.0, 0.0))
    assert "MarkBeams" not in driver.kinds(driver.choose(opacity=0.3))
    driver.send(on.ModelsListed((PELVIS, HEAD), TEMPLATES))
    assert driver.state.beam_marks is None  # of a model that knows none
    driver.send(on.ModelsListed((KNOWING, HEAD), TEMPLATES))
    assert driver.one(driver.choose(show_beams=False), do.MarkBeams).marks is None
    driver.choose(show_beams=True)
    assert driver.one(driver.remove("segA"), do.MarkBeams).marks is None
    driver.send(on.SceneClosing())
    assert driver.state.beam_marks is None


def test_an_rtplan_is_asked_for_and_its_beams_are_meant(driver: Driver) -> None:
    assert driver.one(driver.send(on.PlanBeamsPressed()), do.AskForBeams).ct == "ctA"
    driver.send(on.PlanBeamsRead("ctA", as_text(parse_beams("30,60"))))
    assert driver.parameters.beams == "plan"
    assert beams_view(driver.state).angles == "30, 60"
    driver.send(on.PlanBeamsRead("ctA", as_text(parse_beams("40,60"))))
    assert from_text(order(driver).beams).gantry_degrees == [40, 60]


def test_the_beams_of_an_rtplan_alone() -> None:
    beams = read_beams(RTPLAN)
    assert beams.gantry_degrees == [0, 270, 180, 90] and beams.patient_position == "HFS"
    assert beams.isocenter_mm is not None
    with pytest.raises(CaseError, match="is no RTPLAN"):
        read_beams(RTPLAN.with_name("RS.dcm"))


def test_installed_models_say_whether_they_know_beams(tmp_path: Path) -> None:
    settings = EncodingSettings(
        GridSettings("as-is", size=(48, 48, 32), spacing_mm=(8.0, 8.0, 8.0)),
        dose_scale_gy=50.0,
        strips=StripSettings(angles=()),
        further={"beam": {"arrangement": to_json(parse_beams("20,130,200"))}},
    )
    model = beam_model(tmp_path / "beams", settings, parse_beams("20,130,200"))
    assert from_text(model_facts(model.manifest).beams).gantry_degrees == [20, 130, 200]
    pelvis = next(m for m in installed_manifests().models if m.manifest.protocol == "pelvis")
    assert model_facts(pelvis.manifest).beams == ""
