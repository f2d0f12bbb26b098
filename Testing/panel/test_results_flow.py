"""Results beside each other, live updates, cases, levels and places: sequences of events."""

from __future__ import annotations

from dataclasses import replace

import pytest
from DosePredictionPanel.flow import effects as do
from DosePredictionPanel.flow import events as on
from DosePredictionPanel.flow.levels import levels_text, parse_levels
from DosePredictionPanel.flow.partners import first_case, partner
from DosePredictionPanel.flow.state import (
    Choices,
    Levels,
    NodeFacts,
    ResultState,
    Verdict,
    VerdictLine,
)
from DosePredictionPanel.freshness import Freshness, RunSettings
from DosePredictionPanel.views import result_view, run_view, verdict_text
from reducer_driver import ROWS, A, B, Driver, scene_nodes

from DosePredictionLib.findings import Finding


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.patient(A)
    driver.contents = {"PTV": 1, "Bladder": 2, "Rectum": 3, "Body": 4, "CT": 5, "helper": 6}
    return driver


@pytest.fixture
def predicted(driver: Driver) -> Driver:
    driver.predict("doseA")
    return driver


def edit(driver: Driver, name: str = "Bladder", value: int = 20) -> None:
    """A contour is edited, and the panel has seen it."""
    driver.stroke()
    driver.contents = {**driver.contents, name: value}
    driver.send(on.Compared("doseA", (name,), ("PTV", "Bladder", "Rectum", "Body", "helper")))


# --- Results beside each other -------------------------------------------------------------------


def test_the_same_again_updates_the_result_in_place(predicted: Driver) -> None:
    for _ in range(20):
        predicted.ready() if predicted.state.reading else predicted.send(on.TimerFired("edit"))
        if predicted.state.reading:
            predicted.ready()
        order = predicted.one(predicted.apply(), do.StartPrediction).order
        assert (order.replaces, order.before) == ("doseA", "")
        predicted.finish("doseA")
        predicted.shown()
    assert len(predicted.state.results) == 1


def test_another_prescription_is_another_result_compared_with_the_one_before(
    predicted: Driver,
) -> None:
    predicted.choose(prescription_gy=50.4)
    predicted.ready()
    order = predicted.one(predicted.apply(), do.StartPrediction).order
    assert (order.replaces, order.before) == ("", "doseA")
    assert order.label == "50.4 Gy, Pelvis"
    show = predicted.one(predicted.finish("dose2", change=True), do.ShowResult)
    assert show.display.other == "doseA"
    assert show.display.high == pytest.approx(55.44)
    view = result_view(predicted.state)
    assert view.results == {"doseA": "45 Gy, Pelvis", "dose2": "50.4 Gy, Pelvis"}
    assert (view.dose, view.other, view.tab) == ("dose2", "doseA", "change")
    assert view.others == {"": "(none)", "doseA": "45 Gy, Pelvis"}


def test_going_back_to_a_prescription_updates_its_own_result(predicted: Driver) -> None:
    predicted.choose(prescription_gy=50.4)
    predicted.predict("dose2")
    predicted.choose(prescription_gy=0.0)
    predicted.ready()
    assert predicted.one(predicted.apply(), do.StartPrediction).order.replaces == "doseA"
    predicted.finish("doseA")
    assert [each.dose for each in predicted.state.results] == ["doseA", "dose2"]


def test_other_contours_are_another_result_and_what_fills_no_channel_is_none(
    predicted: Driver,
) -> None:
    edit(predicted, "helper")
    predicted.ready()
    assert predicted.button == ("Apply", True)
    edit(predicted, "Bladder")
    predicted.ready()
    assert predicted.button == ("Update", True)
    order = predicted.one(predicted.apply(), do.StartPrediction).order
    assert (order.replaces, order.before, order.label) == (
        "",
        "doseA",
        "45 Gy, contours 2, Pelvis",
    )
    predicted.finish("dose2")
    # Undone: as the first one was.
    predicted.contents = {**predicted.contents, "Bladder": 2}
    predicted.stroke()
    predicted.send(on.Compared("dose2", ("Bladder",), ("Bladder",)))
    predicted.ready()
    order = predicted.one(predicted.apply(), do.StartPrediction).order
    assert (order.replaces, order.label) == ("doseA", "45 Gy, Pelvis")


