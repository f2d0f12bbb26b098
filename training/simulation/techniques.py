"""How the plans of a cohort are made: beams, drawn for each patient, and what is wished of organs.

A third of the arrangements is not symmetric: fields begin at a random angle, or come from one side;
arcs are partial. Wishes are drawn about what the same beams gave without any, so that they are
strict and can be met: of the part of an organ outside the target that gets the dose, a share is to
be spared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from DosePredictionLib.beams.arrangement import Beam, BeamArrangement
from DosePredictionLib.case import Case
from DosePredictionLib.evaluation.dvh import dvh
from DosePredictionLib.volume import Volume
from DosePredictionLib.wishes import Wish

from .settings import PlanLimits, Technique

__all__ = [
    "LEVELS",
    "WISHED_GY",
    "draw_arrangement",
    "draw_wishes",
    "limits_of",
    "techniques_of",
]

WISHED_GY: Mapping[str, float] = {
    "Bladder": 40.0,
    "Rectum": 40.0,
    "Small_Intestine": 30.0,
    "Marrow": 20.0,
    "FemurHead_L": 30.0,
    "FemurHead_R": 30.0,
}
"""Organ → the dose whose volume is wished to be small, of plans of 45 Gy."""

LEVELS: tuple[tuple[float, float], ...] = ((1.0, 1.0), (0.75, 0.92), (0.5, 0.72))
"""Of each level of wishes, between which shares of the volume without wishes the limit lies."""

_ASYMMETRIC, _WISHED = 1 / 3, 0.6
_OPEN_MARGIN_MM = 7.0
_LEAST_PERCENT = 3.0  # of an organ, outside the target: less is nothing to spare

_LIMITS: Mapping[str, PlanLimits] = {
    "open": PlanLimits(near_maximum=1.25, conformity=0.15, hottest_outside=1.25),
    "4": PlanLimits(near_maximum=1.15, conformity=0.6, hottest_outside=1.15),
    "5": PlanLimits(near_maximum=1.14, conformity=0.65, hottest_outside=1.12),
}
_ONE_SIDED = PlanLimits(near_maximum=1.25, conformity=0.45, hottest_outside=1.25)
_WISHED_MORE = 0.03  # of the prescription, where organs are to be spared


def techniques_of(index: int, given: Sequence[Technique], count: int) -> list[Technique]:
    """The techniques of an anatomy: some of modulated fields, and open fields if they are given.

    Over the cohort those of modulated fields are equally often, and in all pairs.

    Args:
        count: of those of modulated fields.
    """
    modulated = [technique for technique in given if technique != "open"]
    count, kinds = min(count, len(modulated)), max(len(modulated), 1)
    shift = 1 + (index // kinds) % max(kinds - 1, 1)
    drawn = [modulated[(index + each * shift) % kinds] for each in range(count)]
    return [*drawn, *(technique for technique in given if technique == "open")]


def draw_arrangement(
    technique: Technique, rng: np.random.Generator
) -> tuple[BeamArrangement, bool]:
    """Beams of a technique, and whether they are not symmetric."""
    asymmetric = bool(rng.random() < _ASYMMETRIC)
    start, span, middle = (
        int(rng.integers(360)),
        int(rng.integers(120, 241)),
        int(rng.integers(360)),
    )
    one_sided = bool(rng.random() < 0.5)
    if technique == "arc":
        if not asymmetric:
            return BeamArrangement((Beam(181.0, 179.0),)), False
        return BeamArrangement((Beam(float(start), float((start + span) % 360)),)), True
    count = int(rng.choice([3, 4, 4, 4])) if technique == "open" else int(technique)
    angles = np.arange(count) * 360 / count
    if asymmetric and one_sided and technique != "open":
        angles = middle + np.linspace(-span / 2, span / 2, count)
    elif asymmetric:
        angles = start + angles
    degrees = sorted(float(round(angle) % 360) for angle in angles)
    margin = _OPEN_MARGIN_MM if technique == "open" else None
    return BeamArrangement.of_angles(degrees, margin), asymmetric


def limits_of(technique: Technique, asymmetric: bool, wishes: Sequence[Wish]) -> PlanLimits:
    """What a plan must reach, or it is left out."""
    limits = _LIMITS.get(technique, PlanLimits())
    if asymmetric and technique != "open":
        limits = _ONE_SIDED
    more = _WISHED_MORE if wishes else 0.0
    return replace(
        limits,
        near_maximum=limits.near_maximum + more,
        conformity=max(limits.conformity - 2 * more, 0.0),
        hottest_outside=limits.hottest_outside + more,
    )


def draw_wishes(level: int, case: Case, dose: Volume, rng: np.random.Generator) -> tuple[Wish, ...]:
    """Wishes of a level, for a random part of the organs; none at level 0.

    Args:
        dose: of the same beams without wishes.
    """
    low, high = LEVELS[level]
    drawn = rng.random((len(WISHED_GY), 2))
    if low >= 1:
        return ()
    target, candidates = case.structures["PTV"].majority(), []
    for (organ, dose_gy), (chance, place) in zip(WISHED_GY.items(), drawn, strict=True):
        mask = case.structures.get(organ)
        if mask is None:
            continue
        whole = mask.majority()
        inside = 100.0 * float((whole & target).sum()) / max(float(whole.sum()), 1.0)
        reached = dvh(dose, mask).volume_at_gy(dose_gy) or 0.0
        if reached - inside < _LEAST_PERCENT:
            continue
        share = low + (high - low) * float(place)
        limit = round(inside + share * (reached - inside), 1)
        candidates.append((float(chance), Wish(organ, dose_gy, limit)))
    # One at least, where there is anything to spare.
    most = max(_WISHED, min((chance for chance, _ in candidates), default=0.0))
    return tuple(wish for chance, wish in candidates if chance <= most)
