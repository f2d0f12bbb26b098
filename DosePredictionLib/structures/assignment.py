"""What has been assigned to channels so far, and how findings about it read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import MappingError
from ..findings import Finding
from .protocol import Channel, StructureProtocol

_NAMES_IN_A_MESSAGE = 30

__all__ = [
    "Assignment",
    "ChannelMatch",
    "StructureMapping",
    "listed",
    "map_option",
    "unknown_channel",
]


@dataclass(frozen=True)
class ChannelMatch:
    """What one channel holds and why.

    Args:
        channel: name of the protocol's channel.
        structure: name of the case's structure; None: the channel stays empty.
        reason: why, in a few words.
        automatic: false where a person chose it.
    """

    channel: str
    structure: str | None
    reason: str
    automatic: bool = True


@dataclass(frozen=True)
class StructureMapping:
    """Structures assigned to the channels of a protocol.

    Args:
        protocol: the protocol's id.
        matches: one per channel, in the protocol's order.
        findings: what was noticed, worst first.
    """

    protocol: str
    matches: tuple[ChannelMatch, ...]
    findings: tuple[Finding, ...] = ()

    def structure(self, channel: str) -> str | None:
        """The structure in a channel; None when it is empty.

        Raises:
            MappingError: the protocol has no such channel.
        """
        for match in self.matches:
            if match.channel == channel:
                return match.structure
        raise MappingError(f"The mapping to protocol {self.protocol} has no channel {channel!r}.")

    @property
    def assigned(self) -> dict[str, str]:
        """Channel → structure, without the empty channels."""
        return {m.channel: m.structure for m in self.matches if m.structure is not None}

    def as_json(self) -> dict[str, Any]:
        """A JSON object: `protocol` and `channels` as in a mapping file, and the `reasons`."""
        return {
            "protocol": self.protocol,
            "channels": {match.channel: match.structure for match in self.matches},
            "reasons": {match.channel: match.reason for match in self.matches},
            "by_hand": [match.channel for match in self.matches if not match.automatic],
        }


@dataclass
class Assignment:
    """What has been assigned so far."""

    protocol: StructureProtocol
    names: tuple[str, ...]
    empty: frozenset[str]
    required: frozenset[str] = frozenset()
    matches: dict[str, ChannelMatch] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    def free(self) -> list[str]:
        """Structures that no channel has, the all-zero ones left out."""
        used = {match.structure for match in self.matches.values()}
        return [name for name in self.names if name not in used and name not in self.empty]

    def assign(self, channel: Channel, name: str, reason: str) -> None:
        """Fill a channel automatically."""
        self.matches[channel.name] = ChannelMatch(channel.name, name, reason)

    def note(
        self,
        id: str,
        severity: Literal["info", "warning"],
        message: str,
        remedy: str = "",
        structure: str | None = None,
    ) -> None:
        """Add a finding."""
        self.findings.append(Finding(id, severity, message, remedy, structure))

    def refuse(self, channel: Channel, id: str, message: str, remedy: str) -> None:
        """Leave a channel open, with a blocking finding."""
        self.refused.add(channel.name)
        self.findings.append(Finding(id, "blocking", message, remedy, channel.name))

    def refuse_tie(self, channel: Channel, names: Sequence[str], why: str) -> None:
        """Two or more structures fit one channel equally."""
        options = " or ".join(map_option(channel.name, name) for name in names)
        message = f"{listed(names)} fit the channel {channel.name} equally ({why})."
        self.refuse(channel, "mapping-ambiguous", message, f"Choose one: {options}.")


def map_option(channel: str, name: str) -> str:
    """The option to type, quoted where a shell would split it."""
    return (
        f"--map {channel}={name}"
        if re.fullmatch(r"[\w.+-]+", name)
        else f'--map {channel}="{name}"'
    )


def listed(names: Sequence[str]) -> str:
    """Names in a sentence; of very many the first."""
    shown = ", ".join(names[:_NAMES_IN_A_MESSAGE])
    more = len(names) - _NAMES_IN_A_MESSAGE
    return f"{shown} and {more} more" if more > 0 else shown or "nothing"


def unknown_channel(channel: str, protocol: StructureProtocol) -> str:
    """The sentence on a channel that a protocol lacks."""
    near = difflib.get_close_matches(channel, protocol.names, n=2, cutoff=0.7)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    return (
        f"protocol {protocol.id} has no channel {channel!r}; it has {', '.join(protocol.names)}."
        f"{hint}"
    )
