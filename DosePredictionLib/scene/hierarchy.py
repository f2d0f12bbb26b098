"""Where a result lies in the subject hierarchy: in a folder under a study, as SlicerRT wants doses.

The study of the CT is used if it has one; else the results of a CT get a study of their own, and
the user's items stay where they are.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import slicer
import vtk

from .runs import RUN, remember

__all__ = ["place_below", "place_in_study", "remove_folder", "study_above"]

_UNIT_NAME, _UNIT_VALUE = "DicomRtImport.DoseUnitName", "DicomRtImport.DoseUnitValue"
_GRAY = "GY"
_OURS = "DosePrediction.StudyOf"  # id of the CT


def place_in_study(
    scene: Any, ct: Any, run: str, replaced: str | None, name: str, nodes: Mapping[str, Any]
) -> None:
    """Put a result's nodes into a folder of their own under a study.

    Curves come below their metrics table and their chart.

    Args:
        replaced: the run whose folder is taken over; None: a new one.
        name: of the folder.
    """
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = _study(tree, ct, f"{ct.GetName()}: predicted doses")
    for attribute, value in ((_UNIT_NAME, _GRAY), (_UNIT_VALUE, "1.0")):
        if not tree.GetItemAttribute(study, attribute):
            tree.SetItemAttribute(study, attribute, value)
            remember(nodes["dose"], attribute, True)
    folder = _folder(tree, study, run, replaced, name)
    placed = [(role, node) for role, node in nodes.items() if not node.IsA("vtkMRMLDisplayNode")]
    for role, node in sorted(placed, key=lambda entry: bool(_parent_role(entry[0]))):
        parent_role = _parent_role(role)
        if parent_role is None:
            continue
        above = nodes.get(parent_role)
        parent = tree.GetItemByDataNode(above) if above is not None else folder
        item = tree.GetItemByDataNode(node) or tree.CreateItem(parent, node)
        if tree.GetItemParent(item) != parent:
            tree.SetItemParent(item, parent)
    dose = tree.GetItemByDataNode(nodes["dose"])
    if not tree.GetItemUID(dose, _dicom_uid_name()):
        tree.SetItemUID(dose, _dicom_uid_name(), f"2.25.{uuid.uuid4().int}")
    tree.RequestOwnerPluginSearch(dose)


def remove_folder(scene: Any, run: str, restore: Mapping[str, Any], study: int) -> None:
    """Remove a run's folder once nothing is left in it, and a study of ours with its last folder.

    What was written into somebody else's study is taken back with the last folder.

    Args:
        restore: of `remembered`.
        study: the item above the dose, found before the nodes were removed.
    """
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    for item in _items(tree):
        is_ours = tree.GetItemAttribute(item, RUN) == run
        if is_ours and not tree.GetNumberOfItemChildren(item):
            tree.RemoveItem(item, False, False)
    if not study:
        return
    if tree.GetItemAttribute(study, _OURS):
        if not tree.GetNumberOfItemChildren(study):
            tree.RemoveItem(study, False, False)
        return
    if any(tree.GetItemAttribute(item, RUN) for item in _items(tree, study)):
        return  # another result needs the units still
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


def _study(tree: Any, ct: Any, name: str) -> int:
    """The CT's study, the one that an earlier result of it made, or a new one."""
    theirs = study_above(tree.GetScene(), ct)
    if theirs and (tree.GetItemAttribute(theirs, _UNIT_NAME) or _GRAY) == _GRAY:
        return theirs
    for item in _items(tree):
        if tree.GetItemAttribute(item, _OURS) == ct.GetID():
            return item
    ct_item = tree.GetItemByDataNode(ct)
    patient = tree.GetItemAncestorAtLevel(ct_item, _patient_level()) if ct_item else 0
    item = int(tree.CreateStudyItem(patient or tree.GetSceneItemID(), name))
    tree.SetItemAttribute(item, _OURS, ct.GetID())
    return item


def _folder(tree: Any, study: int, run: str, replaced: str | None, name: str) -> int:
    """The folder of the run that is replaced, or a new one."""
    for item in _items(tree, study):
        if replaced is not None and tree.GetItemAttribute(item, RUN) == replaced:
            tree.SetItemAttribute(item, RUN, run)
            tree.SetItemName(item, name)
            return item
    item = int(tree.CreateFolderItem(study, name))
    tree.SetItemAttribute(item, RUN, run)
    return item


def _items(tree: Any, below: int | None = None) -> list[int]:
    ids = vtk.vtkIdList()
    tree.GetItemChildren(tree.GetSceneItemID() if below is None else below, ids, True)
    return [ids.GetId(index) for index in range(ids.GetNumberOfIds())]


def _parent_role(role: str) -> str | None:
    """The role of the node above; "" for the folder, None for what is not shown in the tree."""
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
