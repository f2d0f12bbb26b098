"""The DosePrediction module of 3D Slicer: metadata, panel, logic and self test.

The panel's sections and whatever needs Qt lie in `DosePredictionPanel`, nodes in
`DosePredictionLib.scene`, the process that predicts in `DosePredictionLib.worker`. Nothing of the
library is imported before it is needed: loading the module costs Slicer's start next to nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

try:
    import DosePredictionLib  # noqa: F401 - the built or installed extension has it on the path
except ImportError:
    # A plain checkout given as an additional module path: the library lies beside this folder.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from DosePredictionPanel.sample_data import register_samples

if TYPE_CHECKING:
    from DosePredictionPanel.parameters import DosePredictionParameterNode
    from DosePredictionPanel.prediction_run import PredictionRun, RunInputs
    from DosePredictionPanel.sample_data import SampleNodes
    from DosePredictionPanel.services import Services

    from DosePredictionLib.case import Prescription
    from DosePredictionLib.evaluation.dvh import Dvh
    from DosePredictionLib.prediction import Prediction
    from DosePredictionLib.scene import SceneResult

_STATEMENT = _("Research software, not a medical device; not for clinical use.")


class DosePrediction(ScriptedLoadableModule):
    """Metadata of the module."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Dose Prediction")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Radiotherapy")]
        self.parent.dependencies = []
        self.parent.contributors = ["The DosePrediction contributors"]
        self.parent.helpText = _(
            "Predicts the dose distribution that a good plan would reach, from a CT and contours: "
            "the dose on the slices, DVHs, clinical goals and the difference to a plan. {statement}"
        ).format(statement=_STATEMENT)
        self.parent.acknowledgementText = _(
            "The head-and-neck model is trained on OpenKBP (Babier et al. 2021, "
            "doi 10.1002/mp.14845)."
        )
        slicer.app.connect("startupCompleted()", register_samples)