def test_two_results_of_one_name_are_told_apart(predicted: Driver) -> None:
    predicted.choose(strip_margin_mm=5.0)
    order = predicted.one(predicted.apply(), do.StartPrediction).order
    assert order.label == "45 Gy, Pelvis (2)"


@pytest.fixture
def two(predicted: Driver) -> Driver:
    predicted.choose(prescription_gy=50.4)
    predicted.predict("dose2", change=True)
    return predicted


def test_a_and_b_are_chosen_and_b_is_taken_away(two: Driver) -> None:
    effects = two.send(on.OtherChosen(""))
    assert two.one(effects, do.Tabulate) == do.Tabulate("dose2", "pelvis_nodes", "")
    assert two.one(effects, do.ApplyDisplay).display.other == ""
    two.send(on.Tabulated("dose2", "pelvis_nodes", {"goals": ROWS}))
    effects = two.send(on.ResultChosen("doseA"))
    assert two.one(effects, do.ShowResult).dose == "doseA"
    assert two.one(effects, do.HideResult).dose == "dose2"
    assert two.parameters.result_dose == "doseA"
    two.shown()
    effects = two.send(on.OtherChosen("dose2"))
    assert two.one(effects, do.Tabulate).other == "dose2"
    assert result_view(two.state).other == "dose2"
    for nonsense in ("doseA", "there is none", "planA"):
        assert two.send(on.OtherChosen(nonsense)) == []
    two.choose(compared_dose="planA")  # a script
    assert two.parameters.compared_dose == "dose2"


def test_a_and_b_change_places(two: Driver) -> None:
    """Choosing B as A leaves nothing to compare with itself."""
    effects = two.send(on.ResultChosen("doseA"))
    assert two.one(effects, do.ShowResult).display.other == ""
    assert two.parameters.compared_dose == ""


def test_layers_are_offered_only_when_there_is_something_to_show(two: Driver) -> None:
    layers = result_view(two.state).layers
    assert set(layers) == {"prediction", "other", "plan", "difference", "change", "nothing"}
    assert layers["difference"] == "A − plan"
    two.choose(shown="change")
    effects = two.send(on.OtherChosen(""))
    assert two.parameters.shown == "prediction"
    assert two.one(effects, do.ApplyDisplay).display.layer == "prediction"
    assert not {"other", "change"} & set(result_view(two.state).layers)
    assert result_view(two.state).layers["prediction"] == "Predicted dose"
    two.remove("planA")
    assert not {"plan", "difference"} & set(result_view(two.state).layers)


def test_further_outputs_of_a_result_are_layers_by_their_roles(predicted: Driver) -> None:
    result = replace(predicted.state.results[0], outputs=(("spread:spread", "Spread"),))
    predicted.state = replace(predicted.state, results=(result,))
    assert result_view(predicted.state).layers["spread:spread"] == "Spread"
    predicted.choose(shown="spread:spread")
    predicted.choose(prescription_gy=50.0)
    predicted.predict("dose2")  # which has none
    assert predicted.parameters.shown == "prediction"
    predicted.choose(shown="SPREAD of an older scene")
    predicted.send(on.ResultChosen("doseA"))
    assert predicted.parameters.shown == "prediction"


def test_single_results_are_removed(two: Driver) -> None:
    effects = two.send(on.RemovePressed())
    assert two.one(effects, do.RemoveResult).dose == "dose2"
    assert two.one(effects, do.ShowResult).dose == "doseA"
    assert two.parameters.compared_dose == ""
    assert list(result_view(two.state).results) == ["doseA"]


