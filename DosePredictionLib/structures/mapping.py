"""Which structure goes into which channel: by hand, by name, or not at all, each with its reason.

A name is taken apart into words and numbers, whatever its case, separators, accents and side marks,
and compared as a whole: "optRectum" is not "Rectum" with something before it, it is another name.
Targets are read instead: a PTV may carry a dose, a level and free text. What would have to be
guessed is refused, and the refusal states what to type.

Naming follows AAPM TG-263 (doi 10.1002/mp.12985) and what clinics really type; the spellings
themselves stand in `Resources/Protocols/*.json`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

from ..errors import MappingError, NoProtocolError
from ..findings import worst_first
from .assign_organs import assign_by_hand, assign_by_name, leave_empty
from .assign_targets import assign_targets
from .assignment import Assignment, ChannelMatch, StructureMapping, listed, unknown_channel
from .names import (
    best_fits,
    fit_name,
    has_dose,
    is_helper,
    parse_name,
    read_target,
    same_name,
)
from .protocol import StructureProtocol

__all__ = [
    "ChannelMatch",
    "StructureMapping",
    "find_structure",
    "fitting_protocol",
    "map_structures",
    "propose_mapping",
]


def map_structures(
    names: Sequence[str],
    protocol: StructureProtocol,
    chosen: Mapping[str, str | None] | None = None,
    empty: Collection[str] = (),
    required: Collection[str] | None = None,
) -> StructureMapping:
    """Assign structures to channels, or refuse.

    Args:
        names: the case's structures as the clinic typed them.
        chosen: channel → structure by hand, which always wins; None leaves a channel empty.
        empty: those of `names` whose mask is all zero.
        required: channels that may not stay empty; None: those that the protocol requires.

    Raises:
        MappingError: a channel or structure in `chosen` does not exist; a required channel has no
            structure or an all-zero one; two structures fit one channel equally. Everything that
            is wrong is said at once, with the `--map` to type.
    """
    mapping = propose_mapping(names, protocol, chosen, empty, required)
    problems = _problems(mapping)
    if problems:
        raise MappingError(problems)
    return mapping


def propose_mapping(
    names: Sequence[str],
    protocol: StructureProtocol,
    chosen: Mapping[str, str | None] | None = None,
    empty: Collection[str] = (),
    required: Collection[str] | None = None,
) -> StructureMapping:
    """As `map_structures`, but what cannot be assigned is a blocking finding: for a panel.

    Raises:
        MappingError: a channel or structure in `chosen` does not exist, or is used twice.
    """
    chosen = dict(chosen or {})
    require_known(chosen, names, protocol)
    if required is None:
        required = protocol.required
    work = Assignment(protocol, tuple(names), frozenset(empty), frozenset(required))
    for channel in protocol.channels:
        if channel.name in chosen:
            assign_by_hand(work, channel, chosen[channel.name])
    assign_targets(work)
    for channel in protocol.channels:
        if channel.role != "target" and channel.name not in work.matches:
            assign_by_name(work, channel)
    for channel in protocol.channels:
        if channel.name not in work.matches:
            leave_empty(work, channel)
    matches = tuple(work.matches[channel.name] for channel in protocol.channels)
    return StructureMapping(protocol.id, matches, tuple(worst_first(work.findings)))


def fitting_protocol(
    names: Sequence[str],
    chosen: Mapping[str, str | None] | None = None,
    empty: Collection[str] = (),
    required: Collection[str] | None = None,
) -> StructureProtocol:
    """The protocol of which the case has most organs: targets alone determine no body site.

    Args:
        names, chosen, empty, required: as for `map_structures`.

    Raises:
        NoProtocolError: no organ determines the body site, or as many of two protocols are there.
        MappingError: the protocol that fits lacks a required structure, or two fit one channel.
    """
    found: list[tuple[tuple[int, int], StructureProtocol, StructureMapping]] = []
    reasons: list[str] = []
    for protocol in map(StructureProtocol.load, StructureProtocol.available()):
        try:
            mapping = propose_mapping(names, protocol, chosen, empty, required)
        except MappingError as exception:  # a channel chosen by hand that it does not have
            reasons.append(f"{protocol.id}: {exception}")
            continue
        organs = sum(channel.name in mapping.assigned for channel in protocol.organs)
        # Of as many organs (a spinal cord is in every body), the channels' own names decide.
        exact = sum(channel == name for channel, name in mapping.assigned.items())
        found.append(((organs, exact), protocol, mapping))
        reasons.append(f"{protocol.id}: {_problems(mapping) or f'{organs} organs'}")
    if not found:
        raise MappingError(f"No protocol fits the structures. {' '.join(reasons)}")
    most = max(fit for fit, _, _ in found)
    best = [entry for entry in found if entry[0] == most]
    if len(best) > 1 or (most[0] == 0 and not chosen):
        raise NoProtocolError(
            "No protocol fits the structures, for they do not determine the body site. Name a "
            f"model or a protocol, or map structures by hand. {' '.join(reasons)}"
        )
    _, protocol, mapping = best[0]
    problems = _problems(mapping)
    if problems:
        raise MappingError(f"{protocol.title}: {problems}")
    return protocol


def _problems(mapping: StructureMapping) -> str:
    """What blocks a mapping, with the remedies, in words."""
    problems = [finding for finding in mapping.findings if finding.severity == "blocking"]
    return " ".join(f"{p.message} {p.remedy}".strip() for p in problems)


def find_structure(
    query: str, names: Sequence[str], protocol: StructureProtocol | None = None
) -> str | None:
    """The structure that a clinical goal names, by the same spellings as the mapping.

    Related structures never stand in for each other: a goal on Bowel_Bag does not bind to
    Small_Intestine, one on PTV70 not to a PTV of 66 Gy.

    Returns:
        None when no structure bears the name, or two do equally.
    """
    if query in names:
        return query
    wanted = parse_name(query)
    same = [
        n for n in names if same_name(parse_name(n), wanted) and is_helper(n) == is_helper(query)
    ]
    if same or is_helper(query):
        return same[0] if len(same) == 1 else None
    target = read_target(query, protocol)
    if target is not None and target.dose_gy is not None:
        return only(n for n in names if has_dose(read_target(n, protocol), target.dose_gy))
    if protocol is None:
        return None
    channels = [channel for channel in protocol.channels if fit_name(query, channel) is not None]
    if len(channels) != 1:
        return None
    if channels[0].role == "target" and len(protocol.targets) == 1:
        work = Assignment(protocol, tuple(names), frozenset())
        assign_targets(work)
        match = work.matches.get(channels[0].name)
        return match.structure if match else None
    best, _ = best_fits(channels[0], names)
    return best[0][0] if len(best) == 1 else None


def require_known(
    chosen: Mapping[str, str | None], names: Sequence[str], protocol: StructureProtocol
) -> None:
    """Channels and structures chosen by hand exist, and no structure is chosen twice."""
    for channel, name in chosen.items():
        if channel not in protocol.names:
            raise MappingError(unknown_channel(channel, protocol))
        if name is not None and name not in names:
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.7)
            hint = f" Nearest: {', '.join(near)}." if near else ""
            raise MappingError(
                f"--map {channel}={name}: the case has no structure {name!r}; it has "
                f"{listed(names)}.{hint}"
            )
    used = [name for name in chosen.values() if name is not None]
    twice = sorted({name for name in used if used.count(name) > 1})
    if twice:
        raise MappingError(
            f"{twice[0]} is mapped to more than one channel: "
            f"{', '.join(c for c, name in chosen.items() if name == twice[0])}. Keep one of them."
        )


def only(names: Iterable[str]) -> str | None:
    found = list(names)
    return found[0] if len(found) == 1 else None
