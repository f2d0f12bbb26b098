"""What results of one case are called, and which one a prediction replaces."""

from __future__ import annotations

from ..freshness import RunSettings
from ..i18n import _
from .beams import beams_label, chosen_beams
from .state import Contents, PanelState, ResultState
from .wishes import chosen_wishes, wishes_label

__all__ = ["label_of", "live_result", "same_result", "used_contents"]


def used_contents(state: PanelState) -> Contents:
    """Checksums of what reaches the network, as the inputs were read."""
    mapping, prepared = state.matching.mapping, state.prepared
    if mapping is None or prepared is None:
        return ()
    used = {match.structure for match in mapping.matches}
    every = prepared.contents.items()
    inputs = ("CT", "plan dose", "place of CT", "place of segmentation", "place of plan dose")
    return tuple(sorted((name, crc) for name, crc in every if name in used or name in inputs))


def same_result(state: PanelState, settings: RunSettings, contents: Contents) -> ResultState | None:
    """The result that a prediction would repeat, or that holds nothing to be kept."""
    choices = state.choices
    assert choices is not None
    for result in reversed(state.results_of_ct(choices.ct)):
        if not result.has_numbers and result.segmentation == choices.segmentation:
            return result
        if result.plan is not None:
            continue  # a plan stands beside predictions, never in place of one
        is_same = result.settings == settings and result.contents == contents
        is_known = bool(contents) or not result.edited
        if is_same and is_known and not result.is_live:
            return result
    return None


def live_result(state: PanelState) -> ResultState | None:
    """The result that strokes update, of the chosen CT and segmentation."""
    choices = state.choices
    assert choices is not None
    results = reversed(state.results_of_ct(choices.ct))
    return next(
        (each for each in results if each.is_live and each.segmentation == choices.segmentation),
        None,
    )


def label_of(state: PanelState, contents: Contents, gy: float, *, is_live: bool) -> str:
    """Prescription, beams, wishes, state of the contours, model; each result has its own.

    What tells results apart stands first: a narrow box cuts the rest off.

    Args:
        contents: of the inputs.
        gy: highest prescription; 0: the model's own, of several levels or unknown.
    """
    choices, model = state.choices, state.model
    assert choices is not None
    parts = [_("{gy:g} Gy").format(gy=gy)] if gy > 0 else []
    if not parts and model is not None and model.doses:
        parts.append(model.doses)
    if chosen_beams(state):
        parts.append(beams_label(chosen_beams(state)))
    if chosen_wishes(state):
        parts.append(wishes_label(chosen_wishes(state)))
    others = state.results_of_ct(choices.ct)
    if is_live:
        parts.append(_("live"))
    else:
        kept = [each for each in others if not each.is_live]
        states = list(dict.fromkeys([*(each.contents for each in kept), contents]))
        number = states.index(contents) + 1
        if number > 1:
            parts.append(_("contours {number}").format(number=number))
    parts.append(model.title if model is not None else choices.model)
    label, count = ", ".join(parts), 1
    taken = {each.label for each in others}
    while label in taken:
        count += 1
        label = _("{name} ({count})").format(name=", ".join(parts), count=count)
    return label
