"""Which structure goes into which channel: by hand, by name, or not at all, each with its reason.

A name is taken apart into words and numbers, whatever its case, separators, accents and side marks,
and compared as a whole: "optRectum" is not "Rectum" with something before it, it is another name.
Targets are read instead: a PTV may carry a dose, a level and free text. What would have to be
guessed is refused, and the refusal tells what to type.

Naming follows AAPM TG-263 (doi 10.1002/mp.12985) and what clinics really type; the spellings
themselves stand in `Resources/Protocols/*.json`.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..errors import MappingError
from ..files import write_json
from ..findings import Finding, worst_first
from ..schema import read_json
from .names import (
    OTHER_VOLUMES,
    TargetName,
    best_fits,
    channel_spellings,
    fit_name,
    has_dose,
    is_helper,
    is_related,
    parse_name,
    read_target,
    same_name,
)
from .protocol import Channel, StructureProtocol

__all__ = [
    "AMBIGUOUS",
    "ChannelMatch",
    "StructureMapping",
    "find_structure",
    "fitting_protocol",
    "map_structures",
    "parse_map_option",
    "propose_mapping",
    "read_mapping",
    "write_mapping",
]

AMBIGUOUS = "mapping-ambiguous"
"""Id of the finding that two structures fit one channel equally."""

_TIE_TOLERANCE_GY = 0.01
_NAMES_IN_A_MESSAGE = 30


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
            is wrong is told at once, with the `--map` to type.
    """
    mapping = propose_mapping(names, protocol, chosen, empty, required)
    problems = [finding for finding in mapping.findings if finding.severity == "blocking"]
    if problems:
        raise MappingError(" ".join(f"{p.message} {p.remedy}".strip() for p in problems))
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
    _require_known(chosen, names, protocol)
    if required is None:
        required = protocol.required
    work = _Assignment(protocol, tuple(names), frozenset(empty), frozenset(required))
    for channel in protocol.channels:
        if channel.name in chosen:
            _assign_by_hand(work, channel, chosen[channel.name])
    _assign_targets(work)
    for channel in protocol.channels:
        if channel.role != "target" and channel.name not in work.matches:
            _assign_by_name(work, channel)
    for channel in protocol.channels:
        if channel.name not in work.matches:
            _leave_empty(work, channel)
    matches = tuple(work.matches[channel.name] for channel in protocol.channels)
    return StructureMapping(protocol.id, matches, tuple(worst_first(work.findings)))


def fitting_protocol(
    names: Sequence[str],
    chosen: Mapping[str, str | None] | None = None,
    empty: Collection[str] = (),
) -> StructureProtocol:
    """The protocol of whose channels the structures fill the largest share.

    A protocol fits where two of the organs are there that it alone has, where the case has nothing
    but its structures, or where a person maps channels: a target and a spinal cord alone do not
    tell one body site from another. One that would fit but for a choice between equal structures
    is refused with what to choose, and no other body site takes its place.

    Raises:
        MappingError: no protocol fits; the message says what each lacked.
    """
    shares: list[tuple[float, StructureProtocol, str]] = []
    reasons: list[str] = []
    for protocol in map(StructureProtocol.load, StructureProtocol.available()):
        try:
            found = propose_mapping(names, protocol, chosen, empty)
        except MappingError as exception:
            reasons.append(f"{protocol.id}: {exception}")
            continue
        problems = [finding for finding in found.findings if finding.severity == "blocking"]
        filled = {*found.assigned, *(p.structure for p in problems if p.id == AMBIGUOUS)}
        known = {*found.assigned.values(), *empty}
        if not chosen and known < set(names) and len(filled & _own_organs(protocol)) < 2:
            organs = f"fewer than two of its organs ({_listed(sorted(_own_organs(protocol)))})"
            reasons.append(f"{protocol.id}: there are {organs}.")
            continue
        text = " ".join(f"{p.message} {p.remedy}".strip() for p in problems)
        if problems:
            reasons.append(f"{protocol.id}: {text}")
        if all(problem.id == AMBIGUOUS for problem in problems):
            shares.append((len(filled) / len(protocol.channels), protocol, text))
    if not shares:
        raise MappingError(f"No protocol fits the structures. {' '.join(reasons)}")
    _, best, problem = max(shares, key=lambda share: share[0])
    if problem:
        raise MappingError(problem)
    return best


