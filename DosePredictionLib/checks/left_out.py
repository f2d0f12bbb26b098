"""Structures that were too bad to be read, but would have filled a channel."""

from __future__ import annotations

from dataclasses import replace

from ..findings import LEFT_OUT, Finding
from ..structures.names import fit_name, read_target
from .view import CaseView

__all__ = ["MAPPED", "check_left_out"]

MAPPED = "mapped-structure-left-out"
"""Id of the finding that a channel stays empty since its structure could not be read."""


def check_left_out(view: CaseView) -> list[Finding]:
    """Structures that the reader left out, where the channel that they fit is empty now."""
    empty = {m.channel for m in view.mapping.matches if m.automatic and m.structure is None}
    channels = [channel for channel in view.protocol.channels if channel.name in empty]
    findings = []
    for stated in view.case.findings:
        if stated.id != LEFT_OUT or stated.structure is None:
            continue
        target = read_target(stated.structure, view.protocol) is not None
        for channel in channels:
            if fit_name(stated.structure, channel) or (target and channel.role == "target"):
                remedy = f"{stated.remedy} To predict without it: --map {channel.name}="
                findings.append(replace(stated, id=MAPPED, severity="blocking", remedy=remedy))
                break
    return findings