@pytest.mark.parametrize("moment", ["showing", "shown"])
def test_b_is_deleted_by_hand(two: Driver, moment: str) -> None:
    if moment == "showing":
        two.send(on.ResultChosen("doseA"))
        two.send(on.OtherChosen("dose2"))
    gone = two.parameters.compared_dose
    effects = two.remove(gone)
    assert two.one(effects, do.ForgetResult).dose == gone
    assert do.SweepOrphans() in effects
    assert two.parameters.compared_dose == ""
    assert two.state.result is not None
    two.shown()
    assert result_view(two.state).other == ""
    assert two.notices == []


def test_what_is_left_of_a_deleted_result_is_swept(predicted: Driver) -> None:
    effects = predicted.remove("doseA")
    assert do.SweepOrphans() in effects
    assert do.StopProbing() in effects
    assert predicted.state.results == ()


def test_another_patient_has_its_own_results_and_the_comparison_comes_back(two: Driver) -> None:
    hide = two.one(two.choose(ct="ctB"), do.HideResult)
    assert hide == do.HideResult("dose2", keeps_comparison=True)
    assert two.parameters.compared_dose == ""
    back = two.one(two.choose(ct="ctA"), do.ShowResult)
    assert (back.dose, back.display.other) == ("dose2", "doseA")
    two.shown()
    two.choose(ct="ctB")
    two.predict("doseB")
    assert list(result_view(two.state).results) == ["doseB"]
    two.choose(ct="ctA")
    assert two.parameters.result_dose == "dose2"
    two.send(on.ResultChosen("doseA"))
    two.choose(ct="ctB")
    two.choose(ct="ctA")
    assert two.parameters.result_dose == "doseA"  # the one that was looked at
    two.send(on.ResultChosen("dose2"))
    assert set(result_view(two.state).results) == {"doseA", "dose2"}
    assert two.parameters.prescription_gy == 50.4
    two.choose(ct="ctB")
    assert two.parameters.prescription_gy == 0.0


# --- Views after Apply ---------------------------------------------------------------------------


def test_the_slices_move_to_the_target_once_and_isodoses_are_on(driver: Driver) -> None:
    driver.ready()
    driver.apply()
    show = driver.one(driver.finish("doseA"), do.ShowResult)
    assert show.center
    assert show.display.isodoses
    assert driver.state.arrived == "run1"
    driver.shown()
    driver.choose(prescription_gy=50.0)
    driver.ready()
    driver.apply()
    assert not driver.one(driver.finish("dose2"), do.ShowResult).center  # a place is looked at
    driver.choose(ct="ctB")
    driver.ready()
    driver.apply()
    assert driver.one(driver.finish("doseB"), do.ShowResult).center


# --- Live ----------------------------------------------------------------------------------------


@pytest.fixture
def live(predicted: Driver) -> Driver:
    predicted.send(on.TimerFired("edit"))
    predicted.ready()
    predicted.choose(live=True)
    return predicted


def read(driver: Driver) -> list[do.Effect]:
    """The inputs of a stroke come from the scene."""
    effects = driver.send(on.TimerFired("rest"))
    token = driver.one(effects, do.ReadInputs).token
    from DosePredictionPanel.flow.state import Prepared

    return driver.send(on.InputsRead(token, Prepared({}, dict(driver.contents))))


def test_a_stroke_that_has_rested_is_predicted_by_itself(live: Driver) -> None:
    assert do.StartTimer("edit", 500) in live.send(on.SegmentsEdited())
    live.contents["Bladder"] = 21
    live.send(on.TimerFired("edit"))
    order = live.one(read(live), do.StartPrediction).order
    assert order.is_live
    assert (order.replaces, order.before, order.label) == ("", "doseA", "45 Gy, live, Pelvis")
    live.finish("doseL", change=True)
    live.shown()
    assert live.parameters.compared_dose == "doseA"
    live.send(on.SegmentsEdited())
    live.contents["Bladder"] = 22
    live.send(on.TimerFired("edit"))
    order = live.one(read(live), do.StartPrediction).order
    assert (order.replaces, order.before) == ("doseL", "doseA")  # the base stays
    live.finish("doseL", change=True)
    assert [each.dose for each in live.state.results] == ["doseA", "doseL"]
    assert live.parameters.compared_dose == "doseA"


