"""Fractions and technique against the model's card."""

from __future__ import annotations

import re

from ..findings import Finding
from .view import CaseView

__all__ = ["check_model_delivery", "technique_differs"]


def check_model_delivery(view: CaseView) -> list[Finding]:
    """Fractions and technique."""
    expected, prescription = view.expected, view.bound.prescription
    if prescription is None:
        return []
    findings = []
    own, theirs = prescription.fractions, expected.fractions
    if own is not None and theirs is not None and own != theirs:
        message = f"The case has {own} fractions, the model's plans had {theirs}."
        remedy = "Compare dose per fraction and constraints before using the dose."
        findings.append(Finding("fractionation-unlike-model", "warning", message, remedy))
    if technique_differs(view):
        message = (
            f"The case's technique is {prescription.technique}, the model's plans were "
            f"{expected.technique}."
        )
        remedy = "Dose outside the target depends on the technique; expect differences there."
        findings.append(Finding("technique-unlike-model", "warning", message, remedy))
    return findings


def technique_differs(view: CaseView) -> bool:
    """Whether case and card both state a technique, and no word of them is the same."""
    prescription, expected = view.bound.prescription, view.expected.technique
    if prescription is None or not prescription.technique or not expected:
        return False
    words = set(re.findall(r"\w+", prescription.technique.casefold()))
    return words.isdisjoint(re.findall(r"\w+", expected.casefold()))
