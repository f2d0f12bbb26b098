"""The beams against the model's card."""

from __future__ import annotations

import math

from ..beams.arrangement import BeamArrangement
from ..findings import Finding
from .thresholds import SAME_BEAM_DEGREES
from .view import CaseView

__all__ = ["check_model_beams"]


def check_model_beams(view: CaseView) -> list[Finding]:
    """Beams that stand otherwise than those of the model's plans, or that it does not know of."""
    given, known = view.case.beams, view.expected.beams
    if given is None or any(_stand_alike(given, each) for each in known):
        return []
    if not known:
        message = f"The case has beams ({given}), of which the model knows nothing."
        return [Finding("beams-unknown-to-model", "info", message)]
    seen = "; ".join(str(each) for each in known)
    message = f"The beams come from {given}; the model's plans had beams from {seen}."
    remedy = "Expect a less exact dose, or predict with the beams that the model has seen."
    return [Finding("beams-unlike-model", "warning", message, remedy)]


def _stand_alike(one: BeamArrangement, other: BeamArrangement) -> bool:
    """Whether the beams come from the same sides of the patient."""
    theirs = _from(other)
    ours = _from(one)
    if len(ours) != len(theirs):
        return False
    return all(
        min(abs((angle - each + 180.0) % 360.0 - 180.0) for each in theirs) <= SAME_BEAM_DEGREES
        for angle in ours
    )


def _from(beams: BeamArrangement) -> list[float]:
    """Where each field comes from: degrees from the patient's front to the left."""
    sources = [beams.source_direction(angle) for angle in beams.gantry_degrees]
    return [math.degrees(math.atan2(x, -y)) for x, y, _ in sources]
