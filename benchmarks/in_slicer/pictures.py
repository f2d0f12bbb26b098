"""The panel's states as pictures, in a Slicer with a window, to be looked at and for documents.

    Slicer --python-script benchmarks/in_slicer/pictures.py --output FOLDER --size 1063 570

Walks the three shipped samples as a planner would and grabs the main window after each step:
`results` of each, `beams` and wishes, `organs` that are missing, and a `plan` (minutes).
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer

_LONGEST_WAIT_S = 600.0
_SETTLE_S = 1.0


class _Camera:
    """Grabs the main window into numbered files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._number = folder, 0

    def take(self, name: str) -> None:
        """Let the window settle, then grab it."""
        _wait(time.perf_counter() + _SETTLE_S)
        self._number += 1
        path = self._folder / f"{self._number:02d}_{name}.png"
        slicer.util.mainWindow().grab().save(str(path))
        _say(path.name)


def _results(panel: Any, camera: _Camera) -> None:
    """Inputs, results and their tables, and what stops a prediction."""
    from DosePredictionPanel.connectors import bring_into_view

    camera.take("empty")
    for name in ("DosePredictionSimulatedPelvis", "DosePredictionHeadNeck"):
        _load(panel, name)
        camera.take(f"{name}_inputs")
        _apply(panel)
        camera.take(f"{name}_result")
    _tabs(panel, camera)
    _places(panel, camera)
    _compare(panel, camera)
    _load(panel, "DosePredictionProstate")
    _apply(panel)
    camera.take("DosePredictionProstate_result")
    panel.ui.displaySection.collapsed = False
    panel.parameters.showSurfaces = True
    bring_into_view(panel.ui.displaySection)
    camera.take("display")
    panel.parameters.planDose = None
    panel.parameters.segmentation = None
    camera.take("blocked")


def _load(panel: Any, name: str) -> None:
    """A sample, as Sample Data loads it; the panel goes along."""
    ct, _segmentation, _plan = panel.logic.loadSample(name)
    _until(lambda: panel.parameters.ctVolume is ct)
    _until(lambda: bool(panel.ui.applyButton.enabled))


def _tabs(panel: Any, camera: _Camera) -> None:
    from DosePredictionPanel.connectors import bring_into_view

    for number, name in enumerate(("goals", "dvh", "review", "scores")):
        panel.ui.resultTabs.currentIndex = number
        bring_into_view(panel.ui.goalsSelector)
        camera.take(f"tab_{name}")
    panel.ui.resultTabs.currentIndex = 0


def _places(panel: Any, camera: _Camera) -> None:
    """A goal is clicked; then the mouse is over a target."""
    from DosePredictionPanel.connectors import bring_into_view

    bring_into_view(panel.ui.resultSection)
    panel.parameters.leaveMarks = True
    panel.ui.verdictLabel.linkActivated("goal:0")
    camera.take("place_of_a_goal")
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    segmentation = panel.parameters.segmentation
    content = segmentation.GetSegmentation()
    crosshair.SetCursorPositionRAS(segmentation.GetSegmentCenterRAS(content.GetNthSegmentID(4)))
    camera.take("mouse_over_a_structure")
    panel.parameters.leaveMarks = False


