"""Organs that a network found, in the scene: beside the user's, at their place, and their cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel (Linux, x86-64)")
import vtk
from organs import ORGANS, PELVIS, organ_model, organs_case

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.errors import CaseError
from DosePredictionLib.evaluation.dvh import dvh
from DosePredictionLib.mask import Mask
from DosePredictionLib.prediction import Output, Prediction
from DosePredictionLib.scene import (
    case_from_nodes,
    cost_steps,
    finish,
    found_by,
    found_organs,
    found_steps,
    list_segments,
)
from DosePredictionLib.structures.mapping import map_structures
from DosePredictionLib.volume import Volume

from .nodes import nodes_of, rotation, transform_node, volume_node

pytestmark = pytest.mark.usefixtures("scene")

CHANNELS = ("Rectum", "FemurHead_L", "FemurHead_R", "SpinalCord")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return organ_model(tmp_path_factory.mktemp("organs"), "by-hu")


@pytest.fixture
def contoured() -> Case:
    return organs_case((40, 32, 28))


def found_in(case: Case, model: Any, truth: Case) -> Prediction:
    """What a network found that makes no mistake; the cord it did not find."""
    outputs = tuple(
        Output(
            name.lower(),
            Volume(truth.structures[name].binary(), case.grid),
            "segment",
            "none",
            name,
        )
        for name in ORGANS
    )
    return Prediction(
        case=case,
        model=model,
        outputs=outputs,
        mapping=map_structures(list(case.structures), PELVIS, required=()),
        prescription=Prescription({"PTV": 45.0}),
        external=case.ct.with_array(case.ct.array > -300),
        findings=(),
        fallbacks=(),
        device="cpu",
        precision="fp32",
        seconds={},
    )


def drawn(contoured: Case) -> Case:
    """What the user has: the target, and a bladder of which a half is missing."""
    half = contoured.structures["Bladder"].binary().copy()
    half[: half.shape[0] // 2] = False
    only = {"PTV": contoured.structures["PTV"], "Bladder": Volume(half, contoured.grid)}
    return replace(contoured, structures=only)


def names(segmentation: Any) -> list[str]:
    return [info.name for info in list_segments(segmentation)]


def binary(segmentation: Any, name: str, ct: Any) -> np.ndarray:
    """A segment on the CT's voxels, read by the module's own reader."""
    return np.asarray(case_from_nodes(ct, segmentation).case.structures[name].binary())


def test_the_users_segments_are_copied_and_the_found_ones_added(
    contoured: Case, model: Any
) -> None:
    ct, segmentation, _plan = nodes_of(drawn(contoured))
    segmentation.GetSegmentation().GetSegment("id_1").SetTag("DicomRtImport.RoiNumber", "7")
    source = case_from_nodes(ct, segmentation)
    prediction = found_in(source.case, model, contoured)
    before = names(segmentation), segmentation.GetMTime()
    node = finish(found_steps(found_organs(prediction), source, CHANNELS))
    assert (names(segmentation), segmentation.GetMTime()) == before
    assert names(node) == ["PTV", "Bladder", "Rectum", "Femur_Head_L", "Femur_Head_R"]
    assert found_by(node) == dict.fromkeys(("Rectum", "Femur_Head_L", "Femur_Head_R"), "by-hu")
    assert found_by(segmentation) == {}
    assert np.array_equal(binary(node, "Rectum", ct), contoured.structures["Rectum"].binary())
    # The user's bladder, though the network found the whole of it.
    own = source.case.structures["Bladder"].binary()
    assert np.array_equal(binary(node, "Bladder", ct), own)
    copied = node.GetSegmentation().GetSegment("id_1")
    number = vtk.reference("")
    assert copied.GetTag("DicomRtImport.RoiNumber", number) and str(number) == "7"


def test_found_segments_say_what_they_are(contoured: Case, model: Any) -> None:
    ct, segmentation, _plan = nodes_of(drawn(contoured))
    source = case_from_nodes(ct, segmentation)
    node = finish(
        found_steps(found_organs(found_in(source.case, model, contoured)), source, CHANNELS)
    )
    ids = {info.name: info.id for info in list_segments(node)}
    head = node.GetSegmentation().GetSegment(ids["Femur_Head_L"])
    entry = vtk.reference("")
    assert head.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), entry)
    assert "SCT^2812003^Head of Femur~SCT^7771000^Left" in str(entry)
    colors = {info.name: info.color for info in list_segments(node)}
    channel = next(each for each in PELVIS.channels if each.name == "FemurHead_L")
    assert colors["Femur_Head_L"] == channel.color
    assert map_structures(names(node), PELVIS).structure("FemurHead_L") == "Femur_Head_L"


@pytest.mark.parametrize("moved", ["both", "the contours", "the CT"])
def test_found_organs_lie_where_the_ct_shows_them(contoured: Case, model: Any, moved: str) -> None:
    """Under transforms of the CT, of the contours, or of both."""
    ct, segmentation, _plan = nodes_of(drawn(contoured))
    parts = {"both": (ct, segmentation), "the contours": (segmentation,), "the CT": (ct,)}[moved]
    transform_node(rotation(12.0, shift=(9.0, -6.0, 4.0)), *parts)
    source = case_from_nodes(ct, segmentation)
    node = finish(
        found_steps(found_organs(found_in(source.case, model, contoured)), source, CHANNELS)
    )
    assert node.GetTransformNodeID() == segmentation.GetTransformNodeID()
    ours = binary(node, "Rectum", ct)
    expected = contoured.structures["Rectum"].binary()
    assert 2 * (ours & expected).sum() / (ours.sum() + expected.sum()) > 0.99


def test_a_name_that_is_taken_stays_the_users(contoured: Case, model: Any) -> None:
    case = drawn(contoured)
    case = replace(case, structures={**case.structures, "Rectum": case.structures["PTV"]})
    ct, segmentation, _plan = nodes_of(case)
    source = case_from_nodes(ct, segmentation)
    prediction = found_in(source.case, model, contoured)
    node = finish(found_steps(found_organs(prediction), source, ("Rectum",)))
    assert names(node) == ["PTV", "Bladder", "Rectum", "Rectum (2)"]
    assert found_by(node) == {"Rectum (2)": "by-hu"}


def test_nothing_enters_the_scene_that_was_not_found_or_finished(
    contoured: Case, model: Any
) -> None:
    ct, segmentation, _plan = nodes_of(drawn(contoured))
    source = case_from_nodes(ct, segmentation)
    prediction = found_in(source.case, model, contoured)
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(CaseError, match="found none of the missing organs on this CT: SpinalCord"):
        finish(found_steps(found_organs(prediction), source, ("SpinalCord",)))
    steps = found_steps(found_organs(prediction), source, CHANNELS)
    next(steps)
    steps.close()
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    stretched = transform_node(np.diag([1.0, 1.0, 1.2, 1.0]), segmentation)
    with pytest.raises(CaseError, match="not rigid"):
        finish(found_steps(found_organs(prediction), source, CHANNELS))
    slicer.mrmlScene.RemoveNode(stretched)
    slicer.mrmlScene.RemoveNode(segmentation)
    with pytest.raises(CaseError, match="removed from the scene"):
        finish(found_steps(found_organs(prediction), source, CHANNELS))


def test_what_half_a_bladder_costs(contoured: Case, model: Any) -> None:
    """A dose that rises toward the feet: the upper half alone has less of it."""
    case = drawn(contoured)
    ct, segmentation, _plan = nodes_of(case)
    source = case_from_nodes(ct, segmentation)
    rising = np.linspace(50, 10, case.grid.size[2], dtype=np.float32)
    dose_gy = case.ct.with_array(np.broadcast_to(rising[:, None, None], case.grid.shape).copy())
    prediction = found_in(source.case, model, contoured)
    (cost,) = finish(
        cost_steps(found_organs(prediction), prediction.bound, source, volume_node(dose_gy, "dose"))
    )
    drawn_dvh, found_dvh = (
        dvh(dose_gy, Mask.of(each.structures["Bladder"])) for each in (case, contoured)
    )
    assert cost.name == "Bladder"
    assert cost.drawn_cc == pytest.approx(drawn_dvh.volume_cc)
    assert cost.found_cc == pytest.approx(found_dvh.volume_cc)
    for key in ("Dmean_gy", "D2cc_gy"):
        assert cost.drawn[key] == pytest.approx(drawn_dvh.endpoint(key), abs=1e-3)
        assert cost.found[key] == pytest.approx(found_dvh.endpoint(key), abs=1e-3)
    assert cost.drawn["Dmean_gy"] < cost.found["Dmean_gy"] - 2


def test_what_the_model_drew_itself_is_not_asked_about(contoured: Case, model: Any) -> None:
    ct, segmentation, _plan = nodes_of(drawn(contoured))
    source = case_from_nodes(ct, segmentation)
    node = finish(
        found_steps(found_organs(found_in(source.case, model, contoured)), source, CHANNELS)
    )
    again = case_from_nodes(ct, node)
    prediction = found_in(again.case, model, contoured)
    dose = volume_node(contoured.ct.with_array(np.ones(contoured.grid.shape, np.float32)), "dose")
    costs = finish(cost_steps(found_organs(prediction), prediction.bound, again, dose))
    assert [cost.name for cost in costs] == ["Bladder"]
    node.GetSegmentation().RemoveSegment("id_1")
    alone = case_from_nodes(ct, node)
    with pytest.raises(CaseError, match="nothing to compare"):
        found = found_in(alone.case, model, contoured)
        finish(cost_steps(found_organs(found), found.bound, alone, dose))
    small = volume_node(organs_case((30, 30, 20)).ct, "of another grid")
    with pytest.raises(CaseError, match="does not lie on the CT's voxels"):
        finish(cost_steps(found_organs(prediction), prediction.bound, again, small))
