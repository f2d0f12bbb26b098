"""Whether a plan could give the shown dose: events, the section, and the worker's answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from DosePredictionPanel.flow import effects as do
from DosePredictionPanel.flow import events as on
from DosePredictionPanel.flow.beams import from_text
from DosePredictionPanel.plan_view import plan_view
from reducer_driver import HEAD, PELVIS, TEMPLATES, A, Driver
from scene.predictions import prediction_of
from support import pelvis_case

from DosePredictionLib.beams.arrangement import parse_beams
from DosePredictionLib.evaluation.deliverability import deliverability
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.schema import to_json
from DosePredictionLib.worker.exchange import read_exchanged_case, write_case, write_prediction
from DosePredictionLib.worker.messages import (
    CheckDeliverability,
    decode_request,
    encode_message,
)
from DosePredictionLib.worker.side_jobs import check_deliverability

ANSWER = "A plan on 9 beams reproduces this dose to 0.5 Gy in the body <not excluded>"


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.patient(A)
    driver.predict("doseA")
    return driver


def asked(driver: Driver) -> do.CheckDeliverability:
    return driver.one(driver.send(on.DeliverablePressed()), do.CheckDeliverability)


def test_it_is_asked_of_the_chosen_beams_and_answered_for_this_dose(driver: Driver) -> None:
    assert plan_view(driver.state).can_check
    assert asked(driver).beams == ""  # of the protocol's plans: no beams are known of this case
    view = plan_view(driver.state)
    assert (view.can_check, view.tip) == (False, "Wait for the answer.")
    assert view.answer == "Asking the beams…"
    assert driver.send(on.DeliverablePressed()) == []
    token = driver.state.plan_check.token  # type: ignore[union-attr]
    driver.send(on.DeliverabilityChecked(token + 5, "of another question"))
    driver.send(on.DeliverabilityChecked(token, ANSWER, "info"))
    assert plan_view(driver.state).answer.endswith("in the body &lt;not excluded&gt;")
    effects = driver.choose(plan_beams="20")
    assert plan_view(driver.state).answer == ""  # it was of other beams
    assert [type(each) for each in effects] == []  # nothing is read, checked or shown anew
    order = asked(driver)
    assert order.dose == "doseA"
    assert from_text(order.beams).gantry_degrees == [18.0 * n for n in range(20)]
    driver.send(on.DeliverabilityChecked(order.token, ANSWER, "warning"))
    assert "color" in plan_view(driver.state).answer and "⚠" in plan_view(driver.state).answer


def test_a_failure_is_stated_and_it_can_be_asked_again(driver: Driver) -> None:
    token = asked(driver).token
    driver.send(on.DeliverabilityChecked(token, "", error="pelvis states no beams"))
    assert driver.notices == ["pelvis states no beams"]
    assert plan_view(driver.state).can_check and plan_view(driver.state).answer == ""


def test_the_beams_of_the_cts_plan_are_meant_unless_the_dose_has_its_own(driver: Driver) -> None:
    planned = json.dumps(to_json(replace(parse_beams("10,100"), patient_position="HFP")))
    driver.nodes = tuple(
        replace(node, beams=planned) if node.id == "ctA" else node for node in driver.nodes
    )
    driver.send(on.NodesListed(driver.nodes))
    order = asked(driver)
    assert from_text(order.beams).gantry_degrees == [10, 100]
    driver.send(on.DeliverabilityChecked(order.token, ANSWER, "info"))
    driver.choose(plan_beams="9")
    order = asked(driver)
    assert from_text(order.beams).patient_position == "HFP"
    driver.send(on.DeliverabilityChecked(order.token, ANSWER, "info"))
    driver.choose(plan_beams="")
    own = replace(PELVIS, beams=json.dumps(to_json(parse_beams("20,130"))))
    driver.send(on.ModelsListed((own, HEAD), TEMPLATES))
    order = asked(driver)
    assert from_text(order.beams).gantry_degrees == [20, 130]
    driver.send(on.DeliverabilityChecked(order.token, ANSWER, "info"))
    driver.choose(beams="four-field")  # of the next prediction
    assert from_text(asked(driver).beams).gantry_degrees == [20, 130]


def test_without_a_result_there_is_nothing_to_ask() -> None:
    driver = Driver()
    driver.patient(A)
    assert plan_view(driver.state).tip == "Predict a dose first."
    assert driver.send(on.DeliverablePressed()) == []


def test_a_worker_that_is_not_kept_warm_ends_after_the_answer(driver: Driver) -> None:
    driver.choose(keep_warm=False)
    token = asked(driver).token
    assert driver.send(on.DeliverabilityChecked(token, ANSWER, "info")) == [do.StopWorker()]


def test_the_worker_gives_the_finding_of_the_command(
    tmp_path: Path, pelvis_model: DoseModel
) -> None:
    case = pelvis_case((40, 32, 24), (10.0, 10.0, 10.0))
    folder = write_case(tmp_path / "case", case)
    prediction = prediction_of(read_exchanged_case(folder), pelvis_model)
    checkered = prediction.dose.array + 20 * (np.indices(case.grid.shape).sum(axis=0) % 2)
    beams = parse_beams("nine-field")
    for name, array in (("sound", prediction.dose.array), ("checkered", checkered)):
        main = replace(
            prediction.outputs[0], volume=prediction.dose.with_array(array.astype(np.float32))
        )
        whole = replace(prediction, outputs=(main,), seconds={"total": 1.0})
        write_prediction(tmp_path / name, whole)
    request = CheckDeliverability("d", str(folder), str(tmp_path / "sound"), beams)
    assert decode_request(encode_message(request)) == request
    (found,) = check_deliverability(request).findings
    bound = replace(prediction, case=replace(case, beams=beams)).bound
    assert found == deliverability(bound, prediction.dose).finding
    assert "A plan on 9 beams reproduces this dose to" in found.message
    impossible = replace(request, prediction=str(tmp_path / "checkered"))
    (worse,) = check_deliverability(impossible).findings
    assert gray(worse.message) > gray(found.message) + 2
    # Without a choice they are those of the plans behind the protocol's limits.
    assert check_deliverability(replace(request, beams=None)).findings == (found,)


def gray(message: str) -> float:
    """The difference in the body that a finding states."""
    return float(message.split(" to ")[1].split(" Gy")[0])
