"""The panel: between the person's choices, the sections and the logic. It computes nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from .apply_state import Situation, apply_button
from .checks_section import ChecksSection
from .connectors import ComboDataConnector, WheelGuard, fill_combo
from .corrections import Corrections
from .finding_rows import blocking_messages
from .freshness import Freshness, RunSettings
from .i18n import _
from .inputs_reader import CheckInputs, InputsReader
from .inputs_section import InputsSection
from .installation import SlicerInstaller, installation_report, missing_packages
from .installation_section import InstallationSection
from .installation_view import InstallationReport
from .panel_snapshot import CHECKING, DISPLAY, INPUTS, MATCHING, ParametersSnapshot, changed_fields
from .parameters import DosePredictionParameterNode
from .result_controller import ResultController
from .result_view import default_goals
from .run_section import RunSection
from .services import services
from .structure_rows import structure_rows
from .structures_section import StructuresSection

if TYPE_CHECKING:
    from DosePredictionLib.findings import Finding
    from DosePredictionLib.structures.mapping import StructureMapping
    from DosePredictionLib.structures.protocol import StructureProtocol

    from .prediction_run import PredictionRun

__all__ = ["Panel"]

_EDIT_REST_MS = 700  # after the last stroke of a brush


class Panel(VTKObservationMixin):
    """The controller of the module's widget.

    Args:
        ui: the widgets of the .ui file by name.
        logic: a `DosePredictionLogic`.
    """

    def __init__(self, ui: Any, logic: Any) -> None:
        VTKObservationMixin.__init__(self)
        self.ui, self.logic = ui, logic
        self._parameters: DosePredictionParameterNode | None = None
        self.run: PredictionRun | None = None
        self._gui_tags: tuple[Any, ...] = ()
        self._is_entered = False
        self._edited_elsewhere = False
        self._snapshot: ParametersSnapshot | None = None
        self._segmentation: Any = None
        self._mapping: StructureMapping | None = None
        self._protocol: StructureProtocol | None = None
        self._problems: list[Finding] = []
        self._missing = ""
        self._freshness = Freshness()
        self._corrections = Corrections.of_user()
        self._reader = InputsReader(self._check_inputs, self._show_inputs)
        self._make_sections()
        self._edit_timer = qt.QTimer()
        self._edit_timer.setSingleShot(True)
        self._edit_timer.setInterval(_EDIT_REST_MS)
        self._edit_timer.connect("timeout()", self._compare_inputs)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._scene_closing)
        self.addObserver(scene, scene.EndCloseEvent, self._scene_closed)
        self.addObserver(scene, scene.EndImportEvent, self._scene_loaded)
        self._use_parameters()
        self._check_installation()

    def enter(self) -> None:
        """The module is opened."""
        self._is_entered = True
        chosen = self._parameters.modelName if self._parameters else ""
        self._inputs.refresh_models(chosen)
        self._use_parameters()
        if self._edited_elsewhere or self._reader.error:
            self._edit_timer.start()

    def exit(self) -> None:
        """Another module is opened: segments edited there are read when the person comes back."""
        self._is_entered = False

    def close(self) -> None:
        """The panel goes away."""
        self._reader.stop()
        self._edit_timer.stop()
        self._result.stop_arrival()
        if self.run is not None:
            self.run.cancel()
        self._set_parameters(None)
        self.removeObservers()

    @property
    def is_showing_result(self) -> bool:
        """Whether a new result is being shown, step by step."""
        return self._result.is_arriving

    # --- Parameters -----------------------------------------------------------------------------

    def _use_parameters(self) -> None:
        """The scene's parameter node, with defaults where nothing is chosen yet."""
        self._set_parameters(self.logic.getParameterNode())
        self._choose_defaults()

    def _set_parameters(self, parameters: DosePredictionParameterNode | None) -> None:
        old = self._parameters
        if old is not None:
            for tag in self._gui_tags:
                old.disconnectGui(tag)
            self.removeObserver(old, vtk.vtkCommand.ModifiedEvent, self._parameters_changed)
        self._parameters = parameters
        self._result.parameters = parameters
        if parameters is None:
            self._snapshot = None
            self._observe_segmentation(None)
            return
        bound = {
            "modelName": ComboDataConnector(self.ui.modelSelector),
            "goalTemplate": ComboDataConnector(self.ui.goalsSelector),
            "device": ComboDataConnector(self.ui.deviceSelector),
        }
        self._gui_tags = (
            parameters.connectGui(self.ui),
            parameters.connectParametersToGui(bound),
        )
        self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self._parameters_changed)
        self._parameters_changed()

    @property
    def parameters(self) -> DosePredictionParameterNode:
        """The scene's parameters; there are some whenever a scene is open."""
        assert self._parameters is not None
        return self._parameters

    def _choose_defaults(self) -> None:
        """The first CT, segmentation and the model that fits, to save clicks."""
        parameters = self.parameters
        if parameters.ctVolume is None:
            parameters.ctVolume = _first_ct()
        if parameters.segmentation is None:
            parameters.segmentation = slicer.mrmlScene.GetFirstNodeByClass(
                "vtkMRMLSegmentationNode"
            )
        if parameters.modelName not in self._inputs.manifests and self._inputs.manifests:
            parameters.modelName = self._fitting_model() or next(iter(self._inputs.manifests))

    def _choose_fitting_model(self) -> None:
        """Other structures may need another protocol's model."""
        manifests, name = self._inputs.manifests, self._fitting_model()
        chosen = manifests.get(self.parameters.modelName)
        if name and (chosen is None or chosen.protocol != manifests[name].protocol):
            self.parameters.modelName = name

    def _fitting_model(self) -> str:
        """The default model of the protocol that the segments fit; empty if none does."""
        from DosePredictionLib.errors import MappingError
        from DosePredictionLib.structures.mapping import fitting_protocol

        try:
            protocol = fitting_protocol(self._segment_names()).id
        except MappingError:
            return ""
        manifests = self._inputs.manifests.values()
        return next((m.name for m in manifests if m.protocol == protocol and m.default), "")

    def _take_snapshot(self) -> ParametersSnapshot:
        p = self.parameters
        return ParametersSnapshot(
            ct=p.ctVolume.GetID() if p.ctVolume else "",
            segmentation=p.segmentation.GetID() if p.segmentation else "",
            plan_dose=p.planDose.GetID() if p.planDose else "",
            model=p.modelName,
            prescription_gy=p.prescriptionGy,
            corrections=tuple(sorted(p.corrections.items())),
            shown=p.shown.value,
            opacity=p.opacity,
            range_low=p.doseRange.minimum,
            range_high=p.doseRange.maximum,
            unit=p.unit.value,
            isodoses=p.showIsodoses,
            legend=p.showLegend,
            goals=p.goalTemplate,
            device=p.device,
            precision=p.precision.value,
            strip_margin_mm=p.stripMarginMm,
            keep_warm=p.keepWarm,
        )

    def _parameters_changed(self, _caller: Any = None, _event: Any = None) -> None:
        """Do what the changed parameters ask for, and no more."""
        if self._parameters is None or slicer.mrmlScene.IsBatchProcessing():
            return  # a scene is being loaded: everything is taken up at its end
        before, after = self._snapshot, self._take_snapshot()
        changed = changed_fields(before, after)
        self._snapshot = after
        if not changed:
            return
        if "model" in changed:
            self._inputs.show_model(after.model)
        if changed & {"segmentation"}:
            self._observe_segmentation(self.parameters.segmentation)
            if before is not None and "model" not in changed:
                self._choose_fitting_model()
        if changed & {"segmentation", "model"} and before is not None:
            self._recall_corrections()
        if changed & MATCHING:
            self._match()
        if changed & INPUTS:
            self._compare_with_result()
        if changed & CHECKING:
            self._read_again()
        if changed & DISPLAY:
            self._result.display(unit_changed=before is not None and "unit" in changed)
        if "goals" in changed and before is not None:
            self._result.goals_chosen(after.goals)
        if "keep_warm" in changed and not after.keep_warm and self.run is None:
            self.logic.stopWorker()
        self._freshness.now = self._run_settings()
        self._show_state()

    # --- Inputs ---------------------------------------------------------------------------------

    def _segment_names(self) -> list[str]:
        from DosePredictionLib.scene import list_segments

        segmentation = self._parameters.segmentation if self._parameters else None
        return [s.name for s in list_segments(segmentation)] if segmentation else []

    def _observe_segmentation(self, segmentation: Any) -> None:
        """Follow edits of the chosen segmentation."""
        events = (
            slicer.vtkSegmentation.SegmentAdded,
            slicer.vtkSegmentation.SegmentRemoved,
            slicer.vtkSegmentation.SegmentModified,
            slicer.vtkSegmentation.SourceRepresentationModified,
        )
        if self._segmentation is not None:
            for event in events:
                self.removeObserver(self._segmentation, event, self._segments_edited)
        self._segmentation = segmentation.GetSegmentation() if segmentation else None
        if self._segmentation is not None:
            for event in events:
                self.addObserver(self._segmentation, event, self._segments_edited)

    def _segments_edited(self, _caller: Any, _event: Any) -> None:
        # Reading takes turns of the event loop, which belong to the person contouring elsewhere.
        self._edited_elsewhere = not self._is_entered
        if self._is_entered:
            self._edit_timer.start()  # from anew: a stroke follows another

    def _compare_inputs(self) -> None:
        """The segments have come to rest: what is different now?"""
        self._edited_elsewhere = False
        self._match()
        self._compare_with_result()
        self._read_again()
        self._show_state()

    def _compare_with_result(self) -> None:
        from DosePredictionLib.scene import what_changed

        p = self._parameters
        inputs = services().inputs_of(p.resultDose) if p else None
        if p is None or inputs is None or p.ctVolume is None or p.segmentation is None:
            return
        names = what_changed(inputs.light.fingerprint, p.ctVolume, p.segmentation, p.planDose)
        self._freshness.edited(names, inputs.names)

    def _recall_corrections(self) -> None:
        """What the person corrected for a case with the same names."""
        manifest = self._inputs.manifests.get(self.parameters.modelName)
        if manifest is None or self.parameters.segmentation is None:
            return
        recalled = self._corrections.recall(manifest.protocol, self._segment_names())
        wanted = {channel: name or "" for channel, name in recalled.items()}
        if dict(self.parameters.corrections) != wanted:
            self.parameters.corrections = wanted

    def _chosen(self, protocol: StructureProtocol, names: list[str]) -> dict[str, str | None]:
        """Corrections that can be applied: their channel and segment exist."""
        return {
            channel: name or None
            for channel, name in dict(self.parameters.corrections).items()
            if channel in protocol.names and (not name or name in names)
        }

    def _match(self) -> None:
        """Segments to channels, by name and by hand; reads no voxels."""
        from DosePredictionLib.errors import DosePredictionError
        from DosePredictionLib.scene import input_findings
        from DosePredictionLib.structures.mapping import propose_mapping
        from DosePredictionLib.structures.protocol import StructureProtocol

        p = self.parameters
        self._mapping = self._protocol = None
        manifest = self._inputs.manifests.get(p.modelName)
        self._problems = []
        if p.ctVolume is not None and p.segmentation is not None:
            findings = input_findings(p.ctVolume, p.segmentation, p.planDose)
            self._problems = [f for f in findings if f.severity == "blocking"]
        if manifest is None or p.segmentation is None:
            return
        try:
            self._protocol = StructureProtocol.load(manifest.protocol)
            names = self._segment_names()
            chosen = self._chosen(self._protocol, names)
            self._mapping = propose_mapping(names, self._protocol, chosen)
        except DosePredictionError as error:
            from DosePredictionLib.findings import Finding

            self._problems.append(Finding("mapping", "blocking", str(error)))

    def _correct(self, channel: str, segment: str | None) -> None:
        """The person chose a segment for a channel."""
        corrections = dict(self.parameters.corrections)
        # A segment fills one channel: the new choice goes before an older one.
        corrections = {c: s for c, s in corrections.items() if not segment or s != segment}
        corrections[channel] = segment or ""
        self._remember(corrections)

    def _match_again(self) -> None:
        """Forget the corrections of this case."""
        self._remember({})

    def _remember(self, corrections: dict[str, str]) -> None:
        manifest = self._inputs.manifests.get(self.parameters.modelName)
        if manifest is not None:
            channels = {channel: name or None for channel, name in corrections.items()}
            self._corrections.remember(manifest.protocol, self._segment_names(), channels)
        self.parameters.corrections = corrections

    def _read_again(self) -> None:
        if self.run is not None:
            return  # afterwards
        if self._check_inputs() is None:
            self._reader.forget()
        else:
            self._reader.schedule()

    def _check_inputs(self) -> CheckInputs | None:
        """What to read and check; None when something is missing."""
        p = self._parameters
        if p is None or p.ctVolume is None or p.segmentation is None or self._problems:
            return None
        if self._mapping is None or self._protocol is None:
            return None
        return CheckInputs(
            ct=p.ctVolume,
            segmentation=p.segmentation,
            plan_dose=p.planDose,
            model=p.modelName,
            mapping=self._chosen(self._protocol, self._segment_names()),
            prescription=self._prescription(),
        )

    def _prescription(self) -> Any:
        """The person's prescription; None for the model's own or a model with levels."""
        from .arguments import as_prescription

        p = self.parameters
        manifest = self._inputs.manifests.get(p.modelName)
        if manifest is None or not p.prescriptionGy:
            return None
        if len(manifest.expectations.prescription_gy) > 1:
            return None
        return as_prescription(p.prescriptionGy, p.modelName)

    # --- Showing --------------------------------------------------------------------------------

    def _show_inputs(self) -> None:
        """Structures and checks as they are known now."""
        reader = self._reader
        findings = [*self._problems, *reader.findings]
        if self._mapping is not None and self._protocol is not None:
            volumes_cc = reader.prepared.light.volumes_cc if reader.prepared else {}
            rows = structure_rows(self._protocol, self._mapping, volumes_cc, reader.findings)
            self._structures.show(rows, self._segment_names())
        else:
            self._structures.clear(_("Choose a CT, a segmentation and a model."))
        if not reader.reading and self.run is None and not self._keeps_warm():
            self.logic.stopWorker()
        if reader.reading:
            self._checks.show_reading(reader.stage)
        elif reader.error:
            from DosePredictionLib.findings import Finding

            self._checks.show([*self._problems, Finding("inputs", "blocking", reader.error)])
        elif self._mapping is None and not findings:
            self._checks.clear("")
        else:
            self._checks.show(findings or list(self._mapping.findings if self._mapping else ()))
        self._show_state()

    def _keeps_warm(self) -> bool:
        return self._parameters is None or self._parameters.keepWarm

    def _show_state(self) -> None:
        """Apply, and whether the result is out of date."""
        state = apply_button(self._situation())
        self._run_section.show_button(state)
        notice = self._freshness.notice()
        if self.run is not None:
            return
        if notice:
            self._run_section.show_notice(notice, "warning")
            self._notice_is_freshness = True
        elif self._notice_is_freshness:
            self._run_section.hide_notice()
            self._notice_is_freshness = False

    def _situation(self) -> Situation:
        p, reader = self._parameters, self._reader
        if p is None:
            return Situation()
        findings = [*self._problems, *reader.findings]
        blocking = blocking_messages(findings)
        return Situation(
            has_ct=p.ctVolume is not None,
            has_segmentation=p.segmentation is not None,
            has_model=p.modelName in self._inputs.manifests,
            input_problem=reader.error,
            missing=self._missing,
            reading=reader.reading,
            blocking=blocking,
            running=self.run is not None,
            cancelling=self.run is not None and self.run.is_cancelling,
            outdated=self._freshness.is_outdated,
        )

    # --- Running --------------------------------------------------------------------------------

    def _apply(self) -> None:
        """Apply, or Cancel while a prediction runs."""
        if self.run is not None:
            self.run.cancel()
            self._show_state()
            return
        try:
            self._start()
        except (OSError, ValueError) as error:  # the library's: cause and remedy in the message
            self._failed(error, "")
        except Exception:
            self._run_section.hide_progress()
            with self._errors_shown(_("The prediction cannot be started.")):
                raise

    def _start(self) -> None:
        from DosePredictionLib.worker.messages import PredictOptions

        p = self.parameters
        assert self._protocol is not None
        self._reader.stop()
        self._run_section.hide_notice()
        self._notice_is_freshness = False
        self._run_section.show_progress(-1, _("reading the inputs"))
        self._settings_of_run = self._run_settings()
        if not p.goalTemplate and p.resultDose is None:
            p.goalTemplate = default_goals(self._protocol.id)
        margin = p.stripMarginMm
        before = self.logic.result(p.resultDose) if self._freshness.is_outdated else None
        self._result.before = before
        self.run = self.logic.predictAsync(
            p.ctVolume,
            p.segmentation,
            p.modelName,
            self._chosen(self._protocol, self._segment_names()),
            self._prescription(),
            p.planDose,
            onProgress=self._run_section.show_progress,
            onFinished=self._finished,
            onError=self._failed,
            options=PredictOptions(
                device=p.device,
                precision=p.precision.value,
                strip_margin_mm=margin if margin >= 0 else None,
                keep=("coarse dose",) if p.keepCoarse else (),
                keep_strips=p.keepStrips,
            ),
            goals=p.goalTemplate or None,
            before=before,
        )
        self._show_state()

    def _run_settings(self) -> RunSettings:
        p = self._parameters
        if p is None:
            return RunSettings()
        mapping = self._mapping
        return RunSettings(
            values={
                _("the CT"): p.ctVolume.GetID() if p.ctVolume else "",
                _("the segmentation"): p.segmentation.GetID() if p.segmentation else "",
                _("the plan dose"): p.planDose.GetID() if p.planDose else "",
                _("the model"): p.modelName,
                _("the prescription"): str(self._prescription()),
                _("the margin of the strips"): str(p.stripMarginMm),
            },
            mapping={m.channel: m.structure for m in mapping.matches} if mapping else {},
        )

    def _finished(self, dose: Any) -> None:
        self.run = None
        self._run_section.hide_progress()
        if self._parameters is None:
            return
        self._freshness.completed(self._settings_of_run)
        if not self._parameters.keepWarm:
            self.logic.stopWorker()
        is_first = self._parameters.resultDose is None
        self._parameters.resultDose = dose
        self._edit_timer.start()  # what was edited meanwhile
        self._show_state()
        self._result.arrived(is_first)

    def _failed(self, error: Exception, details: str) -> None:
        from DosePredictionLib.errors import PredictionCancelled

        self.run = None
        self._run_section.hide_progress()
        if isinstance(error, PredictionCancelled):
            self._run_section.show_notice(_("Cancelled. The scene is as it was."), "info")
        else:
            self._run_section.show_notice(str(error), "error", details or repr(error))
        self._notice_is_freshness = False
        if self._parameters is not None:
            self._read_again()
        self._run_section.show_button(apply_button(self._situation()))

    def _jump(self, position_mm: tuple[float, float, float]) -> None:
        from DosePredictionLib.scene import jump_to

        with self._errors_shown(_("The place cannot be shown.")):
            jump_to(position_mm, self.parameters.ctVolume)

    def _removed(self) -> None:
        """The result was removed."""
        self._freshness.removed()
        self._show_state()

    # --- Scene ----------------------------------------------------------------------------------

    def _scene_closing(self, _caller: Any, _event: Any) -> None:
        self._reader.forget()
        self._result.stop_arrival()
        self._set_parameters(None)

    def _scene_closed(self, _caller: Any, _event: Any) -> None:
        services().forget_scene()
        self._freshness = Freshness()
        self._mapping = self._protocol = None
        self._result.show()
        self._use_parameters()

    def _scene_loaded(self, _caller: Any, _event: Any) -> None:
        self._use_parameters()
        self._result.show()

    # --- Installation ---------------------------------------------------------------------------

    def _check_installation(self) -> None:
        """What is missing; the report follows when the worker's Python has written it."""
        self._missing = missing_packages()
        self._installation.show(self._missing, _("Looking at the installation…"))
        try:
            self._report_process = installation_report(self._show_installation)
        except ValueError as error:  # no interpreter
            self._installation.show_report(str(error))
        self._read_again()  # what could not be checked before may be possible now
        self._show_state()

    def _show_installation(self, report: InstallationReport) -> None:
        self._installation.show_report(report.text)
        chosen = self._parameters.device if self._parameters else "auto"
        items = dict(report.devices)
        if chosen not in items:
            items[chosen] = _("{device} (not there)").format(device=chosen)
        fill_combo(self.ui.deviceSelector, items, chosen)

    def _install(self) -> None:
        """Install what is missing, then look again."""
        from DosePredictionLib.installation import install

        with self._errors_shown(_("The packages cannot be installed.")):
            install(SlicerInstaller())
        self.logic.stopWorker()  # the next one sees what is new
        self._check_installation()

    # --- Pieces ---------------------------------------------------------------------------------

    def _make_sections(self) -> None:
        ui = self.ui
        self._notice_is_freshness = False
        self._report_process: Any = None
        self._settings_of_run = RunSettings()
        self._inputs = InputsSection(ui)
        self._structures = StructuresSection(ui, self._correct, self._match_again)
        self._checks = ChecksSection(ui, self._jump)
        self._run_section = RunSection(ui, self._apply)
        self._result = ResultController(ui, self.logic, self._run_section, self._removed)
        self._installation = InstallationSection(ui, self._install, self._check_installation)
        self._inputs.refresh_models("")
        fill_combo(ui.deviceSelector, {"auto": _("Automatic"), "cpu": _("CPU")}, "auto")
        self._wheel = WheelGuard()
        boxes = ("modelSelector", "prescriptionSpinBox", "shownSelector", "unitSelector")
        more = ("goalsSelector", "deviceSelector", "precisionSelector", "stripMarginSpinBox")
        self._wheel.guard([getattr(ui, name) for name in (*boxes, *more)])

    def _errors_shown(self, message: str) -> AbstractContextManager[None]:
        return slicer.util.tryWithErrorDisplay(message, waitCursor=True)


def _first_ct() -> Any:
    """The first scalar volume that is no dose and no labelmap."""
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        is_labelmap = node.IsA("vtkMRMLLabelMapVolumeNode")
        is_dose = node.GetAttribute("DicomRtImport.DoseVolume") is not None
        if not is_labelmap and not is_dose and not node.GetAttribute("DosePrediction.Run"):
            return node
    return None
