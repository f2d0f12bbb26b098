"""Where a result lies in the subject hierarchy: under a study, as SlicerRT wants doses.

The study of the CT is used if it has one; else the result gets a study of its own, and the user's
items stay where they are.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import slicer
import vtk

from .runs import RUN, remember

__all__ = ["place_below", "place_in_study", "remove_study", "study_above"]

_UNIT_NAME, _UNIT_VALUE = "DicomRtImport.DoseUnitName", "DicomRtImport.DoseUnitValue"
_GRAY = "GY"


def place_in_study(
    scene: Any, ct: Any, run: str, replaced: str | None, name: str, nodes: Mapping[str, Any]
) -> None:
    """Put a result's nodes under a study; curves below their metrics table and their chart."""
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = _study(tree, ct, run, replaced, f"{name}: predicted dose")
    for attribute, value in ((_UNIT_NAME, _GRAY), (_UNIT_VALUE, "1.0")):
        if not tree.GetItemAttribute(study, attribute):
            tree.SetItemAttribute(study, attribute, value)
            remember(nodes["dose"], attribute, True)
    placed = [(role, node) for role, node in nodes.items() if not node.IsA("vtkMRMLDisplayNode")]
    for role, node in sorted(placed, key=lambda entry: bool(_parent_role(entry[0]))):
        parent_role = _parent_role(role)
        if parent_role is None:
            continue
        parent = tree.GetItemByDataNode(nodes[parent_role]) if parent_role else study
        item = tree.GetItemByDataNode(node) or tree.CreateItem(parent, node)
        if tree.GetItemParent(item) != parent:
            tree.SetItemParent(item, parent)
    dose = tree.GetItemByDataNode(nodes["dose"])
    if not tree.GetItemUID(dose, _dicom_uid_name()):
        tree.SetItemUID(dose, _dicom_uid_name(), f"2.25.{uuid.uuid4().int}")
    tree.RequestOwnerPluginSearch(dose)


def remove_study(scene: Any, run: str, restore: Mapping[str, Any], study: int) -> None:
    """Remove a run's own study once nothing is left in it; else take back what was written there.

    Args:
        restore: of `remembered`.
        study: the item above the dose, found before the nodes were removed.
    """
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if not study:
        return
    if tree.GetItemAttribute(study, RUN) == run and not tree.GetNumberOfItemChildren(study):
        tree.RemoveItem(study, False, False)
        return
    for attribute in (_UNIT_NAME, _UNIT_VALUE):
        if restore.get(attribute):
            tree.RemoveItemAttribute(study, attribute)


def study_above(scene: Any, node: Any) -> int:
    """The study item above a node; 0 if there is none."""
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = tree.GetItemByDataNode(node)
    return int(tree.GetItemAncestorAtLevel(item, _study_level())) if item else 0


def place_below(scene: Any, parent: Any, node: Any) -> None:
    """Put a node's item below another node's."""
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    above = tree.GetItemByDataNode(parent) or tree.GetSceneItemID()
    item = tree.GetItemByDataNode(node) or tree.CreateItem(above, node)
    if tree.GetItemParent(item) != above:
        tree.SetItemParent(item, above)


def _study(tree: Any, ct: Any, run: str, replaced: str | None, name: str) -> int:
    """The CT's study, the one that the replaced run made, or a new one."""
    scene = tree.GetScene()
    theirs = study_above(scene, ct)
    if theirs and (tree.GetItemAttribute(theirs, _UNIT_NAME) or _GRAY) == _GRAY:
        return theirs
    for item in _items(tree):
        if replaced is not None and tree.GetItemAttribute(item, RUN) == replaced:
            tree.SetItemAttribute(item, RUN, run)
            return item
    ct_item = tree.GetItemByDataNode(ct)
    patient = tree.GetItemAncestorAtLevel(ct_item, _patient_level()) if ct_item else 0
    item = int(tree.CreateStudyItem(patient or tree.GetSceneItemID(), name))
    tree.SetItemAttribute(item, RUN, run)
    return item


def _items(tree: Any) -> list[int]:
    ids = vtk.vtkIdList()
    tree.GetItemChildren(tree.GetSceneItemID(), ids, True)
    return [ids.GetId(index) for index in range(ids.GetNumberOfIds())]


def _parent_role(role: str) -> str | None:
    """The role of the node above; "" for the study, None for what is not shown in the tree."""
    if role.startswith("dvh"):
        return "metrics"
    if role.startswith("series"):
        return "chart"
    if role == "isodoses":
        return "dose"
    return None if role == "colors" or role.endswith("-colors") else ""


def _dicom_uid_name() -> str:
    return str(slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMUIDName())


def _study_level() -> str:
    return str(slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelStudy())


def _patient_level() -> str:
    return str(slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelPatient())
