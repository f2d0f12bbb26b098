"""The shipped cases as nodes, offered by the Sample Data module, too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import slicer

from .i18n import _

if TYPE_CHECKING:
    from DosePredictionLib.case import Case

__all__ = [
    "FILE_TYPE",
    "SAMPLES",
    "SAMPLE_SUFFIX",
    "SampleNodes",
    "load_case_file",
    "load_sample",
    "register_samples",
]

CATEGORY = "Dose Prediction"
FILE_TYPE = "DosePredictionCase"
SAMPLE_SUFFIX = ".case.json"

SAMPLES = {
    "DosePredictionHeadNeck": ("openkbp", "pt_235.npz"),
    "DosePredictionProstate": ("eclipse_rando_prostate",),
    "DosePredictionSimulatedPelvis": ("simulated_pelvis",),
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
    return _shown(read_case(resource_path("SampleData", *SAMPLES[name])))


def load_case_file(path: Path) -> SampleNodes:
    """Put a case of one file into the scene: a patient of OpenKBP, or a shipped case by its name.

    Raises:
        ValueError: the file holds no case.
    """
    from DosePredictionLib.io import read_case

    sample = path.name.removesuffix(SAMPLE_SUFFIX)
    return load_sample(sample) if sample in SAMPLES else _shown(read_case(path))


def _shown(case: Case) -> SampleNodes:
    from DosePredictionLib.scene.loading import load_case

    ct, segmentation, plan = load_case(case, _colors(list(case.structures)))
    ct.GetDisplayNode().SetAutoWindowLevel(False)
    ct.GetDisplayNode().SetWindowLevel(400, 40)  # soft tissue, HU
    segmentation.GetDisplayNode().SetVisibility2DFill(False)
    slicer.util.setSliceViewerLayers(background=ct, foreground=None, fit=True)
    return SampleNodes(ct, segmentation, plan)


def register_samples() -> None:
    """Offer the shipped cases in the Sample Data module; nothing is downloaded."""
    import SampleData

    from DosePredictionLib.resources import resource_path

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # Slicer 5.12 and later
        logic.registerCustomSampleDataCategory(CATEGORY, title=_("Dose Prediction"))
    icons = Path(__file__).resolve().parent.parent / "Resources" / "Icons"
    for name, place in SAMPLES.items():
        path = resource_path("SampleData", *place)
        is_folder = path.is_dir()
        logic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=name,
            # Of a folder one file is fetched; its name says which case it is.
            uris=(path / "case.json" if is_folder else path).as_uri(),
            fileNames=f"{name}{SAMPLE_SUFFIX}" if is_folder else place[-1],
            nodeNames=name,
            loadFileTypes=FILE_TYPE,
            thumbnailFileName=str(icons / f"{name}.png"),
            customDownloader=_download,
        )


def _download(source: Any) -> list[Any]:
    """Called by the Sample Data module."""
    with slicer.util.tryWithErrorDisplay(_("The sample cannot be loaded."), waitCursor=True):
        return [node for node in load_sample(source.sampleName) if node is not None]
    return []


def _colors(names: list[str]) -> dict[str, str]:
    """Structure → color of the channel that it fills."""
    from DosePredictionLib.structures.mapping import fitting_protocol, propose_mapping

    protocol = fitting_protocol(names)
    colors = {channel.name: channel.color for channel in protocol.channels}
    assigned = propose_mapping(names, protocol).assigned
    return {structure: colors[channel] for channel, structure in assigned.items()}
