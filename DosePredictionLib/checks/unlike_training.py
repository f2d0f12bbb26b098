"""A case unlike the patients whom the model was made on, and what about it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..findings import Finding
from ..structures.protocol import StructureProtocol
from .anatomy import BODY, PLAN, PRESENT, TARGETS, anatomy
from .distribution import EVERYTHING, Deviation, Distribution
from .view import CaseView

__all__ = ["UNLIKE_TRAINING", "check_unlike_training", "familiarity"]

UNLIKE_TRAINING = "unlike-training-patients"

_MOST_PARTS = 3
_REMEDY = (
    "Check contours, names, CT and plan there. If they are right, do not rely on the dose: the "
    "model's figures and bands are of patients like its own."
)
_WHERE = {"left": ("left", "right"), "back": ("backward", "forward"), "up": ("up", "down")}
_SIZES = {"volume": ("larger", "smaller"), "area": ("larger", "smaller")}
_PAIRS = {"apart": ("farther from its partner", "nearer to its partner")}
_HU_PARTS = {"hu_low": "darkest tenth", "hu_middle": "median", "hu_high": "brightest tenth"}
_BODY = {
    "soft_tissue": ("soft tissue", "HU"),
    "fat": ("fat", "% of the body"),
    "bone": ("bone", "% of the body"),
    "air": ("air", "% of the body"),
    "noise": ("noise", "HU"),
    "above": ("body above the targets", "mm"),
    "below": ("body below the targets", "mm"),
}


def check_unlike_training(view: CaseView) -> list[Finding]:
    """A finding for each part whose score exceeds the threshold, the farthest first: how it looks
    foreign, and where it is."""
    known = view.distribution
    if known is None:
        return []
    beyond = [d for d in known.deviations(anatomy(view)) if d.score > known.threshold]
    return [_finding(view, known, each) for each in _parts(beyond)[:_MOST_PARTS]]


def _finding(view: CaseView, known: Distribution, found: Deviation) -> Finding:
    words = _words(found, view.protocol)
    message = (
        f"{words[0].upper()}{words[1:]}: unlike the {known.patients} patients whom the model was "
        f"made on (score {found.score:.1f}, {known.share_percent:g} % of them have up to "
        f"{known.threshold:.1f})."
    )
    region = view.regions.get(found.part)
    if found.part == TARGETS:
        region = view.targets[0]
    place = None if region is None else region.center_mm
    name = None if region is None else region.name
    return Finding(UNLIKE_TRAINING, "warning", message, _REMEDY, name, place)


def familiarity(view: CaseView) -> dict[str, Any] | None:
    """Score, threshold and the numbers that deviate most, as JSON types; None: nothing to compare.

    The numbers are those of `anatomy`; volumes and the like are in their units, not logarithms.
    """
    known = view.distribution
    if known is None:
        return None
    deviations = known.deviations(anatomy(view))
    if not deviations:
        return None
    return {
        "score": round(deviations[0].score, 3),
        "threshold": known.threshold,
        "share_percent": known.share_percent,
        "patients": known.patients,
        "cohort": known.cohort,
        "parts": [
            {
                "part": each.part,
                "measure": each.measure,
                "score": round(each.score, 3),
                "text": _words(each, view.protocol),
            }
            for each in _parts(deviations)[:_MOST_PARTS]
        ],
    }


def _parts(deviations: Sequence[Deviation]) -> list[Deviation]:
    """The farthest deviation of each part, the farthest first."""
    found: dict[str, Deviation] = {}
    for deviation in deviations:
        found.setdefault(deviation.part, deviation)
    return list(found.values())


def _words(found: Deviation, protocol: StructureProtocol) -> str:
    """A deviation as a person says it."""
    labels = {channel.name: channel.label for channel in protocol.channels}
    part = {TARGETS: "the targets", BODY: "the body"}.get(found.part, labels.get(found.part, ""))
    measure, value = found.measure, found.value
    away = value - _reference(found)
    if found.part == EVERYTHING:
        return _of_everything(found)
    if found.part == PLAN:
        return _of_plan(found)
    if measure == PRESENT:
        return f"{part} is contoured" if value else f"{part} is missing"
    words_of = _SIZES | _PAIRS
    if measure in words_of:
        words = words_of[measure][away < 0]
        verb = "are" if found.part == TARGETS else "is"
        return f"{part} {verb} {math.exp(abs(away)):.1f} times {words} {_than(found)}"
    if measure in _WHERE:
        verb = "lie" if found.part == TARGETS else "lies"
        way = _WHERE[measure][away < 0]
        return f"{part} {verb} {abs(away):.0f} mm further {way} {_than(found)}"
    if measure == "length":
        verb = "span" if found.part == TARGETS else "spans"
        return f"{part} {verb} {abs(away):.0f} mm {'more' if away > 0 else 'less'} {_than(found)}"
    if measure in _HU_PARTS:
        side = "higher" if away > 0 else "lower"
        return (
            f"the CT of {part} ({_HU_PARTS[measure]}) is {abs(away):.0f} HU {side} {_than(found)}"
        )
    if measure in ("in_target", "in_organ"):
        what = "the targets" if measure == "in_target" else "another organ"
        usual = max(math.expm1(_reference(found)), 0.0)
        return f"{part} shares {math.expm1(value):.0f} % with {what}, usual are {usual:.0f} %"
    if measure == "cut":
        return "the targets reach the end of the CT"
    return _of_body(found)


def _of_everything(found: Deviation) -> str:
    if found.measure == "size":
        factor = found.value if found.value > 1 else 1 / found.value
        side = "larger" if found.value > 1 else "smaller"
        return f"everything is about {factor:.2f} times {side}, as with a wrong spacing"
    side = "higher" if found.value > 0 else "lower"
    return f"all CT values are about {abs(found.value):.0f} HU {side}, as with a wrong rescale"


def _of_plan(found: Deviation) -> str:
    if found.measure == "technique":
        return "the technique is another than that of its plans"
    return f"the highest prescription is {found.value:.0f} % of its patients'"


def _of_body(found: Deviation) -> str:
    if found.measure == "metal":
        return f"the body holds about {math.expm1(found.value):.0f} cc of metal"
    if found.measure == "spacing":
        return f"the voxels are {math.exp(found.value):.1f} mm wide"
    if found.measure == "flatness":
        return f"the body is {math.exp(found.value):.1f} times as wide as deep"
    what, unit = _BODY[found.measure]
    low, high = f"{found.low:.0f}", f"{found.high:.0f}"
    return f"{what}: {found.value:.0f} {unit}, theirs {low} to {high}"


def _reference(found: Deviation) -> float:
    """What a deviation is measured from: what was to be expected, else the nearer end of theirs."""
    if found.expected is not None:
        return found.expected
    return float(min(max(found.value, found.low), found.high))


def _than(found: Deviation) -> str:
    if found.expected is not None:
        return "than the rest of the case lets expect"
    return "than in 99 of 100 of them"
