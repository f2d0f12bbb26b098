"""The DosePrediction module of 3D Slicer: metadata, panel and logic.

The panel's sections and whatever needs Qt lie in `DosePredictionPanel`, nodes in
`DosePredictionLib.scene`, the process that predicts in `DosePredictionLib.worker`. Nothing of the
library is imported before it is needed: loading the module costs Slicer's start next to nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
import vtk
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

from DosePredictionPanel.sample_data import (
    FILE_TYPE,
    SAMPLE_SUFFIX,
    load_case_file,
    register_samples,
)

if TYPE_CHECKING:
    from DosePredictionPanel.parameters import DosePredictionParameterNode
    from DosePredictionPanel.prediction_run import PredictionRun, RunInputs
    from DosePredictionPanel.sample_data import SampleNodes
    from DosePredictionPanel.services import Services

    from DosePredictionLib.beams.arrangement import BeamArrangement
    from DosePredictionLib.case import Prescription
    from DosePredictionLib.evaluation.dvh import Dvh
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
        self.logic = DosePredictionLogic()
        self.panel = Panel(self.logic, Path(self.resourcePath("UI")))
        self.layout.addWidget(self.panel.widget)

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

        wrapper: Any = DosePredictionParameterNode  # the decorator gives it another constructor
        parameters: DosePredictionParameterNode = wrapper(super().getParameterNode())
        return parameters

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
        beams: str | BeamArrangement | None = None,
        wishes: str | Sequence[str] | None = None,
    ) -> Any:
        """Predict and wait for the dose; needs no event loop and no window.

        Args:
            ctNode, segmentationNode: vtkMRMLScalarVolumeNode, HU, and vtkMRMLSegmentationNode.
            modelName: None: the default model of the protocol that the segments fit.
            mapping: channel → segment's name (None: leave it empty), or a mapping file's path.
            prescription: highest dose in Gy, or target → Gy; None: the model's own.
            planDoseNode: a plan's dose, Gy, to compare with.
            outputDoseNode: receives the dose, too.
            timeout: seconds; the worker is ended after it.
            options: `DosePredictionLib.worker.messages.PredictOptions`.
            goals: id of a goal template, or the path of a file.
            beams: a name or gantry angles ("nine-field", "0,90,180,270"); None: the model's own.
            wishes: goals that a plan would be asked for, as "Rectum V40Gy <= 25 %".

        Returns:
            The dose node, Gy, on the CT's grid.

        Raises:
            DosePredictionError: cause and remedy in one line; the scene is untouched.
            WorkerTimeoutError: the time ran out.

        >>> dose = logic.predict(ct, segmentation, mapping={"Mandible": None}, timeout=600)
        """
        from DosePredictionPanel.blocking import predict_blocking
        from DosePredictionPanel.starting import ready_inputs

        inputs = self._inputs(
            ctNode,
            segmentationNode,
            modelName,
            mapping,
            prescription,
            planDoseNode,
            options,
            goals,
            beams=beams,
            wishes=wishes,
        )
        result = predict_blocking(ready_inputs(inputs, self.shared), self.shared, timeout)
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
        beams: str | BeamArrangement | None = None,
        wishes: str | Sequence[str] | None = None,
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
        from DosePredictionPanel.starting import start_run

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
            beams,
            wishes,
        )

        def finished(result: SceneResult) -> None:
            if onFinished is not None:
                onFinished(result.dose)

        return start_run(
            inputs,
            self.shared,
            on_finished=finished,
            on_progress=onProgress or (lambda share, stage: None),
            on_error=onError or (lambda error, details: None),
        )

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
        return self.shared.result_or_raise(doseNode).measures.scores

    def setGoals(self, doseNode: Any, template: str) -> SceneResult:
        """Hold a predicted dose against another goal template.

        >>> logic.setGoals(dose, "head_neck_70_35").goals[0]["status"]
        """
        return self.shared.set_goals(doseNode, template)

    def exportDose(self, doseNode: Any, path: str | Path) -> Path:
        """Write a dose as NIfTI, NRRD or RTDOSE (`.dcm`), by the suffix.

        RTDOSE is for the patient and the frame of reference that the CT was loaded from; if it does
        not come from DICOM, its name stands for a patient.

        >>> logic.exportDose(dose, "dose.nii.gz")
        """
        return self.shared.write_dose(doseNode, Path(path))

    def exportTables(self, doseNode: Any, folder: str | Path) -> list[Path]:
        """Write metrics, goals and scores as CSV.

        >>> logic.exportTables(dose, "tables")
        """
        return self.shared.write_tables(doseNode, Path(folder))

    def exportReport(self, doseNode: Any, path: str | Path) -> Path:
        """Write the report, one HTML file that stands by itself.

        >>> logic.exportReport(dose, "report.html")
        """
        from DosePredictionLib.scene import write_result_report

        result = self.shared.result_or_raise(doseNode)
        prediction = self.shared.prediction_or_raise(doseNode)
        return write_result_report(result, prediction, Path(path))

    def exportReportAsync(
        self, doseNode: Any, path: str | Path, onDone: Callable[[str], None]
    ) -> None:
        """As `exportReport`, in the worker; `onDone` gets what went wrong, or an empty text.

        >>> logic.exportReportAsync(dose, "report.html", lambda error: print(error or "written"))
        """
        self.shared.write_report(doseNode, Path(path), lambda error, _details: onDone(error))

    def removeResult(self, doseNode: Any) -> None:
        """Delete exactly the nodes that the run of this dose made.

        >>> logic.removeResult(dose)
        """
        self.shared.remove(doseNode)

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
        beams: str | BeamArrangement | None = None,
        wishes: str | Sequence[str] | None = None,
    ) -> RunInputs:
        """Checked arguments of a prediction."""
        from DosePredictionPanel.arguments import (
            as_beams,
            as_mapping,
            as_prescription,
            as_wishes,
        )
        from DosePredictionPanel.prediction_run import RunInputs

        from DosePredictionLib.evaluation.goals import GoalSet
        from DosePredictionLib.scene import Keeping

        return RunInputs(
            ct=ct,
            segmentation=segmentation,
            plan_dose=plan_dose,
            model=model or None,
            mapping=as_mapping(mapping, model),
            prescription=as_prescription(prescription, model),
            beams=as_beams(beams),
            wishes=as_wishes(wishes),
            options=options,
            goals=GoalSet.load(goals) if goals else None,
            before=before,
            keeping=Keeping(goals=goals or ""),
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


class DosePredictionFileReader:
    """Reads an OpenKBP patient, and a shipped case from what Sample Data fetched of it.

    Slicer finds it by its name.
    """

    def __init__(self, parent: Any) -> None:
        self.parent = parent

    def description(self) -> str:
        """As file dialogs show it."""
        return str(_("Radiotherapy case (CT, structures, plan dose)"))

    def fileType(self) -> str:
        """By which scripts name it."""
        return FILE_TYPE

    def extensions(self) -> list[str]:
        """What file dialogs filter by."""
        return [f"{self.description()} (*.npz)", f"{self.description()} (*{SAMPLE_SUFFIX})"]

    def canLoadFile(self, filePath: str) -> bool:
        """By the name alone; whether it holds a case is seen when it is read."""
        return filePath.endswith((".npz", SAMPLE_SUFFIX))

    def load(self, properties: Mapping[str, Any]) -> bool:
        """Put the case into the scene."""
        try:
            nodes = load_case_file(Path(properties["fileName"]))
        except (OSError, ValueError) as error:  # the library's: cause and remedy in the message
            self.parent.userMessages().AddMessage(vtk.vtkCommand.ErrorEvent, str(error))
            return False
        self.parent.loadedNodes = [node.GetID() for node in nodes if node is not None]
        return True


class DosePredictionTest(ScriptedLoadableModuleTest):
    """What Slicer's test runners look for; the tests lie in `DosePredictionPanel.self_test`.

    Run by Slicer's generic test runner, `slicer.selfTests["DosePrediction"]()` or the Reload and
    Test button; needs torch in Slicer's Python.
    """

    def runTest(self) -> None:
        """All tests, each in a scene of its own."""
        from DosePredictionPanel.self_test import SelfTest

        SelfTest().runTest()