def test_a_stroke_overtakes_the_prediction_of_the_one_before(live: Driver) -> None:
    live.stroke()
    read(live)
    run = live.state.run
    assert run is not None
    effects = live.send(on.SegmentsEdited())
    assert live.one(effects, do.CancelPrediction).token == run.token
    assert not any(isinstance(e, do.CancelPrediction) for e in live.send(on.SegmentsEdited()))
    live.send(on.TimerFired("edit"))
    live.send(on.RunFailed(run.token, "Cancelled.", cancelled=True))
    assert live.notices[:1] != ["Cancelled. The scene is as it was."]
    assert live.one(read(live), do.StartPrediction).order.is_live


def test_an_overtaken_prediction_that_finishes_after_all_is_followed_by_the_next(
    live: Driver,
) -> None:
    live.stroke()
    read(live)
    live.stroke()
    live.finish("doseL")
    live.shown()
    live.send(on.TimerFired("edit"))
    assert live.one(read(live), do.StartPrediction).order.replaces == "doseL"


def test_live_works_while_the_person_contours_in_another_module(live: Driver) -> None:
    live.send(on.Exited())
    assert do.StartTimer("edit", 500) in live.send(on.SegmentsEdited())
    live.choose(live=False)
    assert live.send(on.SegmentsEdited()) == []
    assert live.state.edited_elsewhere


def test_live_waits_for_a_result_and_ends_with_an_error(driver: Driver) -> None:
    driver.choose(live=True)
    driver.ready()
    driver.stroke()
    assert not any(isinstance(e, do.StartPrediction) for e in read(driver))
    token = driver.state.reading.token if driver.state.reading else 0
    driver.send(on.Checked(token, ()))
    driver.predict("doseA") if driver.state.reading else (driver.apply(), driver.finish("doseA"))
    driver.stroke()
    read(driver)
    assert driver.state.run is not None
    driver.send(on.RunFailed(driver.state.run.token, "The target is empty."))
    assert driver.notices[0] == "The target is empty."
    assert not driver.state.is_live_due


def test_switched_off_a_stroke_waits_for_update(live: Driver) -> None:
    live.send(on.SegmentsEdited())
    live.choose(live=False)
    live.send(on.TimerFired("edit"))
    assert not any(isinstance(e, do.StartPrediction) for e in read(live))


def test_a_persons_own_prediction_is_not_overtaken(live: Driver) -> None:
    live.choose(prescription_gy=50.0)
    live.ready()
    live.apply()
    assert not any(isinstance(e, do.CancelPrediction) for e in live.send(on.SegmentsEdited()))
    live.send(on.TimerFired("edit"))
    assert live.state.run is not None and not live.state.run.order.is_live


# --- Verdict, places, structures, levels ---------------------------------------------------------


def test_the_verdict_says_what_is_not_met_and_leads_there(predicted: Driver) -> None:
    text = result_view(predicted.state).verdict
    assert "1 of 2 goals met." in text
    assert 'href="goal:0"' in text and "Rectum V40Gy 42 %" in text
    lines = tuple(VerdictLine(f"goal {n}", "not_met", n) for n in range(5))
    assert "and 2 more" in verdict_text(Verdict(20, 25, lines))
    assert "All 3 goals met." in verdict_text(Verdict(3, 3))
    assert verdict_text(Verdict()) == ""
    assert "&lt;" in verdict_text(Verdict(0, 1, (VerdictLine("V < 3", "not_met", 0),)))


