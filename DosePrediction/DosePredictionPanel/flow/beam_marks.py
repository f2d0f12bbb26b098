"""What is drawn of the beams over the axial slices: it follows the state, whatever changes it."""

from __future__ import annotations

from dataclasses import replace

from .beams import used_beams
from .effects import MarkBeams
from .facts import BeamMarks
from .registry import Outcome
from .state import PanelState

__all__ = ["beam_marks", "with_beam_marks"]


def with_beam_marks(state: PanelState) -> Outcome:
    """Draw what has changed, or take it away."""
    marks = beam_marks(state)
    if marks == state.beam_marks:
        return state, ()
    return replace(state, beam_marks=marks), (MarkBeams(marks),)


def beam_marks(state: PanelState) -> BeamMarks | None:
    """The beams of the next prediction; None: they are not to be drawn, or there are none."""
    choices, mapping = state.choices, state.matching.mapping
    if choices is None or not choices.show_beams or mapping is None:
        return None
    protocol, beams = state.matching.protocol, used_beams(state)
    if protocol is None or beams is None or not choices.ct or not choices.segmentation:
        return None
    channels = {channel.name for channel in protocol.targets}
    targets = [m.structure for m in mapping.matches if m.channel in channels and m.structure]
    sources = [beams.source_direction(field.gantry_degrees) for field in beams.fields]
    return BeamMarks(
        ct=choices.ct,
        segmentation=choices.segmentation,
        targets=tuple(targets),
        directions=tuple((round(x, 4), round(y, 4)) for x, y, _z in sources),
        isocenter_mm=beams.isocenter_mm,
    )
