"""The files of a plan: RTPLAN and RTDOSE that name each other, and the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..case import Case, Prescription
from ..planning.machine import Machine
from ..planning.planner import DeliverablePlan
from ..structures.bound import BoundCase
from ..volume import Volume
from .summary import report_structures

if TYPE_CHECKING:
    from ..evaluation.result import Evaluation
    from ..report.content import Metadata

__all__ = ["RTDOSE", "RTPLAN", "write_plan_dicom", "write_plan_report"]

RTPLAN, RTDOSE = "rtplan.dcm", "rtdose.dcm"
_DESCRIPTION = "CALCULATED – NOT FOR CLINICAL USE"


def write_plan_dicom(
    folder: Path, case: Case, plan: DeliverablePlan, prescription: Prescription, machine: Machine
) -> None:
    """Write both into a folder.

    Args:
        case: with the origin that they refer to, if it is known.
    """
    from ..io.dicom.rtdose import Equipment, PlannedDose, write_rtdose
    from ..io.dicom.rtplan import PlanFile, plan_reference, write_rtplan

    equipment = Equipment(f"planning {machine.id}", __version__, "Plan for research only")
    of_plan, of_dose = plan_reference()
    text = f"Step and shoot on {machine.title}; no commissioned beam."
    content = PlanFile(plan.beams, prescription, text, of_plan.instance_uid, of_dose)
    write_rtplan(folder / RTPLAN, content, case, equipment)
    planned = PlannedDose(of_plan, of_dose.instance_uid, _DESCRIPTION)
    write_rtdose(folder / RTDOSE, plan.dose, case, equipment, planned)


def write_plan_report(
    path: Path,
    bound: BoundCase,
    dose: Volume,
    plan: DeliverablePlan,
    evaluation: Evaluation,
    metadata: Metadata,
) -> None:
    """The report of the wanted dose beside the plan's."""
    from ..report import ReportInput, write_report

    metadata["kicker"] = "A plan for a wanted dose"
    metadata["title"] = "The dose that was wanted, and a plan that reaches for it"
    metadata["version"] = __version__
    if bound.protocol is not None:
        metadata["protocol"] = bound.protocol.title
    report = ReportInput(
        case=replace(bound.case, plan_dose=plan.dose),
        prediction=dose,
        structures=report_structures(bound),
        reference=plan.dose,
        metadata=metadata,
        evaluation={**evaluation.as_json(), "structures": evaluation.structures()},
    )
    write_report(report, path)
