"""What is wished of organs: goals as texts, and what they mean for this model and case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..i18n import _
from .state import PanelState

if TYPE_CHECKING:
    from DosePredictionLib.wishes import Wish

__all__ = [
    "chosen_wishes",
    "fault_of_wishes",
    "texts_of",
    "wishes_label",
    "wishes_text",
    "with_wish",
]

_BETWEEN = "; "
_NAMED = 2
_ALL_PERCENT = 100.0  # of an organ may get the dose: nothing is wished for


def texts_of(text: str) -> list[str]:
    """The goals of a choice, one after the other."""
    return [each.strip() for each in text.replace("\n", ";").split(";") if each.strip()]


def chosen_wishes(state: PanelState) -> tuple[Wish, ...]:
    """Those of the next prediction; none where the model takes none."""
    choices, model = state.choices, state.model
    if choices is None or model is None or not model.wishes:
        return ()
    return _parsed(choices.wishes)


def wishes_text(wishes: Sequence[Wish]) -> str:
    """As a choice has them, whatever way they were typed."""
    return _BETWEEN.join(str(wish) for wish in wishes)


def with_wish(text: str, organ: str, dose_gy: float, percent: float) -> str:
    """The choice with another wish for an organ; with 100 %, without one."""
    from DosePredictionLib.wishes import Wish

    wishes = list(_parsed(text))
    metric = (organ, dose_gy)
    places = [n for n, each in enumerate(wishes) if (each.structure, each.dose_gy) == metric]
    made = [Wish(organ, dose_gy, percent)] if percent < _ALL_PERCENT else []
    first = places[0] if places else len(wishes)
    others = [each for n, each in enumerate(wishes) if n not in places]
    return wishes_text([*others[:first], *made, *others[first:]])


def wishes_label(wishes: Sequence[Wish]) -> str:
    """In the name of a result."""
    label = ", ".join(str(wish) for wish in wishes[:_NAMED])
    more = len(wishes) - _NAMED
    return label if more <= 0 else _("{names} and {count} more").format(names=label, count=more)


def fault_of_wishes(text: str) -> str:
    """Why a text is no choice of wishes; empty when it is one."""
    from DosePredictionLib.errors import DosePredictionError

    try:
        _parsed(text)
    except DosePredictionError as error:
        return str(error)
    return ""


def _parsed(text: str) -> tuple[Wish, ...]:
    """As `predict --goal` reads them.

    Raises:
        DosePredictionError: one cannot be read, or is no upper limit of a V_d in percent.
    """
    from DosePredictionLib.app.choices import WishesChoice

    return WishesChoice.parse(texts_of(text)).wishes
