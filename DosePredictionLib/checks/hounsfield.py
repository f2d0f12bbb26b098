"""Whether the CT holds Hounsfield units."""

from __future__ import annotations

import numpy as np

from ..findings import Finding
from ..hounsfield import AIR_BELOW_HU
from .thresholds import (
    DENSER_THAN_TISSUE_HU,
    PADDING_HU,
    TISSUE_MUST_EXCEED_HU,
)
from .view import CaseView

__all__ = ["check_hounsfield"]


def check_hounsfield(view: CaseView) -> list[Finding]:
    """Whether the CT holds HU at all, and padding that is none."""
    low, high = view.hu_range
    remedy = "Load the CT as HU (DICOM rescale slope and intercept applied), not a picture."
    seen = f"The CT's values run from {low:g} to {high:g}"
    if high - low < 100:
        message = f"{seen}: no tissues can be distinguished, so they are not HU."
    elif low >= 0 and high <= 255:
        message = f"{seen}, those of an 8-bit picture, not HU: air is −1000 and fat −100 HU."
    elif low >= 0:
        message = f"{seen}: nothing is below water, so they are shifted or raw, not HU."
        remedy = "Subtract the offset (often 1024), or export the CT with its rescale intercept."
    elif high < TISSUE_MUST_EXCEED_HU:
        message = f"{seen} HU: there is no tissue in it (soft tissue lies about 0 HU)."
    else:
        return _check_hu_details(view)
    return [Finding("ct-not-hu", "blocking", message, remedy)]


def _check_hu_details(view: CaseView) -> list[Finding]:
    """Air, padding and the density of the target, for a CT that holds HU."""
    low, high = view.hu_range
    findings = []
    if low > AIR_BELOW_HU:
        message = f"The CT holds no air: its lowest value is {low:g} HU, its highest {high:g} HU."
        remedy = "Check that it holds HU and is not cut inside the patient."
        findings.append(Finding("ct-without-air", "warning", message, remedy))
    if low < PADDING_HU:
        message = f"The CT holds values down to {low:g} HU, below air; they count as air."
        findings.append(Finding("ct-padding", "info", message))
    for region in view.targets:
        median = float(np.median(view.case.ct.array[region.box][region.mask]))
        if not -950 < median < DENSER_THAN_TISSUE_HU:
            message = f"The median CT value in {region.name} is {median:.0f} HU, that of no tissue."
            remedy = "Check that the CT holds HU, and that CT and contours belong together."
            place = region.center_mm
            findings.append(
                Finding("target-not-tissue", "warning", message, remedy, region.name, place)
            )
    return findings
