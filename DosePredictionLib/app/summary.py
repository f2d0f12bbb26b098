"""What is said of a prediction: the content of `prediction.json`, and the report's input."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import __version__
from ..encoding.beams import beam_inputs
from ..encoding.wishes import wish_inputs
from ..findings import Finding
from ..schema import to_json
from ..structures.bound import BoundCase
from ..structures.protocol import Role
from .bands import prediction_calibration

if TYPE_CHECKING:
    from ..beams.arrangement import BeamArrangement
    from ..evaluation.goals import GoalSet
    from ..evaluation.result import Evaluation
    from ..prediction import Prediction
    from ..report import ReportInput, ReportStructure
    from ..wishes import Wish

__all__ = ["STATEMENT", "prediction_summary", "report_input", "report_structures"]

STATEMENT = (
    "Predicted dose: research only. Not a medical device; not for clinical use. "
    "The dose is an estimate from other patients' plans and is not deliverable."
)

_COLORS = ("#e41a1c", "#377eb8", "#4daf4a", "#984ea3", "#ff7f00", "#a65628", "#f781bf", "#66c2a5")


def prediction_summary(
    prediction: Prediction,
    goals: GoalSet | Literal["default"] | None = "default",
    evaluation: Evaluation | None = None,
    calibration: Path | None = None,
) -> dict[str, Any]:
    """The content of `prediction.json`, in JSON types but for numbers that may be numpy's.

    Args:
        prediction: the dose.
        goals: what it is judged by; `default`: the shipped set for the protocol and the
            prescription, if there is one.
        evaluation: where the dose has been evaluated already, with its goals.
        calibration: goes before the model's own.

    Raises:
        ModelError: that calibration is of another model.
    """
    from ..evaluation.evaluate import EvaluationParts, evaluate
    from ..evaluation.goal_probability import with_probabilities
    from ..evaluation.plan_review import plan_review

    model, case = prediction.model, prediction.case
    if evaluation is None:
        evaluation = evaluate(prediction.bound, prediction.dose, EvaluationParts(goals=goals))
    known, noticed = prediction_calibration(prediction, calibration)
    structures = None if known is None else known.structures
    return {
        "case": case.name,
        "statement": STATEMENT,
        "software": {"name": "DosePrediction", "version": __version__},
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "model": {
            "name": model.manifest.name,
            "title": model.manifest.title,
            "protocol": model.manifest.protocol,
            "weights_sha256": model.manifest.weights_sha256,
            "members_sha256": [member.sha256 for member in model.manifest.members],
            "intended_use": model.manifest.intended_use,
        },
        "device": prediction.device,
        "precision": prediction.precision,
        "fallbacks": list(prediction.fallbacks),
        "prescription": to_json(prediction.prescription),
        "beams": to_json(_beams(prediction)),
        "wishes": to_json(_wishes(prediction)),
        "mapping": prediction.mapping.as_json(),
        "checks": [finding.as_json() for finding in (*prediction.findings, *noticed)],
        "units": "Gy",
        "structures": evaluation.endpoints(),
        "evaluation": None if evaluation.scores is None else _against_plan(evaluation),
        "goal_set": evaluation.goal_set,
        "goals": with_probabilities(evaluation.goal_records, structures),
        "bands": None if known is None else known.bands(evaluation),
        "familiarity": _familiarity(prediction),
        "review": None if structures is None else plan_review(evaluation, structures),
    }


def _familiarity(prediction: Prediction) -> dict[str, Any] | None:
    """How like the model's patients the case is; None: the model does not say whom it knows."""
    from ..checks.distribution import usable_distribution
    from ..checks.unlike_training import familiarity
    from ..checks.view import CaseView

    known, _ = usable_distribution(prediction.model)
    if known is None:
        return None
    expected = prediction.model.manifest.expectations
    return familiarity(CaseView(prediction.bound, expected, distribution=known))


