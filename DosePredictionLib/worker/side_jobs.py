"""What the worker does beside predicting, so that a window need not: checks and reports.

None of it needs torch.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from ..app.choices import BeamsChoice, WishesChoice
from ..app.summary import prediction_summary, report_input
from ..checks.distribution import usable_distribution
from ..checks.registry import check_case
from ..encoding.wishes import stated_wishes
from ..errors import CaseError, DosePredictionError, ModelError
from ..evaluation.evaluate import plan_curve_steps
from ..findings import Finding, each_once, worst_first
from ..models.manifest import (
    ModelFolder,
    ModelManifest,
    installed_manifests,
    read_model_folder,
)
from ..structures.bound import BoundCase, propose_binding
from ..structures.eaten import eaten_findings
from ..structures.protocol import StructureProtocol
from ..tasks.registry import task_entry
from .exchange import CaseReader, read_exchanged_case, read_prediction
from .messages import Check, CheckDeliverability, Checked, Result, WriteReport

__all__ = ["check", "check_deliverability", "write_report"]


def check(request: Check, cases: CaseReader) -> tuple[Checked, Generator[str, None, None]]:
    """Everything that may spoil a prediction of the case; what cannot be mapped is a finding.

    Args:
        cases: what is read; the case is the last one.

    Returns:
        The answer, and steps that measure the case in advance.

    Raises:
        DosePredictionError: the case cannot be read, or the model is not installed.
    """
    before = None
    if request.before is not None and Path(request.before).is_dir():
        before = cases.read(Path(request.before))
    wishes = WishesChoice(request.wishes)
    case = wishes.of(BeamsChoice(request.beams).of(cases.read(Path(request.case))))
    model = _model(request.model)
    manifest = model.manifest
    protocol = StructureProtocol.load(manifest.protocol)
    required = task_entry(manifest.task).required(protocol)
    bound = propose_binding(case, protocol, request.mapping, request.prescription, required)
    assert bound.mapping is not None
    distribution, unusable = usable_distribution(model)
    found = [*bound.findings, *unusable]
    found += check_case(bound, manifest.expectations, distribution)
    found += _refused_wishes(wishes, bound, manifest)
    if before is not None:
        body = protocol.external.name if protocol.external is not None else ""
        besides = [bound.mapping.structure(body) or ""]
        found += eaten_findings(before.structures, case.structures, besides)
    findings = each_once(worst_first(found))
    return Checked(request.id, tuple(findings)), plan_curve_steps(bound)


def check_deliverability(request: CheckDeliverability) -> Checked:
    """One finding: how near a plan on these beams could come to a predicted dose.

    Raises:
        DosePredictionError: case or prediction cannot be read, no beams are known, or the CT is
            oblique.
    """
    from ..evaluation.deliverability import ResidualLimits, deliverability

    case = read_exchanged_case(Path(request.case))
    prediction = read_prediction(Path(request.prediction), case)
    case = BeamsChoice(request.beams).of(prediction.case)
    protocol = prediction.model.protocol
    if case.beams is None and ResidualLimits.of(protocol.id) is None:
        raise CaseError(
            f"No beams of {case.name} are known, nor of plans of {protocol.title}: choose a number "
            "of beams."
        )
    found = deliverability(replace(prediction, case=case).bound, prediction.dose)
    return Checked(request.id, (found.finding,))


def write_report(request: WriteReport) -> Result:
    """Write the HTML report of a prediction; the result names its path.

    Raises:
        DosePredictionError: case or prediction cannot be read.
        OSError: the file cannot be written.
    """
    from ..report import write_report as write

    case = read_exchanged_case(Path(request.case))
    prediction = read_prediction(Path(request.prediction), case)
    summary = prediction_summary(prediction, goals=None)
    summary["goals"] = [dict(goal) for goal in request.goals]
    summary["samples"] = request.samples
    path = Path(request.path)
    write(report_input(prediction, summary), path)
    return Result(request.id, str(path), warm=True)


def _refused_wishes(
    wishes: WishesChoice, bound: BoundCase, manifest: ModelManifest
) -> list[Finding]:
    """What a prediction would refuse of the wishes, said before it is asked for."""
    try:
        wishes.require_taken_by(manifest)
        stated_wishes(bound, manifest.encoding)
    except DosePredictionError as error:
        return [Finding("wish-refused", "blocking", str(error))]
    return []


def _model(model: str) -> ModelFolder:
    if Path(model).is_absolute():
        return read_model_folder(Path(model))
    for installed in installed_manifests().models:
        if installed.manifest.name == model:
            return installed
    raise ModelError(f"The model {model} is not installed any more. Choose another one.")
