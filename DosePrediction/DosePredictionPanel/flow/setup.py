"""What is installed: models, goal templates, packages."""

from __future__ import annotations

from dataclasses import replace

from .effects import CheckInstallation, Install, StopWorker
from .events import (
    CheckInstallationPressed,
    EffectFailed,
    InstallationChecked,
    InstallationReported,
    Installed,
    InstallPressed,
    ModelsListed,
)
from .reading import look_at_segments, schedule_reading
from .registry import Outcome, handles
from .results import acted
from .state import Notice, PanelState

__all__: list[str] = []


@handles(ModelsListed)
def _models_listed(state: PanelState, event: ModelsListed) -> Outcome:
    is_same = state.models == event.models
    state = replace(
        state,
        models=event.models,
        templates=event.templates,
        models_problem=event.problem,
        organ_models=event.organ_models,
        organ_sources=event.organ_sources,
    )
    if is_same or state.choices is None:
        return state, ()
    return look_at_segments(state, keep_model=True, recall=False)


@handles(CheckInstallationPressed)
def _check_pressed(state: PanelState, _event: CheckInstallationPressed) -> Outcome:
    return acted(state), (CheckInstallation(),)


@handles(InstallPressed)
def _install_pressed(state: PanelState, _event: InstallPressed) -> Outcome:
    return acted(state), (Install(),)


@handles(Installed)
def _installed(state: PanelState, _event: Installed) -> Outcome:
    """The worker is started anew: the next one sees what is new."""
    return state, (StopWorker(), CheckInstallation())


@handles(InstallationChecked)
def _checked(state: PanelState, event: InstallationChecked) -> Outcome:
    """What could not be checked before may be possible now."""
    state = replace(state, installation=replace(state.installation, missing=event.missing))
    return schedule_reading(state)


@handles(InstallationReported)
def _reported(state: PanelState, event: InstallationReported) -> Outcome:
    installation = replace(state.installation, report=event.report, devices=event.devices)
    return replace(state, installation=installation), ()


@handles(EffectFailed)
def _failed(state: PanelState, event: EffectFailed) -> Outcome:
    return replace(state, error=Notice(event.message, "error", event.details)), ()
