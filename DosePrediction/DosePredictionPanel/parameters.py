"""The panel's parameters: saved and restored with the scene, bound to the .ui by name."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import (
    Default,
    FloatRange,
    RangeBounds,
    WithinRange,
    parameterNodeWrapper,
)

from .i18n import _

__all__ = ["DosePredictionParameterNode", "DoseUnit", "Precision"]


class DoseUnit(Enum):
    """Unit of the range and the isodoses."""

    GY = "Gy"
    PERCENT = "%"

    def label(self) -> str:
        """As the selector shows it."""
        return self.value


class Precision(Enum):
    """Number format of the network."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"

    def label(self) -> str:
        """As the selector shows it."""
        return _("Automatic") if self is Precision.AUTO else self.value


@parameterNodeWrapper
class DosePredictionParameterNode:
    """Everything that the person chooses.

    ctVolume, segmentation, planDose: the inputs; the plan dose may be None.
    modelName: the model's name; empty for none.
    prescriptionGy: highest prescribed dose; 0 for the model's own.
    beams: a name or gantry angles as `predict --beams` takes them; "plan" for those of the RTPLAN
        that came with the CT; empty for the model's own.
    wishes: goals as `predict --goal` takes them, separated by semicolons; empty for none.
    showBeams: whether the beams are drawn over the axial slices.
    planBeams: of the plan that is asked about: how many, or empty for the prediction's own.
    corrections: channel → segment's name where the person overruled the matching; "" leaves the
        channel empty.
    shown: what lies over the CT: prediction, other, plan, difference, change, nothing, or the role
        of a further output of the result.
    opacity, doseRange, unit, showIsodoses, showSurfaces, showLegend: how the dose is shown; the
        range is in `unit`.
    leaveMarks: whether a mark is left at each place that was jumped to.
    showBands: whether the DVH chart shades the bands of the structures.
    live: whether strokes in a contour are predicted by themselves.
    goalTemplate: id of the goals that doses are held against.
    device, precision: as the worker takes them.
    stripMarginMm: added on both sides of the tangent strips; below 0: the model's own.
    keepStrips, keepCoarse, keepWarm: what is left behind by a prediction.
    samples, sampleSeed: how many doses are drawn about the predicted one by a model that draws
        them, and the first one's seed.
    resultDose, comparedDose: the predicted dose that the panel shows, and the one beside it.
    """

    ctVolume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    planDose: vtkMRMLScalarVolumeNode
    modelName: str = ""
    prescriptionGy: Annotated[float, WithinRange(0, 100)] = 0.0
    beams: str = ""
    wishes: str = ""
    showBeams: bool = False
    planBeams: str = ""
    corrections: dict[str, str]
    shown: str = "prediction"
    opacity: Annotated[float, WithinRange(0, 1)] = 0.5
    doseRange: Annotated[FloatRange, RangeBounds(0, 150), Default(FloatRange(5, 75))]
    unit: DoseUnit = DoseUnit.GY
    showIsodoses: bool = True
    showSurfaces: bool = False
    showLegend: bool = True
    leaveMarks: bool = False
    showBands: bool = True
    live: bool = False
    goalTemplate: str = ""
    device: str = "auto"
    precision: Precision = Precision.AUTO
    stripMarginMm: Annotated[float, WithinRange(-1, 50)] = -1.0
    keepStrips: bool = False
    keepCoarse: bool = False
    samples: Annotated[int, WithinRange(0, 20)] = 0
    sampleSeed: Annotated[int, WithinRange(0, 9999)] = 1
    keepWarm: bool = True
    resultDose: vtkMRMLScalarVolumeNode
    comparedDose: vtkMRMLScalarVolumeNode