def _beams(prediction: Prediction) -> BeamArrangement | None:
    """The beams that the dose was predicted for; None: the model knows none."""
    inputs = beam_inputs(prediction.model.manifest.encoding)
    return None if inputs is None else prediction.case.beams or inputs.arrangement


def _wishes(prediction: Prediction) -> tuple[Wish, ...]:
    """The wishes that the dose was predicted for; none where the model takes none."""
    takes = wish_inputs(prediction.model.manifest.encoding) is not None
    return prediction.case.wishes if takes else ()


def _against_plan(evaluation: Evaluation) -> dict[str, Any]:
    """Scores, and each structure's endpoints beside the plan's."""
    return {**(evaluation.scores or {}), "structures": evaluation.structures()}


def report_structures(bound: BoundCase) -> list[ReportStructure]:
    """The structures as the report shows them; the body where none was drawn.

    Those of the protocol alone; without a protocol, all under their own names.
    """
    from ..report import ReportStructure

    colors = itertools.cycle(_COLORS)
    structures = []
    for name, structure in bound.structures.items():
        channel = structure.channel
        if channel is not None:
            line = ReportStructure(channel.label, channel.color, structure.mask, channel.role, name)
            structures.append(line)
        elif bound.protocol is None:
            role: Role = "external" if name == bound.external_name else "organ"
            structures.append(ReportStructure(name, next(colors), structure.mask, role, name))
    if all(structure.role != "external" for structure in structures):
        # Derived from the CT: the report crops to it.
        line = ReportStructure("External (derived)", "#c7c7c7", bound.external, "external")
        structures.append(line)
    return structures


def report_input(prediction: Prediction, summary: Mapping[str, Any]) -> ReportInput:
    """What the report shows of a prediction; `summary` is that of `prediction_summary`."""
    from ..report import ReportInput

    model = prediction.model
    structures = report_structures(prediction.bound)
    manifest = model.manifest
    findings = [Finding(**check) for check in summary["checks"]]
    return ReportInput(
        case=prediction.case,
        prediction=prediction.dose,
        structures=structures,
        reference=None if summary["evaluation"] is None else prediction.case.plan_dose,
        further=prediction.further,
        bands=summary["bands"] or {},
        metadata={
            "model": manifest.name,
            "title": manifest.title,
            "protocol": model.protocol.title,
            "weights_sha256": manifest.weights_sha256,
            "card": {
                "trained_on": manifest.training.get("data", manifest.training.get("source", "")),
                "figures": _card_figures(manifest.validation),
                "prescription": dict(manifest.expectations.prescription_gy),
                "intended_use": manifest.intended_use,
                "licence": manifest.licence,
                "citation": manifest.training.get("citation", ""),
            },
            "device": prediction.device,
            "precision": prediction.precision,
            "seconds": prediction.seconds,
            "findings": findings,
            "fallbacks": prediction.fallbacks,
            "prescription_gy": prediction.prescription.target_gy,
            "beams": str(_beams(prediction) or ""),
            "wishes": [str(wish) for wish in _wishes(prediction)],
            "generated": str(summary["created"]),
            "version": __version__,
        },
        evaluation={
            **(summary["evaluation"] or {"structures": _as_predicted(summary["structures"])}),
            "goals": summary["goals"],
            "review": summary["review"],
        },
    )


def _as_predicted(structures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Endpoints of a case without a plan, in the form that `evaluate` gives them."""
    return {
        name: {
            "volume_cc": values["volume_cc"],
            "endpoints": {
                key: {"prediction": value, "reference": None}
                for key, value in values["endpoints"].items()
            },
        }
        for name, values in structures.items()
    }


def _card_figures(validation: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a card as a person reads them."""
    labels = {"dose_score_gy": "dose score, Gy", "dvh_score_gy": "DVH score, Gy"}
    figures = {
        label: round(validation[key]["mean"], 2)
        for key, label in labels.items()
        if isinstance(validation.get(key), Mapping)
    }
    return {"cases": validation["cases"], **figures} if "cases" in validation else figures
