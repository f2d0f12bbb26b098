"""The table of structures: a row per channel, with its segment, volume and status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from .finding_rows import finding_text
from .i18n import _

if TYPE_CHECKING:
    from DosePredictionLib.findings import Finding
    from DosePredictionLib.structures.mapping import ChannelMatch, StructureMapping
    from DosePredictionLib.structures.protocol import Channel, StructureProtocol

__all__ = ["StructureRow", "structure_rows", "structures_title"]


@dataclass(frozen=True)
class StructureRow:
    """One channel of the model.

    Args:
        channel: its name.
        label: how a person reads it.
        color: "#rrggbb".
        structure: name of the segment in it; None when it stays empty.
        volume: volume in cc as text; empty while it is unknown.
        status: `ok`, `by_hand`, `empty`, `warning` or `blocking`.
        status_text: symbol and a word or two.
        tool_tip: how it was matched, and what was noticed.
    """

    channel: str
    label: str
    color: str
    structure: str | None
    volume: str
    status: str
    status_text: str
    tool_tip: str


def structure_rows(
    protocol: StructureProtocol,
    mapping: StructureMapping,
    volumes_cc: Mapping[str, float],
    findings: Sequence[Finding] = (),
    found: Mapping[str, str] = MappingProxyType({}),
) -> list[StructureRow]:
    """Rows in the protocol's order.

    Args:
        mapping: as proposed, with its findings.
        volumes_cc: structure → cm³, of those that are known.
        findings: of the preflight; those on a structure color its row.
        found: segment that a model found → the model's name.
    """
    channels = {channel.name: channel for channel in protocol.channels}
    noticed = [*mapping.findings, *findings]
    return [
        _with_source(_row(channels[match.channel], match, volumes_cc, noticed), found)
        for match in mapping.matches
    ]


def _with_source(row: StructureRow, found: Mapping[str, str]) -> StructureRow:
    """A contour that a network found is a proposal, whatever else is said of it."""
    model = found.get(row.structure or "")
    if model is None:
        return row
    tip = _("{name} was found by {model}: a proposal that somebody must check.")
    lines = f"{tip.format(name=row.structure, model=model)}\n{row.tool_tip}"
    status = row.status if row.status == "blocking" else "warning"
    return replace(row, status=status, status_text=_("predicted – check"), tool_tip=lines)


def structures_title(rows: Sequence[StructureRow]) -> str:
    """The section's title: how many channels are filled."""
    filled = sum(row.structure is not None for row in rows)
    return _("Structures – {filled} of {count} channels").format(filled=filled, count=len(rows))


def _row(
    channel: Channel,
    match: ChannelMatch,
    volumes_cc: Mapping[str, float],
    findings: Sequence[Finding],
) -> StructureRow:
    about = [f for f in findings if f.structure in (channel.name, match.structure) and f.structure]
    status, word = _status(channel, match, {finding.severity for finding in about})
    lines = [_("{label}: {reason}").format(label=channel.label, reason=match.reason)]
    lines += [finding_text(finding) for finding in about]
    return StructureRow(
        channel=channel.name,
        label=channel.label + (" *" if channel.required else ""),
        color=channel.color,
        structure=match.structure,
        volume=_volume(match.structure, volumes_cc),
        status=status,
        status_text=word,
        tool_tip="\n".join(dict.fromkeys(lines)),
    )


def _status(channel: Channel, match: ChannelMatch, severities: set[str]) -> tuple[str, str]:
    """Status and its words; symbols state it without color, too."""
    if "blocking" in severities:
        return "blocking", _("✗ choose") if match.structure is None else _("✗ blocked")
    if match.structure is None:
        if channel.required:
            return "blocking", _("✗ missing")
        return "empty", "–"
    if "warning" in severities:
        return "warning", _("⚠ look")
    if not match.automatic:
        return "by_hand", "✎"
    return "ok", "✓"


def _volume(structure: str | None, volumes_cc: Mapping[str, float]) -> str:
    if structure is None or structure not in volumes_cc:
        return ""
    volume_cc = volumes_cc[structure]
    return f"{volume_cc:.0f}" if volume_cc >= 100 else f"{volume_cc:.1f}"
