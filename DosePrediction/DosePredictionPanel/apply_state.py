"""Whether Apply can be pressed, what it reads, and why not."""

from __future__ import annotations

from dataclasses import dataclass

from .i18n import _

__all__ = ["ButtonState", "Situation", "apply_button"]


@dataclass(frozen=True)
class Situation:
    """What decides on Apply.

    Args:
        has_ct, has_segmentation, has_model: whether each is chosen.
        input_problem: why a chosen node cannot be used; empty when it can.
        missing: what the installation lacks, in words; empty when nothing.
        reading: whether the inputs are being read or checked just now.
        blocking: messages of the checks that stop a prediction.
        running: whether a prediction runs.
        cancelling: whether it has been asked to stop.
        outdated: whether the inputs have changed since the result shown.
        finding_organs: whether organs are being found.
    """

    has_ct: bool = False
    has_segmentation: bool = False
    has_model: bool = False
    input_problem: str = ""
    missing: str = ""
    reading: bool = False
    blocking: tuple[str, ...] = ()
    running: bool = False
    cancelling: bool = False
    outdated: bool = False
    finding_organs: bool = False


@dataclass(frozen=True)
class ButtonState:
    """How a button looks."""

    text: str
    enabled: bool
    tool_tip: str


def apply_button(situation: Situation) -> ButtonState:
    """Apply, Cancel or Update, and the reason when it is disabled."""
    if situation.cancelling:
        return ButtonState(_("Cancelling…"), False, _("Waiting for the worker to stop."))
    if situation.running:
        tip = _("Stop the prediction. The scene stays as it is. (Ctrl+Backspace)")
        return ButtonState(_("Cancel"), True, tip)
    text = _("Update") if situation.outdated else _("Apply")
    reason = _why_not(situation)
    if reason:
        return ButtonState(text, False, reason)
    tip = _("Predict the dose. The window stays usable meanwhile. (Ctrl+Return)")
    if situation.outdated:
        tip = _("Predict again, and show what changed. (Ctrl+Return)")
    return ButtonState(text, True, tip)


def _why_not(situation: Situation) -> str:
    """The first thing to put right before a prediction; empty when there is none."""
    if not situation.has_ct:
        return _("Choose a CT volume.")
    if not situation.has_segmentation:
        return _("Choose a segmentation.")
    if situation.input_problem:
        return situation.input_problem
    if not situation.has_model:
        return _("No model is installed: see the section Installation.")
    if situation.missing:
        return _("{missing} is missing: see the section Installation.").format(
            missing=situation.missing
        )
    if situation.finding_organs:
        return _("Organs are being found: wait, or cancel in the section Contours.")
    if situation.reading:
        return _("The inputs are being read and checked.")
    if situation.blocking:
        first, *others = situation.blocking
        more = _(" (and {count} more)").format(count=len(others)) if others else ""
        return _("A check blocks the prediction: {reason}{more}").format(reason=first, more=more)
    return ""
