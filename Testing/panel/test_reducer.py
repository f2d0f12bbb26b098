"""What the panel decides, by sequences of events: neither Qt nor a scene nor a worker."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest
from DosePredictionPanel.flow import effects as do
from DosePredictionPanel.flow import events as on
from DosePredictionPanel.flow import plan_messages
from DosePredictionPanel.flow.reducer import reduce
from DosePredictionPanel.flow.registry import HANDLERS
from DosePredictionPanel.flow.state import (
    GOALS_FROM_FILE,
    Choices,
    NodeFacts,
    PanelState,
)
from DosePredictionPanel.flow.store import Store
from DosePredictionPanel.result_tables import Table
from DosePredictionPanel.views import (
    advanced_view,
    checks_view,
    inputs_view,
    installation_view,
    result_view,
    run_view,
    structures_view,
)
from reducer_driver import ROWS, A, B, Driver, scene_nodes
from support import ROOT

from DosePredictionLib.findings import Finding

BLOCKED = Finding("no-target", "blocking", "The target is empty.", "Contour it.")


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.patient(A)
    return driver


@pytest.fixture
def predicted(driver: Driver) -> Driver:
    driver.predict("doseA")
    return driver


# --- The machinery --------------------------------------------------------------------------------


def test_every_event_has_a_handler() -> None:
    every = {getattr(on, name) for name in on.__all__}
    every |= {getattr(plan_messages, name) for name in plan_messages.__all__}
    events = {each for each in every if issubclass(each, on.Event)} - {on.Event}
    assert set(HANDLERS) == events


def test_the_reducer_needs_neither_qt_nor_slicer_nor_torch() -> None:
    """Nor do the views, in a Python where none of them can be imported."""
    blocked = ("torch", "qt", "ctk", "slicer", "vtk", "SimpleITK")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "import DosePredictionPanel.flow.store, DosePredictionPanel.views\n"
    )
    paths = [str(ROOT), str(ROOT / "DosePrediction")]
    code = f"import sys; sys.path[:0] = {paths!r}\n{code}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_states_cannot_be_changed(predicted: Driver) -> None:
    with pytest.raises(FrozenInstanceError):
        predicted.state.shown = ""  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        predicted.state.results[0].goals = ""  # type: ignore[misc]


def test_the_same_event_gives_the_same_outcome(driver: Driver) -> None:
    driver.ready()
    event = on.ApplyPressed(9.0)
    assert reduce(driver.state, event) == reduce(driver.state, event)


def test_an_event_that_comes_meanwhile_waits_for_its_turn() -> None:
    drawn: list[PanelState] = []
    store = Store(drawn.append)

    class Executor:
        def __init__(self) -> None:
            self.order: list[str] = []

        def carry_out(self, effect: do.Effect) -> None:
            self.order.append(type(effect).__name__)
            if isinstance(effect, do.ListModels):
                store.dispatch(on.ModelsListed(()))
                store.dispatch(on.InstallationReported("report"))
                assert store.state.installation.report == ""

    store.executor = executor = Executor()
    store.dispatch(on.Started())
    assert executor.order == [
        "RecallLevels",
        "ListModels",
        "TakeParameters",
        "CheckInstallation",
    ]
    assert store.state.installation.report == "report"
    assert len(drawn) == 1


# --- Choosing -------------------------------------------------------------------------------------


def test_the_first_case_is_chosen_to_save_clicks() -> None:
    driver = Driver()
    p = driver.parameters
    assert (p.ct, p.segmentation, p.plan_dose) == A
    assert driver.parameters.model == "pelvis"


def test_other_structures_bring_another_model(driver: Driver) -> None:
    driver.choose(segmentation="segB")
    assert driver.parameters.model == "head"


def test_a_model_chosen_with_the_structures_stays(driver: Driver) -> None:
    driver.choose(segmentation="segA2", model="head")
    assert driver.parameters.model == "head"


def test_inputs_are_read_once_they_rest(driver: Driver) -> None:
    assert driver.button == ("Apply", False)
    assert "being read" in run_view(driver.state).reason
    effects = driver.send(on.TimerFired("rest"))
    read = driver.one(effects, do.ReadInputs)
    assert (read.ct, read.segmentation, read.plan_dose) == A
    driver.send(on.ReadStep(read.token, "reading PTV"))
    assert checks_view(driver.state).hint == "reading PTV"
    driver.ready()
    assert driver.button == ("Apply", True)
    assert run_view(driver.state).reason == ""


def test_answers_for_inputs_that_have_changed_since_are_of_no_interest(driver: Driver) -> None:
    late = driver.one(driver.send(on.TimerFired("rest")), do.ReadInputs).token
    driver.choose(prescription_gy=50.0)
    assert driver.state.reading is not None
    assert driver.state.reading.token != late
    for event in (
        on.Checked(late, (BLOCKED,)),
        on.ReadFailed(late, "late"),
        on.ReadStep(late, "late"),
    ):
        driver.send(event)
    assert driver.state.findings == ()
    assert driver.state.input_error == ""
    assert driver.state.reading.stage != "late"


@pytest.mark.parametrize(
    ("change", "node", "why"),
    [
        ("ct", "planA", "is a dose"),
        ("plan_dose", "ctA", "values below 0 Gy"),
        ("plan_dose", "doseA", "was made by a prediction"),
        ("ct", "doseA", "was made by a prediction"),
    ],
)
def test_what_does_not_fit_cannot_be_chosen_by_a_script(
    predicted: Driver, change: str, node: str, why: str
) -> None:
    before = getattr(predicted.parameters, change)
    predicted.choose(**{change: node})
    assert getattr(predicted.parameters, change) == before
    assert why in predicted.notices[0]
    assert "Choose" in predicted.notices[0]


def test_selectors_offer_only_what_fits(predicted: Driver) -> None:
    hidden = inputs_view(predicted.state).hidden
    assert {"planA", "planB", "doseA"} <= set(hidden["ct"])
    assert {"ctA", "ctB", "doseA"} <= set(hidden["plan_dose"])
    assert not {"ctA", "ctB"} & set(hidden["ct"])
    assert not {"planA", "planB"} & set(hidden["plan_dose"])


def test_a_difference_is_no_plan_and_no_ct(predicted: Driver) -> None:
    made = NodeFacts("diff", "prediction − plan", "volume", run="run1", role="difference")
    assert not made.fits("plan_dose")
    assert not made.fits("ct")


def test_a_correction_takes_the_segment_from_the_channel_that_had_it(driver: Driver) -> None:
    driver.send(on.CorrectionChosen("Bladder", "Rectum"))
    assert driver.parameters.corrections == (("Bladder", "Rectum"),)
    driver.send(on.CorrectionChosen("Marrow", "Rectum"))
    assert driver.parameters.corrections == (("Marrow", "Rectum"),)
    driver.send(on.CorrectionChosen("Bladder", None))
    assert dict(driver.parameters.corrections) == {"Marrow": "Rectum", "Bladder": ""}
    assert driver.remembered[-1].names == ("PTV", "Bladder", "Rectum", "Body")
    rows = {row.channel: row for row in structures_view(driver.state).rows}
    assert rows["Bladder"].structure is None
    assert rows["Marrow"].structure == "Rectum"
    driver.send(on.MatchAgainPressed())
    assert driver.parameters.corrections == ()
    assert driver.remembered[-1].corrections == ()


def test_corrections_of_a_case_with_the_same_names_come_back(driver: Driver) -> None:
    driver.recalled = (("Bladder", ""),)
    driver.choose(segmentation="segA2")
    assert driver.parameters.corrections == (("Bladder", ""),)


# --- Applying -------------------------------------------------------------------------------------


def test_apply_orders_what_is_chosen(driver: Driver) -> None:
    driver.choose(prescription_gy=50.0, device="cpu", keep_coarse=True)
    driver.ready()
    order = driver.one(driver.apply(), do.StartPrediction).order
    assert order.inputs == A
    assert (order.model, order.prescription_gy, order.device) == ("pelvis", 50.0, "cpu")
    assert (order.goals, order.before, order.keep_coarse) == ("pelvis_nodes", "", True)
    assert driver.button == ("Cancel", True)


def test_the_reason_stands_beside_the_grey_button(driver: Driver) -> None:
    driver.ready(BLOCKED)
    view = run_view(driver.state)
    assert not view.button.enabled
    assert "The target is empty. Contour it." in view.reason
    assert driver.apply() == []
    assert driver.state.run is None


def test_the_second_click_of_a_double_click_does_not_cancel(driver: Driver) -> None:
    driver.ready()
    driver.send(on.ApplyPressed(10.0))
    assert driver.send(on.ApplyPressed(10.2)) == []
    assert driver.button == ("Cancel", True)
    cancel = driver.one(driver.send(on.ApplyPressed(12.0)), do.CancelPrediction)
    assert driver.state.run is not None
    assert cancel.token == driver.state.run.token
    assert driver.button == ("Cancelling…", False)
    assert driver.send(on.ApplyPressed(14.0)) == []


def test_the_second_click_on_cancel_does_not_start_again(driver: Driver) -> None:
    driver.ready()
    driver.send(on.ApplyPressed(10.0))
    driver.send(on.ApplyPressed(12.0))
    assert driver.state.run is not None
    driver.send(on.RunFailed(driver.state.run.token, "Cancelled.", cancelled=True))
    driver.ready()
    assert driver.send(on.ApplyPressed(12.3)) == []
    assert driver.state.run is None
    assert driver.notices == ["Cancelled. The scene is as it was."]


def test_progress_is_that_of_the_prediction_under_way(driver: Driver) -> None:
    driver.ready()
    driver.apply()
    assert driver.state.run is not None
    token = driver.state.run.token
    driver.send(on.RunProgress(token, 0.4, "final dose"))
    driver.send(on.RunProgress(token - 1, 0.9, "of another one"))
    view = run_view(driver.state)
    assert (view.share, view.stage) == (0.4, "final dose")


@pytest.mark.parametrize("field", ["model", "segmentation", "prescription_gy", "plan_dose"])
def test_settings_changed_while_it_runs_make_the_result_out_of_date(
    driver: Driver, field: str
) -> None:
    value = {"model": "head", "segmentation": "segA2", "prescription_gy": 50.0, "plan_dose": ""}
    driver.ready()
    driver.apply()
    effects = driver.choose(**{field: value[field]})
    assert "ReadInputs" not in driver.kinds(effects)
    assert driver.state.reading is None  # afterwards
    driver.finish("doseA")
    assert "Out of date" in driver.notices[0]
    driver.send(on.TimerFired("edit"))
    assert driver.state.reading is not None
    driver.ready()
    assert driver.button == ("Update", True)


def test_a_result_is_shown_with_its_range_and_for_the_first_time_with_a_layout(
    driver: Driver,
) -> None:
    driver.ready()
    driver.apply()
    show = driver.one(driver.finish("doseA"), do.ShowResult)
    assert (show.dose, show.layout) == ("doseA", True)
    assert (show.display.low, show.display.high) == pytest.approx((4.5, 49.5))
    assert driver.parameters.result_dose == "doseA"
    assert driver.state.showing is not None
    driver.shown()
    assert driver.state.showing is None
    assert driver.button == ("Apply", True)
    driver.send(on.TimerFired("edit"))
    driver.ready()
    assert driver.button == ("Apply", True)
    assert driver.notices == []


def test_what_is_chosen_while_a_result_is_being_shown_is_shown_in_the_end(driver: Driver) -> None:
    driver.ready()
    driver.apply()
    driver.finish("doseA")
    showing = driver.state.showing
    assert showing is not None
    assert "ApplyDisplay" not in driver.kinds(driver.choose(isodoses=True, opacity=0.2))
    again = driver.one(driver.send(on.Displayed(showing.token, showing.display)), do.ShowResult)
    assert (again.display.isodoses, again.display.opacity) == (True, 0.2)
    assert not again.layout
    driver.send(on.Displayed(again.token, again.display))
    assert driver.state.showing is None
    apply = driver.one(driver.choose(opacity=0.7), do.ApplyDisplay)
    assert apply.display.opacity == 0.7


def test_a_layer_that_is_not_there_gives_way_to_the_prediction(predicted: Driver) -> None:
    apply = predicted.one(predicted.choose(shown="change"), do.ApplyDisplay)
    effects = predicted.send(on.DisplayFailed(apply.token, "There is no change to show."))
    assert predicted.parameters.shown == "prediction"
    assert predicted.one(effects, do.ApplyDisplay).display.layer == "prediction"
    assert predicted.notices[0] == "There is no change to show."
    predicted.send(on.DisplayFailed(predicted.state.serial, "This result has been removed."))
    assert predicted.notices[0] == "This result has been removed."  # and it ends there


def test_an_update_compares_with_the_result_before(predicted: Driver) -> None:
    compared = on.Compared("doseA", ("Bladder",), ("PTV", "Bladder", "Rectum", "Body"))
    predicted.send(on.SegmentsEdited())
    assert predicted.one(predicted.send(on.TimerFired("edit")), do.CompareInputs).dose == "doseA"
    predicted.send(compared)
    assert "Bladder" in predicted.notices[0]
    predicted.ready()
    assert predicted.button == ("Update", True)
    assert predicted.one(predicted.apply(), do.StartPrediction).order.before == "doseA"
    predicted.finish("doseA", change=True)
    assert len(predicted.state.results) == 1
    assert result_view(predicted.state).tab == "change"
    assert predicted.notices == []


def test_a_segmentation_that_has_gone_is_named_without_its_channels(predicted: Driver) -> None:
    predicted.remove("segA")
    assert predicted.notices == ["Out of date, changed since this prediction: segmentation."]


@pytest.mark.parametrize(("names", "before"), [(("CT",), "doseA"), (("CT", "place of CT"), "")])
def test_a_ct_that_was_moved_is_no_ct_to_compare_on(
    predicted: Driver, names: tuple[str, ...], before: str
) -> None:
    predicted.send(on.TimerFired("edit"))
    predicted.send(on.Compared("doseA", names, ("PTV",)))
    predicted.ready()
    assert predicted.one(predicted.apply(), do.StartPrediction).order.before == before


def test_edits_in_another_module_are_read_when_the_person_comes_back(predicted: Driver) -> None:
    predicted.send(on.Exited())
    assert predicted.send(on.SegmentsEdited()) == []
    effects = predicted.send(on.Entered())
    assert do.StartTimer("edit", 700) in effects


# --- Errors ---------------------------------------------------------------------------------------


def crashed(driver: Driver) -> None:
    driver.apply()
    assert driver.state.run is not None
    text = "The worker crashed. Start it again with Apply."
    driver.send(on.RunFailed(driver.state.run.token, text, "stack"))


def test_an_error_stays_on_top_until_the_next_action(predicted: Driver) -> None:
    predicted.choose(prescription_gy=50.0)
    predicted.ready()
    crashed(predicted)
    assert predicted.notices[0] == "The worker crashed. Start it again with Apply."
    assert "Out of date" in predicted.notices[1]
    assert run_view(predicted.state).notices[0].details == "stack"
    predicted.ready()
    for event in (  # nothing that the person does
        on.SegmentsEdited(),
        on.TimerFired("edit"),
        on.Compared("doseA", ("PTV",), ("PTV",)),
        on.NodeAdded(),
        on.NodesListed(predicted.nodes),
        on.InstallationReported("report"),
        on.Exited(),
        on.Entered(),
    ):
        predicted.send(event)
        assert predicted.notices[0].startswith("The worker crashed"), event
    predicted.choose(opacity=0.1)  # looking is no action yet
    assert predicted.notices[0].startswith("The worker crashed")


@pytest.mark.parametrize(
    "action",
    [
        lambda d: d.choose(prescription_gy=60.0),
        lambda d: d.choose(plan_dose=""),
        lambda d: d.choose(goals="prostate"),
        lambda d: d.send(on.CorrectionChosen("Bladder", None)),
        lambda d: d.send(on.RemovePressed()),
        lambda d: d.send(on.ExportPressed("tables")),
        lambda d: d.send(on.InstallPressed()),
        lambda d: (d.ready(), d.apply()),
    ],
)
def test_the_next_action_takes_the_error_away(predicted: Driver, action) -> None:  # type: ignore[no-untyped-def]
    predicted.send(on.TimerFired("edit"))
    predicted.ready()
    crashed(predicted)
    action(predicted)
    assert not any("crashed" in text for text in predicted.notices)


def test_after_a_crash_apply_can_be_pressed_again(driver: Driver) -> None:
    driver.ready()
    crashed(driver)
    assert driver.state.reading is not None
    driver.ready()
    assert driver.button == ("Apply", True)
    assert driver.one(driver.apply(), do.StartPrediction)


def test_a_crash_while_checking_blocks_with_its_reason(driver: Driver) -> None:
    driver.send(on.TimerFired("rest"))
    assert driver.state.reading is not None
    message = "The worker was ended: no memory. See the details."
    driver.send(on.ReadFailed(driver.state.reading.token, message, "what it said"))
    assert "no memory" in run_view(driver.state).reason
    assert "no memory" in checks_view(driver.state).rows[0].text
    assert [notice.details for notice in run_view(driver.state).notices] == ["what it said"]
    driver.send(on.TimerFired("edit"))
    driver.ready()
    assert not driver.notices


def test_what_a_worker_said_can_be_copied_wherever_it_failed(predicted: Driver) -> None:
    predicted.send(
        on.ExportEnded("report", "/x/report.html", "It ended.", details="its last words")
    )
    assert run_view(predicted.state).notices[0].details == "its last words"
    predicted.send(on.DeliverablePressed())
    assert predicted.state.plan_check is not None
    token = predicted.state.plan_check.token
    predicted.send(on.DeliverabilityChecked(token, "", error="It ended.", details="its traceback"))
    assert run_view(predicted.state).notices[0].details == "its traceback"


def test_what_an_effect_could_not_do_is_an_error_with_details(predicted: Driver) -> None:
    predicted.send(on.EffectFailed("goals.json holds no goals.", "traceback"))
    notice = run_view(predicted.state).notices[0]
    assert (notice.kind, notice.text, notice.details) == (
        "error",
        "goals.json holds no goals.",
        "traceback",
    )


# --- Two patients ---------------------------------------------------------------------------------


@pytest.fixture
def both(predicted: Driver) -> Driver:
    predicted.patient(B)
    predicted.predict("doseB")
    return predicted


def test_a_new_ct_is_a_new_result(predicted: Driver) -> None:
    predicted.patient(B)
    assert predicted.state.result is None
    assert predicted.notices == []  # nothing of A's is out of date for B
    predicted.ready()
    assert predicted.button == ("Apply", True)
    order = predicted.one(predicted.apply(), do.StartPrediction).order
    assert (order.ct, order.before, order.model) == ("ctB", "", "head")
    predicted.finish("doseB")
    assert [each.dose for each in predicted.state.results] == ["doseA", "doseB"]
    assert predicted.parameters.result_dose == "doseB"


def test_another_patient_takes_the_result_off_the_slices(predicted: Driver) -> None:
    effects = predicted.choose(ct="ctB")
    assert predicted.one(effects, do.HideResult).dose == "doseA"
    assert predicted.one(effects, do.ShowCt).ct == "ctB"
    assert predicted.parameters.result_dose == ""
    assert not result_view(predicted.state).run


def test_switching_between_patients_shows_each_ones_own(both: Driver) -> None:
    effects = both.choose(ct="ctA")
    show = both.one(effects, do.ShowResult)
    assert (show.dose, show.center, show.layout) == ("doseA", True, False)
    assert both.one(effects, do.HideResult).dose == "doseB"
    p = both.parameters
    assert (p.ct, p.segmentation, p.plan_dose, p.model) == (*A, "pelvis")
    assert (p.goals, p.result_dose) == ("pelvis_nodes", "doseA")
    both.shown()
    both.ready()
    assert both.notices == []
    both.choose(ct="ctB")
    p = both.parameters
    assert (p.segmentation, p.plan_dose, p.model, p.goals) == (*B[1:], "head", "head_neck")
    assert both.state.result is not None
    assert both.state.result.dose == "doseB"


def test_a_result_that_comes_for_the_other_patient_is_not_drawn_over_this_one(
    driver: Driver,
) -> None:
    driver.ready()
    driver.apply()
    driver.choose(ct="ctB")
    driver.choose(segmentation="segB", plan_dose="planB")
    effects = driver.finish("doseA")
    assert "ShowResult" not in driver.kinds(effects)
    assert driver.state.result is None
    assert "Choose its CT to see it" in driver.notices[0]
    assert driver.one(driver.choose(ct="ctA"), do.ShowResult).dose == "doseA"


def test_the_range_follows_the_prescription_unless_chosen_for_this_patient(both: Driver) -> None:
    both.choose(range_low=20.0, range_high=72.0)
    both.choose(ct="ctA")
    assert (both.parameters.range_low, both.parameters.range_high) == pytest.approx((4.5, 49.5))
    both.choose(ct="ctB")
    assert (both.parameters.range_low, both.parameters.range_high) == (20.0, 72.0)
    both.choose(unit="%")
    assert (both.parameters.range_low, both.parameters.range_high) == (10.0, 110.0)
    both.choose(ct="ctA", unit="Gy")
    both.choose(prescription_gy=50.0)
    both.predict("doseA")
    assert both.parameters.range_high == pytest.approx(55.0)


def test_a_result_can_be_chosen_by_its_dose(both: Driver) -> None:
    both.choose(segmentation="segA2", ct="ctA")
    both.predict("doseA2")
    assert [each.dose for each in both.state.results] == ["doseA", "doseB", "doseA2"]
    effects = both.choose(result_dose="doseA")
    assert both.one(effects, do.ShowResult).dose == "doseA"
    assert both.one(effects, do.HideResult).dose == "doseA2"


# --- Goals ----------------------------------------------------------------------------------------


def test_goals_follow_model_and_prescription(driver: Driver) -> None:
    assert driver.parameters.goals == "pelvis_nodes"
    driver.choose(prescription_gy=78.0)
    assert driver.parameters.goals == "prostate"
    driver.choose(prescription_gy=60.0)
    assert driver.parameters.goals == ""  # none is written for it
    driver.choose(segmentation="segB")
    assert driver.parameters.goals == "head_neck"


def test_goals_of_the_patient_before_do_not_stay(predicted: Driver) -> None:
    predicted.choose(goals="prostate")
    predicted.patient(B)
    assert predicted.parameters.goals == "head_neck"
    predicted.predict("doseB")
    assert predicted.state.result is not None
    assert predicted.state.result.goals == "head_neck"


def test_goals_chosen_by_hand_stay_for_their_case(driver: Driver) -> None:
    driver.choose(goals="prostate")
    driver.choose(prescription_gy=50.0)
    driver.ready()
    assert driver.one(driver.apply(), do.StartPrediction).order.goals == "prostate"
    driver.finish("doseA")
    driver.patient(B)
    driver.choose(ct="ctA")
    assert driver.parameters.goals == "prostate"


def test_no_goals_can_be_chosen_by_hand(predicted: Driver) -> None:
    judge = predicted.one(predicted.choose(goals=""), do.JudgeGoals)
    assert judge == do.JudgeGoals("doseA", "")
    predicted.send(on.Tabulated("doseA", "", {"goals": Table((), ()), "dvh": ROWS}))
    assert result_view(predicted.state).tab == "dvh"
    predicted.choose(prescription_gy=78.0)
    predicted.ready()
    assert predicted.one(predicted.apply(), do.StartPrediction).order.goals == ""


def test_other_goals_are_judged_at_once_and_nothing_is_predicted(predicted: Driver) -> None:
    effects = predicted.choose(goals="prostate")
    assert predicted.kinds(effects) == ["JudgeGoals"]
    predicted.send(on.Tabulated("doseA", "prostate", {"goals": ROWS}))
    assert result_view(predicted.state).tab == "goals"
    assert predicted.state.result is not None
    assert predicted.state.result.goals == "prostate"


def test_the_goals_shown_are_those_that_the_result_was_judged_by(predicted: Driver) -> None:
    predicted.choose(prescription_gy=78.0)
    assert predicted.parameters.goals == "pelvis_nodes"  # until the result is of 78 Gy
    predicted.ready()
    predicted.apply()
    assert predicted.parameters.goals == "prostate"


def test_a_file_of_goals_is_asked_for(predicted: Driver) -> None:
    effects = predicted.choose(goals=GOALS_FROM_FILE)
    assert predicted.one(effects, do.AskForGoals)
    assert predicted.parameters.goals == "pelvis_nodes"
    predicted.send(on.GoalsFileChosen(""))
    assert predicted.parameters.goals == "pelvis_nodes"
    effects = predicted.send(on.GoalsFileChosen("/own/goals.json"))
    assert predicted.one(effects, do.JudgeGoals).goals == "/own/goals.json"
    assert result_view(predicted.state).templates["/own/goals.json"] == "goals"


# --- Deletions ------------------------------------------------------------------------------------

NAMES = ("ct", "segmentation", "plan_dose")


@pytest.mark.parametrize(("choice", "node"), [*zip(NAMES, A, strict=True)])
def test_a_deleted_node_leaves_an_empty_selection(driver: Driver, choice: str, node: str) -> None:
    """Never another node, which a selector takes while the row goes."""
    driver.ready()
    name = next(each.name for each in driver.nodes if each.id == node)
    driver.send(on.NodeRemoving(node, name))
    assert getattr(driver.parameters, choice) == ""
    taken = {"ct": "ctB", "segmentation": "segB", "plan_dose": "planB"}[choice]
    driver.choose(**{choice: taken})  # the selector's own doing
    assert getattr(driver.parameters, choice) == ""
    driver.nodes = tuple(each for each in driver.nodes if each.id != node)
    driver.send(on.NodeRemoved(node))
    driver.send(on.Entered())
    assert getattr(driver.parameters, choice) == ""
    if choice != "plan_dose":
        assert "Choose a" in run_view(driver.state).reason
        assert driver.state.prepared is None
    driver.choose(**{choice: taken})  # the person's
    assert getattr(driver.parameters, choice) == taken


def test_a_node_that_comes_after_a_deletion_may_be_chosen_by_itself(driver: Driver) -> None:
    driver.remove("ctA", "ctB")
    driver.nodes = (*driver.nodes, NodeFacts("ctC", "CT of C", "volume", can_be_dose=False))
    driver.send(on.NodeAdded())
    driver.send(on.TimerFired("list"))
    driver.send(on.Entered())
    assert driver.parameters.ct == "ctC"


MOMENTS = {
    "waiting": lambda d: None,
    "reading": lambda d: d.send(on.TimerFired("rest")),
    "ready": lambda d: d.ready(),
    "running": lambda d: (d.ready(), d.apply()),
    "cancelling": lambda d: (d.ready(), d.apply(), d.apply()),
    "showing": lambda d: (d.ready(), d.apply(), d.finish("doseA")),
    "shown": lambda d: d.predict("doseA"),
    "of two": lambda d: (d.predict("doseA"), d.patient(B), d.predict("doseB"), d.choose(ct="ctA")),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("node", [*A, "doseA", "segA2", "ctB", "segB", "planB", "doseB"])
def test_any_node_can_be_deleted_at_any_moment(driver: Driver, moment: str, node: str) -> None:
    """Afterwards nothing refers to it, and what comes late does no harm."""
    MOMENTS[moment](driver)
    was_run = driver.state.run
    reading = driver.state.reading
    effects = driver.remove(node)
    chosen = driver.parameters
    assert node not in (chosen.ct, chosen.segmentation, chosen.plan_dose, chosen.result_dose)
    assert all(each.dose != node for each in driver.state.results)
    if was_run is not None and node in was_run.order.inputs:
        assert driver.one(effects, do.AbortPrediction).token == was_run.token
        assert driver.state.run is None
        (sentence,) = (text for text in driver.notices if "was removed from the scene" in text)
        assert sentence == driver.notices[0]
        driver.send(on.RunFailed(was_run.token, "late"))
        assert driver.notices[0] == sentence
    else:
        assert driver.state.run == was_run
    if reading is not None and node in A:
        driver.send(on.Checked(reading.token, (BLOCKED,)))
        assert BLOCKED not in driver.state.findings
    for view in (inputs_view, structures_view, checks_view, run_view, result_view):
        view(driver.state)  # everything can be drawn
    driver.patient(B if node in A else A)
    driver.shown()
    gone = {node for node in ("ctB", "segB", "planB") if node not in {n.id for n in driver.nodes}}
    assert not gone & {driver.parameters.ct, driver.parameters.segmentation}


def test_the_shown_result_is_deleted_and_the_one_before_of_its_ct_is_shown(both: Driver) -> None:
    both.choose(ct="ctA")
    both.choose(segmentation="segA2")
    both.predict("doseA2")
    effects = both.remove("doseA2")
    assert both.one(effects, do.ForgetResult).dose == "doseA2"
    assert both.one(effects, do.ShowResult).dose == "doseA"
    effects = both.remove("doseA")
    assert "ShowResult" not in both.kinds(effects)
    assert both.state.result is None
    assert both.notices == []
    assert [each.dose for each in both.state.results] == ["doseB"]


def test_removing_takes_the_result_out_and_forgets_that_it_was_out_of_date(
    predicted: Driver,
) -> None:
    predicted.choose(prescription_gy=50.0)
    assert predicted.notices
    effects = predicted.send(on.RemovePressed())
    assert predicted.one(effects, do.RemoveResult).dose == "doseA"
    assert predicted.parameters.result_dose == ""
    assert predicted.notices == []
    predicted.remove("doseA")
    assert not result_view(predicted.state).run
    assert predicted.send(on.RemovePressed()) == []


# --- Scenes ---------------------------------------------------------------------------------------


def close(driver: Driver) -> list[do.Effect]:
    effects = driver.send(on.SceneClosing())
    driver.nodes, driver.parameters = (), Choices()
    return effects + driver.send(on.SceneClosed())


def test_closing_the_scene_while_it_runs_is_told_in_the_empty_scene(driver: Driver) -> None:
    driver.ready()
    driver.apply()
    kinds = driver.kinds(close(driver))
    assert {"AbortPrediction", "DropParameters", "StopReading", "ForgetScene"} <= set(kinds)
    assert "closed while the prediction ran" in driver.notices[0]
    assert driver.state.run is None
    assert driver.state.results == ()
    assert structures_view(driver.state).rows == ()


def test_nothing_of_the_scene_before_stays(both: Driver) -> None:
    close(both)
    state = both.state
    assert (state.results, state.shown, state.cases, state.nodes) == ((), "", {}, ())
    assert (state.prepared, state.findings, state.reading) == (None, (), None)


def reopened(dose: str = "doseA", **choices: str) -> Driver:
    made = NodeFacts(dose, "old dose", "volume", True, True, "2020-run", "dose", "ctA", "segA")
    return Driver(
        (*scene_nodes(), made),
        ct="ctA",
        segmentation="segA",
        plan_dose="planA",
        model="pelvis",
        goals="prostate",
        result_dose=dose,
        **choices,
    )


def test_a_reopened_scene_shows_that_its_result_is_there_without_its_numbers() -> None:
    driver = reopened()
    view = result_view(driver.state)
    assert view.run == "2020-run"
    assert not view.can_display
    assert "without its numbers" in view.why_not
    assert "ShowResult" not in driver.kinds(driver.pending)
    assert "ApplyDisplay" not in driver.kinds(driver.choose(isodoses=True))
    assert "JudgeGoals" not in driver.kinds(driver.choose(goals="pelvis_nodes"))
    assert driver.send(on.ExportPressed("report")) == []
    assert driver.one(driver.send(on.ExportPressed("dose")), do.AskForPath)
    assert driver.notices == []  # nothing is known to be out of date


def test_goals_saved_with_a_scene_stay_if_they_did_not_follow() -> None:
    driver = reopened()
    driver.send(on.RemovePressed())
    driver.choose(prescription_gy=50.0)
    assert driver.parameters.goals == "prostate"
    followed = Driver(ct="ctA", segmentation="segA", model="pelvis", goals="pelvis_nodes")
    followed.choose(prescription_gy=78.0)
    assert followed.parameters.goals == "prostate"


def test_predicting_again_in_a_reopened_scene_replaces_the_result() -> None:
    driver = reopened()
    driver.ready()
    assert driver.one(driver.apply(), do.StartPrediction).order.before == ""
    show = driver.one(driver.finish("doseA"), do.ShowResult)
    assert show.layout
    assert len(driver.state.results) == 1
    assert result_view(driver.state).can_display


def test_a_result_of_a_reopened_scene_can_be_removed() -> None:
    driver = reopened()
    assert driver.one(driver.send(on.RemovePressed()), do.RemoveResult).dose == "doseA"


def test_reopening_into_a_panel_with_a_result(both: Driver) -> None:
    close(both)
    both.nodes = reopened().nodes
    both.parameters = replace(Choices(), ct="ctA", segmentation="segA", result_dose="doseA")
    both.send(on.SceneLoaded())
    assert both.state.result is not None
    assert not both.state.result.has_numbers
    assert both.parameters.model == "pelvis"


def test_coming_back_to_the_module_changes_nothing(both: Driver) -> None:
    both.send(on.TimerFired("edit"))
    both.ready()
    before = both.state
    both.send(on.Exited())
    both.send(on.Entered())
    assert both.state == before


def test_closing_the_panel_stops_everything(driver: Driver) -> None:
    driver.ready()
    driver.apply()
    kinds = driver.kinds(driver.send(on.PanelClosed()))
    assert {"AbortPrediction", "StopReading", "StopShowing", "DropParameters"} <= set(kinds)
    for view in (inputs_view, structures_view, checks_view, run_view, result_view, advanced_view):
        view(driver.state)


def test_a_closed_panel_draws_nothing_and_takes_up_no_answer() -> None:
    """The worker ends after the panel has gone, and says so."""

    done: list[do.Effect] = []

    class Executor:
        def carry_out(self, effect: do.Effect) -> None:
            done.append(effect)
            if isinstance(effect, do.DropParameters):
                store.dispatch(on.EffectFailed("in the last turn"))

    drawn: list[PanelState] = []
    store = Store(drawn.append)
    store.executor = Executor()
    store.dispatch(on.Started())
    before = len(drawn)
    store.close(on.PanelClosed())
    assert do.DropParameters() in done and store.state.error is not None
    state, count = store.state, len(done)
    store.dispatch(on.ApplyPressed(1.0))
    store.dispatch(on.RunFailed(1, "The worker was ended."))
    assert (store.state, len(drawn), len(done)) == (state, before, count)


# --- Worker, installation, files ------------------------------------------------------------------


def test_a_worker_that_is_not_kept_warm_ends_when_nothing_needs_it(driver: Driver) -> None:
    driver.ready()
    assert "StopWorker" in driver.kinds(driver.choose(keep_warm=False))
    driver.choose(prescription_gy=50.0)
    driver.send(on.TimerFired("rest"))
    assert driver.state.reading is not None
    token = driver.state.reading.token
    assert "StopWorker" in driver.kinds(driver.send(on.Checked(token, ())))
    assert "StopWorker" not in driver.kinds(driver.apply())
    assert "StopWorker" in driver.kinds(driver.finish("doseA"))


def test_a_worker_that_runs_is_not_stopped_by_the_setting(driver: Driver) -> None:
    driver.ready()
    driver.apply()
    assert "StopWorker" not in driver.kinds(driver.choose(keep_warm=False))


def test_what_is_missing_blocks_apply_until_it_is_installed(driver: Driver) -> None:
    driver.send(on.InstallationChecked("torch"))
    driver.ready()
    assert "torch is missing" in run_view(driver.state).reason
    assert installation_view(driver.state).is_missing
    assert driver.kinds(driver.send(on.InstallPressed())) == ["Install"]
    assert driver.kinds(driver.send(on.Installed())) == ["StopWorker", "CheckInstallation"]
    driver.send(on.InstallationChecked(""))
    driver.ready()
    assert driver.button == ("Apply", True)


def test_devices_are_those_that_were_found_and_the_chosen_one(driver: Driver) -> None:
    driver.send(on.InstallationReported("text", {"cuda:0": "Big GPU"}))
    driver.choose(device="cuda:1")
    devices = advanced_view(driver.state).devices
    assert list(devices) == ["auto", "cpu", "cuda:0", "cuda:1"]
    assert devices["cuda:1"] == "cuda:1 (not there)"


def test_a_report_is_written_by_the_worker_and_opened(predicted: Driver) -> None:
    assert predicted.one(predicted.send(on.ExportPressed("report")), do.AskForPath)
    effects = predicted.send(on.PathChosen("report", "/x/report.html"))
    assert predicted.one(effects, do.WriteExport).dose == "doseA"
    assert run_view(predicted.state).stage == "writing the report"
    effects = predicted.send(on.ExportEnded("report", "/x/report.html"))
    assert predicted.one(effects, do.OpenFile).path == "/x/report.html"
    assert predicted.notices[0] == "Written: /x/report.html"
    assert run_view(predicted.state).share is None


def test_a_report_that_cannot_be_written_is_an_error(predicted: Driver) -> None:
    predicted.send(on.PathChosen("report", "/x/report.html"))
    predicted.send(on.ExportEnded("report", "/x/report.html", error="The disk is full."))
    assert predicted.notices[0] == "The disk is full."
    assert run_view(predicted.state).share is None
    assert predicted.send(on.PathChosen("dose", "")) == []


def test_models_that_were_installed_meanwhile_are_offered(driver: Driver) -> None:
    models = (replace(driver.state.models[0], name="new", is_default=False), *driver.state.models)
    driver.send(on.ModelsListed(models, driver.state.templates))
    assert list(inputs_view(driver.state).models) == ["new", "pelvis", "head"]
    assert driver.parameters.model == "pelvis"


def test_a_model_that_has_gone_gives_way_to_one_that_fits(driver: Driver) -> None:
    driver.send(on.ModelsListed(driver.state.models[1:], driver.state.templates))
    assert driver.parameters.model == "head"
    driver.send(on.ModelsListed((), (), "model.json is damaged."))
    assert inputs_view(driver.state).card == "model.json is damaged."
    assert "No model" in run_view(driver.state).reason