def test_clicking_leads_to_the_voxel_that_decides(predicted: Driver) -> None:
    jump = predicted.one(predicted.send(on.PlaceAsked("Rectum", "hot")), do.JumpToWorst)
    assert jump == do.JumpToWorst("doseA", "Rectum", "hot", mark=False)
    predicted.send(on.PlaceFound("Highest dose of Rectum: 44.10 Gy = 98 %"))
    assert result_view(predicted.state).probe.startswith("Highest dose of Rectum")
    predicted.choose(marks=True)
    assert predicted.one(predicted.send(on.PlaceAsked()), do.JumpToWorst).mark
    assert predicted.one(predicted.choose(marks=False), do.ClearMarks).dose == "doseA"
    predicted.send(on.RemovePressed())
    assert predicted.send(on.PlaceAsked("Rectum", "hot")) == []


def test_what_lies_under_the_mouse_is_said_while_a_result_is_shown(driver: Driver) -> None:
    driver.ready()
    driver.apply()
    assert do.StartProbing("doseA") in driver.finish("doseA")
    driver.shown()
    driver.send(on.Probed("41.97 Gy = 93 % · Bladder"))
    assert result_view(driver.state).probe == "41.97 Gy = 93 % · Bladder"
    state = driver.state
    driver.send(on.Probed("41.97 Gy = 93 % · Bladder"))
    assert driver.state is state  # nothing to draw
    assert do.StopProbing() in driver.choose(ct="ctB")
    assert result_view(driver.state).probe == ""


def test_structures_are_hidden_for_their_case_and_stay_so(two: Driver) -> None:
    effects = two.send(on.StructureToggled("Rectum", False))
    assert effects == [do.ShowStructures("dose2", frozenset({"Rectum"}))]
    assert result_view(two.state).hidden == {"Rectum"}
    effects = two.send(on.ResultChosen("doseA"))
    assert do.ShowStructures("doseA", frozenset({"Rectum"})) in effects
    assert two.send(on.StructureHovered("Bladder")) == [do.Highlight("doseA", "Bladder")]
    two.send(on.RemovePressed())
    removing = two.send(on.RemovePressed())  # the last one
    assert removing.index(do.ShowStructures("dose2", frozenset())) < removing.index(
        do.RemoveResult("dose2")
    )


def test_bands_are_switched_and_nothing_else_is_done(two: Driver) -> None:
    bands = replace(two.state.result, has_bands=True, bands="calibrated on 33 patients")  # type: ignore[type-var]
    two.state = two.state.with_result(bands)
    assert two.choose(bands=False) == [do.ShowStructures("dose2", frozenset(), bands=False)]
    two.send(on.StructureToggled("Rectum", False))
    shown = two.send(on.ResultChosen("doseA"))
    assert do.ShowStructures("doseA", frozenset({"Rectum"}), bands=False) in shown
    assert two.choose(bands=True) == []  # this result has none
    view = result_view(two.state)
    assert (view.has_bands, view.bands) == (False, "")
    two.send(on.ResultChosen("dose2"))
    view = result_view(two.state)
    assert (view.has_bands, view.bands) == (True, "calibrated on 33 patients")


def test_a_hidden_structure_comes_back(two: Driver) -> None:
    two.send(on.StructureToggled("Rectum", False))
    assert two.send(on.StructureToggled("Rectum", True)) == [
        do.ShowStructures("dose2", frozenset())
    ]
    assert result_view(two.state).hidden == frozenset()


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("", None),
        ("  ", None),
        ("95 50 107", Levels((50, 95, 107))),
        ("50; 95; 107 %", Levels((50, 95, 107))),
        ("20, 45 Gy", Levels((20, 45), "Gy")),
        ("42,5 45 gy", Levels((42.5, 45), "Gy")),
        ("50 50", Levels((50,))),
    ],
)
def test_levels_are_read_as_they_are_typed(text: str, levels: Levels | None) -> None:
    assert parse_levels(text) == levels
    assert parse_levels(levels_text(levels)) == levels


@pytest.mark.parametrize(
    "text", ["abc", "0 50", "-5", "50 300", "%", "1e3", "50 Gray", " ".join(map(str, range(1, 40)))]
)
def test_what_are_no_levels_is_said_and_nothing_changes(predicted: Driver, text: str) -> None:
    assert predicted.send(on.LevelsTyped(text)) == []
    assert "isodose levels" in predicted.notices[0]
    assert predicted.state.levels is None


