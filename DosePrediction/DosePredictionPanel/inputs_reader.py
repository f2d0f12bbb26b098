"""Reads the inputs once they have come to rest, and has the worker check them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import qt

from .i18n import _
from .prepared import PreparedInputs, prepare_steps
from .services import services
from .steps import StepRunner

if TYPE_CHECKING:
    from DosePredictionLib.case import Prescription
    from DosePredictionLib.findings import Finding
    from DosePredictionLib.scene import Step
    from DosePredictionLib.worker.messages import Reply

__all__ = ["CheckInputs", "InputsReader"]

_REST_MS = 400  # a person choosing several inputs, a brush stroke following another


@dataclass(frozen=True, eq=False)
class CheckInputs:
    """What to check.

    Args:
        ct, segmentation, plan_dose: nodes; the last may be None.
        model: name.
        mapping: channel → segment's name where the matching is overruled.
        prescription: None: the model's own.
    """

    ct: Any
    segmentation: Any
    plan_dose: Any
    model: str
    mapping: Mapping[str, str | None]
    prescription: Prescription | None


class InputsReader:
    """Reading and checking, one node or segment a turn of the event loop.

    Args:
        inputs: what is chosen now; None when something is missing.
        changed: called when any of the attributes below has changed.

    Attributes:
        reading: whether the inputs are being read or checked.
        stage: what is being done, in words.
        prepared: the inputs as read; None until they are.
        findings: of the last check.
        error: why the inputs cannot be read; empty when they can.
    """

    def __init__(
        self, inputs: Callable[[], CheckInputs | None], changed: Callable[[], None]
    ) -> None:
        self.reading = False
        self.stage = ""
        self.prepared: PreparedInputs | None = None
        self.findings: tuple[Finding, ...] = ()
        self.error = ""
        self._inputs, self._changed = inputs, changed
        self._runner: StepRunner | None = None
        self._check_id = ""
        self._numbers = itertools.count(1)
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REST_MS)
        self._timer.connect("timeout()", self._begin)

    def schedule(self) -> None:
        """Read and check after a moment of rest."""
        self.stop()
        self.reading, self.stage, self.error = True, _("waiting for the inputs"), ""
        self._timer.start()
        self._changed()

    def stop(self) -> None:
        """Give up what is under way."""
        self._timer.stop()
        self._check_id = ""
        if self._runner is not None:
            self._runner.stop()
            self._runner = None
        self.reading = False

    def forget(self) -> None:
        """Nothing is chosen any more."""
        self.stop()
        self.prepared, self.findings, self.error = None, (), ""
        self._changed()

    def _begin(self) -> None:
        inputs = self._inputs()
        if inputs is None:
            self.forget()
            return
        self.prepared = services().prepared(inputs.ct, inputs.segmentation, inputs.plan_dose)
        if self.prepared is not None:
            self._check(inputs)
            return
        try:
            folder = services().scratch.new("case")
        except ValueError as error:
            self._failed(error)
            return
        steps = prepare_steps(inputs.ct, inputs.segmentation, inputs.plan_dose, folder)
        self._runner = StepRunner(steps, self._step, self._read, self._failed).start()

    def _step(self, step: Step) -> None:
        self.stage = step.label
        self._changed()

    def _read(self, prepared: PreparedInputs) -> None:
        self._runner = None
        services().keep_prepared(prepared)
        self.prepared = prepared
        inputs = self._inputs()
        if inputs is None:
            self.forget()
        else:
            self._check(inputs)

    def _check(self, inputs: CheckInputs) -> None:
        from DosePredictionLib.worker.messages import Check

        assert self.prepared is not None
        self.stage = _("checking")
        self._changed()
        self._check_id = f"check-{next(self._numbers)}"
        request = Check(
            id=self._check_id,
            case=str(self.prepared.folder),
            model=inputs.model,
            mapping=dict(inputs.mapping),
            prescription=inputs.prescription,
        )
        try:
            services().worker.send(request, self._checked)
        except (OSError, ValueError) as error:
            self._failed(error)

    def _checked(self, reply: Reply) -> None:
        from DosePredictionLib.worker.messages import Checked, Failure

        if getattr(reply, "id", None) != self._check_id:
            return  # of inputs that have changed since
        if isinstance(reply, Checked):
            self.findings, self.error = reply.findings, ""
        elif isinstance(reply, Failure):
            self.findings, self.error = (), reply.message
        self.reading = False
        self._changed()

    def _failed(self, error: Exception) -> None:
        self._runner = None
        self.reading = False
        self.prepared, self.findings, self.error = None, (), str(error)
        self._changed()