@cache
def _own_organs(protocol: StructureProtocol) -> frozenset[str]:
    """Organs that no other shipped protocol has."""
    others = {
        channel.tg263
        for other in map(StructureProtocol.load, StructureProtocol.available())
        if other.id != protocol.id
        for channel in other.organs
    }
    return frozenset(organ.name for organ in protocol.organs if organ.tg263 not in others)


def find_structure(
    query: str, names: Sequence[str], protocol: StructureProtocol | None = None
) -> str | None:
    """The structure that a clinical goal names, by the same spellings as the mapping.

    Kin never stand in for each other: a goal on Bowel_Bag does not bind to Small_Intestine, one on
    PTV70 not to a PTV of 66 Gy.

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
        return _only(n for n in names if has_dose(read_target(n, protocol), target.dose_gy))
    if protocol is None:
        return None
    channels = [channel for channel in protocol.channels if fit_name(query, channel) is not None]
    if len(channels) != 1:
        return None
    if channels[0].role == "target" and len(protocol.targets) == 1:
        work = _Assignment(protocol, tuple(names), frozenset())
        _assign_targets(work)
        match = work.matches.get(channels[0].name)
        return match.structure if match else None
    best, _ = best_fits(channels[0], names)
    return best[0][0] if len(best) == 1 else None


def parse_map_option(option: str) -> tuple[str, str | None]:
    """Channel and structure of a `--map CHANNEL=NAME`; an empty NAME leaves the channel empty.

    Raises:
        MappingError: there is no "=", or nothing before it.
    """
    channel, sign, name = option.partition("=")
    if not sign or not channel.strip():
        raise MappingError(f"--map takes CHANNEL=NAME, as in --map PTV=PTV_4500; got {option!r}.")
    return channel.strip(), name.strip() or None


def read_mapping(path: Path, protocol: StructureProtocol) -> dict[str, str | None]:
    """Channel → structure from a mapping file, as `write_mapping` writes it.

    Raises:
        MappingError: it cannot be read, has other entries than `protocol` and `channels`, belongs
            to another protocol, or names a channel that the protocol lacks.
    """
    content = read_json(path, MappingError)
    if not isinstance(content, dict) or set(content) != {"protocol", "channels"}:
        got = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise MappingError(
            f'{path} must hold {{"protocol": …, "channels": {{CHANNEL: NAME or null}}}}; got {got}.'
        )
    if content["protocol"] != protocol.id:
        raise MappingError(
            f"{path} maps to protocol {content['protocol']!r}, the model takes {protocol.id!r}."
        )
    channels = content["channels"]
    if not isinstance(channels, dict):
        raise MappingError(f"{path}: channels must be an object; got {channels!r}.")
    for channel, name in channels.items():
        if channel not in protocol.names:
            raise MappingError(f"{path}: {_unknown_channel(channel, protocol)}")
        if name is not None and (not isinstance(name, str) or not name):
            raise MappingError(
                f"{path}: channel {channel} must hold a structure's name or null; got {name!r}."
            )
    return channels


def write_mapping(path: Path, mapping: StructureMapping) -> None:
    """Write a mapping as a file that `read_mapping` and `--mapping` take, whole or not at all.

    Raises:
        MappingError: the file cannot be written.
    """
    channels = {match.channel: match.structure for match in mapping.matches}
    if not path.parent.is_dir():
        raise MappingError(f"{path} cannot be written: there is no folder {path.parent}.")
    try:
        write_json(path, {"protocol": mapping.protocol, "channels": channels})
    except OSError as exception:
        raise MappingError(f"{path} cannot be written: {exception.strerror}.") from exception


# --- Assigning ---------------------------------------------------------------------------------


@dataclass
class _Assignment:
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
        options = " or ".join(_map_option(channel.name, name) for name in names)
        message = f"{_listed(names)} fit the channel {channel.name} equally ({why})."
        self.refuse(channel, AMBIGUOUS, message, f"Choose one: {options}.")


def _require_known(
    chosen: Mapping[str, str | None], names: Sequence[str], protocol: StructureProtocol
) -> None:
    """Channels and structures chosen by hand exist, and no structure is chosen twice."""
    for channel, name in chosen.items():
        if channel not in protocol.names:
            raise MappingError(_unknown_channel(channel, protocol))
        if name is not None and name not in names:
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
            hint = f" Nearest: {', '.join(near)}." if near else ""
            raise MappingError(
                f"--map {channel}={name}: the case has no structure {name!r}; it has "
                f"{_listed(names)}.{hint}"
            )
    used = [name for name in chosen.values() if name is not None]
    twice = sorted({name for name in used if used.count(name) > 1})
    if twice:
        raise MappingError(
            f"{twice[0]} is mapped to more than one channel: "
            f"{', '.join(c for c, name in chosen.items() if name == twice[0])}. Keep one of them."
        )


def _unknown_channel(channel: str, protocol: StructureProtocol) -> str:
    near = difflib.get_close_matches(channel, protocol.names, n=2, cutoff=0.4)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    return (
        f"protocol {protocol.id} has no channel {channel!r}; it has {', '.join(protocol.names)}."
        f"{hint}"
    )


def _assign_by_hand(work: _Assignment, channel: Channel, name: str | None) -> None:
    """A person's choice: obeyed, with a warning where the name tells of something else."""
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
        return f"it is kin to {channel.label}, not the same"
    other = next((c for c in protocol.channels if c != channel and fit_name(name, c)), None)
    if channel.role == "target":
        if read_target(name, protocol) is None:
            return "its name is not that of a plain planning target"
        return ""
    if other is not None or read_target(name, protocol) is not None:
        return f"its name is that of {other.label if other else 'a target'}"
    return "its name is that of a derived structure" if is_helper(name) else ""


