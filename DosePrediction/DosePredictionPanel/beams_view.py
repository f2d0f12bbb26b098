"""What the section of the beams shows: a pure function of the state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .flow.beams import PLAN, beams_name, chosen_beams, from_text, plan_beams, used_beams
from .flow.state import PanelState
from .i18n import _

if TYPE_CHECKING:
    from DosePredictionLib.beams.arrangement import BeamArrangement

__all__ = ["BeamsView", "beams_view"]

Direction = tuple[float, float]


@dataclass(frozen=True)
class BeamsView:
    """The choice of beams.

    Args:
        title: of the section, which says what is chosen when it is folded.
        items: what can be chosen, as the parameter has it → as a person reads it.
        chosen: the one that is.
        angles: gantry angles of what is chosen, to be typed over.
        sentence: what the angles count from, or why there is nothing to choose.
        can_choose: whether the model knows beams.
        directions: where the beams come from, as seen on an axial slice: x to the patient's left,
            y posterior, of length 1.
    """

    title: str
    sentence: str
    items: Mapping[str, str] = field(default_factory=dict)
    chosen: str = ""
    angles: str = ""
    can_choose: bool = False
    directions: tuple[Direction, ...] = ()


def beams_view(state: PanelState) -> BeamsView:
    """What can be chosen, and the beams of the next prediction."""
    model, used = state.model, used_beams(state)
    if model is None:
        return BeamsView(_("Beams"), _("Choose a model."))
    if used is None:
        sentence = _(
            "{title} knows nothing of beams: its dose is that of the plans that it has learned."
        )
        title = _("Beams – not of this model")
        return BeamsView(title, sentence.format(title=model.title))
    chosen = chosen_beams(state)
    directions = (used.source_direction(field.gantry_degrees) for field in used.fields)
    return BeamsView(
        title=_("Beams – {name}").format(name=_in_a_sentence(chosen)),
        sentence=_position_sentence(used),
        items=_items(state, model.beams, chosen),
        chosen=chosen,
        angles=_angles(used),
        can_choose=True,
        directions=tuple((round(x, 4), round(y, 4)) for x, y, _z in directions),
    )


def _items(state: PanelState, own: str, chosen: str) -> dict[str, str]:
    from DosePredictionLib.beams.arrangement import ARRANGEMENTS

    items = {"": _with_angles("", from_text(own))}
    if plan_beams(state):
        items[PLAN] = _with_angles(PLAN, from_text(plan_beams(state)))
    items |= {name: beams_name(name) for name in ARRANGEMENTS}
    return items if chosen in items else {**items, chosen: _("Typed: {a}").format(a=chosen)}


def _with_angles(choice: str, beams: BeamArrangement) -> str:
    return f"{beams_name(choice)} ({beams})"


def _in_a_sentence(choice: str) -> str:
    name = beams_name(choice)
    return name[:1].lower() + name[1:]


def _angles(beams: BeamArrangement) -> str:
    """As they are typed; arcs by falling angles, which cannot be, as they are read."""
    parts = []
    for beam in beams.beams:
        if not beam.on:
            continue
        if beam.stop_degrees is not None and not beam.clockwise:
            return str(beams)
        stop = "" if beam.stop_degrees is None else f"-{beam.stop_degrees:g}"
        parts.append(f"{beam.gantry_degrees:g}{stop}")
    return ", ".join(parts)


def _position_sentence(beams: BeamArrangement) -> str:
    lies = {
        "HFS": _("head first, supine"),
        "HFP": _("head first, prone"),
        "FFS": _("feet first, supine"),
        "FFP": _("feet first, prone"),
    }[beams.patient_position]
    text = _("Gantry angles (IEC 61217) of a patient who lies {lies}; seen as on the axial slice.")
    return text.format(lies=lies)
