"""A prediction made deliverable: events, the section, and the record in words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from DosePredictionPanel.flow import effects as do
from DosePredictionPanel.flow import events as on
from DosePredictionPanel.flow import plan_messages as plans
from DosePredictionPanel.flow.facts import PlanFacts, PlanGoal, PlanLimit
from DosePredictionPanel.making_view import making_view
from DosePredictionPanel.plan_facts import facts_from_text, facts_of_plan, text_of_facts
from DosePredictionPanel.result_tables import Cell, Table, goals_table
from DosePredictionPanel.views import result_view, run_view
from reducer_driver import ROWS, A, B, Driver

from DosePredictionLib.evaluation.goals import GoalSet

TEMPLATE = GoalSet.load("pelvis_nodal_45_50").goals
RECTUM = next(goal for goal in TEMPLATE if goal.structure == "Rectum")
ASKED = f"{RECTUM.structure} {RECTUM.text}"
FACTS = PlanFacts(
    "run1",
    ("20 beams, 300 segments, 600 MU a fraction on generic-120.", "None is broken."),
    (PlanGoal(ASKED, "38.0", "met"),),
    (PlanLimit("leaf gap", "0.4 mm", "≥ 0.5", "beam 1", True),),
)


def goal_rows() -> Table:
    """The goals' table of a prediction, one row a goal of the template."""
    rows, places = [], []
    for goal in TEMPLATE:
        rows.append((Cell(goal.structure), Cell(goal.text), Cell("✗ 42.0", "", "not_met")))
        places.append((goal.structure if goal.structure != "Marrow" else "", "hot"))
    return Table(("Structure", "Goal", "Predicted"), tuple(rows), tuple(places))


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.patient(A)
    driver.predict("doseA")
    (result,) = driver.state.results
    judged = on.Tabulated("doseA", "pelvis_nodal_45_50", {"goals": goal_rows()}, result.verdict, "")
    driver.send(judged)
    return driver


def started(driver: Driver) -> plans.MakePlan:
    return driver.one(driver.send(plans.MakePlanPressed()), plans.MakePlan)


def finish(driver: Driver, token: int, run: str = "run9", dose: str = "doseP") -> list[do.Effect]:
    finished = plans.PlanFinished(
        token,
        run,
        dose,
        "plan",
        "fine",
        {"goals": ROWS, "dvh": ROWS},
        driver.state.results[0].verdict,
        "none",
        {"Gy": (4.5, 49.5), "%": (10.0, 110.0)},
        replace(FACTS, of=driver.state.results[0].run),
        "/beams.png",
    )
    driver._enter(dose, run, "ctA", "segA")
    return driver.send(finished)


def test_goals_with_a_priority_are_asked_of_the_chosen_beams(driver: Driver) -> None:
    rows = {row.goal: row for row in making_view(driver.state).wishes}
    assert rows[ASKED].predicted.text == "✗ 42.0" and rows[ASKED].priority == 0
    assert not any(goal.startswith("Marrow") for goal in rows)  # not bound to a structure
    driver.send(plans.PrioritySet(ASKED, 3))
    driver.send(plans.PrioritySet("PTV D95% >= 43 Gy", 2))
    driver.send(plans.PrioritySet("PTV D95% >= 43 Gy", 0))
    driver.choose(plan_beams="20")
    order = started(driver).order
    assert (order.dose, order.run, order.goals) == ("doseA", "run1", "pelvis_nodal_45_50")
    assert order.wishes == ((ASKED, 30.0),)
    assert '"gantry_degrees": 18.0' in order.beams
    assert order.label == "deliverable plan, replanned, 20 beams"
    view = making_view(driver.state)
    assert (view.can_make, view.tip) == (False, "Wait until what runs is complete.")
    assert driver.send(plans.MakePlanPressed()) == []
    assert run_view(driver.state).button.enabled or driver.state.reading  # predictions go on


def test_a_plan_stands_beside_the_prediction_and_is_none(driver: Driver) -> None:
    order = started(driver)
    driver.send(plans.PlanProgress(order.token, 0.4, "segments"))
    driver.send(plans.PlanProgress(order.token + 7, 0.9, "of another one"))
    assert (making_view(driver.state).share, making_view(driver.state).stage) == (0.4, "segments")
    show = driver.one(finish(driver, order.token), do.ShowResult)
    assert (show.dose, show.display.other) == ("doseP", "doseA")
    assert [each.dose for each in driver.state.results] == ["doseA", "doseP"]
    view = result_view(driver.state)
    assert view.layers["prediction"] == "A: dose of the plan"
    made = making_view(driver.state)
    assert "20 beams, 300 segments" in made.summary and "Not for clinical use" in made.summary
    assert made.picture == "/beams.png" and made.can_save
    assert made.limits.rows[0][1].text == "✓ 0.4 mm"
    assert {row.goal: row for row in made.wishes}[ASKED].replanned == Cell("38.0", "", "met")
    driver.send(on.ResultChosen("doseA"))
    assert making_view(driver.state).summary == made.summary  # the prediction's latest plan
    driver.shown()
    # Predicting again repeats the prediction, and never the plan.
    start = driver.one(driver.apply(), do.StartPrediction)
    assert start.order.replaces == "doseA"


