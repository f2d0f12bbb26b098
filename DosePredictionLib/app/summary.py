"""What is said of a prediction: the content of `prediction.json`, and the report's input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from .. import __version__
from ..case import Case
from ..findings import Finding
from ..schema import to_json
from ..structures.mapping import StructureMapping, find_structure
from ..structures.names import fit_name, is_related
from ..structures.protocol import Channel, StructureProtocol
from ..volume import Volume

if TYPE_CHECKING:
    from ..evaluation.goals import GoalSet
    from ..prediction import Prediction
    from ..report import ReportInput, ReportStructure

__all__ = [
    "STATEMENT",
    "goal_resolver",
    "prediction_summary",
    "report_input",
    "report_structures",
    "scored_structures",
]

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


def goal_resolver(
    named: Mapping[str, tuple[Volume, Channel | None]],
    protocol: StructureProtocol,
    mapping: StructureMapping,
) -> Callable[[str], str | None]:
    """From the structure that a goal names to the name that results carry, or None.

    A goal binds to the structure that it names, not to the channel that this fills: a bowel bag in
    the channel Small_Intestine meets goals on the bag. What a person put into a channel by hand
    counts as that channel, unless its own name says that it is another structure.

    Args:
        named: of `scored_structures`.
        protocol: whose spellings count.
        mapping: of the case.
    """
    own = {mapping.assigned.get(name, name): name for name in named}
    by_hand = {
        match.channel: match.structure
        for match in mapping.matches
        if match.structure is not None and not match.automatic
    }

    def resolve(query: str) -> str | None:
        found = find_structure(query, list(own), protocol)
        if found is not None:
            return own[found]
        for channel in protocol.channels:
            structure = by_hand.get(channel.name)
            if structure is None or is_related(structure, channel):
                continue
            if fit_name(query, channel) is not None and channel.name in named:
                return channel.name
        return None

    return resolve


def prediction_summary(
    prediction: Prediction, goals: GoalSet | Literal["suiting"] | None = "suiting"
) -> dict[str, Any]:
    """The content of `prediction.json`, in JSON types but for numbers that may be numpy's.

    Args:
        prediction: the dose.
        goals: what it is judged by; `suiting`: the shipped set that suits the protocol and the
            prescription, if there is one.
    """
    from ..evaluation.dvh import dvhs
    from ..evaluation.evaluate import endpoints_of, evaluate_case, judge_goals
    from ..evaluation.goals import GoalSet

    model, case = prediction.model, prediction.case
    named = scored_structures(case, model.protocol, prediction.mapping)
    structures = {name: mask for name, (mask, _) in named.items()}
    prescriptions_gy = prediction.prescription.target_gy
    if goals == "suiting":
        goals = GoalSet.suiting(model.protocol.id, prescriptions_gy)
    resolve = goal_resolver(named, model.protocol, prediction.mapping)
    curves = dvhs(prediction.dose, structures)
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
        "structures": endpoints_of(curves, prescriptions_gy),
        "evaluation": None,
        "goal_set": goals.id if goals else None,
        "goals": [],
    }
    if case.plan_dose is not None:
        evaluation = evaluate_case(
            prediction.dose,
            case.plan_dose,
            structures,
            targets=[channel.name for channel in model.protocol.targets],
            organs=[channel.name for channel in model.protocol.organs],
            body=prediction.external,
            prescriptions_gy=prescriptions_gy,
            dose_mask=case.dose_mask,
            goals=goals or (),
            resolve=resolve,
            curves=curves,
        )
        summary["goals"] = evaluation.pop("goals")
        summary["evaluation"] = evaluation
    elif goals:
        summary["goals"] = judge_goals(
            goals,
            (curves,),
            (prediction.dose,),
            body=prediction.external,
            prescriptions_gy=prescriptions_gy,
            resolve=resolve,
        )
    return summary


def report_structures(
    named: Mapping[str, tuple[Volume, Channel | None]], external: Volume
) -> list[ReportStructure]:
    """The protocol's structures as the report shows them; `external` where none was drawn."""
    from ..report import ReportStructure

    structures = [
        ReportStructure(channel.label, channel.color, mask, channel.role, name)
        for name, (mask, channel) in named.items()
        if channel is not None
    ]
    if all(structure.role != "external" for structure in structures):
        # Derived from the CT: the report crops to it.
        structures.append(ReportStructure("External (derived)", "#c7c7c7", external, "external"))
    return structures


def report_input(prediction: Prediction, summary: Mapping[str, Any]) -> ReportInput:
    """What the report shows of a prediction; `summary` is that of `prediction_summary`."""
    from ..report import ReportInput

    model = prediction.model
    named = scored_structures(prediction.case, model.protocol, prediction.mapping)
    structures = report_structures(named, prediction.external)
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
        evaluation={
            **(summary["evaluation"] or {"structures": _as_predicted(summary["structures"])}),
            "goals": summary["goals"],
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
