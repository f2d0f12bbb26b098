"""Missing organs and what contours cost: events, and what the section shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from DosePredictionPanel.contours_view import contours_view, costs_table
from DosePredictionPanel.flow import effects as do
from DosePredictionPanel.flow import events as on
from DosePredictionPanel.flow.facts import OrganModelFacts
from DosePredictionPanel.flow.state import NodeFacts
from DosePredictionPanel.result_tables import Cell, Table
from DosePredictionPanel.views import structures_view
from reducer_driver import HEAD, PELVIS, SEGMENTS, TEMPLATES, A, B, Driver

ORGANS = OrganModelFacts("organs", "Pelvic organs (simulated)", "pelvis")
MISSING = ("Small_Intestine", "Marrow", "SpinalCord", "FemurHead_L", "FemurHead_R")
COSTS = Table(("Drawn − found",), ((Cell("Bladder"),),))


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """A patient whose bladder and rectum are contoured, and a model that finds organs."""
    filled = (*SEGMENTS["segA"], "Bowel_Small", "BoneMarrow", "Femur_Head_L", "Femur_Head_R")
    monkeypatch.setitem(SEGMENTS, "segFilled", (*filled, "SpinalCord"))
    driver = Driver()
    driver.send(on.ModelsListed((PELVIS, HEAD), TEMPLATES, "", (ORGANS,)))
    driver.patient(A)
    driver.ready()
    return driver


def started(driver: Driver, event: on.Event | None = None) -> Any:
    """The order of what a button has started."""
    return driver.one(driver.send(event or on.FillPressed()), do.FindOrgans)


def predict(driver: Driver) -> None:
    """From the inputs, which are ready, to the shown result."""
    driver.apply()
    driver.finish("doseA")
    driver.shown()


def with_filled(driver: Driver) -> None:
    """The scene has the new segmentation."""
    driver.nodes = (
        *driver.nodes,
        NodeFacts("segFilled", "structures, organs added", "segmentation"),
    )
    driver.send(on.NodesListed(driver.nodes))


def test_missing_organs_and_their_model_are_named(driver: Driver) -> None:
    view = contours_view(driver.state)
    assert view.title == "Contours – 5 organs missing"
    assert view.sentence.startswith("Missing: Small intestine, Bone marrow, Spinal cord, Left")
    assert "Pelvic organs (simulated) finds them" in view.sentence
    assert view.can_fill and view.sources == ""
    order = started(driver).order
    assert (order.ct, order.segmentation, order.model) == ("ctA", "segA", "organs")
    assert order.channels == MISSING and order.dose == ""


def test_without_a_model_of_organs_the_reason_stands_there(driver: Driver) -> None:
    driver.send(on.ModelsListed((PELVIS, HEAD), TEMPLATES))
    view = contours_view(driver.state)
    assert not view.can_fill and not view.can_cost
    assert "No model that finds the organs of Pelvis (nine channels) is installed." in view.sentence
    assert driver.send(on.FillPressed()) == []
    driver.send(on.ModelsListed((PELVIS, HEAD), TEMPLATES, "", (ORGANS,)))
    driver.patient(B)  # the model finds the organs of another protocol
    assert not contours_view(driver.state).can_fill


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (on.InstallationChecked("torch"), "torch is missing"),
        (on.ApplyPressed(5.0), "Wait until what runs"),
    ],
)
def test_what_hinders_finding_organs_is_said(driver: Driver, event: Any, reason: str) -> None:
    driver.send(event)
    view = contours_view(driver.state)
    assert not view.can_fill and reason in view.fill_tip
    assert driver.send(on.FillPressed()) == []


def test_another_extension_that_finds_organs_is_named(driver: Driver) -> None:
    listed = on.ModelsListed((PELVIS,), TEMPLATES, "", (), ("TotalSegmentator",))
    driver.send(listed)
    view = contours_view(driver.state)
    assert view.sources.startswith("TotalSegmentator is another source")
    assert not view.can_fill


def test_a_segmentation_of_totalsegmentator_can_be_chosen_as_the_source(driver: Driver) -> None:
    assert contours_view(driver.state).choices == (("", "Pelvic organs (simulated)"),)
    total = NodeFacts("segTotal", "total", "segmentation", organs_of="TotalSegmentator")
    driver.nodes = (*driver.nodes, total)
    driver.send(on.NodesListed(driver.nodes))
    view = contours_view(driver.state)
    assert view.choices[1] == ("segTotal", "total (by TotalSegmentator)") and view.chosen == 0
    assert started(driver).order.source == ""
    driver.send(on.OrgansFailed(driver.state.organs.token, "no"))  # type: ignore[union-attr]
    driver.send(on.OrganSourceChosen("segTotal"))
    driver.send(on.InstallationChecked("torch"))  # which only the model needs
    view = contours_view(driver.state)
    assert view.chosen == 1 and "What total has of them is taken" in view.sentence
    assert view.sources.startswith("TotalSegmentator has no rectum.")
    order = started(driver).order
    assert (order.source, order.model, order.protocol) == ("segTotal", "", "pelvis")
    assert order.channels == MISSING
    token = driver.state.organs.token  # type: ignore[union-attr]
    with_filled(driver)
    driver.send(on.OrgansAdded(token, "segFilled", ("BoneMarrow",), ("It has no rectum.",)))
    assert driver.notices[0].endswith("before you use them. It has no rectum.")
    driver.nodes = tuple(node for node in driver.nodes if node.id != "segTotal")
    driver.send(on.NodesListed(driver.nodes))
    assert contours_view(driver.state).chosen == 0  # it has been removed


def test_without_a_model_the_segmentation_is_the_source(driver: Driver) -> None:
    total = NodeFacts("segTotal", "total", "segmentation", organs_of="TotalSegmentator")
    driver.nodes = (*driver.nodes, total)
    driver.send(on.NodesListed(driver.nodes))
    driver.send(on.ModelsListed((PELVIS, HEAD), TEMPLATES))
    view = contours_view(driver.state)
    assert view.can_fill and view.choices == (("segTotal", "total (by TotalSegmentator)"),)
    driver.nodes = tuple(
        replace(node, organs_of="TotalSegmentator" if node.id == "segA" else "")
        for node in driver.nodes
    )
    driver.send(on.NodesListed(driver.nodes))
    assert "Choose another source" in contours_view(driver.state).cost_tip


def test_progress_is_shown_and_no_dose_is_predicted_meanwhile(driver: Driver) -> None:
    token = started(driver).token
    assert driver.button == ("Apply", False)
    assert driver.apply() == []
    driver.send(on.OrgansProgress(token + 9, 0.9, "of another run"))
    driver.send(on.OrgansProgress(token, 0.4, "organs"))
    view = contours_view(driver.state)
    assert (view.share, view.stage) == (0.4, "organs")
    assert not view.can_fill and not view.can_cost


def test_cancelling_leaves_everything_as_it_was(driver: Driver) -> None:
    before = driver.parameters
    token = started(driver).token
    assert driver.send(on.OrgansCancelPressed()) == [do.CancelOrgans(token)]
    assert driver.send(on.OrgansCancelPressed()) == []  # once
    assert contours_view(driver.state).is_cancelling
    driver.send(on.OrgansFailed(token, "cancelled", cancelled=True))
    assert driver.notices == ["Cancelled. The scene is as it was."]
    assert driver.parameters == before and driver.button == ("Apply", True)


def test_a_failure_is_stated_with_its_details(driver: Driver) -> None:
    token = started(driver).token
    driver.send(on.OrgansFailed(token, "The CT shows no pelvis.", "traceback"))
    assert driver.notices == ["The CT shows no pelvis."]
    assert driver.state.error is not None and driver.state.error.details == "traceback"
    assert contours_view(driver.state).share is None


def test_the_new_segmentation_is_chosen_and_mapped(driver: Driver) -> None:
    token = started(driver).token
    with_filled(driver)
    effects = driver.send(on.OrgansAdded(token, "segFilled", ("Bowel_Small", "BoneMarrow")))
    assert driver.parameters.segmentation == "segFilled"
    assert do.SwitchContours("segA", "segFilled") in effects
    assert do.ObserveSegmentation("segFilled") in effects
    assert driver.notices[0].startswith("Found: Bowel_Small, BoneMarrow. They are proposals")
    view = contours_view(driver.state)
    assert view.title == "Contours" and not view.can_fill
    assert view.sentence == "Every organ of the model has a segment."


def test_a_proposal_is_not_forced_on_a_person_who_went_on(driver: Driver) -> None:
    token = started(driver).token
    driver.choose(segmentation="segA2")
    with_filled(driver)
    driver.send(on.OrgansAdded(token, "segFilled", ("Bowel_Small",)))
    assert driver.parameters.segmentation == "segA2"
    assert driver.notices[0].startswith("Found: Bowel_Small")


def test_rows_of_found_segments_say_that_they_must_be_checked(driver: Driver) -> None:
    driver.state = replace(
        driver.state, matching=replace(driver.state.matching, found=(("Bladder", "organs"),))
    )
    rows = {row.channel: row for row in structures_view(driver.state).rows}
    assert rows["Bladder"].status_text == "predicted – check"
    assert "found by organs" in rows["Bladder"].tool_tip
    assert rows["Rectum"].status_text == "✓"


def test_costs_need_a_dose_and_an_organ_drawn_by_hand(driver: Driver) -> None:
    view = contours_view(driver.state)
    assert not view.can_cost and view.cost_tip.startswith("Predict a dose first")
    assert driver.send(on.CostPressed()) == []
    predict(driver)
    order = started(driver, on.CostPressed()).order
    assert (order.dose, order.channels) == ("doseA", ())
    driver.send(on.OrgansFailed(driver.state.organs.token, "no"))  # type: ignore[union-attr]
    every = tuple((name, "organs") for name in SEGMENTS["segA"])
    matching = replace(driver.state.matching, found=every)
    driver.state = replace(driver.state, matching=matching)
    assert contours_view(driver.state).cost_tip == "No organ was contoured by hand."


def test_costs_are_shown_with_the_result_and_the_contours_that_they_are_of(driver: Driver) -> None:
    predict(driver)
    token = started(driver, on.CostPressed()).token
    driver.send(on.CostsFound(token, COSTS))
    assert contours_view(driver.state).costs == COSTS
    driver.choose(segmentation="segA2")
    assert contours_view(driver.state).costs.rows == ()
    driver.choose(segmentation="segA")
    assert contours_view(driver.state).costs == COSTS
    driver.send(on.RemovePressed())
    assert contours_view(driver.state).costs.rows == ()


@pytest.mark.parametrize("event", [on.SceneClosing(), on.PanelClosed()])
def test_with_the_scene_finding_organs_ends(driver: Driver, event: on.Event) -> None:
    token = started(driver).token
    assert do.CancelOrgans(token) in driver.send(event)
    assert driver.state.organs is None
    assert driver.send(on.OrgansAdded(token, "segFilled", ())) == []


def test_costs_by_hand_the_largest_first() -> None:
    scene = pytest.importorskip("DosePredictionLib.scene", reason="needs slicer-core")
    small = scene.ContourCost(
        "Rectum",
        40.0,
        40.0,
        {"Dmean_gy": 30.0, "D2cc_gy": 44.0},
        {"Dmean_gy": 29.8, "D2cc_gy": 44.0},
    )
    large = scene.ContourCost(
        "Bladder",
        100.0,
        130.0,
        {"Dmean_gy": 38.0, "D2cc_gy": None},
        {"Dmean_gy": 33.5, "D2cc_gy": 45.0},
    )
    table = costs_table([small, large])
    assert table.headers == ("Drawn − found", "ΔDmean, Gy", "ΔD2cc, Gy", "ΔV, cc")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["Bladder", "+4.5", "–", "−30.0"],
        ["Rectum", "+0.2", "0.0", "0.0"],
    ]
    assert table.rows[0][1].tool_tip == "38.0 Gy drawn, 33.5 Gy found"
    assert costs_table([]).rows == ()
