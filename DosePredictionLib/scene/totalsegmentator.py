"""Segmentations of TotalSegmentator in the scene → organs of a pelvic protocol.

Its extension for 3D Slicer calls segments as TotalSegmentator does, or in plain words ("left
femur") beside a terminology that says the same.
"""

from __future__ import annotations

from typing import Any

import slicer
import vtk

from ..case import Case
from ..io.totalsegmentator import (
    NAMES,
    SOURCE,
    in_pelvic_terms,
    is_totalsegmentator,
    name_of_type,
)
from ..mask import Mask
from ..structures.bound import bind
from ..structures.protocol import StructureProtocol
from .found_contours import FoundOrgans
from .reading import SceneCase, list_segments
from .segments import SegmentReader
from .steps import Step, Steps

__all__ = ["organs_of_totalsegmentator", "source_of_organs"]


def source_of_organs(segmentation: Any) -> str:
    """Whose segmentation this is, if organs can be taken from it; empty: nobody's that is known."""
    return SOURCE if is_totalsegmentator(_names(segmentation)) else ""


def organs_of_totalsegmentator(
    segmentation: Any, source: SceneCase, protocol: StructureProtocol
) -> Steps[FoundOrgans]:
    """Read what the protocol needs, a segment a step; heads are cut and marrow made in the last.

    Args:
        segmentation: TotalSegmentator's; it is not changed.
        source: the case whose CT it was made on.

    Raises:
        CaseError: a segment cannot be read.
    """
    names = _names(segmentation)
    reader = SegmentReader(segmentation, source.frame, source.case.grid)
    masks: dict[str, Mask] = {}
    for number, (name, id) in enumerate(names.items()):
        for part in reader.read(id):
            if part is not None and not part.is_empty:
                masks[name] = part
            yield Step(f"Reading {name}", number, len(names))
    made, findings = in_pelvic_terms(masks)
    bound = bind(Case(segmentation.GetName(), source.case.ct, made), protocol)
    organs = {n: each.mask for n, each in bound.structures.items() if each.role == "organ"}
    yield Step("Organs read", len(names), len(names))
    notes = tuple(f"{f.message} {f.remedy}" for f in findings if f.severity != "info")
    return FoundOrgans(SOURCE, segmentation.GetName(), protocol, organs, notes)


def _names(segmentation: Any) -> dict[str, str]:
    """TotalSegmentator's name → segment, of those that matter here."""
    found: dict[str, str] = {}
    content = segmentation.GetSegmentation()
    for info in list_segments(segmentation):
        entry = vtk.reference("")
        tag = slicer.vtkSegment.GetTerminologyEntryTagName()
        known = content.GetSegment(info.id).GetTag(tag, entry)
        name = _of_entry(str(entry)) if known else None
        if name is not None or info.name in NAMES:
            found.setdefault(name or info.name, info.id)
    return found


def _of_entry(entry: str) -> str | None:
    """From "context~category~type~modifier~…", each "scheme^code^meaning"."""
    fields = [part.split("^") for part in entry.split("~")]
    if len(fields) < 4 or any(len(part) < 2 for part in fields[2:4]) or fields[2][0] != "SCT":
        return None
    return name_of_type(fields[2][1], fields[3][1])
