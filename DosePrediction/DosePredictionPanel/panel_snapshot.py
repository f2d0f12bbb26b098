"""Snapshots of the parameters, by which the panel knows what a change was about."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["CHECKING", "DISPLAY", "INPUTS", "MATCHING", "ParametersSnapshot", "changed_fields"]


@dataclass(frozen=True)
class ParametersSnapshot:
    """The parameters as plain values; nodes by their ids ("" for none)."""

    ct: str
    segmentation: str
    plan_dose: str
    model: str
    prescription_gy: float
    corrections: tuple[tuple[str, str], ...]
    shown: str
    opacity: float
    range_low: float
    range_high: float
    unit: str
    isodoses: bool
    legend: bool
    goals: str
    device: str
    precision: str
    strip_margin_mm: float
    keep_warm: bool


INPUTS = frozenset({"ct", "segmentation", "plan_dose"})
"""What has to be read from the scene."""
MATCHING = frozenset({"ct", "segmentation", "model", "corrections"})
"""What the table of structures rests on."""
CHECKING = INPUTS | MATCHING | {"prescription_gy"}
"""What the preflight rests on."""
DISPLAY = frozenset({"shown", "opacity", "range_low", "range_high", "unit", "isodoses", "legend"})
"""What the dose on the slices rests on."""


def changed_fields(before: ParametersSnapshot | None, after: ParametersSnapshot) -> frozenset[str]:
    """Names of what differs; everything at first."""
    return frozenset(
        field.name
        for field in fields(ParametersSnapshot)
        if before is None or getattr(before, field.name) != getattr(after, field.name)
    )
