"""The self test of the module, for a real Slicer with the panel's widgets."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

__all__ = ["SelfTest"]


class SelfTest(ScriptedLoadableModuleTest):
    """Predicts a shipped case for real, in the worker, and takes it out again."""

    def setUp(self) -> None:
        """An empty scene."""
        from DosePrediction import DosePredictionLogic

        slicer.mrmlScene.Clear()
        self.logic = DosePredictionLogic()

    def runTest(self) -> None:
        """All tests, each in a scene of its own."""
        for name in (
            "test_samples_are_offered",
            "test_arguments_that_cannot_be_predicted",
            "test_predict_again_and_remove",
            "test_cancel_leaves_the_scene",
            "test_panel",
            "test_contours",
            "test_three_patients",
        ):
            self.setUp()
            self.delayDisplay(name)
            getattr(self, name)()
        self.logic.stopWorker()

    def test_samples_are_offered(self) -> None:
        """The Sample Data module knows the shipped cases and loads them from the disk."""
        import SampleData

        from DosePredictionPanel.sample_data import SAMPLES

        logic = SampleData.SampleDataLogic()
        for name in SAMPLES:
            source = logic.sourceForSampleName(name)
            for nodes in (source.customDownloader(source), logic.downloadFromSource(source)):
                self.assertTrue(nodes[0].IsA("vtkMRMLScalarVolumeNode"), name)

    def test_arguments_that_cannot_be_predicted(self) -> None:
        """Refused with a cause, before anything is read."""
        with self.assertRaisesRegex(ValueError, "CT"):
            self.logic.predict(None, None)
        ct, segmentation, _plan = self.logic.loadSample()
        with self.assertRaisesRegex(ValueError, "no model"):
            self.logic.predict(ct, segmentation, modelName="there is none")
        with self.assertRaises(ValueError):
            self.logic.predict(ct, segmentation, mapping={"PTV70": "no such segment"})

    def test_predict_again_and_remove(self) -> None:
        """Dose, tables and goals; the same nodes for a second run; none after removal."""
        ct, segmentation, plan = self.logic.loadSample()
        nodes_before = self._node_ids()
        dose = self.logic.predict(
            ct, segmentation, planDoseNode=plan, goals="head_neck_70_35", timeout=600
        )
        self.assertEqual(dose.GetImageData().GetDimensions(), ct.GetImageData().GetDimensions())
        highest = float(slicer.util.arrayFromVolume(dose).max())
        self.assertGreater(highest, 60.0)
        self.assertLess(highest, 90.0)
        result = self.logic.result(dose)
        scores = self.logic.scores(dose)
        assert result is not None
        assert scores is not None
        self.assertGreater(result.measures.predicted["PTV70"].mean_gy, 60.0)
        self.assertLess(scores["dose_score_gy"], 6.0)
        self.assertTrue(result.goals)
        nodes_after = self._node_ids()
        again = self.logic.predict(ct, segmentation, planDoseNode=plan, goals="head_neck_70_35")
        self.assertIs(again, dose)
        self.assertEqual(self._node_ids(), nodes_after)
        self.logic.removeResult(again)
        self.assertEqual(self._node_ids(), nodes_before)

    def test_cancel_leaves_the_scene(self) -> None:
        """A cancelled prediction adds nothing; the next one works."""
        ct, segmentation, _plan = self.logic.loadSample()
        nodes_before = self._node_ids()
        errors: list[Exception] = []
        run = self.logic.predictAsync(
            ct, segmentation, onError=lambda error, details: errors.append(error)
        )
        run.cancel()
        self._wait(lambda: bool(errors))
        self.assertEqual(type(errors[0]).__name__, "PredictionCancelled")
        self.assertEqual(self._node_ids(), nodes_before)

    def test_panel(self) -> None:
        """Apply in the panel, a contour changed afterwards, Update, and removal."""
        panel = slicer.modules.doseprediction.widgetRepresentation().self().panel
        ct, segmentation, plan = self.logic.loadSample()
        panel.enter()
        parameters = panel.parameters
        parameters.ctVolume, parameters.segmentation = ct, segmentation
        parameters.planDose = plan
        self._wait(lambda: panel.ui.applyButton.enabled)
        self.assertEqual(panel.ui.structuresTable.rowCount, 11)
        panel.ui.applyButton.click()
        self.assertEqual(panel.ui.applyButton.text, _("Cancel"))
        self._wait(lambda: panel.run is None, seconds=600)
        dose = parameters.resultDose
        self.assertIsNotNone(dose, panel.ui.noticeLabel.text)
        parameters.showIsodoses = True  # while the result is still being shown
        self._wait(lambda: not panel.is_showing_result)
        isodoses = slicer.util.getNode(f"{dose.GetName()}_IsodoseLevels")
        self.assertGreater(isodoses.GetPolyData().GetNumberOfPoints(), 0)
        self.assertEqual(isodoses.GetDisplayNode().GetSliceIntersectionOpacity(), 1.0)
        self.assertGreater(panel.ui.goalsTable.rowCount, 0)
        self.assertGreater(panel.ui.scoresTable.rowCount, 0)
        parameters.opacity = 0.25
        self.assertAlmostEqual(panel.ui.opacitySlider.value, 0.25)
        self._shrink(segmentation, "Brainstem", ct)
        self._wait(lambda: panel.ui.applyButton.text == _("Update"))
        self._wait(lambda: panel.ui.applyButton.enabled)
        self.assertIn("Brainstem", panel.ui.noticeLabel.text)
        panel.ui.applyButton.click()
        self._wait(lambda: panel.run is None, seconds=600)
        self._wait(lambda: not panel.is_showing_result)
        self.assertGreater(panel.ui.changeTable.rowCount, 0)
        self.assertEqual(panel.ui.resultSelector.count, 2)
        self.assertEqual(panel.ui.applyButton.text, _("Apply"))
        panel.ui.removeButton.click()
        self.assertIs(parameters.resultDose, dose)
        panel.ui.removeButton.click()
        self.assertIsNone(parameters.resultDose)
        self.assertEqual([n for n in self._node_names() if "redict" in n], [])

    def test_three_patients(self) -> None:
        """Loaded, predicted, switched, a contour edited, live, saved, reopened, exported."""
        from DosePredictionPanel.sample_data import SAMPLES

        panel = slicer.modules.doseprediction.widgetRepresentation().self().panel
        panel.enter()
        patients = []
        for name in SAMPLES:
            nodes = self.logic.loadSample(name)
            self._wait(partial(self._is_chosen, panel, nodes.ct))
            self.assertIs(panel.parameters.segmentation, nodes.segmentation)
            self.assertIs(panel.parameters.planDose, nodes.plan_dose)
            self._apply(panel)
            self._check_bands(panel)
            self._ask_for_a_plan(panel)
            patients.append((nodes, panel.parameters.resultDose, panel.parameters.goalTemplate))
            self.assertIn(_("goals met"), panel.ui.verdictLabel.text)
        self.assertEqual(len({dose.GetID() for _nodes, dose, _goals in patients}), 3)
        for nodes, dose, goals in patients:
            panel.parameters.ctVolume = nodes.ct
            self._wait(lambda: not panel.is_showing_result)
            self.assertIs(panel.parameters.resultDose, dose)
            self.assertEqual(panel.parameters.goalTemplate, goals)
            self.assertEqual(self._foreground(), dose.GetID())
        self._edit_live(panel, patients[-1][0])
        self._reopen(panel, panel.parameters.resultDose.GetName())

    def test_contours(self) -> None:
        """An organ taken away is missing; with a model of organs it is found and predicted on."""
        panel = slicer.modules.doseprediction.widgetRepresentation().self().panel
        ct, segmentation, _plan = self.logic.loadSample("DosePredictionSimulatedPelvis")
        panel.enter()
        self._wait(partial(self._is_chosen, panel, ct))
        self._wait(lambda: panel.ui.applyButton.enabled)
        content = segmentation.GetSegmentation()
        content.RemoveSegment(content.GetSegmentIdBySegmentName("Bladder"))
        self._wait(lambda: _("Bladder") in panel.ui.contoursLabel.text)
        self.assertTrue(panel.ui.contoursLabel.visible or panel.ui.contoursSection.collapsed)
        if not panel.store.state.organ_models:
            self.assertFalse(panel.ui.fillButton.enabled)
            return
        names = set(content.GetSegmentIDs())
        self._wait(lambda: panel.ui.fillButton.enabled)
        panel.ui.fillButton.click()
        self._wait(lambda: panel.store.state.organs is None, seconds=600)
        self.assertIsNot(panel.parameters.segmentation, segmentation, panel.ui.noticeLabel.text)
        self.assertEqual(set(content.GetSegmentIDs()), names)
        self._apply(panel)
        panel.ui.costButton.click()
        self._wait(lambda: panel.store.state.organs is None, seconds=600)
        self.assertGreater(panel.ui.costsTable.rowCount, 0, panel.ui.noticeLabel.text)

    def _ask_for_a_plan(self, panel: Any) -> None:
        """Whether nine beams could give the dose that is shown."""
        panel.parameters.planBeams = "9"
        panel.ui.deliverableButton.click()
        self.assertFalse(panel.ui.deliverableButton.enabled)
        self._wait(lambda: panel.ui.deliverableButton.enabled)
        self.assertIn("9 beams", panel.ui.deliverableLabel.text, panel.ui.noticeLabel.text)

    def _check_bands(self, panel: Any) -> None:
        """Bands of a calibrated model are in the chart until they are switched off."""
        result = self.logic.result(panel.parameters.resultDose)
        assert result is not None
        self.assertTrue(panel.ui.bandsLabel.text)
        self.assertEqual(panel.ui.bandsCheckBox.enabled, result.bands.content is not None)
        chart = result.nodes["chart"]
        for role, series in result.nodes.items():
            if role.startswith("series-band"):
                self.assertTrue(chart.HasPlotSeriesNodeID(series.GetID()), role)
                panel.ui.bandsCheckBox.click()
                self.assertFalse(chart.HasPlotSeriesNodeID(series.GetID()), role)
                panel.ui.bandsCheckBox.click()

    def _edit_live(self, panel: Any, nodes: Any) -> None:
        """A stroke is predicted by itself, beside the result that it began from."""
        self._wait(lambda: panel.ui.applyButton.enabled)
        before = panel.parameters.resultDose
        panel.parameters.live = True
        self._shrink(nodes.segmentation, "Bladder", nodes.ct)
        self._wait(lambda: panel.parameters.resultDose is not before)
        self._wait(lambda: not panel.is_showing_result)
        self.assertIs(panel.parameters.comparedDose, before)
        self.assertGreater(panel.ui.changeTable.rowCount, 0)
        panel.parameters.live = False

    def _reopen(self, panel: Any, name: str) -> None:
        """Saved and opened again: shown, judged, reported without predicting again."""
        import tempfile
        from pathlib import Path

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "scene.mrb"
            self.assertTrue(slicer.util.saveScene(str(path)))
            slicer.mrmlScene.Clear()
            slicer.util.loadScene(str(path))
            self._wait(lambda: not panel.is_showing_result)
            dose = slicer.util.getNode(name)
            self.assertIsNotNone(self.logic.result(dose))
            self.assertGreater(panel.ui.goalsTable.rowCount, 0)
            self.assertTrue(panel.ui.reportButton.enabled)
            written: list[str] = []
            report = Path(folder) / "report.html"
            self.logic.exportReportAsync(dose, report, written.append)
            self._wait(lambda: bool(written))
            self.assertEqual(written, [""])
            self.assertIn("<html", report.read_text(encoding="utf-8"))
            self.assertTrue(self.logic.exportTables(dose, Path(folder) / "tables"))

    def _apply(self, panel: Any) -> None:
        """Press the button once it can be, and wait for the dose on the slices."""
        self._wait(lambda: panel.ui.applyButton.enabled)
        panel.ui.applyButton.click()
        self._wait(lambda: panel.run is None, seconds=600)
        self.assertIsNotNone(panel.parameters.resultDose, panel.ui.noticeLabel.text)
        self._wait(lambda: not panel.is_showing_result)
        self.assertEqual(self._foreground(), panel.parameters.resultDose.GetID())

    def _is_chosen(self, panel: Any, ct: Any) -> bool:
        return panel.parameters.ctVolume is ct

    def _foreground(self) -> str:
        composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
        return str(composite.GetForegroundVolumeID())

    def _node_ids(self) -> set[str]:
        """Ids of the nodes that a person would save; the hierarchy's own comes on demand."""
        scene = slicer.mrmlScene
        nodes = [scene.GetNthNode(number) for number in range(scene.GetNumberOfNodes())]
        return {
            node.GetID()
            for node in nodes
            if node.GetSaveWithScene() and not node.IsA("vtkMRMLSubjectHierarchyNode")
        }

    def _node_names(self) -> list[str]:
        scene = slicer.mrmlScene
        return [
            scene.GetNthNode(number).GetName() or ""
            for number in range(scene.GetNumberOfNodes())
            if scene.GetNthNode(number).IsA("vtkMRMLVolumeNode")
        ]

    def _wait(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        """Let Slicer work until something is so."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                self.fail(f"Nothing came of it within {seconds:g} s.")
            slicer.app.processEvents()

    def _shrink(self, segmentation: Any, name: str, ct: Any) -> None:
        """Take the upper half of a segment away."""
        id = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
        array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, id, ct)
        slices = array.any(axis=(1, 2)).nonzero()[0]
        array[slices[len(slices) // 2] :] = 0
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, id, ct)
