"""The scene bridge: longest step of reading and writing nodes, DVHs, a stroke, other goals.

A body of ten ellipsoids with a CT, a segmentation and a plan dose on the same grid, in the real
MRML of `slicer-core`, at the two sizes that the module promises figures for. A step is what one
turn of a window's event loop takes.

    python -m benchmarks.scene
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.evaluation.goals import GoalSet
from DosePredictionLib.models.manifest import installed_manifests
from DosePredictionLib.prediction import Output, Prediction
from DosePredictionLib.structures.mapping import map_structures
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume

_SIZES = {"64×256×256": ((256, 256, 64), 0.1), "512×512×150": ((512, 512, 150), 0.5)}
_NAMES = (
    "PTV70",
    "PTV63",
    "PTV56",
    "Brainstem",
    "SpinalCord",
    "RightParotid",
    "LeftParotid",
    "Esophagus",
    "Larynx",
    "Mandible",
)


@dataclass(frozen=True)
class Steps:
    """CPU seconds of each step by its label, and what the generator returned.

    CPU time, since other work may share the cores.
    """

    seconds: list[tuple[float, str]]
    result: Any

    def __str__(self) -> str:
        worst, label = max(self.seconds)
        total = sum(seconds for seconds, _ in self.seconds)
        return f"longest step {worst:.3f} s CPU ({label}), {len(self.seconds)} steps, {total:.2f} s"


def main() -> None:
    """Print every figure of the scene bridge."""
    try:
        import slicer
    except ImportError:
        _say("skipped: needs the slicer-core wheel (Linux, x86-64)")
        return
    sys.path.insert(0, str(Path(__file__).parent.parent / "Testing"))
    from scene.conftest import slicer_class

    for name, (size, limit_s) in _SIZES.items():
        slicer.mrmlScene = slicer.vtkMRMLScene()
        legend = slicer_class("vtkMRMLColorLegendDisplayNode")
        slicer.mrmlScene.RegisterNodeClass(legend())
        _say(f"{name}, ten structures, plan dose (wanted: steps of at most {limit_s:g} s)")
        _run(phantom(size))


def phantom(size: tuple[int, int, int]) -> Case:
    """Ten ellipsoids and a dose on one grid, about the size of a patient."""
    spacing = (450.0 / size[0], 450.0 / size[1], 300.0 / size[2])
    grid = Grid(size, spacing)
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in grid.shape]
    radius = sum(np.meshgrid(*(axis**2 for axis in axes), indexing="ij", sparse=True))
    places = np.linspace(-0.5, 0.5, len(_NAMES))
    masks = {}
    for index, name in enumerate(_NAMES):
        at = (places[index], 0.3 * np.cos(index), 0.3 * np.sin(index))
        parts = [(axis - c) ** 2 for axis, c in zip(axes, at, strict=True)]
        distance = sum(np.meshgrid(*parts, indexing="ij", sparse=True))
        masks[name] = Volume(np.asarray(distance < 0.06), grid)
    dose = (70 * np.exp(-2 * radius)).astype(np.float32)
    ct = np.where(radius < 0.9, 40, -1000).astype(np.int16)
    prescription = Prescription({"PTV70": 70.0, "PTV63": 63.0, "PTV56": 56.0}, 35)
    return Case("phantom", Volume(ct, grid), masks, Volume(dose, grid), prescription)


def _run(case: Case) -> None:
    from scene.nodes import nodes_of

    from DosePredictionLib.scene import (
        DisplaySettings,
        apply_display,
        case_steps,
        result_steps,
        set_goals,
    )

    ct, segmentation, plan = nodes_of(case)
    reading = _timed(case_steps(ct, segmentation, plan, case.prescription))
    _say(f"  reading: {reading}")
    source = reading.result
    _erase(segmentation, _NAMES[0])
    again = case_steps(ct, segmentation, plan, case.prescription, before=source)
    _say(f"  reading after a stroke in {_NAMES[0]}: {_timed(again)}")
    prediction = _prediction(source.case)
    writing = _timed(result_steps(prediction, source))
    _say(f"  measuring and writing: {writing}")
    curves = sum(seconds for seconds, label in writing.seconds if label.startswith("DVH"))
    _say(f"  DVHs of prediction and plan, {2 * len(_NAMES)} curves: {curves:.2f} s (wanted: 3 s)")
    result = writing.result
    start = time.process_time()
    set_goals(result, GoalSet.load("head_neck_70_35"))
    _say(f"  another goal template: {time.process_time() - start:.3f} s (wanted: 0.3 s)")
    for label, settings in {
        "overlay": DisplaySettings(),
        "range": DisplaySettings(low=30.0),
        "first isodoses": DisplaySettings(isodoses=True),
    }.items():
        start = time.process_time()
        apply_display(result, settings)
        _say(f"  {label}: {time.process_time() - start:.3f} s")


def _erase(segmentation: Any, name: str) -> None:
    """Take the lowest slice of a segment away."""
    from DosePredictionLib.scene.geometry import array_of_image

    content = segmentation.GetSegmentation()
    segment = content.GetSegment(content.GetSegmentIdBySegmentName(name))
    image = segment.GetRepresentation("Binary labelmap")
    voxels = array_of_image(image)
    voxels[np.flatnonzero(voxels.any(axis=(1, 2)))[0]] = 0
    image.Modified()


def _prediction(case: Case) -> Prediction:
    """The plan, 2 % hotter: what is measured here is not the network."""
    assert case.plan_dose is not None and case.prescription is not None
    protocol = StructureProtocol.load("openkbp")
    dose = case.ct.with_array(case.plan_dose.array * np.float32(1.02))
    return Prediction(
        case=case,
        model=next(m for m in installed_manifests().models if m.manifest.protocol == protocol.id),
        outputs=(Output("dose", dose, "dose", "Gy"),),
        mapping=map_structures(list(case.structures), protocol),
        prescription=case.prescription,
        external=case.ct.with_array(case.ct.array > -500),
        findings=(),
        fallbacks=(),
        device="cpu",
        precision="fp32",
        seconds={},
    )


def _timed(steps: Generator[Any, None, Any]) -> Steps:
    seconds: list[tuple[float, str]] = []
    while True:
        start = time.process_time()
        try:
            label = next(steps).label
        except StopIteration as end:
            return Steps(seconds, end.value)
        seconds.append((time.process_time() - start, label))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
