"""What was noticed about a case, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "DOSE_GAP",
    "LEFT_OUT",
    "UNCERTAIN_DOSE",
    "UNKNOWN_PARTS",
    "Finding",
    "Severity",
    "each_once",
    "worst_first",
]

Severity = Literal["info", "warning", "blocking"]

LEFT_OUT = "structure-left-out"
"""Id of the finding that a structure of the files is not in the case, and why."""

DOSE_GAP = "plan-dose-incomplete"
"""Id of the finding that a plan's dose does not cover a structure."""

UNKNOWN_PARTS = "dose-parts-unknown"
"""Id of the finding that nothing says whether partial doses are the whole plan's."""

UNCERTAIN_DOSE = frozenset(
    {
        UNKNOWN_PARTS,
        "dose-effective",
        "dose-of-one-plan",
        "dose-of-several-plans",
        "dose-summation-missing",
        "plan-not-photons",
    }
)
"""Ids of the findings that a plan's dose may not be all of it, or is none that models learn."""

_ORDER = {"blocking": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Finding:
    """One thing noticed while a case was read, checked, encoded or predicted.

    Args:
        id: stable name of the rule, in kebab case ("structure-empty").
        severity: `info` is worth knowing, `warning` may spoil the dose, `blocking` stops it.
        message: what was seen and where, in a sentence.
        remedy: what to do about it; empty when nothing needs doing.
        structure: the structure concerned, if one is.
        position_mm: where to look, LPS mm, if there is a place.
    """

    id: str
    severity: Severity
    message: str
    remedy: str = ""
    structure: str | None = None
    position_mm: tuple[float, float, float] | None = None

    def as_json(self) -> dict[str, Any]:
        """A JSON object with every field; undefined ones are null."""
        position = None if self.position_mm is None else [round(p, 2) for p in self.position_mm]
        return {
            "id": self.id,
            "severity": self.severity,
            "message": self.message,
            "remedy": self.remedy,
            "structure": self.structure,
            "position_mm": position,
        }


def each_once(findings: Iterable[Finding]) -> list[Finding]:
    """Of findings that say the same of one structure the worst; of equals the last one made.

    A reader and a check may notice the same, and the check knows what follows from it.
    """
    kept: dict[tuple[str, str | None], Finding] = {}
    for finding in findings:
        key = (finding.message, finding.structure)
        if key not in kept or _ORDER[finding.severity] <= _ORDER[kept[key].severity]:
            kept[key] = finding
    return list(kept.values())


def worst_first(findings: list[Finding] | tuple[Finding, ...]) -> list[Finding]:
    """Sorted by severity; the order within one severity stays."""
    return sorted(findings, key=lambda finding: _ORDER[finding.severity])
