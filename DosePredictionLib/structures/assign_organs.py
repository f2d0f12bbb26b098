"""Organs and the external contour onto channels: by hand, by name, or not at all."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Literal

from .assignment import Assignment, ChannelMatch, listed, map_option
from .names import (
    OTHER_VOLUMES,
    StructureName,
    best_fits,
    channel_spellings,
    fit_name,
    has_dose,
    is_helper,
    is_related,
    parse_name,
    read_target,
)
from .protocol import Channel, StructureProtocol

_LIKE = 0.8  # a letter or two apart; sacrum and rectum have 0.67

__all__ = ["assign_by_hand", "assign_by_name", "leave_empty"]


def assign_by_hand(work: Assignment, channel: Channel, name: str | None) -> None:
    """A person's choice: obeyed, with a warning where the name speaks of something else."""
    if name is not None and name in work.empty:
        work.matches[channel.name] = ChannelMatch(channel.name, None, "all-zero", automatic=False)
        _tell_all_zero(work, channel, [name])
        return
    reason = "left empty by hand" if name is None else "mapped by hand"
    work.matches[channel.name] = ChannelMatch(channel.name, name, reason, automatic=False)
    if name is None:
        severity: Literal["info", "warning"] = (
            "warning" if channel.name in work.required else "info"
        )
        message = f"The channel {channel.name} is left empty by hand."
        work.note("channel-left-empty", severity, message, structure=channel.name)
        return
    doubt = _doubt(name, channel, work.protocol)
    if doubt:
        message = f"{name} is mapped by hand to the channel {channel.name}, but {doubt}."
        remedy = "Check that the model means this structure; the dose may be off around it."
        kind = "mapped-related" if is_related(name, channel) else "mapped-unlike"
        work.note(kind, "warning", message, remedy, name)


def _doubt(name: str, channel: Channel, protocol: StructureProtocol) -> str:
    """Why a structure chosen by hand may be another one than the channel means, or nothing."""
    if fit_name(name, channel) is not None:
        return ""
    if is_related(name, channel):
        return f"it is related to {channel.label}, not the same"
    other = next((c for c in protocol.channels if c != channel and fit_name(name, c)), None)
    if channel.role == "target":
        if read_target(name, protocol) is None:
            return "its name is not that of a plain planning target"
        return ""
    if other is not None or read_target(name, protocol) is not None:
        return f"its name is that of {other.label if other else 'a target'}"
    return "its name is that of a derived structure" if is_helper(name) else ""


def assign_by_name(work: Assignment, channel: Channel) -> None:
    """An organ or the external contour: the one name that fits best."""
    best, others = best_fits(channel, work.free())
    if len(best) > 1:
        work.refuse_tie(channel, [name for name, _ in best], best[0][1])
    elif best:
        name, reason = best[0]
        work.assign(channel, name, reason)
        if others:
            message = f"{name} fills the channel {channel.name} ({reason}); "
            message += f"{listed([other for other, _ in others])} would fit less well."
            remedy = f"For another one: {map_option(channel.name, others[0][0])}."
            work.note("mapping-alternatives", "info", message, remedy, name)


def leave_empty(work: Assignment, channel: Channel) -> None:
    """No structure: refused if one is required, else reported."""
    work.matches[channel.name] = ChannelMatch(channel.name, None, "no structure of that name")
    if channel.name in work.refused:
        return
    zero = _all_zero(work, channel)
    if zero:
        _tell_all_zero(work, channel, zero)
    elif channel.name in work.required:
        _refuse_missing(work, channel)
    elif channel.network_input:
        message = f"No structure fits the channel {channel.name} ({channel.label}); it stays empty."
        remedy = _related_remedy(work, channel)
        if channel.role == "target" and (near := _nearest(work, channel)) is not None:
            remedy = f"Nearest: {near}. To use it: {map_option(channel.name, near)}."
        work.note("structure-missing", "info", message, remedy, channel.name)


def _all_zero(work: Assignment, channel: Channel) -> list[str]:
    """All-zero structures that would have filled the channel."""
    if channel.role == "target":
        targets = [read_target(name, work.protocol) for name in work.names if name in work.empty]
        empty = [target for target in targets if target is not None]
        if channel.level_gy is not None:
            empty = [t for t in empty if t.dose_gy is None or has_dose(t, channel.level_gy)]
        return [target.name for target in empty]
    return [name for name in work.names if name in work.empty and fit_name(name, channel)]


def _tell_all_zero(work: Assignment, channel: Channel, names: Sequence[str]) -> None:
    """An all-zero structure is refused in a required channel, and counts as missing elsewhere."""
    if channel.name in work.required:
        message = f"{listed(names)} for the required channel {channel.name} is all-zero."
        remedy = f"Contour it, or map another structure: {map_option(channel.name, 'NAME')}."
        work.refuse(channel, "structure-empty", message, remedy)
        return
    message = f"{listed(names)} is all-zero: the channel {channel.name} stays empty."
    work.note("structure-empty", "info", message, "Contour it, or ignore this.", channel.name)


def _refuse_missing(work: Assignment, channel: Channel) -> None:
    """A required channel that nothing fits: what there is, and what comes nearest."""
    message = f"No structure fits the required channel {channel.name}; found: {listed(work.names)}."
    near = _nearest(work, channel)
    example = map_option(channel.name, near or "NAME")
    remedy = f"Nearest: {near}. To use it: {example}." if near else f"Map one: {example}."
    work.refuse(
        channel, "structure-missing", message, f"{remedy} {_related_remedy(work, channel)}".strip()
    )


def _related_remedy(work: Assignment, channel: Channel) -> str:
    """How to map related structures that are there, if any are."""
    related = [name for name in work.free() if is_related(name, channel)]
    if not related:
        return ""
    return (
        f"{listed(related)} is related but not the same; to use it all the same: "
        f"{map_option(channel.name, related[0])}."
    )


def _nearest(work: Assignment, channel: Channel) -> str | None:
    """The unused structure whose name is a misspelling of the channel's, or holds it.

    Never an empty structure, another organ with a like name (sacrum for rectum), or a GTV or CTV
    for a PTV: what a message proposes will be typed.
    """
    spellings = [spelling for _, _, spelling in channel_spellings(channel)]

    def likeness(name: str) -> float:
        parsed = parse_name(name)
        if channel.side is not None and parsed.side not in (None, channel.side):
            return 0.0
        if channel.role == "target" and not OTHER_VOLUMES.isdisjoint(parsed.tokens):
            return 0.0
        plain = 0.0 if is_helper(name) else 0.05  # of two equally near, the plain one
        likest = max(_likeness(parsed, spelling) for spelling in spellings)
        return plain + likest if likest >= _LIKE else 0.0

    best = max(work.free(), key=likeness, default=None)
    return best if best is not None and likeness(best) > 0 else None


def _likeness(name: StructureName, spelling: StructureName) -> float:
    """How like two names are, 0…1: by letters, or 1 where the name holds all of the words."""
    if set(spelling.tokens) <= set(name.tokens):
        return 1.0
    return difflib.SequenceMatcher(None, name.key, spelling.key).ratio()
