"""TotalSegmentator's segmentations in the scene: by its names, and by their terminology."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel (Linux, x86-64)")
from organs import PELVIS
from support import ct_of, ellipsoid
from test_totalsegmentator import masks

from DosePredictionLib.case import Case
from DosePredictionLib.io.totalsegmentator import NAMES, in_pelvic_terms, name_of_type
from DosePredictionLib.scene import (
    FoundOrgans,
    SceneCase,
    case_from_nodes,
    cost_steps,
    finish,
    found_by,
    found_steps,
    list_segments,
    organs_of_totalsegmentator,
    source_of_organs,
)
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.volume import Volume

from .nodes import segmentation_node, volume_node

pytestmark = pytest.mark.usefixtures("scene")

WORDS = {
    "urinary_bladder": ("urinary bladder", "SCT^89837001^Urinary bladder~^^"),
    "femur_left": ("left femur", "SCT^71341001^Femur~SCT^7771000^Left"),
    "femur_right": ("right femur", "SCT^71341001^Femur~SCT^24028007^Right"),
    "hip_left": ("left hip", "SCT^29836001^Hip~SCT^7771000^Left"),
    "hip_right": ("right hip", "SCT^29836001^Hip~SCT^24028007^Right"),
    "sacrum": ("sacrum", "SCT^54735007^Sacrum~^^"),
    "vertebrae_L5": ("L5 vertebra", "SCT^49668003^L5 vertebra~^^"),
}
"""What its extension calls them and keeps with them, type and modifier."""


def in_words(node: Any) -> None:
    """Rename segments as the extension does, and keep their terminology."""
    segmentation = node.GetSegmentation()
    for info in list_segments(node):
        words, types = WORDS[info.name]
        segment = segmentation.GetSegment(info.id)
        segment.SetName(words)
        entry = (
            f"Segmentation category and type~SCT^123037004^Anatomical Structure~{types}~a~^^~^^|"
        )
        segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), entry)


@pytest.fixture
def patient() -> tuple[Any, SceneCase]:
    """TotalSegmentator's segmentation, and the user's case: a target, and half of the bladder."""
    theirs = masks()
    grid = theirs["sacrum"].grid
    body = ellipsoid(grid, (0, 0, 0), (175, 72, 400))
    bladder = theirs["urinary_bladder"].majority()
    half = bladder & (np.arange(grid.shape[2]) < grid.shape[2] // 2)
    own = {"PTV": ellipsoid(grid, (0, 0, -10), (30, 25, 25)), "Bladder": half}
    node = segmentation_node({n: Volume(m.majority(), grid) for n, m in theirs.items()}, "total")
    ct = volume_node(Volume(ct_of(body), grid), "CT 1")
    user = segmentation_node({name: Volume(mask, grid) for name, mask in own.items()})
    return node, case_from_nodes(ct, user)


@pytest.mark.parametrize("renamed", [False, True])
def test_its_segments_become_organs_as_its_files_do(
    patient: tuple[Any, SceneCase], renamed: bool
) -> None:
    node, source = patient
    if renamed:
        in_words(node)
    assert source_of_organs(node) == "TotalSegmentator"
    found: FoundOrgans = finish(organs_of_totalsegmentator(node, source, PELVIS))
    by_file = bind(Case("files", source.case.ct, in_pelvic_terms(masks())[0]), PELVIS)
    organs = {name: each for name, each in by_file.structures.items() if each.role == "organ"}
    assert set(found.masks) == set(organs) == {"Bladder", "Marrow", "FemurHead_L", "FemurHead_R"}
    for name, each in organs.items():
        assert np.array_equal(found.masks[name].majority(), each.mask.majority()), name
    (note,) = found.notes
    assert note.startswith("TotalSegmentator contours no rectum")


def test_its_organs_are_added_beside_the_users_and_held_against_them(
    patient: tuple[Any, SceneCase],
) -> None:
    node, source = patient
    found = finish(organs_of_totalsegmentator(node, source, PELVIS))
    added = finish(found_steps(found, source, ("Marrow", "FemurHead_L", "Rectum")))
    assert found_by(added) == dict.fromkeys(("BoneMarrow", "Femur_Head_L"), "TotalSegmentator")
    ones = np.broadcast_to(
        np.arange(source.case.grid.shape[2], dtype=np.float32), source.case.grid.shape
    )
    dose = volume_node(source.case.ct.with_array(ones.copy()), "dose")
    bound = bind(source.case, PELVIS)
    (cost,) = finish(cost_steps(found, bound, source, dose))
    assert cost.name == "Bladder" and cost.drawn_cc < 0.6 * cost.found_cc
    assert cost.drawn["Dmean_gy"] < cost.found["Dmean_gy"] - 2  # type: ignore[operator]


def test_other_segmentations_are_no_source(patient: tuple[Any, SceneCase]) -> None:
    node, source = patient
    assert source_of_organs(slicer.mrmlScene.GetNodeByID(source.segmentation_id)) == ""
    for info in list_segments(node)[2:]:
        node.GetSegmentation().RemoveSegment(info.id)
    assert source_of_organs(node) == ""


def test_codes_say_the_side() -> None:
    assert name_of_type("71341001", "24028007") == "femur_right"
    assert name_of_type("54735007") == "sacrum"
    unknown = (("71341001", ""), ("71341001", "1"), ("9999", ""), ("54735007", "7771000"))
    assert not any(name_of_type(*codes) for codes in unknown)
    assert {"femur_left", "spinal_cord"} < NAMES