def _assign_by_name(work: _Assignment, channel: Channel) -> None:
    """An organ or the external contour: the one name that fits best."""
    best, others = best_fits(channel, work.free())
    if len(best) > 1:
        work.refuse_tie(channel, [name for name, _ in best], best[0][1])
    elif best:
        name, reason = best[0]
        work.assign(channel, name, reason)
        if others:
            message = f"{name} fills the channel {channel.name} ({reason}); "
            message += f"{_listed([other for other, _ in others])} would fit less well."
            remedy = f"For another one: {_map_option(channel.name, others[0][0])}."
            work.note("mapping-alternatives", "info", message, remedy, name)


def _leave_empty(work: _Assignment, channel: Channel) -> None:
    """No structure: refused if one is required, else told."""
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
        remedy = _kin_remedy(work, channel)
        if channel.role == "target" and (near := _nearest(work, channel)) is not None:
            remedy = f"Nearest: {near}. To use it: {_map_option(channel.name, near)}."
        work.note("structure-missing", "info", message, remedy, channel.name)


def _all_zero(work: _Assignment, channel: Channel) -> list[str]:
    """All-zero structures that would have filled the channel."""
    if channel.role == "target":
        targets = [read_target(name, work.protocol) for name in work.names if name in work.empty]
        empty = [target for target in targets if target is not None]
        if channel.level_gy is not None:
            empty = [t for t in empty if t.dose_gy is None or has_dose(t, channel.level_gy)]
        return [target.name for target in empty]
    return [name for name in work.names if name in work.empty and fit_name(name, channel)]


def _tell_all_zero(work: _Assignment, channel: Channel, names: Sequence[str]) -> None:
    """An all-zero structure is refused in a required channel, and counts as missing elsewhere."""
    if channel.name in work.required:
        message = f"{_listed(names)} for the required channel {channel.name} is all-zero."
        remedy = f"Contour it, or map another structure: {_map_option(channel.name, 'NAME')}."
        work.refuse(channel, "structure-empty", message, remedy)
        return
    message = f"{_listed(names)} is all-zero: the channel {channel.name} stays empty."
    work.note("structure-empty", "info", message, "Contour it, or ignore this.", channel.name)


