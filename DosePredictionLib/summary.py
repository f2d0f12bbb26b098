"""What is said of a prediction: the content of `prediction.json`, and the report's input."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from . import __version__
from .case import Case
from .findings import Finding
from .mapping import StructureMapping
from .protocol import Channel, StructureProtocol
from .schema import to_json
from .volume import Volume

if TYPE_CHECKING:
    from .prediction import Prediction
    from .report import ReportInput

__all__ = ["STATEMENT", "prediction_summary", "report_input", "scored_structures"]

STATEMENT = (
    "Predicted dose: research only. Not a medical device; not for clinical use. "
    "The dose is an estimate from other patients' plans and is not deliverable."
)


def scored_structures(
    case: Case, protocol: StructureProtocol, mapping: StructureMapping
) -> dict[str, tuple[Volume, Channel | None]]:
    """Every structure of a case by the name that results carry: its channel's, or its own.

    Channels come first, in the protocol's order; empty structures are left out.
    """
    by_structure = {structure: channel for channel, structure in mapping.assigned.items()}
    named: dict[str, tuple[Volume, Channel | None]] = {}
    for channel in protocol.channels:
        structure = mapping.structure(channel.name)
        if structure is not None and case.structures[structure].array.any():
            named[channel.name] = (case.structures[structure], channel)
    for structure, mask in case.structures.items():
        if structure not in by_structure and structure not in named and mask.array.any():
            named[structure] = (mask, None)
    return named


def prediction_summary(prediction: Prediction) -> dict[str, Any]:
    """The content of `prediction.json`, in JSON types but for numbers that may be numpy's."""
    from .evaluation.evaluate import endpoints, evaluate_case

    model, case = prediction.model, prediction.case
    named = scored_structures(case, model.protocol, prediction.mapping)
    structures = {name: mask for name, (mask, _) in named.items()}
    prescriptions_gy = prediction.prescription.target_gy
    summary: dict[str, Any] = {
        "case": case.name,
        "statement": STATEMENT,
        "software": {"name": "DosePrediction", "version": __version__},
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "model": {
            "name": model.manifest.name,
            "title": model.manifest.title,
            "protocol": model.manifest.protocol,
            "weights_sha256": model.manifest.weights_sha256,
            "intended_use": model.manifest.intended_use,
        },
        "device": prediction.device,
        "precision": prediction.precision,
        "fallbacks": list(prediction.fallbacks),
        "prescription": to_json(prediction.prescription),
        "mapping": prediction.mapping.as_json(),
        "checks": [finding.as_json() for finding in prediction.findings],
        "units": "Gy",
        "structures": endpoints(prediction.dose, structures, prescriptions_gy),
        "evaluation": None,
    }
    if case.plan_dose is not None:
        summary["evaluation"] = evaluate_case(
            prediction.dose,
            case.plan_dose,
            structures,
            targets=[channel.name for channel in model.protocol.targets],
            organs=[channel.name for channel in model.protocol.organs],
            body=prediction.external,
            prescriptions_gy=prescriptions_gy,
            dose_mask=case.dose_mask,
        )
    return summary


def report_input(prediction: Prediction, summary: Mapping[str, Any]) -> ReportInput:
    """What the report shows of a prediction; `summary` is that of `prediction_summary`."""
    from .report import ReportInput, ReportStructure

    model = prediction.model
    named = scored_structures(prediction.case, model.protocol, prediction.mapping)
    structures = [
        ReportStructure(channel.label, channel.color, mask, channel.role, name)
        for name, (mask, channel) in named.items()
        if channel is not None
    ]
    if all(structure.role != "external" for structure in structures):
        # Derived from the CT: the report crops to it.
        structures.append(
            ReportStructure("External (derived)", "#c7c7c7", prediction.external, "external")
        )
    manifest = model.manifest
    findings: list[Finding] = list(prediction.findings)
    return ReportInput(
        case=prediction.case,
        prediction=prediction.dose,
        structures=structures,
        reference=prediction.case.plan_dose,
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
            "generated": str(summary["created"]),
            "version": __version__,
        },
        evaluation=summary["evaluation"] or {"structures": _as_predicted(summary["structures"])},
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