class DosePredictionWidget(ScriptedLoadableModuleWidget):
    """The panel; what it does lies in `DosePredictionPanel.panel`."""

    def setup(self) -> None:
        """Build the panel."""
        from DosePredictionPanel.panel import Panel

        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/DosePrediction.ui"))
        self.layout.addWidget(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = DosePredictionLogic()
        self.panel = Panel(slicer.util.childWidgetVariables(widget), self.logic)

    def enter(self) -> None:
        """The person opens the module."""
        self.panel.enter()

    def exit(self) -> None:
        """The person opens another module."""
        self.panel.exit()

    def cleanup(self) -> None:
        """The module is unloaded or reloaded."""
        self.panel.close()


class DosePredictionLogic(ScriptedLoadableModuleLogic):
    """Prediction without the panel: from the Python console and from scripts.

    >>> from DosePrediction import DosePredictionLogic
    >>> logic = DosePredictionLogic()
    >>> ct, segmentation, plan = logic.loadSample("DosePredictionHeadNeck")
    >>> dose = logic.predict(ct, segmentation, planDoseNode=plan)
    >>> dose.GetName()
    """

    @property
    def shared(self) -> Services:
        """The worker and the results, which all logics of one Slicer share."""
        from DosePredictionPanel.services import services

        return services()

    def getParameterNode(self) -> DosePredictionParameterNode:
        """The panel's parameters in this scene.

        >>> logic.getParameterNode().opacity = 0.7
        """
        from DosePredictionPanel.parameters import DosePredictionParameterNode

        return DosePredictionParameterNode(super().getParameterNode())

    def predict(
        self,
        ctNode: Any,
        segmentationNode: Any,
        modelName: str | None = None,
        mapping: Mapping[str, str | None] | str | Path | None = None,
        prescription: float | Mapping[str, float] | Prescription | None = None,
        planDoseNode: Any = None,
        outputDoseNode: Any = None,
        timeout: float | None = None,
        options: Any = None,
        goals: str | None = None,
    ) -> Any:
        """Predict and wait for the dose; needs no event loop and no window.

        Args:
            ctNode: vtkMRMLScalarVolumeNode, HU.
            segmentationNode: vtkMRMLSegmentationNode.
            modelName: None: the default model of the protocol that the segments fit.
            mapping: channel → segment's name where the matching is overruled (None: leave it
                empty), or the path of a mapping file.
            prescription: highest dose in Gy, or target → Gy; None: the model's own.
            planDoseNode: a plan's dose, Gy, to compare with.
            outputDoseNode: receives the dose, too.
            timeout: seconds; the worker is ended after it.
            options: `DosePredictionLib.worker.messages.PredictOptions`.
            goals: id of a goal template, or the path of a file.

        Returns:
            The dose node, Gy, on the CT's grid.

        Raises:
            DosePredictionError: cause and remedy in one line; the scene is untouched.
            WorkerTimeoutError: the time ran out.

        >>> dose = logic.predict(ct, segmentation, mapping={"Brainstem": "Hirnstamm"}, timeout=600)
        """
        from DosePredictionPanel.blocking import predict_blocking

        inputs = self._inputs(
            ctNode, segmentationNode, modelName, mapping, prescription, planDoseNode, options, goals
        )
        result = predict_blocking(inputs, self.shared, timeout)
        dose = result.nodes["dose"]
        if outputDoseNode is not None and outputDoseNode is not dose:
            outputDoseNode.CopyContent(dose)
            outputDoseNode.SetAndObserveTransformNodeID(dose.GetTransformNodeID())
        return dose

    def predictAsync(
        self,
        ctNode: Any,
        segmentationNode: Any,
        modelName: str | None = None,
        mapping: Mapping[str, str | None] | str | Path | None = None,
        prescription: float | Mapping[str, float] | Prescription | None = None,
        planDoseNode: Any = None,
        onProgress: Callable[[float, str], None] | None = None,
        onFinished: Callable[[Any], None] | None = None,
        onError: Callable[[Exception, str], None] | None = None,
        options: Any = None,
        goals: str | None = None,
        before: SceneResult | None = None,
    ) -> PredictionRun:
        """Predict without waiting; the arguments are those of `predict`.

        Args:
            onProgress: called with the share done and the stage in words.
            onFinished: called with the dose node.
            onError: called with the exception and details to copy; a cancelled prediction arrives
                here as `PredictionCancelled`.
            before: an earlier result (`result`) that the change is shown against.

        Returns:
            A handle with `cancel()` and `is_running`.

        >>> run = logic.predictAsync(ct, segmentation, onFinished=lambda dose: print(dose))
        >>> run.cancel()
        """
        from DosePredictionPanel.prediction_run import Callbacks, PredictionRun

        inputs = self._inputs(
            ctNode,
            segmentationNode,
            modelName,
            mapping,
            prescription,
            planDoseNode,
            options,
            goals,
            before,
        )
        shared = self.shared

        def finished(prepared: Any, output: Path, result: SceneResult) -> None:
            shared.keep_prepared(prepared)
            shared.keep_result(result, prepared, output)
            if onFinished is not None:
                onFinished(result.nodes["dose"])

        callbacks = Callbacks(
            progress=onProgress or (lambda share, stage: None),
            finished=finished,
            error=onError or (lambda error, details: None),
        )
        return PredictionRun(inputs, shared.worker, shared.scratch, callbacks).start()

    def result(self, doseNode: Any) -> SceneResult | None:
        """Nodes, DVHs, goals and scores of a dose that was predicted in this session.

        >>> logic.result(dose).measures.predicted["Brainstem"].max_gy
        """
        return self.shared.result(doseNode)

    def strips(
        self,
        ctNode: Any,
        segmentationNode: Any,
        modelName: str | None = None,
        mapping: Mapping[str, str | None] | str | Path | None = None,
        marginMm: float = 0.0,
    ) -> Any:
        """Tangent strips of the targets as a segmentation of its own, one segment an angle.

        >>> logic.strips(ct, segmentation, marginMm=5.0).GetName()
        """
        from DosePredictionPanel.strips_node import strips_node

        chosen = self._mapping(segmentationNode, modelName, mapping)
        return strips_node(ctNode, segmentationNode, chosen, marginMm)

    def dvh(self, doseNode: Any, segmentationNode: Any) -> dict[str, Dvh]:
        """DVHs of all segments in a dose, on the dose's own grid.

        >>> logic.dvh(plan, segmentation)["Mandible"].dose_at_percent(2)
        """
        from DosePredictionLib.evaluation.dvh import dvhs
        from DosePredictionLib.scene import case_from_nodes

        case = case_from_nodes(doseNode, segmentationNode).case
        return dvhs(case.ct, case.structures)

    def goals(
        self,
        doseNode: Any,
        segmentationNode: Any,
        template: str,
        prescription: Mapping[str, float] | None = None,
    ) -> list[dict[str, Any]]:
        """Clinical goals held against a dose; `template` is an id or the path of a file.

        >>> goals = logic.goals(plan, segmentation, "head_neck_70_35", {"PTV70": 70.0})
        >>> [goal["goal"] for goal in goals if goal["status"] == "not_met"]
        """
        from DosePredictionLib.case import Prescription
        from DosePredictionLib.evaluation.goals import GoalSet
        from DosePredictionLib.scene import evaluate_nodes

        levels = Prescription(dict(prescription)) if prescription else None
        evaluation = evaluate_nodes(doseNode, segmentationNode, GoalSet.load(template), levels)
        return [dict(goal) for goal in evaluation.goals or ()]

    def scores(self, doseNode: Any) -> Mapping[str, Any] | None:
        """How far a predicted dose is from the plan's; None without a plan.

        >>> logic.scores(dose)["dose_score_gy"]
        """
        result = self._result_or_raise(doseNode)
        return result.measures.scores

    def setGoals(self, doseNode: Any, template: str) -> SceneResult:
        """Hold a predicted dose against another goal template.

        >>> logic.setGoals(dose, "head_neck_70_35").goals[0]["status"]
        """
        from DosePredictionLib.evaluation.goals import GoalSet
        from DosePredictionLib.scene import set_goals

        goals = GoalSet.load(template) if template else None
        result = set_goals(self._result_or_raise(doseNode), goals)
        self.shared.replace_result(result)
        return result

    def exportDose(self, doseNode: Any, path: str | Path) -> Path:
        """Write a dose as NIfTI, NRRD or RTDOSE (`.dcm`), by the suffix.

        RTDOSE is for the patient and the frame of reference that the CT was loaded from; if it does
        not come from DICOM, its name stands for a patient.

        >>> logic.exportDose(dose, "dose.nii.gz")
        """
        from DosePredictionLib.scene import write_dose, write_result_rtdose

        path = Path(path)
        if path.suffix != ".dcm":
            return write_dose(doseNode, path)
        result = self._result_or_raise(doseNode)
        return write_result_rtdose(result, self._prediction_or_raise(doseNode), path)

    def exportTables(self, doseNode: Any, folder: str | Path) -> list[Path]:
        """Write metrics, goals and scores as CSV.

        >>> logic.exportTables(dose, "tables")
        """
        from DosePredictionLib.scene import write_tables

        return write_tables(self._result_or_raise(doseNode), Path(folder))

    def exportReport(self, doseNode: Any, path: str | Path) -> Path:
        """Write the report, one HTML file that stands by itself.

        >>> logic.exportReport(dose, "report.html")
        """
        from DosePredictionLib.scene import write_result_report

        result = self._result_or_raise(doseNode)
        return write_result_report(result, self._prediction_or_raise(doseNode), Path(path))

    def exportReportAsync(
        self, doseNode: Any, path: str | Path, onDone: Callable[[str], None]
    ) -> None:
        """As `exportReport`, in the worker; `onDone` gets what went wrong, or an empty text.

        >>> logic.exportReportAsync(dose, "report.html", lambda error: print(error or "written"))
        """
        self.shared.write_report(doseNode, Path(path), onDone)

    def removeResult(self, doseNode: Any) -> None:
        """Delete exactly the nodes that the run of this dose made.

        >>> logic.removeResult(dose)
        """
        from DosePredictionLib.scene import remove_result

        run = doseNode.GetAttribute("DosePrediction.Run")
        if not run:
            raise ValueError(
                _("{name} was not made by a prediction.").format(name=doseNode.GetName())
            )
        self.shared.forget_result(doseNode.GetID())
        remove_result(run)

    def loadSample(self, name: str = "DosePredictionHeadNeck") -> SampleNodes:
        """Put a shipped case into the scene: CT, segmentation and plan dose.

        >>> ct, segmentation, plan = logic.loadSample("DosePredictionProstate")
        """
        from DosePredictionPanel.sample_data import load_sample

        return load_sample(name)

    def stopWorker(self) -> None:
        """End the process that predicts; the next prediction starts another.

        >>> logic.stopWorker()
        """
        self.shared.stop_worker()

    def _inputs(
        self,
        ct: Any,
        segmentation: Any,
        model: str | None,
        mapping: Mapping[str, str | None] | str | Path | None,
        prescription: float | Mapping[str, float] | Prescription | None,
        plan_dose: Any,
        options: Any,
        goals: str | None,
        before: SceneResult | None = None,
    ) -> RunInputs:
        """Checked arguments of a prediction."""
        from DosePredictionPanel.arguments import as_mapping, as_prescription, require_no_blocking
        from DosePredictionPanel.prediction_run import RunInputs

        from DosePredictionLib.evaluation.goals import GoalSet
        from DosePredictionLib.scene import input_findings

        require_no_blocking(input_findings(ct, segmentation, plan_dose))
        return RunInputs(
            ct=ct,
            segmentation=segmentation,
            plan_dose=plan_dose,
            model=model or None,
            mapping=as_mapping(mapping, model),
            prescription=as_prescription(prescription, model),
            options=options,
            goals=GoalSet.load(goals) if goals else None,
            before=before,
            prepared=self.shared.prepared(ct, segmentation, plan_dose),
        )

    def _mapping(
        self,
        segmentation: Any,
        model: str | None,
        mapping: Mapping[str, str | None] | str | Path | None,
    ) -> Any:
        from DosePredictionPanel.arguments import as_mapping, protocol_of

        from DosePredictionLib.scene import list_segments
        from DosePredictionLib.structures.mapping import fitting_protocol, map_structures

        names = [segment.name for segment in list_segments(segmentation)]
        chosen = as_mapping(mapping, model)
        protocol = protocol_of(model) if model else fitting_protocol(names, chosen)
        return map_structures(names, protocol, chosen)

    def _result_or_raise(self, dose: Any) -> SceneResult:
        result = self.shared.result(dose)
        if result is None:
            raise ValueError(
                _("{name} was not predicted in this session. Predict it again.").format(
                    name=dose.GetName() if dose is not None else "None"
                )
            )
        return result

    def _prediction_or_raise(self, dose: Any) -> Prediction:
        prediction = self.shared.prediction(dose)
        if prediction is None:
            raise ValueError(_("The prediction's files are gone. Predict again."))
        return prediction


class DosePredictionTest(ScriptedLoadableModuleTest):
    """Predicts a shipped case for real, in the worker, and takes it out again.

    Run by Slicer's generic test runner, `slicer.selfTests["DosePrediction"]()` or the Reload and
    Test button; needs torch in Slicer's Python.
    """

    def setUp(self) -> None:
        """An empty scene."""
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
        ):
            self.setUp()
            self.delayDisplay(name)
            getattr(self, name)()
        self.logic.stopWorker()

    def test_samples_are_offered(self) -> None:
        """The Sample Data module knows the shipped cases and loads them from the disk."""
        import SampleData
        from DosePredictionPanel.sample_data import SAMPLES

        for name in SAMPLES:
            source = SampleData.SampleDataLogic().sourceForSampleName(name)
            nodes = source.customDownloader(source)
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
        self.assertGreater(result.measures.predicted["PTV70"].mean_gy, 60.0)
        self.assertLess(self.logic.scores(dose)["dose_score_gy"], 6.0)
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
        self.assertEqual(panel.ui.applyButton.text, _("Apply"))
        panel.ui.removeButton.click()
        self.assertIsNone(parameters.resultDose)
        self.assertEqual([n for n in self._node_names() if "redict" in n], [])

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