def _refuse_missing(work: _Assignment, channel: Channel) -> None:
    """A required channel that nothing fits: what there is, and what comes nearest."""
    message = (
        f"No structure fits the required channel {channel.name}; found: {_listed(work.names)}."
    )
    near = _nearest(work, channel)
    example = _map_option(channel.name, near or "NAME")
    remedy = f"Nearest: {near}. To use it: {example}." if near else f"Map one: {example}."
    work.refuse(
        channel, "structure-missing", message, f"{remedy} {_kin_remedy(work, channel)}".strip()
    )


def _kin_remedy(work: _Assignment, channel: Channel) -> str:
    """How to map related structures that are there, if any are."""
    kin = [name for name in work.free() if is_related(name, channel)]
    if not kin:
        return ""
    return (
        f"{_listed(kin)} is related but not the same; to use it all the same: "
        f"{_map_option(channel.name, kin[0])}."
    )


def _nearest(work: _Assignment, channel: Channel) -> str | None:
    """The unused structure whose name is most like the channel's; never a GTV or CTV for a PTV."""
    spellings = [spelling.key for _, _, spelling in channel_spellings(channel)]

    def likeness(name: str) -> float:
        parsed = parse_name(name)
        if channel.side is not None and parsed.side not in (None, channel.side):
            return 0.0
        if channel.role == "target" and not OTHER_VOLUMES.isdisjoint(parsed.tokens):
            return 0.0
        plain = 0.0 if is_helper(name) else 0.05  # of two equally near, the plain one
        ratio = difflib.SequenceMatcher
        return plain + max(ratio(None, parsed.key, spelling).ratio() for spelling in spellings)

    best = max(work.free(), key=likeness, default=None)
    return best if best is not None and likeness(best) >= 0.5 else None


def _assign_targets(work: _Assignment) -> None:
    """Fill the target channels from the doses and levels in the names."""
    open_channels = [c for c in work.protocol.targets if c.name not in work.matches]
    for channel in open_channels:
        if channel.name in work.free():
            work.assign(channel, channel.name, "the channel's own name")
    read = (read_target(name, work.protocol) for name in work.free())
    targets = [target for target in read if target is not None]
    if len(work.protocol.targets) == 1:
        _assign_single_target(work, work.protocol.targets[0], targets)
    else:
        _assign_levels(work, targets)


def _assign_single_target(work: _Assignment, channel: Channel, targets: list[TargetName]) -> None:
    """A protocol with one target takes the highest of several, and says so."""
    match = work.matches.get(channel.name)
    if match is None and targets:
        ranked = _highest(targets)
        if len(ranked) > 1:
            dose_gy = ranked[0].dose_gy
            alike = dose_gy is not None and all(t.dose_gy == dose_gy for t in ranked)
            why = f"both tell {dose_gy:g} Gy" if alike else "their names do not tell the higher"
            work.refuse_tie(channel, [t.name for t in ranked], why)
            return
        dose_gy = ranked[0].dose_gy
        told = "highest level in the name" if dose_gy is None else f"highest dose, {dose_gy:g} Gy"
        reason = "the only planning target" if len(targets) == 1 else told
        work.assign(channel, ranked[0].name, reason)
        match = work.matches[channel.name]
    if match is None or match.structure is None or not match.automatic:
        return
    _tell_unassigned(work, [t.name for t in targets if t.name != match.structure])


def _tell_unassigned(work: _Assignment, names: list[str]) -> None:
    """Targets that the model will not see."""
    if not names:
        return
    filled = [work.matches[c.name] for c in work.protocol.targets if c.name in work.matches]
    taken = ", ".join(f"{m.structure} ({m.reason})" for m in filled if m.structure is not None)
    message = f"The model does not see the target {_listed(names)}; it takes {taken}."
    example = _map_option(work.protocol.targets[0].name, names[0])
    work.note("target-not-used", "warning", message, f"To choose otherwise: {example}.", names[0])


