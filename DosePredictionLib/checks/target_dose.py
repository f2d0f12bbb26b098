"""A predicted dose in a target that is far from what is prescribed."""

from __future__ import annotations

import numpy as np

from ..findings import Finding
from .thresholds import TARGET_DOSE_SHARE
from .view import CaseView

__all__ = ["check_target_dose"]


def check_target_dose(view: CaseView) -> list[Finding]:
    """The mean dose of each target against its prescription: a network that lost its way."""
    if view.dose is None:
        return []
    findings = []
    for region in view.targets:
        prescribed_gy = view.bound.prescriptions_gy.get(region.channel.name)
        if prescribed_gy is None:
            continue
        mean_gy = float(np.mean(view.dose.array[region.box][region.mask]))
        deviation = mean_gy / prescribed_gy - 1
        if abs(deviation) > TARGET_DOSE_SHARE:
            message = (
                f"The predicted mean dose of {region.name} is {mean_gy:.1f} Gy; {prescribed_gy:g} "
                f"Gy are prescribed ({100 * deviation:+.0f} %)."
            )
            remedy = "Do not use this dose: the case is unlike those that the model learned from."
            place = region.center_mm
            findings.append(
                Finding("target-dose-implausible", "warning", message, remedy, region.name, place)
            )
    return findings
