"""Targets onto channels, by the doses and levels in their names."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from .assignment import AMBIGUOUS, Assignment, listed, map_option
from .names import (
    TargetName,
    has_dose,
    read_target,
)
from .protocol import Channel

_TIE_TOLERANCE_GY = 0.01

__all__ = ["assign_targets"]


def assign_targets(work: Assignment) -> None:
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


def _assign_single_target(work: Assignment, channel: Channel, targets: list[TargetName]) -> None:
    """A protocol with one target takes the highest of several, and says so."""
    match = work.matches.get(channel.name)
    if match is None and targets:
        ranked = _highest(targets)
        if len(ranked) > 1:
            dose_gy = ranked[0].dose_gy
            alike = dose_gy is not None and all(t.dose_gy == dose_gy for t in ranked)
            why = f"both state {dose_gy:g} Gy" if alike else "their names do not state the higher"
            work.refuse_tie(channel, [t.name for t in ranked], why)
            return
        dose_gy = ranked[0].dose_gy
        stated = "highest level in the name" if dose_gy is None else f"highest dose, {dose_gy:g} Gy"
        reason = "the only planning target" if len(targets) == 1 else stated
        work.assign(channel, ranked[0].name, reason)
        match = work.matches[channel.name]
    if match is None or match.structure is None or not match.automatic:
        return
    _tell_unassigned(work, [t.name for t in targets if t.name != match.structure])


def _tell_unassigned(work: Assignment, names: list[str]) -> None:
    """Targets that the model will not see."""
    if not names:
        return
    filled = [work.matches[c.name] for c in work.protocol.targets if c.name in work.matches]
    taken = ", ".join(f"{m.structure} ({m.reason})" for m in filled if m.structure is not None)
    message = f"The model does not see the target {listed(names)}; it takes {taken}."
    example = map_option(work.protocol.targets[0].name, names[0])
    work.note("target-not-used", "warning", message, f"To choose otherwise: {example}.", names[0])


def _highest(targets: list[TargetName]) -> list[TargetName]:
    """The highest target by dose, else by level; more than one when the names do not state."""
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


def _assign_levels(work: Assignment, targets: list[TargetName]) -> None:
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
    work: Assignment, channel: Channel, fitting: list[TargetName], why: str, placed: set[str]
) -> None:
    """One channel, and those whose names state its level; `placed` collects them."""
    if channel.name in work.refused:
        return
    match = work.matches.get(channel.name)
    if match is not None:
        # The level is taken: the others of that level go nowhere else, and are findings.
        placed.update(target.name for target in fitting)
    elif match is None and len(fitting) == 1:
        work.assign(channel, fitting[0].name, why)
        placed.add(fitting[0].name)
    elif match is None and fitting:
        work.refuse_tie(channel, [target.name for target in fitting], why)
        placed.update(target.name for target in fitting)


def _assign_by_order(work: Assignment, targets: list[TargetName]) -> None:
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
        work.refuse_tie(channels[0], tied, f"both state {equal:g} Gy")
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
    work: Assignment, channels: list[Channel], targets: list[TargetName]
) -> list[tuple[float, _Pairing]]:
    """Pairings of as many targets as possible that keep the order of doses, the nearest first.

    A required channel is filled whenever another one is.
    """
    fixed = _fixed_levels(work)
    required = [channel for channel in channels if channel.name in work.required]
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


def _fixed_levels(work: Assignment) -> list[tuple[float, float]]:
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


def _refuse_equal_pairings(work: Assignment, one: _Pairing, other: _Pairing) -> None:
    """Two ways to assign the targets are equally near."""
    channel, target = next(pair for pair in one if pair not in other)
    others = [(c, t) for c, t in other if (c, t) not in one]
    options = [map_option(channel.name, target.name)]
    options += [map_option(c.name, t.name) for c, t in others[:1]]
    names = sorted({target.name, others[0][1].name}) if others else [target.name]
    levels = sorted({f"{c.level_gy:g} Gy" for c in (channel, *(c for c, _ in others))})
    message = f"{listed(names)}: two assignments are equally near ({', '.join(levels)})."
    work.refuse(channel, AMBIGUOUS, message, f"Choose one: {' or '.join(options)}.")


def _assign_unnumbered(work: Assignment, targets: list[TargetName]) -> None:
    """PTVs whose names state no level: one alone is the highest level, several are refused."""
    first = work.protocol.targets[0]
    taken = any(channel.name in work.matches for channel in work.protocol.targets)
    if not targets or work.refused or taken:
        return
    if len(targets) > 1:
        names = [target.name for target in targets]
        work.refuse_tie(first, names, "their names state no level")
        return
    work.assign(first, targets[0].name, "the only planning target")
    message = f"{targets[0].name} states no dose; it is taken for the highest level ({first.name})."
    remedy = f"Map it by hand if it is another level: {map_option(first.name, targets[0].name)}."
    work.note("target-level-assumed", "warning", message, remedy, targets[0].name)
