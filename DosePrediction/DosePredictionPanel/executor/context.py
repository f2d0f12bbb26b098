"""The executor, what it is given, and the registry of what carries out which effect."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import slicer

from ..clock import Clock, Timer
from ..corrections import Corrections
from ..flow.effects import Effect
from ..flow.events import EffectFailed, Event
from ..flow.state import Choices, ExportKind
from ..i18n import _
from ..own_levels import OwnLevels
from ..services import Services

if TYPE_CHECKING:
    from ..prediction_run import PredictionRun
    from ..prepared import PreparedInputs
    from ..steps import StepRunner
    from .scene_watch import SceneWatch

__all__ = [
    "ACTIONS",
    "Context",
    "Dialogs",
    "Installer",
    "ParameterStore",
    "Ports",
    "SceneExecutor",
    "carries_out",
    "node_of",
]


class ParameterStore(Protocol):
    """The scene's parameters; Qt's is `parameter_binding.ParameterBinding`."""

    def take(self) -> Choices:
        """Use those of the scene; what they are."""

    def drop(self) -> None:
        """Let go of them."""

    def write(self, changes: dict[str, Any]) -> None:
        """Change some, by their names in `Choices`; that is no event."""


class Dialogs(Protocol):
    """What asks the person; Qt's is `qt_dialogs.QtDialogs`."""

    def path_for(self, kind: ExportKind) -> str:
        """Where to write; empty when the person does not want to."""

    def goals_file(self) -> str:
        """A file of goals; empty when the person does not want one."""

    def plan_file(self) -> str:
        """An RTPLAN; empty when the person does not want one."""

    def open_file(self, path: str) -> None:
        """Open a file with the system's program."""

    def arrange_charts(self) -> None:
        """Put the legends of the plots beside the curves, one entry a structure."""

    def busy(self) -> AbstractContextManager[None]:
        """While something short is done that the window has to wait for."""


class Installer(Protocol):
    """Looks at the installation; Slicer's is `installation.SlicerInstallation`."""

    def missing(self) -> str:
        """What is missing, in words; empty: nothing."""

    def install(self) -> None:
        """Install it."""

    def report(self, done: Callable[[str, dict[str, str]], None]) -> None:
        """Call back with a report and the devices, later.

        Raises:
            WorkerError: no interpreter is found.
        """


@dataclass(frozen=True)
class Ports:
    """What the executor works with.

    Args:
        services: the worker and the results.
        clock: timers.
        parameters, dialogs, installer, corrections, levels: see there.
    """

    services: Services
    clock: Clock
    parameters: ParameterStore
    dialogs: Dialogs
    installer: Installer
    corrections: Corrections
    levels: OwnLevels


@dataclass(eq=False)
class Context:
    """What is under way.

    Args:
        ports: what there is to work with.
        dispatch: where answers go.
        watch: speaks of the scene's events.
        timers: by name; also those that keep a call for the next turn.
        reader, shower: work in steps.
        prepared: the inputs read last.
        run, run_token: the prediction.
        organs: finding organs.
        planning: making a plan.
        cancelled_plan: token of the plan that was cancelled last.
    """

    ports: Ports
    dispatch: Callable[[Event], None]
    watch: SceneWatch
    timers: dict[str, Timer] = field(default_factory=dict)
    reader: StepRunner | None = None
    shower: StepRunner | None = None
    prepared: PreparedInputs | None = None
    run: PredictionRun | None = None
    run_token: int = 0
    organs: PredictionRun | None = None
    planning: PredictionRun | None = None
    cancelled_plan: int = 0

    def start_timer(self, name: str, milliseconds: int, call: Callable[[], None]) -> None:
        """Call after a rest, in place of what this timer would have called."""
        self.stop_timer(name)
        self.timers[name] = timer = self.ports.clock.timer(call, milliseconds)
        timer.start()

    def stop_timer(self, name: str) -> None:
        """Call nothing."""
        if name in self.timers:
            self.timers.pop(name).stop()


Action = Callable[[Context, Any], None]
Decorated = TypeVar("Decorated", bound=Action)

ACTIONS: dict[type[Effect], Action] = {}
"""Class of an effect → the function that carries it out."""


def carries_out(effect: type[Effect]) -> Callable[[Decorated], Decorated]:
    """Register a function for a class of effects; each class has one."""

    def register(action: Decorated) -> Decorated:
        assert effect not in ACTIONS, effect
        ACTIONS[effect] = action
        return action

    return register


class SceneExecutor:
    """Carries out effects; what goes wrong becomes an event."""

    def __init__(self, context: Context) -> None:
        from . import (  # noqa: F401 - they register
            basics,
            contours,
            files,
            inputs,
            looking,
            making,
            plan,
            results,
            runs,
        )

        self.context = context

    def carry_out(self, effect: Effect) -> None:
        """Do what an effect says."""
        try:
            ACTIONS[type(effect)](self.context, effect)
        except (OSError, ValueError) as error:  # the library's: cause and remedy in the message
            self.context.dispatch(EffectFailed(str(error), traceback.format_exc()))
        except Exception as error:  # shown to the person with details to copy, never lost
            text = _("The panel could not go on: {error}. Copy the details for a report.")
            message = text.format(error=f"{type(error).__name__} {error}".strip())
            self.context.dispatch(EffectFailed(message, traceback.format_exc()))


def node_of(id: str) -> Any:
    """A node by its id; None for "" and for one that has gone."""
    return slicer.mrmlScene.GetNodeByID(id) if id else None
