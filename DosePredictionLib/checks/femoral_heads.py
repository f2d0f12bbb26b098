"""Whole femurs where the model means femoral heads."""

from __future__ import annotations

from ..findings import Finding
from .thresholds import FEMORAL_HEAD_CC, FEMORAL_HEAD_MM
from .view import CaseView

__all__ = ["check_femoral_heads"]


def check_femoral_heads(view: CaseView) -> list[Finding]:
    """Femoral heads that are too large or too long to be heads: automatic tools give the bone."""
    findings = []
    for region in view.organs:
        low_mm, high_mm = region.z_range_mm
        too_large = region.cc > FEMORAL_HEAD_CC or high_mm - low_mm > FEMORAL_HEAD_MM
        if not region.channel.tg263.startswith("Femur_Head") or not too_large:
            continue
        message = (
            f"{region.name} has {region.cc:.0f} cc and is {high_mm - low_mm:.0f} mm long, more "
            f"than a femoral head ({FEMORAL_HEAD_CC:.0f} cc, {FEMORAL_HEAD_MM:.0f} mm): it looks "
            "like the whole femur."
        )
        remedy = "Cut it below the lesser trochanter, or leave the channel empty."
        place = region.center_mm
        findings.append(Finding("femur-not-head", "warning", message, remedy, region.name, place))
    return findings