def test_own_levels_are_kept_and_drawn(predicted: Driver) -> None:
    effects = predicted.send(on.LevelsTyped("50 95 %"))
    assert predicted.one(effects, do.RememberLevels).levels == Levels((50, 95))
    assert predicted.one(effects, do.ApplyDisplay).display.levels == Levels((50, 95))
    assert result_view(predicted.state).levels == "50 95 %"
    effects = predicted.send(on.LevelsTyped(""))
    assert predicted.one(effects, do.RememberLevels).levels is None
    fresh = Driver()
    fresh.send(on.LevelsRecalled(Levels((30,))))
    assert result_view(fresh.state).levels == "30 %"


def test_the_keyboard_cancels_and_walks_the_findings(driver: Driver) -> None:
    assert driver.send(on.CancelPressed()) == []
    assert driver.send(on.NextFindingPressed()) == []
    findings = (
        Finding("a", "info", "First.", position_mm=(1.0, 0.0, 0.0)),
        Finding("b", "warning", "Nowhere."),
        Finding("c", "warning", "Second.", position_mm=(2.0, 0.0, 0.0)),
    )
    driver.ready(*findings)
    places = []
    for _ in range(3):
        effects = driver.send(on.NextFindingPressed())
        places.append(driver.one(effects, do.JumpTo).position_mm[0])
    assert places == [2.0, 1.0, 2.0]  # worst first, and round again
    assert driver.notices == ["Second."]
    driver.apply()
    assert driver.one(driver.send(on.CancelPressed()), do.CancelPrediction)


# --- Cases ---------------------------------------------------------------------------------------


BOX = (0.0, 100.0, 0.0, 100.0, 0.0, 100.0)
FAR = (500.0, 600.0, 0.0, 100.0, 0.0, 100.0)


def facts(id: str, kind: str = "volume", **more: object) -> NodeFacts:
    return replace(NodeFacts(id, id, kind), **more)  # type: ignore[arg-type]


def test_a_segmentation_goes_with_the_ct_that_it_was_drawn_on() -> None:
    ct, other = facts("ct", can_be_dose=False), facts("ct2", can_be_dose=False)
    own = facts("s1", "segmentation", reference="ct")
    foreign = facts("s2", "segmentation", reference="ct2")
    nodes = (ct, other, foreign, own)
    assert partner(ct, "segmentation", nodes) == "s1"
    assert partner(other, "segmentation", nodes) == "s2"


@pytest.mark.parametrize(
    ("of_ct", "of_one", "of_two"),
    [
        ({"study": "1"}, {"study": "1"}, {"study": "2"}),
        ({"name": "pt_235 CT"}, {"name": "pt_235 structures"}, {"name": "Doe structures"}),
        ({"bounds": BOX}, {"bounds": BOX}, {"bounds": FAR}),
        ({"name": "2: CT Doe"}, {"name": "3: RTSTRUCT Doe"}, {"name": "RTSTRUCT Roe"}),
    ],
)
def test_study_name_and_place_tell_what_goes_with_a_ct(
    of_ct: dict, of_one: dict, of_two: dict
) -> None:
    ct = facts("ct", can_be_dose=False, **of_ct)
    one, two = facts("s1", "segmentation", **of_one), facts("s2", "segmentation", **of_two)
    assert partner(ct, "segmentation", (ct, one, two)) == "s1"
    plan = facts("p1", is_dose=True, **of_one)
    further = facts("p2", is_dose=True, **of_two)
    assert partner(ct, "plan_dose", (ct, plan, further)) == "p1"