def _highest(targets: list[TargetName]) -> list[TargetName]:
    """The highest target by dose, else by level; more than one when the names do not tell."""
    measures: tuple[Callable[[TargetName], float | None], ...] = (
        lambda t: t.dose_gy,
        lambda t: None if t.level is None else -t.level,
    )
    for measure in measures:
        values = [measure(target) for target in targets]
        known = [value for value in values if value is not None]
        if len(known) == len(targets):
            return [t for t, value in zip(targets, values, strict=True) if value == max(known)]
    return targets


def _assign_levels(work: _Assignment, targets: list[TargetName]) -> None:
    """A protocol with several levels: exact doses, levels in words, then the order of doses."""
    channels = work.protocol.targets
    placed: set[str] = set()
    for channel in channels:
        level_gy = channel.level_gy
        if level_gy is not None:
            fitting = [t for t in targets if has_dose(t, level_gy)]
            _assign_level(work, channel, fitting, f"{level_gy:g} Gy in the name", placed)
    for position, channel in enumerate(channels):
        rank = round(2 * position / (len(channels) - 1))
        fitting = [t for t in targets if t.dose_gy is None and t.level == rank]
        _assign_level(work, channel, fitting, "level in the name", placed)
    left = [t for t in targets if t.name not in placed]
    _assign_by_order(work, [t for t in left if t.dose_gy is not None])
    _assign_unnumbered(work, [t for t in left if t.dose_gy is None])
    used = {match.structure for match in work.matches.values()}
    if not work.refused:
        _tell_unassigned(work, [t.name for t in targets if t.name not in used])


def _assign_level(
    work: _Assignment, channel: Channel, fitting: list[TargetName], why: str, placed: set[str]
) -> None:
    """One channel, and those whose names tell its level; `placed` collects them."""
    if channel.name in work.refused:
        return
    match = work.matches.get(channel.name)
    if match is not None:
        # The level is taken: the others of that level go nowhere else, and are told of.
        placed.update(target.name for target in fitting)
    elif match is None and len(fitting) == 1:
        work.assign(channel, fitting[0].name, why)
        placed.add(fitting[0].name)
    elif match is None and fitting:
        work.refuse_tie(channel, [target.name for target in fitting], why)
        placed.update(target.name for target in fitting)


def _assign_by_order(work: _Assignment, targets: list[TargetName]) -> None:
    """Doses that are no channel's level: onto the channels left, by nearest level, in order."""
    closed = work.matches.keys() | work.refused
    channels = [c for c in work.protocol.targets if c.name not in closed and c.level_gy is not None]
    if not targets or not channels:
        return
    ordered = sorted(targets, key=lambda t: -(t.dose_gy or 0.0))
    doses = [target.dose_gy for target in ordered]
    equal = next((d for d, following in itertools.pairwise(doses) if d == following), None)
    if equal is not None:
        tied = [t.name for t in ordered if t.dose_gy == equal]
        work.refuse_tie(channels[0], tied, f"both tell {equal:g} Gy")
        return
    options = _ordered_pairings(work, channels, ordered)
    if not options:
        return
    cost, pairs = options[0]
    if len(options) > 1 and options[1][0] - cost < _TIE_TOLERANCE_GY:
        _refuse_equal_pairings(work, pairs, options[1][1])
        return
    for channel, target in pairs:
        reason = f"nearest level: {target.dose_gy:g} Gy in the name"
        work.assign(channel, target.name, reason)
        message = f"{target.name} ({target.dose_gy:g} Gy) is taken for the {channel.level_gy:g} Gy "
        message += f"level ({channel.name}): no level of the model is {target.dose_gy:g} Gy."
        remedy = "Check the levels, or map them by hand with --map CHANNEL=NAME."
        work.note("target-level-approximate", "warning", message, remedy, target.name)


