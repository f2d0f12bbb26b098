"""The shipped cases as nodes, offered by the Sample Data module, too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import slicer

from .i18n import _

if TYPE_CHECKING:
    from DosePredictionLib.volume import Grid, Volume

__all__ = ["SAMPLES", "SampleNodes", "load_sample", "register_samples"]

CATEGORY = "Dose Prediction"

SAMPLES = {
    "DosePredictionHeadNeck": ("openkbp", "pt_235.npz"),
    "DosePredictionProstate": ("eclipse_rando_prostate",),
}
"""Name of a sample → its place below the shipped sample data."""


class SampleNodes(NamedTuple):
    """A case in the scene."""

    ct: Any
    segmentation: Any
    plan_dose: Any


def load_sample(name: str) -> SampleNodes:
    """Put a shipped case into the scene.

    Raises:
        ValueError: there is no such sample.
    """
    from DosePredictionLib.io import read_case
    from DosePredictionLib.resources import resource_path

    if name not in SAMPLES:
        raise ValueError(
            _("There is no sample {name}; there are {names}.").format(
                name=name, names=", ".join(SAMPLES)
            )
        )
    case = read_case(resource_path("SampleData", *SAMPLES[name]))
    ct = _volume_node(_("{name} CT").format(name=case.name), case.ct)
    ct.GetDisplayNode().SetAutoWindowLevel(False)
    ct.GetDisplayNode().SetWindowLevel(400, 40)
    segmentation = _segmentation_node(_("{name} structures").format(name=case.name), ct, case)
    plan = None
    if case.plan_dose is not None:
        plan = _volume_node(_("{name} plan dose").format(name=case.name), case.plan_dose)
    slicer.util.setSliceViewerLayers(background=ct, foreground=None, fit=True)
    return SampleNodes(ct, segmentation, plan)


def register_samples() -> None:
    """Offer the shipped cases in the Sample Data module; nothing is downloaded."""
    import SampleData

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # Slicer 5.12 and later
        logic.registerCustomSampleDataCategory(CATEGORY, title=_("Dose Prediction"))
    icons = Path(__file__).resolve().parent.parent / "Resources" / "Icons"
    for name in SAMPLES:
        logic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=name,
            nodeNames=name,
            thumbnailFileName=str(icons / f"{name}.png"),
            customDownloader=_download,
        )


def _download(source: Any) -> list[Any]:
    """Called by the Sample Data module."""
    with slicer.util.tryWithErrorDisplay(_("The sample cannot be loaded."), waitCursor=True):
        return [node for node in load_sample(source.sampleName) if node is not None]
    return []


def _volume_node(name: str, volume: Volume) -> Any:
    import numpy as np

    array = volume.array
    if array.dtype == np.float64 or array.dtype == np.float16:
        array = array.astype(np.float32)
    return slicer.util.addVolumeFromArray(
        np.ascontiguousarray(array), ijkToRAS=_ijk_to_ras(volume.grid), name=name
    )


def _ijk_to_ras(grid: Grid) -> Any:
    """4×4 from (i, j, k) to RAS mm; the library counts in LPS."""
    import numpy as np

    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.index_to_world


def _segmentation_node(name: str, ct: Any, case: Any) -> Any:
    import numpy as np

    from DosePredictionLib.mapping import fitting_protocol, propose_mapping

    protocol = fitting_protocol(list(case.structures))
    colors = {channel.name: channel.color for channel in protocol.channels}
    channel_of = {
        structure: channel
        for channel, structure in propose_mapping(list(case.structures), protocol).assigned.items()
    }
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(ct)
    for structure, mask in case.structures.items():
        color = colors.get(channel_of.get(structure, ""), "#a0a0a0")
        rgb = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        id = node.GetSegmentation().AddEmptySegment("", structure, rgb)
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            (np.asarray(mask.array) > 0.5).astype(np.uint8), node, id, ct
        )
    node.GetDisplayNode().SetVisibility2DFill(False)
    return node
