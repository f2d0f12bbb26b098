"""What counts as a change of the inputs since a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel (Linux, x86-64)")
from support import pelvis_case

from DosePredictionLib.scene import case_from_nodes, fingerprint, what_changed

from .nodes import nodes_of, rotation, transform_node


@pytest.fixture
def inputs(scene: Any) -> tuple[Any, Any, Any]:
    return nodes_of(pelvis_case((40, 32, 24), (9.0, 9.0, 9.0)))


def edit(segmentation: Any, segment_id: str, value: int) -> None:
    image = (
        segmentation.GetSegmentation().GetSegment(segment_id).GetRepresentation("Binary labelmap")
    )
    image.SetScalarComponentFromDouble(3, 3, 3, 0, value)
    image.GetPointData().GetScalars().Modified()
    image.Modified()


def test_an_edit_counts_until_it_is_undone(inputs: Any) -> None:
    source = case_from_nodes(*inputs)
    assert what_changed(source.fingerprint, *inputs) == []
    edit(inputs[1], "id_0", 1)
    assert what_changed(source.fingerprint, *inputs) == ["PTV"]
    edit(inputs[1], "id_0", 0)
    assert what_changed(source.fingerprint, *inputs) == []


def test_colors_and_names_do_not_count(inputs: Any) -> None:
    since = fingerprint(*inputs)
    segment = inputs[1].GetSegmentation().GetSegment("id_1")
    segment.SetColor(0.1, 0.2, 0.3)
    segment.SetName("Blase")
    assert what_changed(since, *inputs) == []


def test_other_inputs_count(inputs: Any) -> None:
    ct, segmentation, plan = inputs
    since = fingerprint(*inputs)
    slicer.util.updateVolumeFromArray(ct, slicer.util.arrayFromVolume(ct) + np.int16(1))
    assert what_changed(since, *inputs) == ["CT"]
    since = fingerprint(*inputs)
    transform_node(rotation(5), segmentation)
    assert what_changed(since, *inputs) == ["place of segmentation"]
    since = fingerprint(*inputs)
    segmentation.GetSegmentation().RemoveSegment("id_2")
    assert what_changed(since, ct, segmentation, plan) == ["id_2 (removed)"]
    assert what_changed(since, ct, segmentation, None)[-2:] == [
        "place of plan dose (removed)",
        "id_2 (removed)",
    ]
