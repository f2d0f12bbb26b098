"""Files, and dialogs: each in a turn of the loop of its own, the worker goes on meanwhile."""

from __future__ import annotations

from pathlib import Path

from ..flow.effects import AskForGoals, AskForPath, OpenFile, WriteExport
from ..flow.events import ExportEnded, GoalsFileChosen, PathChosen
from ..i18n import _
from .context import Context, carries_out, node_of

__all__: list[str] = []


@carries_out(AskForGoals)
def _ask_for_goals(context: Context, _effect: AskForGoals) -> None:
    def ask() -> None:
        context.dispatch(GoalsFileChosen(context.ports.dialogs.goals_file()))

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

    def ended(error: str = "", warning: str = "") -> None:
        context.dispatch(ExportEnded(effect.kind, effect.path, error, warning))

    if dose is None:
        ended(_("The result has been removed. Predict again, then write it."))
        return
    if effect.kind == "report":
        services.write_report(dose, path, ended)
        return
    try:
        with context.ports.dialogs.busy():
            if effect.kind == "tables":
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
