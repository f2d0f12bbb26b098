"""A case bound to a protocol: everything that is decided about a case, decided once.

Which structure is which channel, which prescription belongs to which target, which voxels count as
the body, where a dose is scored, which structure a goal names: training, prediction, evaluation and
every program that calls them read it from a `BoundCase`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from ..case import Case, Prescription
from ..errors import MappingError, NoProtocolError
from ..external import complete_external, derive_external
from ..findings import LEFT_OUT, Finding
from ..mask import Mask
from .mapping import (
    StructureMapping,
    find_structure,
    fitting_protocol,
    map_structures,
    propose_mapping,
)
from .names import fit_name, is_related
from .protocol import Channel, Role, StructureProtocol

__all__ = [
    "BoundCase",
    "BoundStructure",
    "NameResolver",
    "bind",
    "empty_structures",
    "propose_binding",
]

_NO_PROTOCOL = (
    "There is no DVH score and no set of goals by default; name a protocol or map structures to "
    "its channels if it is one."
)


@dataclass(frozen=True, eq=False)
class BoundStructure:
    """A structure under the name that results carry.

    Args:
        name: its channel's name, or its own where it fills none.
        source: its name in the case.
        mask: bool, or occupancy in 0…1, on the case's grid; never all-zero.
        channel: what it stands for; None: the protocol has no place for it.
    """

    name: str
    source: str
    mask: Mask
    channel: Channel | None

    @property
    def role(self) -> Role | None:
        """The channel's role."""
        return None if self.channel is None else self.channel.role


@dataclass(frozen=True)
class NameResolver:
    """From the structure that a goal names to the name that results carry, or None.

    A goal binds to the structure that it names, not to the channel that this fills: a bowel bag in
    the channel Small_Intestine meets goals on the bag. What a person put into a channel by hand
    counts as that channel, unless its own name says that it is another structure.

    Args:
        sources: name that results carry → name in the case.
        protocol: whose spellings count; None: equal names alone.
        by_hand: channels that a person filled.
    """

    sources: Mapping[str, str]
    protocol: StructureProtocol | None = None
    by_hand: tuple[str, ...] = ()

    def __call__(self, query: str) -> str | None:
        """The name that results carry."""
        own = {source: name for name, source in self.sources.items()}
        found = find_structure(query, list(own), self.protocol)
        if found is not None:
            return own[found]
        channels = () if self.protocol is None else self.protocol.channels
        for channel in channels:
            source = self.sources.get(channel.name)
            if source is None or channel.name not in self.by_hand or is_related(source, channel):
                continue
            if fit_name(query, channel) is not None:
                return channel.name
        return None


@dataclass(frozen=True, eq=False)
class BoundCase:
    """What was decided about a case; made by `bind`. What costs time is computed on first use.

    Args:
        case: as it was read.
        protocol: whose channels count; None: every structure stands for itself.
        mapping: which structure fills which channel; None without a protocol.
        prescription: by the names of results: a target's channel, or its own name.
        findings: of the case and of the binding.
        required: channels without which the task at hand cannot be done.
        known_external: the body, where it has been computed already.
    """

    case: Case
    protocol: StructureProtocol | None
    mapping: StructureMapping | None
    prescription: Prescription | None
    findings: tuple[Finding, ...]
    required: frozenset[str] = frozenset()
    known_external: Mask | None = None

    @cached_property
    def structures(self) -> dict[str, BoundStructure]:
        """By the name that results carry: channels in the protocol's order, then the others.

        All-zero structures are left out.
        """
        masks = {name: mask for name, mask in self.case.structures.items() if not mask.is_empty}
        bound: dict[str, BoundStructure] = {}
        assigned = {} if self.mapping is None else self.mapping.assigned
        for channel in () if self.protocol is None else self.protocol.channels:
            source = assigned.get(channel.name)
            if source in masks:
                mask = masks[source]
                bound[channel.name] = BoundStructure(channel.name, source, mask, channel)
        taken = set(assigned.values())
        for name, mask in masks.items():
            if name not in taken and name not in bound:
                bound[name] = BoundStructure(name, name, mask, None)
        return bound

    def mask(self, channel: str) -> Mask | None:
        """The mask in a channel; None where it is empty."""
        found = self.structures.get(channel)
        return None if found is None or found.channel is None else found.mask

    def named(self, role: Role) -> list[str]:
        """Names of the structures of a role."""
        return [name for name, structure in self.structures.items() if structure.role == role]

    @property
    def targets(self) -> list[Mask]:
        """Masks of the targets."""
        return [self.structures[name].mask for name in self.named("target")]

    @cached_property
    def external(self) -> Mask:
        """The body, boolean: the outline, drawn or from the CT, with all that it encloses."""
        if self.known_external is not None:
            return self.known_external
        drawn = self.external_name
        outline = derive_external(self.case.ct) if drawn is None else self.structures[drawn].mask
        inside = [s.mask for s in self.structures.values() if s.role in ("target", "organ")]
        return complete_external(outline, inside)

    @cached_property
    def external_name(self) -> str | None:
        """Name of the external contour that was drawn; by any protocol's spelling without one."""
        if self.protocol is not None:
            return next(iter(self.named("external")), None)
        for protocol in map(StructureProtocol.load, StructureProtocol.available()):
            if protocol.external is not None:
                found = find_structure(protocol.external.name, list(self.structures), protocol)
                if found is not None:
                    return found
        return None

    @property
    def region(self) -> Mask:
        """Where the dose score counts: the case's possible-dose mask, or the body."""
        return self.external if self.case.dose_mask is None else self.case.dose_mask

    @property
    def region_name(self) -> Literal["body", "possible_dose_mask"]:
        """What `region` is, as results say it."""
        return "body" if self.case.dose_mask is None else "possible_dose_mask"

    @property
    def prescriptions_gy(self) -> Mapping[str, float]:
        """Target → Gy, by the names of results; empty without a prescription."""
        return {} if self.prescription is None else self.prescription.target_gy

    @cached_property
    def resolver(self) -> NameResolver:
        """From the structure that a goal names to the name that results carry."""
        matches = () if self.mapping is None else self.mapping.matches
        by_hand = tuple(m.channel for m in matches if m.structure is not None and not m.automatic)
        sources = {name: structure.source for name, structure in self.structures.items()}
        return NameResolver(sources, self.protocol, by_hand)

    def resolve(self, query: str) -> str | None:
        """See `NameResolver`."""
        return self.resolver(query)


