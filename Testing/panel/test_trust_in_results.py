"""How sure a result is: probabilities of goals, review of the plan, foreign parts; without Qt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from DosePredictionPanel.flow import effects as do
from DosePredictionPanel.flow import events as on
from DosePredictionPanel.flow.derived import settings_of
from DosePredictionPanel.flow.state import Choices
from DosePredictionPanel.result_tables import goals_table
from DosePredictionPanel.review_table import review_table
from DosePredictionPanel.views import checks_view, result_view
from reducer_driver import ROWS, A, Driver
from test_results_flow import reopened, saved

from DosePredictionLib.checks.registry import OF_THE_RESULT
from DosePredictionLib.findings import Finding

FOREIGN = Finding(
    "unlike-training-patients",
    "warning",
    "Rectum is 3.0 times larger: unlike the 169 patients.",
    structure="Rectum",
    position_mm=(1.0, 2.0, 3.0),
)
HOT = Finding("target-dose-implausible", "warning", "PTV gets 200 Gy.", structure="PTV")


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.patient(A)
    driver.contents = {"PTV": 1, "Bladder": 2, "Rectum": 3, "Body": 4, "CT": 5, "helper": 6}
    return driver


def finish(driver: Driver, dose: str, **more: Any) -> None:
    """A prediction comes to its end, with what is to be said of it."""
    driver.ready()
    driver.apply()
    assert driver.state.run is not None
    token, run = driver.state.run.token, f"run of {dose}"
    driver._enter(dose, run, "ctA", "segA")
    tables = {"goals": ROWS, "dvh": ROWS, "review": more.pop("review", ROWS)}
    driver.send(on.RunFinished(token, run, dose, dose, tables=tables, **more))
    driver.send(on.NodesListed(driver.nodes))
    driver.shown()


def said(driver: Driver) -> list[str]:
    """The warnings; notes are of channels that stay empty."""
    rows = [row for row in checks_view(driver.state).rows if row.severity == "warning"]
    return [row.text.splitlines()[0] for row in rows]


# --- What was noticed of a result ----------------------------------------------------------------


def test_foreign_parts_of_the_shown_result_are_rows_with_their_place(driver: Driver) -> None:
    finish(driver, "doseA", findings=(FOREIGN, HOT))
    view = checks_view(driver.state)
    assert said(driver) == [f"⚠ {FOREIGN.message}", f"⚠ {HOT.message}"]
    assert view.rows[0].position_mm == FOREIGN.position_mm
    assert view.title.startswith("Checks – 2 warnings")
    effects = driver.send(on.NextFindingPressed())
    assert driver.one(effects, do.JumpTo) == do.JumpTo((1.0, 2.0, 3.0), "ctA")


def test_what_the_preflight_said_already_is_said_once(driver: Driver) -> None:
    finish(driver, "doseA", findings=(FOREIGN, HOT))
    driver.stroke()
    driver.ready(FOREIGN)
    assert said(driver) == [f"⚠ {FOREIGN.message}", f"⚠ {HOT.message}"]
    assert checks_view(driver.state).title.startswith("Checks – 2 warnings")


def test_they_go_with_the_result_with_another_one_and_with_other_contours(driver: Driver) -> None:
    finish(driver, "doseA", findings=(FOREIGN,))
    driver.choose(prescription_gy=50.4)
    assert said(driver) == []  # it is not of what is chosen now
    finish(driver, "dose2")
    assert said(driver) == []
    driver.choose(prescription_gy=0.0)
    driver.send(on.ResultChosen("doseA"))
    assert said(driver) == [f"⚠ {FOREIGN.message}"]
    driver.send(on.SegmentsEdited())
    driver.contents = {**driver.contents, "Bladder": 20}
    driver.send(on.TimerFired("edit"))
    driver.send(on.Compared("doseA", ("Bladder",), ("PTV", "Bladder", "Rectum", "Body")))
    assert said(driver) == []
    driver.send(on.Compared("doseA", (), ("PTV", "Bladder", "Rectum", "Body")))  # undone
    assert said(driver) == [f"⚠ {FOREIGN.message}"]
    driver.send(on.RemovePressed())
    driver.send(on.RemovePressed())
    assert said(driver) == []


def test_a_reopened_result_says_them_again_and_a_closed_scene_forgets_them() -> None:
    tables = {"goals": ROWS, "dvh": ROWS, "review": ROWS}
    settings = settings_of(reopened(saved()).state)  # nothing has changed since it was saved
    known = saved(settings=settings, findings=(FOREIGN,), tables=tables, bands="calibrated on 33")
    driver = reopened(known)
    assert said(driver) == [f"⚠ {FOREIGN.message}"]
    view = result_view(driver.state)
    assert view.tables["review"] == ROWS and view.bands == "calibrated on 33"
    driver.send(on.SceneClosing())
    driver.nodes, driver.saved, driver.parameters = (), (), Choices()
    driver.send(on.SceneClosed())
    assert said(driver) == [] and result_view(driver.state).bands == ""
    without = reopened(saved(settings=None, tables={}))
    assert said(without) == [] and not result_view(without.state).tables


def test_only_what_is_of_the_dose_is_said_beside_a_result() -> None:
    assert {FOREIGN.id, HOT.id} <= OF_THE_RESULT
    assert "structure-missing" not in OF_THE_RESULT


# --- The review's tab ----------------------------------------------------------------------------


def test_the_review_stays_in_front_while_results_have_one(driver: Driver) -> None:
    finish(driver, "doseA")
    driver.send(on.TabChosen("review"))
    driver.choose(prescription_gy=50.4)
    finish(driver, "dose2", review=replace(ROWS, rows=()), bands="No bands: not calibrated.")
    view = result_view(driver.state)
    assert (view.tab, view.has_bands) == ("goals", False)
    assert view.bands == "No bands: not calibrated."


# --- Tables --------------------------------------------------------------------------------------


def goal(**more: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "structure": "Rectum",
        "goal": "V40Gy <= 35 %",
        "unit": "%",
        "value": 38.0,
        "margin": -3.0,
        "status": "not_met",
        "bound_to": "Rectum",
        "source": None,
        "reason": None,
        "endpoint": None,
    }
    return {**record, **more}


LIKELY = {
    "percent": 32.4,
    "low_percent": 24.0,
    "high_percent": 41.0,
    "patients": 63,
    "nearest": {"met": 8, "of": 10},
}


def test_how_likely_a_goal_is_met_stands_in_a_short_column_and_in_words() -> None:
    known = goal(probability=LIKELY, probability_missing=None)
    reason = "V50Gy_percent of Rectum was not calibrated"
    unknown = goal(probability=None, probability_missing=reason)
    silent = goal(probability=None, probability_missing="not evaluable")
    table = goals_table([known, unknown, silent])
    assert table.headers == ("Structure", "Goal", "Predicted", "Likely")
    cells = [row[-1] for row in table.rows]
    assert [cell.text for cell in cells] == ["32 %", "–", ""]
    assert "32 % (24–41), met by 8 of 10 such plans" in cells[0].tool_tip
    assert cells[1].tool_tip == f"no probability: {reason}"
    compared = goals_table([known], [goal()], [goal()])
    assert compared.headers == ("Structure", "Goal", "A", "B", "Δ", "Plan", "Likely")
    assert compared.rows[0][-1].text == "32 %"


def test_what_was_not_calibrated_is_said_though_no_goal_was() -> None:
    table = goals_table([goal(probability=None, probability_missing="Rectum was not calibrated")])
    assert table.headers[-1] == "Likely"
    assert table.rows[0][-1].tool_tip == "no probability: Rectum was not calibrated"


@pytest.mark.parametrize(
    "missing", [{}, {"probability": None, "probability_missing": "no calibration"}]
)
def test_without_a_calibration_there_is_no_such_column(missing: dict[str, Any]) -> None:
    assert goals_table([goal(**missing)]).headers == ("Structure", "Goal", "Predicted")


ROW = {
    "structure": "Rectum",
    "endpoint": "Dmean_gy",
    "volume_percent": None,
    "plan": 34.4,
    "predicted": 24.1,
    "low": 20.1,
    "high": 28.4,
    "outside": 6.0,
    "unit": "Gy",
    "verdict": "likely_to_gain",
}


def test_a_plan_outside_its_bands_is_a_table_that_leads_to_the_place() -> None:
    curve = {**ROW, "endpoint": None, "volume_percent": 40, "outside": -2.0, "verdict": "better"}
    table = review_table({"level_percent": 90, "rows": [ROW, curve]}, {"Rectum": "Enddarm"})
    first, second = ([cell.text for cell in row] for row in table.rows)
    assert first == ["Enddarm", "Dmean", "34.4", "20.1 – 28.4", "! +6.0 Gy"]
    assert second[1:] == ["curve, at D40%", "34.4", "20.1 – 28.4", "✓ −2.0 Gy"]
    assert [row[-1].status for row in table.rows] == ["variation", "met"]
    assert table.rows[0][-1].tool_tip.startswith("Likely to gain: 34.4 Gy in the plan, 24.1")
    assert table.places == (("Rectum", "hot"), ("Rectum", "cold"))
    assert "Enddarm\tDmean\t34.4" in table.as_text()


@pytest.mark.parametrize("review", [None, {"level_percent": 90, "rows": []}])
def test_nothing_outside_is_no_row(review: dict[str, Any] | None) -> None:
    assert review_table(review, {}).rows == ()
