"""What the section of the wishes shows: a pure function of the state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .flow.state import PanelState
from .flow.wishes import chosen_wishes, wishes_label, wishes_text
from .i18n import _

if TYPE_CHECKING:
    from DosePredictionLib.wishes import Wish

__all__ = ["NOT_STATED", "WishRow", "WishesView", "wish_words", "wishes_view"]

NOT_STATED = 100
"""Percent at which a slider says nothing: all of the organ may get the dose."""


@dataclass(frozen=True)
class WishRow:
    """A slider.

    Args:
        organ: channel.
        dose_gy: of the V_d that may be limited.
        label: of the organ and the metric.
        percent: where the slider stands; `NOT_STATED`: nothing is wished.
        words: the percentage, or that nothing is stated.
        tip: the goal's text, or why there is none to be chosen.
        can_choose: whether the organ is contoured.
    """

    organ: str
    dose_gy: float
    label: str
    percent: int
    words: str
    tip: str
    can_choose: bool


@dataclass(frozen=True)
class WishesView:
    """The wishes.

    Args:
        title: of the section, which says what is wished when it is folded.
        sentence: what a wish is, or why there is none to be chosen.
        rows: one an organ; none for a model that takes no wishes.
        text: the goals, to be typed over.
    """

    title: str
    sentence: str
    rows: tuple[WishRow, ...] = ()
    text: str = ""


def wishes_view(state: PanelState) -> WishesView:
    """What can be wished for, and what is wished of the next prediction."""
    model = state.model
    if model is None:
        return WishesView(_("Goals as wishes"), _("Choose a model."))
    if not model.wishes:
        sentence = _(
            "{title} takes no wishes: its dose is that of the plans that it has learned, whatever "
            "is wished of an organ."
        )
        title = _("Goals as wishes – not of this model")
        return WishesView(title, sentence.format(title=model.title))
    wishes = chosen_wishes(state)
    named = wishes_label(wishes) or _("none")
    return WishesView(
        title=_("Goals as wishes – {name}").format(name=named),
        sentence=_(
            "Prediction of a plan that was asked for this, not a promise that the goals are met. "
            "At the right end nothing is wished."
        ),
        rows=tuple(_row(state, *each, wishes) for each in model.wishes),
        text=wishes_text(wishes),
    )


def wish_words(percent: float) -> str:
    """What a slider says beside itself."""
    return _("not stated") if percent >= NOT_STATED else f"≤ {percent:g} %"


def _row(state: PanelState, organ: str, dose_gy: float, wishes: Sequence[Wish]) -> WishRow:
    stated = [each for each in wishes if (each.structure, each.dose_gy) == (organ, dose_gy)]
    percent = stated[0].percent if stated else NOT_STATED
    label = _("{organ} V{dose:g}Gy").format(organ=_label(state, organ), dose=dose_gy)
    can_choose = _is_contoured(state, organ)
    if not can_choose:
        tip = _("{organ} is not contoured, or fills no channel.").format(organ=organ)
    else:
        text = _("How much of {organ} may get {dose:g} Gy or more.")
        tip = str(stated[0]) if stated else text.format(organ=organ, dose=dose_gy)
    return WishRow(organ, dose_gy, label, round(percent), wish_words(percent), tip, can_choose)


def _label(state: PanelState, organ: str) -> str:
    protocol = state.matching.protocol
    channels = () if protocol is None else protocol.channels
    return next((each.label for each in channels if each.name == organ), organ)


def _is_contoured(state: PanelState, organ: str) -> bool:
    mapping = state.matching.mapping
    matches = () if mapping is None else mapping.matches
    return any(each.channel == organ and each.structure is not None for each in matches)