def bind(
    case: Case,
    protocol: StructureProtocol | None = None,
    mapping: Mapping[str, str | None] | None = None,
    prescription: Prescription | None = None,
    required: Collection[str] = (),
) -> BoundCase:
    """Decide what a case's structures and prescription mean.

    Args:
        protocol: None: the one that fits the structures best; if none does, every structure stands
            for itself, and a finding says why.
        mapping: channel → structure where the automatic choice is overruled; None leaves a channel
            empty.
        prescription: overrules the case's own; targets by channel or by the case's names.
        required: channels without which the task at hand cannot be done.

    Raises:
        MappingError: a chosen channel or structure does not exist, a required channel is empty, or
            two structures fit one channel equally (of the protocol that fits but for that, too).
    """
    names, empty = list(case.structures), empty_structures(case)
    if protocol is None:
        try:
            protocol = fitting_protocol(names, mapping, empty)
        except NoProtocolError as exception:
            message = f"Every structure stands for itself. {exception}"
            findings = (
                *case.findings,
                Finding("no-protocol", "warning", message, _NO_PROTOCOL),
            )
            return BoundCase(case, None, None, prescription or case.prescription, findings)
    try:
        mapped = map_structures(names, protocol, mapping, empty, required)
    except MappingError as exception:
        left_out = [finding.message for finding in case.findings if finding.id == LEFT_OUT]
        raise MappingError(" ".join([str(exception), *left_out])) from exception
    return _bound(case, protocol, mapped, prescription, required)


def propose_binding(
    case: Case,
    protocol: StructureProtocol,
    mapping: Mapping[str, str | None] | None = None,
    prescription: Prescription | None = None,
    required: Collection[str] = (),
) -> BoundCase:
    """As `bind`, but what cannot be assigned is a blocking finding: for a panel.

    Raises:
        MappingError: a chosen channel or structure does not exist, or is used twice.
    """
    proposed = propose_mapping(
        list(case.structures), protocol, mapping, empty_structures(case), required
    )
    return _bound(case, protocol, proposed, prescription, required)


def empty_structures(case: Case) -> list[str]:
    """Structures without a voxel."""
    return [name for name, mask in case.structures.items() if mask.is_empty]


def _bound(
    case: Case,
    protocol: StructureProtocol,
    mapping: StructureMapping,
    prescription: Prescription | None,
    required: Collection[str],
) -> BoundCase:
    chosen = _by_channel(prescription or case.prescription, mapping)
    findings = (*case.findings, *mapping.findings)
    return BoundCase(case, protocol, mapping, chosen, findings, frozenset(required))


def _by_channel(
    prescription: Prescription | None, mapping: StructureMapping
) -> Prescription | None:
    """The prescription with its targets under their channels' names.

    A dose that stands under the channel's own name goes before one under the structure's.
    """
    if prescription is None:
        return None
    channels = {structure: channel for channel, structure in mapping.assigned.items()}
    levels = {channels.get(name, name): gy for name, gy in prescription.target_gy.items()}
    levels |= {name: gy for name, gy in prescription.target_gy.items() if name in mapping.assigned}
    return replace(prescription, target_gy=levels)
