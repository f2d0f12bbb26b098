"""What follows from the state: whether Apply can be pressed, what is out of date, the order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..apply_state import Situation
from ..finding_rows import blocking_messages
from ..freshness import Freshness, RunSettings
from ..i18n import _
from .beams import beams_in_order, chosen_beams
from .naming import label_of, live_result, same_result, used_contents
from .state import PanelState, PredictionOrder, ResultState
from .wishes import chosen_wishes, wishes_text

if TYPE_CHECKING:
    from DosePredictionLib.findings import Finding

__all__ = [
    "can_read",
    "channels_of",
    "findings_of",
    "findings_of_result",
    "fitting_template",
    "freshness_of",
    "options_of",
    "order_of",
    "removed_sentence",
    "settings_from",
    "settings_of",
    "situation_of",
    "template_of_case",
]


def situation_of(state: PanelState) -> Situation:
    """What decides on Apply."""
    choices = state.choices
    if choices is None:
        return Situation()
    return Situation(
        has_ct=bool(choices.ct),
        has_segmentation=bool(choices.segmentation),
        has_model=state.model is not None,
        input_problem=state.input_error,
        missing=state.installation.missing,
        reading=state.reading is not None,
        blocking=blocking_messages(findings_of(state)),
        running=state.run is not None,
        cancelling=state.run is not None and state.run.is_cancelling,
        outdated=freshness_of(state).is_outdated,
        finding_organs=state.organs is not None,
    )


def findings_of(state: PanelState) -> tuple[Finding, ...]:
    """What was noticed about the inputs, with and without reading them."""
    return (*state.matching.problems, *state.findings)


def findings_of_result(state: PanelState) -> tuple[Finding, ...]:
    """What was noticed of the shown result beside that, while it is of these inputs."""
    result, known = state.result, findings_of(state)
    if result is None or freshness_of(state).is_outdated:
        return ()
    return tuple(each for each in result.findings if each not in known)


def can_read(state: PanelState) -> bool:
    """Whether everything is chosen that reading and checking needs."""
    choices = state.choices
    if choices is None or not choices.ct or not choices.segmentation or state.matching.problems:
        return False
    return state.matching.mapping is not None


def settings_of(state: PanelState) -> RunSettings:
    """What a prediction would rest on now."""
    c = state.choices
    if c is None:
        return RunSettings()
    options = dict(_options(state, _own_prescription_gy(state)))
    return settings_from((c.ct, c.segmentation, c.plan_dose), options)


def options_of(
    model: str,
    prescription_gy: float,
    strip_margin_mm: float,
    channels: Mapping[str, str | None],
    beams: str = "",
    wishes: str = "",
) -> dict[str, str]:
    """What a prediction rests on beside its nodes, as a scene keeps it.

    Args:
        channels: channel → structure as matched here; one without a voxel still counts.
        beams: as they were chosen.
        wishes: likewise, as `wishes_text` has them.
    """
    return {
        "model": model,
        "prescription": f"{prescription_gy:g}",
        "strip margin": f"{strip_margin_mm:g}",
        "beams": beams,
        "wishes": wishes,
        **{f"{_CHANNEL}{name}": structure or "" for name, structure in channels.items()},
    }


def channels_of(options: Mapping[str, str]) -> dict[str, str | None]:
    """The channels that `options_of` was given."""
    named = {name: value for name, value in options.items() if name.startswith(_CHANNEL)}
    return {name.removeprefix(_CHANNEL): value or None for name, value in named.items()}


def settings_from(inputs: tuple[str, str, str], options: Mapping[str, str]) -> RunSettings:
    """Settings from ids of CT, segmentation and plan dose, and `options_of`."""
    ct, segmentation, plan_dose = inputs
    return RunSettings(
        values={
            _("CT"): ct,
            _("segmentation"): segmentation,
            _("plan dose"): plan_dose,
            _("model"): options.get("model", ""),
            _("prescription"): options.get("prescription", ""),
            _("margin of the strips"): options.get("strip margin", ""),
            _("beams"): options.get("beams", ""),
            _("wishes"): options.get("wishes", ""),
        },
        mapping=channels_of(options),
    )


def freshness_of(state: PanelState) -> Freshness:
    """The shown result against what is chosen now."""
    result = state.result
    if result is None or state.choices is None:
        return Freshness()
    return Freshness(result.settings, settings_of(state), result.edited)


def order_of(state: PanelState, *, is_live: bool = False) -> PredictionOrder:
    """What Apply asks for. It repeats a result of the same inputs, or stands beside the others."""
    c = state.choices
    assert c is not None
    contents, gy = used_contents(state), _own_prescription_gy(state)
    same = live_result(state) if is_live else same_result(state, settings_of(state), contents)
    model = state.model
    shown_gy = gy or (model.highest_gy if model is not None and not model.has_levels else 0.0)
    if same is not None and same.label:
        label = same.label
    else:
        label = label_of(state, contents, shown_gy, is_live=is_live)
    return PredictionOrder(
        ct=c.ct,
        segmentation=c.segmentation,
        plan_dose=c.plan_dose,
        model=c.model,
        mapping=state.matching.order,
        prescription_gy=gy,
        beams=beams_in_order(state),
        wishes=tuple(str(wish) for wish in chosen_wishes(state)),
        goals=c.goals,
        device=c.device,
        precision=c.precision,
        strip_margin_mm=c.strip_margin_mm,
        keep_coarse=c.keep_coarse,
        keep_strips=c.keep_strips,
        samples=c.samples if model is not None and model.draws_samples and not is_live else 0,
        seed=c.seed,
        before=_live_base(state, same) if is_live else _before(state, same),
        replaces=same.dose if same is not None else "",
        label=label,
        options=_options(state, gy),
        is_live=is_live,
    )


def _options(state: PanelState, gy: float) -> tuple[tuple[str, str], ...]:
    c, mapping = state.choices, state.matching.mapping
    assert c is not None
    channels = {m.channel: m.structure for m in mapping.matches} if mapping else {}
    beams, wishes = chosen_beams(state), wishes_text(chosen_wishes(state))
    return tuple(options_of(c.model, gy, c.strip_margin_mm, channels, beams, wishes).items())


def _live_base(state: PanelState, live: ResultState | None) -> str:
    """What a live result is compared with: what was shown when it began, while that is there."""
    result, choices = state.result, state.choices
    assert choices is not None
    kept = state.result_of_dose(live.other) if live is not None else None
    if kept is not None:
        return kept.dose
    is_base = result is not None and result.has_numbers and result is not live
    return result.dose if result is not None and is_base and result.ct == choices.ct else ""


def _before(state: PanelState, same: ResultState | None) -> str:
    """The outdated result that is shown; for a live one, what it has been compared with so far."""
    result, choices = state.result, state.choices
    assert choices is not None
    if result is None or not result.has_numbers or result.ct != choices.ct:
        return ""
    if same is not None and same.dose == result.dose:
        kept = state.result_of_dose(choices.compared_dose)
        return kept.dose if kept is not None and kept.dose != result.dose else ""
    is_there = _PLACE_OF_CT not in result.edited and freshness_of(state).is_outdated
    return result.dose if is_there else ""


def template_of_case(state: PanelState) -> str:
    """The template chosen by hand for this case; else the one that fits."""
    by_hand = state.case.goals
    return fitting_template(state) if by_hand is None else by_hand


def fitting_template(state: PanelState) -> str:
    """The template that is written for the model's protocol and the prescription; "" for none."""
    model = state.model
    if model is None:
        return ""
    highest_gy = _own_prescription_gy(state) or model.highest_gy
    fits = (each.id for each in state.templates if each.fits(model.protocol, highest_gy))
    return next(fits, "")


def removed_sentence(name: str) -> str:
    """An input of a running prediction went away."""
    text = _(
        "{name} was removed from the scene while the prediction ran; it was stopped, nothing was "
        "added. Choose the inputs anew and press Apply."
    )
    return text.format(name=name)


_CHANNEL = "channel "
_PLACE_OF_CT = "place of CT"  # as `scene.what_changed` names it: the grids differ then


def _own_prescription_gy(state: PanelState) -> float:
    """The person's prescription; 0 for the model's own or a model with levels."""
    if state.choices is None or state.model is None or state.model.has_levels:
        return 0.0
    return state.choices.prescription_gy
