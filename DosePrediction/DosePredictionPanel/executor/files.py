"""Files, and dialogs: each in a turn of the loop of its own, the worker goes on meanwhile."""

from __future__ import annotations

import json
from pathlib import Path

from ..flow.effects import AskForBeams, AskForGoals, AskForPath, OpenFile, WriteExport
from ..flow.events import EffectFailed, ExportEnded, GoalsFileChosen, PathChosen, PlanBeamsRead
from ..i18n import _
from .context import Context, carries_out, node_of
from .scene_facts import BEAMS

__all__: list[str] = []


@carries_out(AskForGoals)
def _ask_for_goals(context: Context, _effect: AskForGoals) -> None:
    def ask() -> None:
        context.dispatch(GoalsFileChosen(context.ports.dialogs.goals_file()))

    context.start_timer("dialog", 0, ask)


@carries_out(AskForBeams)
def _ask_for_beams(context: Context, effect: AskForBeams) -> None:
    """The scene keeps them with the CT."""
    from DosePredictionLib.io.dicom.beams import read_beams
    from DosePredictionLib.schema import to_json

    def ask() -> None:
        path, ct = context.ports.dialogs.plan_file(), node_of(effect.ct)
        if not path or ct is None:
            return
        try:
            beams = json.dumps(to_json(read_beams(Path(path))))
        except (OSError, ValueError) as error:
            context.dispatch(EffectFailed(str(error)))
            return
        ct.SetAttribute(BEAMS, beams)
        context.dispatch(PlanBeamsRead(effect.ct, beams))

    context.start_timer("dialog", 0, ask)


@carries_out(AskForPath)
def _ask_for_path(context: Context, effect: AskForPath) -> None:
    def ask() -> None:
        context.dispatch(PathChosen(effect.kind, context.ports.dialogs.path_for(effect.kind)))

    context.start_timer("dialog", 0, ask)


@carries_out(OpenFile)
def _open(context: Context, effect: OpenFile) -> None:
    context.ports.dialogs.open_file(effect.path)


@carries_out(WriteExport)
def _write(context: Context, effect: WriteExport) -> None:
    services, dose, path = context.ports.services, node_of(effect.dose), Path(effect.path)

    def ended(error: str = "", details: str = "", warning: str = "") -> None:
        context.dispatch(ExportEnded(effect.kind, effect.path, error, warning, details))

    if dose is None:
        ended(_("The result has been removed. Predict again, then write it."))
        return
    try:
        if effect.kind == "report":
            services.write_report(dose, path, ended)
            return
        with context.ports.dialogs.busy():
            if effect.kind == "plan":
                services.write_plan(dose, path)
            elif effect.kind == "tables":
                services.write_tables(dose, path)
            else:
                services.write_dose(dose, path)
    except (OSError, ValueError, RuntimeError) as error:
        ended(str(error))
    else:
        ended(warning=_warning(context, effect))


def _warning(context: Context, effect: WriteExport) -> str:
    """An RTDOSE without a patient looks like any other: say so."""
    from DosePredictionLib.scene import dicom_origin

    result = context.ports.services.result(node_of(effect.dose))
    if effect.kind != "dose" or Path(effect.path).suffix != ".dcm" or result is None:
        return ""
    if dicom_origin(result) is not None:
        return ""
    text = _(
        "Written: {path}. The CT does not come from DICOM: its name stands for the patient, and a "
        "planning system will not take this dose for that patient's."
    )
    return text.format(path=effect.path)