_Pairing = tuple[tuple[Channel, TargetName], ...]


def _ordered_pairings(
    work: _Assignment, channels: list[Channel], targets: list[TargetName]
) -> list[tuple[float, _Pairing]]:
    """Pairings of as many targets as possible that keep the order of doses, the nearest first.

    A required channel is filled whenever another one is.
    """
    fixed = _fixed_levels(work)
    required = [channel for channel in channels if channel.required]
    for count in range(min(len(channels), len(targets)), 0, -1):
        options = []
        for some in itertools.combinations(channels, count):
            if any(channel not in some for channel in required[:count]):
                continue
            for few in itertools.combinations(targets, count):
                pairs = tuple(zip(some, few, strict=True))
                if _keeps_order(pairs, fixed):
                    cost = sum(abs((c.level_gy or 0) - (t.dose_gy or 0)) for c, t in pairs)
                    options.append((cost, pairs))
        if options:
            return sorted(options, key=lambda option: option[0])
    return []


def _fixed_levels(work: _Assignment) -> list[tuple[float, float]]:
    """(channel's level, structure's dose) of the targets that are assigned already, Gy."""
    fixed = []
    for channel in work.protocol.targets:
        match = work.matches.get(channel.name)
        if match is None or match.structure is None or channel.level_gy is None:
            continue
        target = read_target(match.structure, work.protocol)
        if target is not None and target.dose_gy is not None:
            fixed.append((channel.level_gy, target.dose_gy))
    return fixed


def _keeps_order(pairs: _Pairing, fixed: list[tuple[float, float]]) -> bool:
    """Whether higher doses lie in higher channels, those already assigned included."""
    return all(
        ((channel.level_gy or 0) > level_gy) == ((target.dose_gy or 0) > dose_gy)
        for channel, target in pairs
        for level_gy, dose_gy in fixed
    )


def _refuse_equal_pairings(work: _Assignment, one: _Pairing, other: _Pairing) -> None:
    """Two ways to assign the targets are equally near."""
    channel, target = next(pair for pair in one if pair not in other)
    others = [(c, t) for c, t in other if (c, t) not in one]
    options = [_map_option(channel.name, target.name)]
    options += [_map_option(c.name, t.name) for c, t in others[:1]]
    names = sorted({target.name, others[0][1].name}) if others else [target.name]
    levels = sorted({f"{c.level_gy:g} Gy" for c in (channel, *(c for c, _ in others))})
    message = f"{_listed(names)}: two assignments are equally near ({', '.join(levels)})."
    work.refuse(channel, AMBIGUOUS, message, f"Choose one: {' or '.join(options)}.")


def _assign_unnumbered(work: _Assignment, targets: list[TargetName]) -> None:
    """PTVs whose names tell no level: one alone is the highest level, several are refused."""
    first = work.protocol.targets[0]
    taken = any(channel.name in work.matches for channel in work.protocol.targets)
    if not targets or work.refused or taken:
        return
    if len(targets) > 1:
        names = [target.name for target in targets]
        work.refuse_tie(first, names, "their names tell no level")
        return
    work.assign(first, targets[0].name, "the only planning target")
    message = f"{targets[0].name} tells no dose; it is taken for the highest level ({first.name})."
    remedy = f"Map it by hand if it is another level: {_map_option(first.name, targets[0].name)}."
    work.note("target-level-assumed", "warning", message, remedy, targets[0].name)


# --- Messages ----------------------------------------------------------------------------------


def _map_option(channel: str, name: str) -> str:
    """The option to type, quoted where a shell would split it."""
    return (
        f"--map {channel}={name}"
        if re.fullmatch(r"[\w.+-]+", name)
        else f'--map {channel}="{name}"'
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_IN_A_MESSAGE])
    more = len(names) - _NAMES_IN_A_MESSAGE
    return f"{shown} and {more} more" if more > 0 else shown or "nothing"


def _only(names: Iterable[str]) -> str | None:
    found = list(names)
    return found[0] if len(found) == 1 else None
