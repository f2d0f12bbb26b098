"""Nodes → `Case`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..case import Case, Prescription
from ..findings import Finding
from .changes import Fingerprint
from .steps import Steps, finish

__all__ = [
    "SceneCase",
    "SegmentInfo",
    "case_from_nodes",
    "case_steps",
    "input_findings",
    "list_segments",
]


@dataclass(frozen=True)
class SegmentInfo:
    """A segment as the segmentation has it; color "#rrggbb"."""

    id: str
    name: str
    color: str


@dataclass(frozen=True, eq=False)
class SceneCase:
    """A case and where it came from.

    Args:
        case: structures carry the segments' names; the CT's voxels are the node's own memory.
        ct_id, segmentation_id, plan_dose_id: node IDs.
        segments: by name.
        volumes_cc: of each structure, by name.
        to_world: 4×4, from the case's LPS mm (positions of findings) to the scene's RAS mm.
        fingerprint: of the inputs, for `what_changed`.
    """

    case: Case
    ct_id: str
    segmentation_id: str
    plan_dose_id: str | None
    segments: Mapping[str, SegmentInfo]
    volumes_cc: Mapping[str, float]
    to_world: NDArray[np.float64]
    fingerprint: Fingerprint


def input_findings(ct: Any, segmentation: Any, plan_dose: Any = None) -> list[Finding]:
    """What is wrong with the inputs, seen without reading voxels; blocking ones stop `case_steps`.

    Ids: `ct-missing`, `ct-one-slice`, `ct-is-labelmap`, `ct-sheared`, `segmentation-missing`,
    `segmentation-empty`, `segment-names-equal`, `segmentation-apart`, `plan-dose-apart`.
    """
    raise NotImplementedError


def list_segments(segmentation: Any) -> list[SegmentInfo]:
    """The segments in their order; cheap, reads no voxels."""
    raise NotImplementedError


def case_steps(
    ct: Any,
    segmentation: Any,
    plan_dose: Any = None,
    prescription: Prescription | None = None,
    *,
    name: str = "",
    segments: Sequence[str] | None = None,
) -> Steps[SceneCase]:
    """Read a case, a node or a segment a step; the generator returns a `SceneCase`.

    Args:
        ct: vtkMRMLScalarVolumeNode, HU.
        segmentation: vtkMRMLSegmentationNode.
        plan_dose: vtkMRMLScalarVolumeNode, Gy.
        prescription: dose per target, by the segments' names or the channels'.
        name: of the case; empty: the CT node's name.
        segments: IDs of the segments to read; None: all.

    Raises:
        CaseError, GeometryError: cause and remedy in one line.
    """
    raise NotImplementedError
    yield


def case_from_nodes(
    ct: Any,
    segmentation: Any,
    plan_dose: Any = None,
    prescription: Prescription | None = None,
    *,
    name: str = "",
    segments: Sequence[str] | None = None,
) -> SceneCase:
    """Read a case at once; see `case_steps`."""
    return finish(
        case_steps(ct, segmentation, plan_dose, prescription, name=name, segments=segments)
    )
