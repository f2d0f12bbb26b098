"""Organs found by the real worker, from the panel's buttons to the scene: all but the widgets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from organs import organ_model, organs_case

slicer = pytest.importorskip("slicer")

from DosePredictionPanel.contours_view import contours_view  # noqa: E402
from DosePredictionPanel.flow import events as on  # noqa: E402
from DosePredictionPanel.views import run_view, structures_view  # noqa: E402
from scene.conftest import scene  # noqa: E402, F401 - a fixture
from scene.nodes import nodes_of, segmentation_node  # noqa: E402
from scene_bench import Bench  # noqa: E402
from test_panel_in_scene import bench, models, services  # noqa: E402, F401 - fixtures

from DosePredictionLib.scene import found_by, list_segments  # noqa: E402
from DosePredictionLib.volume import Volume  # noqa: E402


@pytest.fixture
def patient(bench: Bench, models: Path) -> Iterator[tuple[Any, Any]]:  # noqa: F811
    """A target and half a bladder are contoured; a model of organs is installed."""
    if not (models / "A-organs").is_dir():
        organ_model(models, "A-organs", default=True)  # goes before the shipped one
    bench.store.dispatch(on.Entered())
    case = organs_case((40, 32, 28))
    half = case.structures["Bladder"].binary().copy()
    half[: half.shape[0] // 2] = False
    only = {"PTV": case.structures["PTV"], "Bladder": Volume(half, case.grid)}
    ct, segmentation, _plan = nodes_of(replace(case, structures=only))
    for name, node in (("ct", ct), ("segmentation", segmentation)):
        bench.choose(**{name: node})
    bench.choose(model="random-pelvis", device="cpu", precision="fp32")
    bench.until(lambda: bench.is_at_rest)
    yield ct, segmentation


def test_organs_are_filled_in_predicted_on_and_held_against_the_drawn_ones(
    bench: Bench,  # noqa: F811
    patient: tuple[Any, Any],
) -> None:
    _ct, segmentation = patient
    assert not run_view(bench.state).button.enabled  # the rectum is missing
    assert contours_view(bench.state).can_fill
    names = [info.name for info in list_segments(segmentation)]
    bench.store.dispatch(on.FillPressed())
    bench.until(lambda: bench.state.organs is None)
    assert [info.name for info in list_segments(segmentation)] == names
    added = bench.node(bench.parameters.choices.segmentation)
    assert added is not segmentation, bench.notices
    assert set(found_by(added)) == {"Rectum", "Femur_Head_L", "Femur_Head_R"}
    assert (
        added.GetDisplayNode().GetVisibility() and not segmentation.GetDisplayNode().GetVisibility()
    )
    assert bench.notices[0].startswith("Found: Rectum")
    bench.until(lambda: bench.is_at_rest)
    rows = {row.channel: row for row in structures_view(bench.state).rows}
    assert rows["Rectum"].structure == "Rectum"
    assert rows["Rectum"].status_text == "predicted – check"
    assert rows["Bladder"].status_text != "predicted – check"

    bench.predict()
    assert bench.state.result is not None, bench.notices
    assert contours_view(bench.state).can_cost
    bench.store.dispatch(on.CostPressed())
    bench.until(lambda: bench.state.organs is None)
    (row,) = contours_view(bench.state).costs.rows
    assert row[0].text == "Bladder" and float(row[-1].text.replace("−", "-")) < -50
    assert bench.notices == []

    # The same from a segmentation of TotalSegmentator, which is in the scene already.
    case = organs_case((40, 32, 28))
    renamed = {"urinary_bladder": "Bladder", "small_bowel": "FemurHead_L", "spinal_cord": "Rectum"}
    total = segmentation_node({theirs: case.structures[own] for theirs, own in renamed.items()})
    bench.until(lambda: len(contours_view(bench.state).choices) == 2)
    bench.store.dispatch(on.OrganSourceChosen(total.GetID()))
    bench.store.dispatch(on.CostPressed())
    bench.until(lambda: bench.state.organs is None)
    (row,) = contours_view(bench.state).costs.rows
    assert row[0].text == "Bladder" and float(row[-1].text.replace("−", "-")) < -50
    bench.store.dispatch(on.FillPressed())
    bench.until(lambda: bench.state.organs is None)
    again = bench.node(bench.parameters.choices.segmentation)
    assert again is not added, bench.notices
    assert {"Bowel_Small": "TotalSegmentator", "SpinalCord": "TotalSegmentator"}.items() <= (
        found_by(again).items()
    )
    assert "contours no rectum" in bench.notices[0]


def test_cancelled_and_a_ct_without_a_pelvis_leave_the_scene(
    bench: Bench,  # noqa: F811
    patient: tuple[Any, Any],
) -> None:
    ct, segmentation = patient
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    bench.store.dispatch(on.FillPressed())
    bench.store.dispatch(on.OrgansCancelPressed())
    bench.until(lambda: bench.state.organs is None)
    assert bench.notices == ["Cancelled. The scene is as it was."]
    block = np.full((28, 32, 40), -1000, dtype=np.int16)
    block[4:-4, 6:-6, 8:-8] = 30
    slicer.util.updateVolumeFromArray(ct, block)
    bench.until(lambda: bench.is_at_rest)
    bench.store.dispatch(on.FillPressed())
    bench.until(lambda: bench.state.organs is None)
    assert "shows no pelvis" in bench.notices[0]
    assert bench.parameters.choices.segmentation == segmentation.GetID()
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes


def test_contours_removed_while_organs_are_found_are_a_sentence(
    bench: Bench,  # noqa: F811
    patient: tuple[Any, Any],
) -> None:
    _ct, segmentation = patient
    bench.store.dispatch(on.FillPressed())
    slicer.mrmlScene.RemoveNode(segmentation)
    bench.until(lambda: bench.state.organs is None)
    assert "was removed from the scene" in bench.notices[0]
