"""The prescription against the model's card."""

from __future__ import annotations

from ..findings import Finding
from .thresholds import PRESCRIPTION_SHARE, UNSCALED_SHARE
from .view import CaseView

__all__ = ["check_model_prescription"]


def check_model_prescription(view: CaseView) -> list[Finding]:
    """Each target's dose against the model's; by the highest where the names do not meet."""
    expected, prescription = view.expected, view.bound.prescription
    if prescription is None:
        return []
    pairs = []
    for channel, model_gy in expected.prescription_gy.items():
        name = view.mapping.assigned.get(channel)
        own_gy = prescription.target_gy.get(channel)
        if own_gy is not None:
            pairs.append((name or channel, own_gy, model_gy))
    if not pairs and expected.prescription_gy:
        highest = max(expected.prescription_gy.values())
        pairs = [
            (
                max(prescription.target_gy, key=lambda t: prescription.target_gy[t]),
                prescription.highest_gy,
                highest,
            )
        ]
    findings = []
    for target, own_gy, model_gy in pairs:
        deviation = own_gy / model_gy - 1
        is_scaled = len(expected.prescription_gy) == 1
        allowed = PRESCRIPTION_SHARE if is_scaled else UNSCALED_SHARE
        if abs(deviation) > allowed + 1e-9:
            message = (
                f"{target} is prescribed {own_gy:g} Gy, the model's is {model_gy:g} Gy "
                f"({100 * deviation:+.0f} %)."
            )
            remedy = (
                "The dose is scaled, but trade-offs differ; use a model for this prescription."
                if is_scaled
                else "The dose of a model of several levels is not scaled: it is that of the "
                "model's prescription. Use a model for this one."
            )
            kind = "prescription-unlike-model"
            findings.append(Finding(kind, "warning", message, remedy, target))
    return findings