def test_what_is_ambiguous_or_of_another_patient_is_not_chosen() -> None:
    ct = facts("ct", can_be_dose=False, bounds=BOX)
    one, two = (facts(f"s{n}", "segmentation", bounds=BOX) for n in (1, 2))
    assert partner(ct, "segmentation", (ct, one, two)) == ""
    assert partner(ct, "segmentation", (ct, facts("s", "segmentation", bounds=FAR))) == ""
    named = facts("ctA", name="A CT", can_be_dose=False, bounds=BOX)
    plan = facts("planA", name="A plan dose", is_dose=True, bounds=BOX)
    new = facts("ctB", name="B CT", can_be_dose=False, bounds=BOX)
    nodes = (named, plan, new)
    assert partner(named, "plan_dose", nodes) == "planA"
    assert partner(new, "plan_dose", nodes) == ""  # it lies there, too, but is A's


def test_numbers_without_a_name_are_no_plan() -> None:
    ct = facts("ct", can_be_dose=False, bounds=BOX)
    assert partner(ct, "plan_dose", (ct, facts("pet", bounds=BOX))) == ""
    assert partner(ct, "plan_dose", (ct, facts("p", name="RTDOSE", bounds=BOX))) == "p"


def test_the_case_that_is_shown_is_the_one_to_begin_with() -> None:
    nodes = (facts("numbers"), facts("ct", can_be_dose=False), facts("d", is_dose=True))
    assert first_case(nodes) == "ct"
    assert first_case((*nodes, facts("ct2", is_background=True))) == "ct2"
    assert first_case(nodes[:1]) == "numbers"
    assert first_case(nodes[2:]) == ""


def load(driver: Driver, *nodes: NodeFacts) -> list[do.Effect]:
    driver.nodes = (*driver.nodes, *nodes)
    return [*driver.send(on.NodeAdded()), *driver.send(on.TimerFired("list"))]


def second_sample(name: str = "C") -> tuple[NodeFacts, ...]:
    return (
        facts(f"ct{name}", name=f"{name} CT", can_be_dose=False, is_background=True),
        facts(f"seg{name}", "segmentation", name=f"{name} structures", reference=f"ct{name}"),
        facts(f"plan{name}", name=f"{name} plan dose", is_dose=True),
    )


def test_a_second_sample_is_taken_up_with_all_that_belongs_to_it(predicted: Driver) -> None:
    effects = load(predicted, *second_sample())
    p = predicted.parameters
    assert (p.ct, p.segmentation, p.plan_dose) == ("ctC", "segC", "planC")
    assert predicted.one(effects, do.HideResult).dose == "doseA"
    assert predicted.state.result is None
    predicted.choose(ct="ctA")
    assert predicted.parameters.plan_dose == "planA"
    assert predicted.state.result is not None


def test_structures_that_come_after_their_ct_are_chosen_with_it(driver: Driver) -> None:
    ct, segmentation, plan = second_sample()
    load(driver, ct)
    assert (driver.parameters.ct, driver.parameters.segmentation) == ("ctC", "")
    load(driver, segmentation)
    load(driver, plan)
    p = driver.parameters
    assert (p.segmentation, p.plan_dose) == ("segC", "planC")


def test_contours_of_the_patient_before_do_not_lie_over_the_next_one(predicted: Driver) -> None:
    effects = load(predicted, *second_sample())
    assert predicted.one(effects, do.SwitchContours) == do.SwitchContours("segA", "segC")
    effects = predicted.choose(ct="ctA")
    assert predicted.one(effects, do.SwitchContours) == do.SwitchContours("segC", "segA")
    assert not any(
        isinstance(each, do.SwitchContours) for each in predicted.choose(segmentation="segA2")
    )


def test_a_prediction_under_way_is_not_left_for_a_new_case(driver: Driver) -> None:
    driver.ready()
    driver.apply()
    load(driver, *second_sample())
    assert driver.parameters.ct == "ctA"
    assert driver.state.run is not None


def test_a_volume_that_is_not_shown_is_not_followed(driver: Driver) -> None:
    load(driver, facts("mr", can_be_dose=False))
    assert driver.parameters.ct == "ctA"


