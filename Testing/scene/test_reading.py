"""Nodes → `Case`, on the real MRML."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel (Linux, x86-64)")
import vtk
from support import OBLIQUE, centered_grid, ellipsoid, pelvis_case

from DosePredictionLib.errors import CaseError
from DosePredictionLib.scene import case_from_nodes, case_steps, finish, input_findings
from DosePredictionLib.scene.geometry import array_of_image
from DosePredictionLib.volume import Volume

from .nodes import (
    nodes_of,
    rotation,
    segmentation_node,
    sphere_surface,
    transform_node,
    volume_node,
)

pytestmark = pytest.mark.usefixtures("scene")
SIZE, SPACING = (40, 32, 24), (9.0, 9.0, 9.0)


@pytest.fixture
def small() -> Any:
    return pelvis_case(SIZE, SPACING)


def same_case(one: Any, other: Any) -> bool:
    return (
        one.grid.matches(other.grid)
        and np.array_equal(one.ct.array, other.ct.array)
        and list(one.structures) == list(other.structures)
        and all(
            np.array_equal(v.array, other.structures[n].array) for n, v in one.structures.items()
        )
        and np.array_equal(one.plan_dose.array, other.plan_dose.array)
    )


@pytest.mark.parametrize("direction", [None, OBLIQUE], ids=["straight", "oblique"])
def test_a_case_comes_back_bit_for_bit(direction: Any) -> None:
    case = pelvis_case(SIZE, SPACING, direction)
    ct, segmentation, plan = nodes_of(case)

    source = case_from_nodes(ct, segmentation, plan, case.prescription)

    assert same_case(case, source.case)
    assert source.case.findings == ()
    assert source.case.ct.array.dtype == np.int16
    assert source.case.structures["PTV"].array.dtype == bool
    assert source.case.name == "CT 1"
    assert source.segments["Bladder"].id == "id_1"
    assert source.segments["Bladder"].color == "#356199"
    expected = case.structures["PTV"].array.sum() * 0.729
    assert source.volumes_cc["PTV"] == pytest.approx(expected)


def test_shared_labelmaps_and_extents_that_do_not_begin_at_zero(small: Any) -> None:
    ct, _, _ = nodes_of(small)
    disjoint = {name: small.structures[name] for name in ("FemurHead_L", "FemurHead_R", "PTV")}
    segmentation = segmentation_node(disjoint, start=(5, -3, 7))
    segmentation.GetSegmentation().CollapseBinaryLabelmaps(False)
    assert segmentation.GetSegmentation().GetNumberOfLayers() == 1

    read = case_from_nodes(ct, segmentation).case.structures

    for name, mask in disjoint.items():
        assert np.array_equal(read[name].array, mask.array), name


def test_a_common_rigid_transform_changes_nothing(small: Any) -> None:
    ct, segmentation, plan = nodes_of(small)
    transform_node(rotation(12, axis=0, shift=(40, -5, 300)), ct, segmentation, plan)

    assert same_case(small, case_from_nodes(ct, segmentation, plan).case)


def test_a_segmentation_under_a_transform_of_its_own_moves(small: Any) -> None:
    ct, segmentation, _ = nodes_of(small)
    transform_node(rotation(0, shift=(18, 0, 9)), segmentation)  # two voxels to the right, one up

    read = case_from_nodes(ct, segmentation).case.structures["PTV"].array

    expected = np.roll(small.structures["PTV"].array, (1, 0, -2), (0, 1, 2))
    assert read.dtype == bool
    assert np.array_equal(read, expected)


def test_a_ct_under_a_transform_sees_structures_through_the_world(small: Any) -> None:
    ct, segmentation, _ = nodes_of(small)
    transform_node(rotation(0, shift=(18, 0, 0)), ct)

    source = case_from_nodes(ct, segmentation)

    expected = np.roll(small.structures["PTV"].array, 2, 2)
    assert np.array_equal(source.case.structures["PTV"].array, expected)
    assert source.case.grid.matches(small.grid)
    assert np.allclose(source.frame.to_world @ (0, 0, 0, 1), (18, 0, 0, 1))


def test_a_transform_that_turns_the_axes_is_the_truth(small: Any) -> None:
    ct, segmentation, plan = nodes_of(small)
    transform_node(rotation(180), ct, segmentation, plan)

    case = case_from_nodes(ct, segmentation, plan).case

    lps = case.structures["FemurHead_L"].reordered_to_lps()
    x = np.argwhere(lps.array)[:, 2].mean()
    assert lps.grid.world_from_index((x, 0, 0))[0] == pytest.approx(-85, abs=9)
    assert not case.grid.is_lps_ordered


@pytest.mark.parametrize("turned", [0.0, 7.0])
def test_other_geometry_gives_occupancies_that_keep_the_volume(small: Any, turned: float) -> None:
    ct = volume_node(small.ct, "CT")
    matrix = rotation(turned)[:3, :3]
    fine = centered_grid((70, 60, 66), (1.7, 2.1, 1.9), tuple(map(tuple, matrix)))
    mask = ellipsoid(fine, (3, 2, 1), (40, 35, 30))
    segmentation = segmentation_node({"PTV": Volume(mask, fine)})

    source = case_from_nodes(ct, segmentation)

    occupancy = source.case.structures["PTV"].array
    assert occupancy.dtype == np.float32
    expected_cc = mask.sum() * fine.voxel_volume_cc
    tolerance = 1e-4 if turned == 0 else 5e-3
    assert source.volumes_cc["PTV"] == pytest.approx(expected_cc, rel=tolerance)
    center = np.argwhere(occupancy > 0).mean(axis=0)[::-1]
    assert small.grid.world_from_index(center) == pytest.approx((3, 2, 1), abs=1.5)
    assert [finding.id for finding in source.case.findings] == ["structure-resampled"]


@pytest.mark.parametrize("direction", [None, OBLIQUE], ids=["straight", "oblique"])
def test_a_closed_surface_has_its_analytic_volume(direction: Any) -> None:
    ct_grid = centered_grid((40, 36, 20), (3.0, 3.0, 5.0), direction)
    ct = volume_node(Volume(np.full(ct_grid.shape, -1000, np.int16), ct_grid), "CT")
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "surfaces")
    segmentation.SetSourceRepresentationToClosedSurface()
    surface = sphere_surface((4, -3, 6), 20)
    segmentation.AddSegmentFromClosedSurfaceRepresentation(surface, "PTV", (1, 0, 0), "s1")

    source = case_from_nodes(ct, segmentation)

    assert source.volumes_cc["PTV"] == pytest.approx(4 / 3 * np.pi * 8, rel=0.004)
    mask = source.case.structures["PTV"].array
    inside = (
        mask.sum(axis=(1, 2)).argmax(),
        mask.sum(axis=(0, 2)).argmax(),
        (mask.sum(axis=(0, 1)).argmax()),
    )
    assert ct_grid.world_from_index(inside[::-1]) == pytest.approx((-4, 3, 6), abs=3)
    segment = segmentation.GetSegmentation().GetSegment("s1")
    names: list[str] = []
    segment.GetContainedRepresentationNames(names)
    assert names == ["Closed surface"]


def test_a_plan_dose_on_another_grid_is_resampled_and_says_so(small: Any) -> None:
    ct, segmentation, _ = nodes_of(small)
    coarse = centered_grid((30, 26, 15), (12.0, 12.0, 12.0))
    z, y, x = np.meshgrid(*(np.arange(n) for n in coarse.shape), indexing="ij")
    ramp = coarse.world_from_index(np.stack([x, y, z], axis=-1))[..., 0] / 10 + 30
    plan = volume_node(Volume(ramp.astype(np.float32), coarse), "RTDOSE")

    case = case_from_nodes(ct, segmentation, plan).case

    index = (12, 15, 25)
    expected = small.grid.world_from_index(index[::-1])[0] / 10 + 30
    assert case.plan_dose.array[index] == pytest.approx(expected, abs=1e-3)
    ids = {finding.id for finding in case.findings}
    assert ids == {"dose-resampled", "plan-dose-incomplete"}


def test_a_warped_ct_is_hardened_on_a_copy(small: Any) -> None:
    ct, segmentation, plan = nodes_of(small)
    spline = vtk.vtkThinPlateSplineTransform()
    points = [vtk.vtkPoints(), vtk.vtkPoints()]
    for corner in np.ndindex(2, 2, 2):
        position = np.array(corner) * 300.0 - 150.0
        points[0].InsertNextPoint(*position)
        points[1].InsertNextPoint(*(position + np.array((0, 0, 12))))
    points[0].InsertNextPoint(0, 0, 0)
    points[1].InsertNextPoint(6, 0, 12)
    spline.SetSourceLandmarks(points[0])
    spline.SetTargetLandmarks(points[1])
    spline.SetBasisToR()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "warp")
    transform.SetAndObserveTransformToParent(spline)
    for node in (ct, segmentation, plan):
        node.SetAndObserveTransformNodeID(transform.GetID())
    before = slicer.util.arrayFromVolume(ct).copy()
    count = slicer.mrmlScene.GetNumberOfNodes()

    source = case_from_nodes(ct, segmentation, plan)

    assert source.is_hardened
    assert [f.id for f in source.case.findings if f.id == "ct-hardened"] == ["ct-hardened"]
    ptv = source.case.structures["PTV"]
    center = np.average(np.argwhere(ptv.array > 0), axis=0, weights=ptv.array[ptv.array > 0])[::-1]
    # Landmarks: the center goes 6 mm to the right and 12 mm up, in RAS.
    assert ptv.grid.world_from_index(center) == pytest.approx((-6, 0, 12), abs=2.0)
    assert source.volumes_cc["PTV"] == pytest.approx(
        small.structures["PTV"].array.sum() * 0.729, rel=0.05
    )
    body = source.case.structures["Body"].array > 0.5
    assert np.mean(source.case.ct.array[body] > -200) > 0.97
    assert np.array_equal(slicer.util.arrayFromVolume(ct), before)
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def test_bad_inputs_are_named_with_the_way_out(small: Any) -> None:
    ct, segmentation, plan = nodes_of(small)

    def rules(*nodes: Any) -> list[str]:
        return [finding.id for finding in input_findings(*nodes)]

    assert rules(ct, segmentation, plan) == []
    assert rules(None, None) == ["ct-missing", "segmentation-missing"]
    label = volume_node(
        small.structures["PTV"].with_array(small.structures["PTV"].array.astype(np.uint8)),
        "label",
        "vtkMRMLLabelMapVolumeNode",
    )
    assert rules(label, segmentation) == ["ct-is-labelmap"]
    thin = Volume(small.ct.array[:1], small.grid.cropped((0, 0, 0), (40, 32, 1)))
    assert rules(volume_node(thin, "slice"), segmentation) == ["ct-one-slice"]
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")
    assert rules(ct, empty) == ["segmentation-empty"]
    assert rules(ct, segmentation, ct) == ["plan-dose-is-ct"]
    away = transform_node(rotation(0, shift=(5000, 0, 0)), segmentation)
    assert rules(ct, segmentation) == ["segmentation-apart"]
    slicer.mrmlScene.RemoveNode(away)
    segmentation.GetSegmentation().GetSegment("id_2").SetName("PTV")
    (finding,) = input_findings(ct, segmentation)
    assert (finding.id, finding.structure) == ("segment-names-equal", "PTV")
    assert "id_0, id_2" in finding.message
    with pytest.raises(CaseError, match=r"id_0, id_2.*Rename"):
        case_from_nodes(ct, segmentation)


def test_a_node_that_is_removed_meanwhile_ends_the_reading(small: Any) -> None:
    ct, segmentation, _ = nodes_of(small)
    steps = case_steps(ct, segmentation)
    for step in steps:
        if step.label == "Reading PTV":
            break
    slicer.mrmlScene.RemoveNode(segmentation)
    with pytest.raises(CaseError, match="removed from the scene"):
        list(steps)


def edit(segmentation: Any, segment_id: str) -> None:
    """Take the lowest slice of a segment away, as an eraser would."""
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    image = segment.GetRepresentation("Binary labelmap")
    voxels = array_of_image(image)
    lowest = np.flatnonzero((voxels == segment.GetLabelValue()).any(axis=(1, 2)))[0]
    voxels[lowest][voxels[lowest] == segment.GetLabelValue()] = 0
    image.Modified()


def taken_over(before: Any, after: Any) -> set[str]:
    """What two readings have in common, as the same objects."""
    same = {name for name, mask in after.structures.items() if mask is before.structures.get(name)}
    volumes = (("CT", after.ct is before.ct), ("plan", after.plan_dose is before.plan_dose))
    return same | {name for name, is_same in volumes if is_same}


@pytest.mark.parametrize("layers", ["own", "shared"])
def test_what_has_not_changed_is_taken_from_the_reading_before(small: Any, layers: str) -> None:
    disjoint = {n: small.structures[n] for n in ("PTV", "FemurHead_L", "FemurHead_R")}
    coarse = small.plan_dose.resampled_to(small.grid.cropped((2, 2, 2), (36, 28, 9)))
    ct, segmentation, _ = nodes_of(replace(small, structures=disjoint))
    plan = volume_node(coarse, "dose")
    if layers == "shared":
        segmentation.GetSegmentation().CollapseBinaryLabelmaps(False)
    before = case_from_nodes(ct, segmentation, plan)
    names = {*disjoint, "CT", "plan"}
    again = finish(case_steps(ct, segmentation, plan, before=before))
    assert taken_over(before.case, again.case) == names
    edit(segmentation, "id_1")
    segmentation.GetSegmentation().GetSegment("id_0").SetName("target")

    after = finish(case_steps(ct, segmentation, plan, before=before))

    anew = case_from_nodes(ct, segmentation, plan)
    assert taken_over(before.case, after.case) == {"FemurHead_R", "CT", "plan"}
    assert after.case.structures["target"] is before.case.structures["PTV"]
    assert same_case(after.case, anew.case)
    assert after.volumes_cc == anew.volumes_cc and after.volumes_cc != before.volumes_cc
    assert after.case.findings == anew.case.findings != ()
    assert after.fingerprint == anew.fingerprint


@pytest.mark.parametrize("moved", ["ct", "segmentation", "plan"])
def test_what_was_moved_is_read_again(small: Any, moved: str) -> None:
    nodes = dict(zip(("ct", "segmentation", "plan"), nodes_of(small), strict=True))
    before = case_from_nodes(*nodes.values())
    transform_node(rotation(0, shift=(9, 0, 0)), nodes[moved])
    after = finish(case_steps(*nodes.values(), before=before))
    assert same_case(after.case, case_from_nodes(*nodes.values()).case)
    same = taken_over(before.case, after.case)
    kept = {"ct": set(), "segmentation": {"CT", "plan"}, "plan": {"CT", *small.structures}}
    assert same == kept[moved]


def test_nothing_is_taken_from_the_reading_of_other_nodes(small: Any) -> None:
    before = case_from_nodes(*nodes_of(small))
    after = finish(case_steps(*nodes_of(small), before=before))
    assert taken_over(before.case, after.case) == set() and same_case(after.case, small)


def test_steps_count_up_to_their_total(small: Any) -> None:
    steps = list(case_steps(*nodes_of(small)))
    assert steps[-1].done <= steps[-1].total
    assert [s.done for s in steps] == sorted(s.done for s in steps)


def test_a_segmentation_that_misses_the_ct_is_refused(small: Any) -> None:
    ct = volume_node(small.ct, "CT")
    corner = np.zeros(small.grid.shape, bool)
    corner[0, 0, 0] = True
    far = small.grid.cropped((-3, 0, 0), small.grid.size)
    segmentation = segmentation_node({"PTV": Volume(corner, far)})
    with pytest.raises(CaseError, match="No segment of structures lies in the CT CT"):
        case_from_nodes(ct, segmentation)


def test_a_partly_outside_segment_is_cut_off(small: Any) -> None:
    ct = volume_node(small.ct, "CT")
    shifted = small.grid.cropped((30, 0, 0), small.grid.size)
    segmentation = segmentation_node({"Body": replace(small.structures["Body"], grid=shifted)})
    read = case_from_nodes(ct, segmentation).case.structures["Body"].array
    expected = np.zeros_like(read)
    expected[..., 30:] = small.structures["Body"].array[..., :10]
    assert np.array_equal(read, expected)