def _compare(panel: Any, camera: _Camera) -> None:
    """A contour is changed, and Update shows the difference."""
    _ct, segmentation = panel.parameters.ctVolume, panel.parameters.segmentation
    id = segmentation.GetSegmentation().GetSegmentIdBySegmentName("Mandible")
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, id, _ct)
    slices = array.any(axis=(1, 2)).nonzero()[0]
    array[slices[len(slices) // 2] :] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, id, _ct)
    from slicer.i18n import tr as _

    _until(lambda: panel.ui.applyButton.text == _("Update") and panel.ui.applyButton.enabled)
    camera.take("out_of_date")
    _apply(panel)
    panel.parameters.shown = "change"
    camera.take("compared")


def _beams(panel: Any, camera: _Camera) -> None:
    """Another arrangement, and a wish, each beside what was there before."""
    from DosePredictionPanel.connectors import bring_into_view

    _load(panel, "DosePredictionSimulatedPelvis")
    panel.parameters.modelName = "pelvis-wishes"
    panel.parameters.showBeams = True
    _apply(panel)
    panel.ui.beamsSection.collapsed = False
    bring_into_view(panel.ui.beamsSection)
    camera.take("nine_beams")
    panel.parameters.beams = "four-field"
    _apply(panel)
    panel.parameters.shown = "change"
    camera.take("four_beams_against_nine")
    panel.ui.wishesSection.collapsed = False
    bring_into_view(panel.ui.wishesSection)
    camera.take("no_wishes")
    sliders = panel.ui.wishesRows.findChildren(qt.QSlider)
    next(each for each in sliders if "Bladder" in each.accessibleName).value = 20
    camera.take("wish")
    _apply(panel)
    camera.take("wish_predicted")
    bring_into_view(panel.ui.resultSection)
    for number in range(panel.ui.resultTabs.count):
        panel.ui.resultTabs.currentIndex = number
        camera.take(f"wish_{panel.ui.resultTabs.tabText(number)}")
    panel.ui.resultTabs.currentIndex = 0


def _organs(panel: Any, camera: _Camera) -> None:
    """Organs that are missing are found, and a contour is priced."""
    from DosePredictionPanel.connectors import bring_into_view

    _load(panel, "DosePredictionSimulatedPelvis")
    content = panel.parameters.segmentation.GetSegmentation()
    for name in ("Bladder", "Rectum"):
        content.RemoveSegment(content.GetSegmentIdBySegmentName(name))
    panel.ui.contoursSection.collapsed = False
    bring_into_view(panel.ui.contoursSection)
    _until(lambda: bool(panel.ui.fillButton.enabled))
    camera.take("organs_missing")
    panel.ui.fillButton.click()
    _until(lambda: not panel.ui.organsCancelButton.visible)
    camera.take("organs_found")
    _apply(panel)
    panel.ui.contoursSection.collapsed = False
    bring_into_view(panel.ui.contoursSection)
    _until(lambda: bool(panel.ui.costButton.enabled))
    panel.ui.costButton.click()
    _until(lambda: not panel.ui.organsCancelButton.visible)
    camera.take("contours_cost")


def _plan(panel: Any, camera: _Camera) -> None:
    """Whether beams can give the prediction, and a plan that does."""
    from DosePredictionPanel.connectors import bring_into_view

    _load(panel, "DosePredictionSimulatedPelvis")
    _apply(panel)
    panel.ui.planSection.collapsed = False
    bring_into_view(panel.ui.planSection)
    _until(lambda: bool(panel.ui.deliverableButton.enabled))
    camera.take("plan")
    panel.ui.deliverableButton.click()
    _until(lambda: bool(panel.ui.deliverableLabel.visible))
    camera.take("deliverable")
    _until(lambda: bool(panel.ui.makePlanButton.enabled))
    panel.ui.makePlanButton.click()
    _until(lambda: bool(panel.ui.planCancelButton.visible))
    camera.take("planning")
    _until(lambda: not panel.ui.planCancelButton.visible)
    _until(lambda: not panel.is_showing_result)
    bring_into_view(panel.ui.planSection)
    camera.take("planned")
    bring_into_view(panel.ui.savePlanButton)
    camera.take("planned_end")


_WALKS: dict[str, Callable[[Any, _Camera], None]] = {
    "results": _results,
    "beams": _beams,
    "organs": _organs,
    "plan": _plan,
}


def _apply(panel: Any) -> None:
    _until(lambda: bool(panel.ui.applyButton.enabled))
    panel.ui.applyButton.click()
    _until(lambda: panel.run is None)
    _until(lambda: not panel.is_showing_result)


def _darken() -> None:
    """Slicer's dark style, which the settings choose at the next start only."""
    style = qt.QApplication.setStyle("Dark Slicer")
    qt.QApplication.setPalette(style.standardPalette())


def _until(done: Callable[[], bool]) -> None:
    started = time.perf_counter()
    while not done():
        slicer.app.processEvents()
        time.sleep(0.002)
        if time.perf_counter() - started > _LONGEST_WAIT_S:
            raise TimeoutError("The panel did not get ready.")


def _wait(until: float) -> None:
    _until(lambda: time.perf_counter() > until)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _run() -> None:
    code = 0
    try:
        parser = argparse.ArgumentParser(add_help=False)  # Slicer keeps --help for itself
        parser.add_argument("--output", type=Path, required=True)
        parser.add_argument("--size", type=int, nargs=2, default=(1063, 570))
        parser.add_argument("--dark", action="store_true")
        parser.add_argument("--walks", nargs="+", choices=_WALKS, default=list(_WALKS))
        call = parser.parse_args(sys.argv[1:])
        if call.dark:
            _darken()
        slicer.util.mainWindow().showNormal()
        slicer.util.mainWindow().resize(*call.size)
        slicer.util.selectModule("DosePrediction")
        panel = slicer.modules.doseprediction.widgetRepresentation().self().panel
        camera = _Camera(call.output)
        for name in call.walks:
            _WALKS[name](panel, camera)
    except (Exception, SystemExit):  # Slicer would stay up with it
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    slicer.util.exit(code)


if __name__ == "__main__":
    qt.QTimer.singleShot(1000, _run)