def test_no_plan_chosen_by_hand_stays_none(driver: Driver) -> None:
    driver.choose(plan_dose="")
    load(driver, facts("other", "segmentation"))
    driver.send(on.Entered())
    assert driver.parameters.plan_dose == ""
    driver.choose(ct="ctB")
    driver.choose(ct="ctA")
    assert driver.parameters.plan_dose == ""


# --- Reopened ------------------------------------------------------------------------------------


def saved(**more: object) -> ResultState:
    settings = RunSettings(
        {
            "CT": "ctA",
            "segmentation": "segA",
            "plan dose": "planA",
            "model": "pelvis",
            "prescription": "0",
            "margin of the strips": "-1",
        },
        {},
    )
    result = ResultState(
        "2020-run",
        "doseA",
        "old dose",
        "ctA",
        "segA",
        settings,
        goals="prostate",
        tables={"goals": ROWS, "dvh": ROWS},
        ranges={"Gy": (9.0, 49.5), "%": (20.0, 110.0)},
        label="45 Gy, Pelvis",
    )
    return replace(result, **more)  # type: ignore[arg-type]


def reopened(*results: ResultState) -> Driver:
    driver = Driver()
    driver.send(on.SceneClosing())
    driver.nodes, driver.parameters = (), Choices()
    driver.send(on.SceneClosed())
    made = [
        NodeFacts(each.dose, each.name, "volume", True, True, each.run, "dose", "ctA", "segA")
        for each in results
    ]
    driver.nodes = (*scene_nodes(), *made)
    driver.saved = results
    driver.parameters = Choices(
        ct="ctA", segmentation="segA", plan_dose="planA", model="pelvis", result_dose="doseA"
    )
    driver.send(on.SceneLoaded())
    return driver


def test_a_reopened_scene_shows_judges_and_reports_again() -> None:
    driver = reopened(saved())
    view = result_view(driver.state)
    assert (view.run, view.can_display, view.why_not) == ("2020-run", True, "")
    assert view.tables["goals"].rows
    shows = [each for each in driver.pending if isinstance(each, do.ShowResult)]
    assert shows[-1].dose == "doseA"
    driver.shown()
    assert driver.one(driver.choose(isodoses=False), do.ApplyDisplay)
    assert driver.one(driver.choose(goals="pelvis_nodes"), do.JudgeGoals).dose == "doseA"
    assert driver.one(driver.send(on.ExportPressed("report")), do.AskForPath)


def test_results_of_a_reopened_scene_are_compared() -> None:
    driver = reopened(saved(), saved(run="2021-run", dose="dose2", label="Pelvis, 50 Gy"))
    driver.shown()
    effects = driver.send(on.OtherChosen("dose2"))
    assert driver.one(effects, do.Tabulate) == do.Tabulate("doseA", "prostate", "dose2")


def test_what_is_known_in_this_session_is_not_overwritten(predicted: Driver) -> None:
    before = predicted.state.results
    predicted.send(on.ResultsRestored((saved(summary="older"),)))
    assert predicted.state.results == before


# --- Words ---------------------------------------------------------------------------------------


def test_each_thing_that_changed_is_named_once() -> None:
    before = RunSettings({"CT": "1", "model": "a"})
    now = RunSettings({"CT": "2", "model": "a"})
    names = Freshness(before, now, ("CT", "place of CT", "place of plan dose")).reasons
    assert names == ("CT", "place of plan dose")
    gone = Freshness(before, now, ("CT (removed)", "PTV (removed)")).reasons
    assert gone == ("PTV (removed)", "CT")


def test_an_error_of_levels_is_gone_with_the_next_action(predicted: Driver) -> None:
    predicted.send(on.LevelsTyped("x"))
    predicted.send(on.LevelsTyped("50"))
    assert predicted.notices == []
    assert run_view(predicted.state).button.text in ("Apply", "Update")


def test_b_is_no_other_patients(predicted: Driver) -> None:
    predicted.patient(B)
    predicted.predict("doseB")
    assert result_view(predicted.state).others == {"": "(none)"}
