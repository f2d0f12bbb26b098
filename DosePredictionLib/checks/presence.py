"""Channels without a structure, all-zero and tiny structures."""

from __future__ import annotations

from ..findings import Finding, Severity
from ..structures.protocol import Channel
from .thresholds import (
    TINY_VOXELS,
)
from .view import CaseView

__all__ = ["check_presence"]


def check_presence(view: CaseView) -> list[Finding]:
    """Channels without a structure, all-zero and tiny structures."""
    findings = []
    for channel in view.protocol.channels:
        name = view.mapping.structure(channel.name)
        region = view.regions.get(channel.name)
        if name is None:
            findings += _missing(view, channel)
        elif region is None:
            severity: Severity = "blocking" if channel.name in view.bound.required else "warning"
            message = f"{name} ({channel.label}) is all-zero."
            remedy = f"Contour it, or map another structure: --map {channel.name}=NAME."
            findings.append(Finding("structure-empty", severity, message, remedy, name))
        elif region.voxels < TINY_VOXELS:
            message = f"{name} has only {region.voxels} voxels ({region.cc:.3f} cc)."
            remedy = "Check its contour; its dose statistics mean little."
            place = region.center_mm
            findings.append(Finding("structure-tiny", "warning", message, remedy, name, place))
    return findings


def _missing(view: CaseView, channel: Channel) -> list[Finding]:
    match = next(m for m in view.mapping.matches if m.channel == channel.name)
    if not match.automatic:
        return []  # left empty on purpose; the mapping says so
    if channel.role == "external" and channel.name not in view.bound.required:
        message = f"No {channel.label} contour: the body's outline is derived from the CT."
        remedy = "Map the body contour if the derived one is wrong (couch, immobilisation)."
        return [Finding("external-missing", "info", message, remedy, channel.name)]
    severity: Severity = "blocking" if channel.name in view.bound.required else "info"
    message = f"No structure fills the channel {channel.name} ({channel.label})."
    remedy = f"Map one: --map {channel.name}=NAME."
    return [Finding("structure-missing", severity, message, remedy, channel.name)]