def test_from_a_plan_its_prediction_is_planned_again(driver: Driver) -> None:
    finish(driver, started(driver).token)
    order = started(driver).order
    assert order.dose == "doseA" and order.label == "deliverable plan (2)"
    finish(driver, driver.state.making.run.token, "run10", "doseQ")  # type: ignore[union-attr]
    driver.remove("doseA")
    assert driver.state.result is not None and driver.state.result.plan is not None
    assert "has gone" in making_view(driver.state).tip
    assert driver.send(plans.MakePlanPressed()) == []


def test_cancelled_and_failed_leave_everything_as_it_was(driver: Driver) -> None:
    results = driver.state.results
    token = started(driver).token
    assert driver.send(plans.PlanCancelPressed()) == [plans.CancelPlanning(token)]
    assert making_view(driver.state).is_cancelling
    assert driver.send(plans.PlanCancelPressed()) == []
    driver.send(plans.PlanFailed(token, "", cancelled=True))
    assert driver.notices == ["Cancelled. No plan was made. The scene is as it was."]
    token = started(driver).token
    driver.send(plans.PlanFailed(token + 5, "of another one"))
    driver.send(plans.PlanFailed(token, "The influence matrix needs about 30 GiB"))
    assert driver.notices == ["The influence matrix needs about 30 GiB"]
    assert driver.state.results == results and making_view(driver.state).can_make


def test_what_comes_late_is_nobodys(driver: Driver) -> None:
    """The scene was closed, or the prediction removed, while the plan was made."""
    token = started(driver).token
    effects = driver.send(on.SceneClosing())
    assert plans.CancelPlanning(token) in effects
    assert finish_late(driver, token) == []
    assert driver.state.making.run is None


def finish_late(driver: Driver, token: int) -> list[do.Effect]:
    results = driver.state.results
    return [] if not results else finish(driver, token)


def test_a_plan_of_another_ct_is_told_and_not_shown(driver: Driver) -> None:
    token = started(driver).token
    driver.patient(B)
    assert not [e for e in finish(driver, token) if isinstance(e, do.ShowResult)]
    assert "Choose its CT" in driver.notices[0]


def test_without_a_planner_one_button_installs_it(driver: Driver) -> None:
    driver.send(plans.PlannerAbsent(started(driver).token))
    assert making_view(driver.state).is_absent and making_view(driver.state).share is None
    install = driver.one(driver.send(plans.InstallPlannerPressed()), plans.InstallPlanner)
    assert driver.send(plans.InstallPlannerPressed()) == []
    driver.send(plans.PlanFailed(install.token, "", cancelled=True))
    assert driver.notices == ["Cancelled. Nothing was installed. The scene is as it was."]
    install = driver.one(driver.send(plans.InstallPlannerPressed()), plans.InstallPlanner)
    driver.send(plans.PlannerInstalled(install.token))
    assert not making_view(driver.state).is_absent
    assert driver.notices == ["The planner is installed."]


def test_without_a_result_nothing_can_be_made() -> None:
    driver = Driver()
    driver.patient(A)
    assert making_view(driver.state).tip == "Predict a dose first."
    assert driver.send(plans.MakePlanPressed()) == []


def record() -> dict:
    goal = {
        "structure": "Rectum",
        "goal": RECTUM.text,
        "unit": "%",
        "reference": {"value": 38.04, "status": "met", "margin": 2.0},
    }
    row = {
        "id": "leaf-gap",
        "label": "leaf gap",
        "beam": "Beam 1",
        "value": 0.7,
        "lowest": 0.5,
        "highest": None,
        "unit": "mm",
        "source": "chosen here",
        "place": "control point 2",
        "passed": True,
    }
    return {
        "complexity": {"beams": 2, "segments": 9, "monitor_units": 431.6},
        "machine": "generic-120",
        "gamma": {"plan": {"3%/3mm": 95.14}, "fluence": {"3%/3mm": 96.0}},
        "mean_difference_gy": 0.41,
        "mae_body_gy": 0.9,
        "goals": [goal],
        "goals_lost": [goal],
        "checks": [row, {**row, "beam": "Beam 2", "value": 0.1, "passed": False}],
        "violations": 1,
        "wishes": [goal],
    }


def test_the_record_in_words_states_what_is_lost_and_broken() -> None:
    facts = facts_of_plan(record(), "run1")
    assert facts.lines[0] == "2 beams, 9 segments, 432 MU a fraction on generic-120."
    assert "95.1 %" in facts.lines[1] and "+0.41 Gy" in facts.lines[1]
    assert f"not by the plan: Rectum {RECTUM.text}." in facts.lines[2]
    assert facts.lines[3] == "1 of 2 limits of the machine are broken."
    (limit,) = facts.limits  # of two beams the one that breaks it
    assert (limit.value, limit.allowed, limit.passed) == ("0.1 mm", "≥ 0.5", False)
    assert limit.place == "Beam 2, control point 2, chosen here"
    assert facts.goals == (PlanGoal(ASKED, "38.0", "met"),)
    assert facts_from_text(text_of_facts(facts)) == facts  # as a scene keeps it
    assert facts_from_text("") is None and facts_from_text('{"of": 3}') is None


def test_a_plans_column_is_no_predictions() -> None:
    assert goals_table([], title="Deliverable").headers[2] == "Deliverable"
