"""Timers, parameters, models, installation."""

from __future__ import annotations

from ..flow.effects import (
    CheckInstallation,
    DropParameters,
    Install,
    ListModels,
    StartTimer,
    StopTimer,
    StopWorker,
    TakeParameters,
    WriteChoices,
)
from ..flow.events import (
    EffectFailed,
    InstallationChecked,
    InstallationReported,
    Installed,
    ModelsListed,
    NodesListed,
    ParametersTaken,
    ResultsRestored,
    TimerFired,
)
from ..i18n import _
from ..model_card import installed_models, model_facts, organ_model_facts
from ..result_view import template_facts
from .context import Context, carries_out
from .restoring import restored_states
from .scene_facts import list_nodes, organ_sources

__all__: list[str] = []


@carries_out(StartTimer)
def _start_timer(context: Context, effect: StartTimer) -> None:
    def fired() -> None:
        context.dispatch(TimerFired(effect.name))

    context.start_timer(effect.name, effect.milliseconds, fired)


@carries_out(StopTimer)
def _stop_timer(context: Context, effect: StopTimer) -> None:
    context.stop_timer(effect.name)


@carries_out(TakeParameters)
def _take_parameters(context: Context, _effect: TakeParameters) -> None:
    choices = context.ports.parameters.take()
    context.dispatch(NodesListed(list_nodes()))
    context.dispatch(ResultsRestored(restored_states(context)))
    context.dispatch(ParametersTaken(choices))


@carries_out(DropParameters)
def _drop_parameters(context: Context, _effect: DropParameters) -> None:
    context.ports.parameters.drop()


@carries_out(WriteChoices)
def _write_choices(context: Context, effect: WriteChoices) -> None:
    context.ports.parameters.write(dict(effect.changes))


@carries_out(ListModels)
def _list_models(context: Context, _effect: ListModels) -> None:
    installed = installed_models()
    models = tuple(
        model_facts(each, installed.folders.get(each.name)) for each in installed.manifests.values()
    )
    organs = tuple(map(organ_model_facts, installed.organs.values()))
    listed = ModelsListed(models, template_facts(), installed.problem, organs, organ_sources())
    context.dispatch(listed)


@carries_out(StopWorker)
def _stop_worker(context: Context, _effect: StopWorker) -> None:
    context.ports.services.stop_worker()


@carries_out(CheckInstallation)
def _check_installation(context: Context, _effect: CheckInstallation) -> None:
    def reported(report: str, devices: dict[str, str]) -> None:
        context.dispatch(InstallationReported(report, devices))

    installer = context.ports.installer
    context.dispatch(InstallationReported(_("Looking at the installation…")))
    context.dispatch(InstallationChecked(installer.missing()))
    try:
        installer.report(reported)
    except ValueError as error:  # no interpreter
        reported(str(error), {})


@carries_out(Install)
def _install(context: Context, _effect: Install) -> None:
    """In a turn of its own: what the person answers may take its time."""

    def install() -> None:
        try:
            with context.ports.dialogs.busy():
                context.ports.installer.install()
        except Exception as error:  # pip's, the network's …
            text = _("The packages cannot be installed: {error}")
            context.dispatch(EffectFailed(text.format(error=error), repr(error)))
        context.dispatch(Installed())

    context.start_timer("install", 0, install)
