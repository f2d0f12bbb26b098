"""Goals as wishes: events, what the section shows, and what a prediction is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from beams.beam_phantoms import beam_model
from DosePredictionPanel.flow import effects as do
from DosePredictionPanel.flow import events as on
from DosePredictionPanel.flow.state import ModelFacts
from DosePredictionPanel.model_card import model_facts
from DosePredictionPanel.wishes_view import NOT_STATED, wishes_view
from reducer_driver import HEAD, PELVIS, TEMPLATES, A, B, Driver
from support import pelvis_case

from DosePredictionLib.app.choices import WishesChoice
from DosePredictionLib.case import Case
from DosePredictionLib.encoding.encoder import EncodingSettings, GridSettings, encode
from DosePredictionLib.encoding.strips import StripSettings
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.wishes import Wish
from DosePredictionLib.worker.exchange import CaseReader, write_case
from DosePredictionLib.worker.messages import Check
from DosePredictionLib.worker.side_jobs import check

TAKING = replace(PELVIS, wishes=(("Bladder", 40.0), ("Rectum", 40.0), ("Marrow", 20.0)))
RECTUM = "Rectum V40Gy <= 25 %"


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.send(on.ModelsListed((TAKING, HEAD), TEMPLATES))
    driver.patient(A)
    return driver


def order(driver: Driver) -> Any:
    """Of the next prediction."""
    driver.ready()
    return driver.one(driver.apply(), do.StartPrediction).order


def test_nothing_is_wished_until_a_slider_is_moved(driver: Driver) -> None:
    view = wishes_view(driver.state)
    assert view.title == "Goals as wishes – none" and view.text == ""
    assert [(row.organ, row.percent, row.words) for row in view.rows] == [
        (organ, NOT_STATED, "not stated") for organ in ("Bladder", "Rectum", "Marrow")
    ]
    assert [row.can_choose for row in view.rows] == [True, True, False]  # no marrow is contoured
    assert "Marrow is not contoured" in view.rows[2].tip
    assert view.rows[1].label == "Rectum V40Gy"
    asked = order(driver)
    assert asked.wishes == () and "V40" not in asked.label


@pytest.mark.parametrize("model", [PELVIS, HEAD])
def test_a_model_that_takes_no_wishes_says_so_and_is_asked_for_none(
    driver: Driver, model: ModelFacts
) -> None:
    driver.choose(wishes=RECTUM)
    driver.send(on.ModelsListed((PELVIS, HEAD), TEMPLATES))
    driver.choose(model=model.name)
    view = wishes_view(driver.state)
    assert not view.rows and view.text == ""
    assert view.sentence.startswith(f"{model.title} takes no wishes")
    assert view.title == "Goals as wishes – not of this model"
    if model is PELVIS:
        assert order(driver).wishes == ()


def test_another_wish_is_a_result_beside_the_earlier_one(driver: Driver) -> None:
    driver.predict("doseA")
    effects = driver.send(on.WishSet("Rectum", 40.0, 25.0))
    assert do.StartTimer("rest", 400) in effects  # the preflight depends on it
    assert driver.parameters.wishes == RECTUM
    assert "changed since this prediction: wishes" in driver.notices[0]
    view = wishes_view(driver.state)
    assert view.title.endswith(RECTUM)
    assert (view.rows[1].percent, view.rows[1].words, view.rows[1].tip) == (25, "≤ 25 %", RECTUM)
    asked = order(driver)
    assert asked.wishes == (RECTUM,)
    assert asked.label.startswith(f"45 Gy, {RECTUM}, Pelvis")
    assert (asked.replaces, asked.before) == ("", "doseA")
    driver.finish("doseB", change=True)
    driver.shown()
    assert [each.dose for each in driver.state.results] == ["doseA", "doseB"]
    driver.send(on.ResultChosen("doseA"))
    assert driver.parameters.wishes == "" and driver.notices == []
    driver.send(on.ResultChosen("doseB"))
    assert driver.parameters.wishes == RECTUM and driver.notices == []
    driver.send(on.WishSet("Rectum", 40.0, 100.0))
    assert driver.parameters.wishes == "" and driver.notices != []


def test_sliders_and_typed_goals_are_one_choice(driver: Driver) -> None:
    driver.send(on.WishesTyped(f" {RECTUM};Bladder V40Gy<=30.5 % ; "))
    view = wishes_view(driver.state)
    assert [row.percent for row in view.rows] == [30, 25, NOT_STATED]
    assert view.text == f"{RECTUM}; Bladder V40Gy <= 30.5 %"
    driver.send(on.WishSet("Rectum", 40.0, 20.0))
    assert driver.parameters.wishes == "Rectum V40Gy <= 20 %; Bladder V40Gy <= 30.5 %"
    driver.send(on.WishSet("Rectum", 40.0, float(NOT_STATED)))
    assert driver.parameters.wishes == "Bladder V40Gy <= 30.5 %"
    driver.predict("doseA")
    driver.choose(wishes="Bladder  V40Gy <= 30.5%")  # the same in other spelling
    assert driver.notices == []
    three = "; ".join([RECTUM, "Bladder V40Gy <= 30 %", "Marrow V20Gy <= 60 %"])
    driver.send(on.WishesTyped(three))
    assert wishes_view(driver.state).title.endswith("Bladder V40Gy <= 30 % and 1 more")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("Rectum", "takes a structure and a goal"),
        ("Rectum V40Gy <= much", "takes a structure and a goal"),
        ("Rectum Dmean <= 20 Gy", "takes upper limits of a volume in percent"),
        ("Rectum V40Gy >= 25 %", "takes upper limits of a volume in percent"),
        ("Rectum V0Gy <= 25 %", "takes upper limits of a volume in percent"),
        ("Rectum V40Gy <= 250 %", "takes upper limits of a volume in percent"),
    ],
)
def test_what_is_no_wish_is_said_and_changes_nothing(driver: Driver, wrong: str, said: str) -> None:
    """By the panel, by a script, and in the words of the command line."""
    driver.send(on.WishesTyped(RECTUM))
    with pytest.raises(DosePredictionError) as raised:
        WishesChoice.parse([wrong])
    assert said in str(raised.value) and "\n" not in str(raised.value)
    driver.send(on.WishesTyped(wrong))
    assert driver.notices[0] == str(raised.value)
    driver.choose(wishes=wrong)
    assert driver.notices[0] == str(raised.value)
    assert driver.parameters.wishes == RECTUM


def test_wishes_belong_to_a_patient(driver: Driver) -> None:
    driver.send(on.WishSet("Rectum", 40.0, 25.0))
    driver.choose(ct=B[0])
    assert driver.parameters.wishes == ""
    driver.choose(ct=A[0])
    assert driver.parameters.wishes == RECTUM


# --- What the worker says before Apply ----------------------------------------------------------

SIZE, SPACING = (32, 32, 24), (12.0, 12.0, 8.0)
SETTINGS = EncodingSettings(
    GridSettings("as-is", size=SIZE, spacing_mm=SPACING),
    masks="occupancy",
    strips=StripSettings(angles=()),
    further={"beam": {}, "wish": {"dose_gy": {"Rectum": 40.0, "Bladder": 40.0}}},
)


@pytest.fixture(scope="module")
def taking(tmp_path_factory: pytest.TempPathFactory) -> DoseModel:
    from DosePredictionLib.beams.arrangement import parse_beams

    folder = tmp_path_factory.mktemp("models") / "wishes"
    return beam_model(folder, SETTINGS, parse_beams("0,120,240"))


def case_in_target() -> Case:
    """Half of the rectum lies in the target."""
    case = pelvis_case(SIZE, SPACING)
    rectum = case.structures["Rectum"].majority().copy()
    rectum[: SIZE[2] // 2] = False
    target = case.ct.with_array(case.structures["PTV"].majority() | rectum)
    return replace(case, structures={**case.structures, "PTV": target})


@pytest.mark.parametrize(
    "wishes",
    [
        (Wish("Heart", 40.0, 25.0),),
        (Wish("Rectum", 30.0, 25.0),),
        (Wish("Marrow", 20.0, 25.0),),
        (Wish("Rectum", 40.0, 90.0), Wish("Rectum", 40.0, 80.0)),
        (Wish("Rectum", 40.0, 0.0),),
        (Wish("Rectum", 40.0, 90.0),),
    ],
)
def test_the_preflight_refuses_what_a_prediction_would_in_its_words(
    wishes: tuple[Wish, ...], taking: DoseModel, tmp_path: Path
) -> None:
    case = case_in_target()
    folder = write_case(tmp_path / "case", case)
    request = Check("1", str(folder), str(taking.folder), wishes=wishes)
    found = [f for f in check(request, CaseReader())[0].findings if f.id == "wish-refused"]
    said = ""
    try:
        encode(bind(replace(case, wishes=wishes), StructureProtocol.load("pelvis")), SETTINGS)
    except DosePredictionError as error:
        said = str(error)
    assert [f.message for f in found] == ([said] if said else [])
    assert bool(said) == (wishes != (Wish("Rectum", 40.0, 90.0),))
    assert all(f.severity == "blocking" and "\n" not in f.message for f in found)


def test_the_preflight_refuses_wishes_of_a_model_that_takes_none(
    pelvis_model: DoseModel, tmp_path: Path
) -> None:
    folder = write_case(tmp_path / "case", pelvis_case(SIZE, SPACING))
    wishes = (Wish("Rectum", 40.0, 25.0),)
    request = Check("1", str(folder), str(pelvis_model.folder), wishes=wishes)
    found = [f for f in check(request, CaseReader())[0].findings if f.id == "wish-refused"]
    with pytest.raises(DosePredictionError) as raised:
        WishesChoice(wishes).require_taken_by(pelvis_model.manifest)
    assert [f.message for f in found] == [str(raised.value)]


def test_installed_models_say_which_wishes_they_take(
    taking: DoseModel, pelvis_model: DoseModel
) -> None:
    assert model_facts(taking.manifest).wishes == (("Rectum", 40.0), ("Bladder", 40.0))
    assert model_facts(pelvis_model.manifest).wishes == ()
