"""Tasks by the name that manifests and recipes give them. Without torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

from .. import __version__
from ..errors import ModelError
from ..structures.protocol import StructureProtocol

if TYPE_CHECKING:
    from .task import Task

__all__ = ["TASKS", "Gives", "TaskEntry", "require_task", "task_class", "task_entry"]

Gives = Literal["dose", "segment", "spread", "sample"]
"""The role of the outputs that a task is done for."""

_HEAD = (
    "is a head that says how far plans lie from another model's dose: choose that model, in whose "
    "folder it lies."
)

_REFUSED: dict[Gives, str] = {
    "dose": "predicts a dose and finds no organs: choose a model of organs, or predict with it "
    "(dose-prediction predict).",
    "segment": "finds organs and predicts no dose: choose a model of doses, or find organs with it "
    "(dose-prediction segment).",
    "spread": _HEAD,
    "sample": _HEAD,
}
"""By what a task gives: why it is refused where something else is wanted."""


@dataclass(frozen=True)
class TaskEntry:
    """What is known of a task before torch is loaded.

    Args:
        implementation: `module:Class` of its `task.Task`, imported when a network is run.
        required: the channels of a protocol without which it cannot be done; by default those that
            the protocol itself calls required.
        gives: the role of its main outputs.
    """

    implementation: str
    required: Callable[[StructureProtocol], tuple[str, ...]] = attrgetter("required")
    gives: Gives = "dose"


TASKS: dict[str, TaskEntry] = {
    "beam_dose": TaskEntry(f"{__package__}.beam_dose:BeamDose"),
    "dose_diffusion": TaskEntry(f"{__package__}.dose_diffusion:DoseDiffusion"),
    "dose_regression": TaskEntry(f"{__package__}.dose_regression:DoseRegression"),
    "residual_flow": TaskEntry(f"{__package__}.residual_flow:ResidualFlow", gives="sample"),
    "residual_scale": TaskEntry(f"{__package__}.residual_scale:ResidualScale", gives="spread"),
    "segmentation": TaskEntry(
        f"{__package__}.segmentation:Segmentation", required=lambda protocol: (), gives="segment"
    ),
}
"""Every task of this version."""


def task_entry(name: str, of: str = "The model") -> TaskEntry:
    """A task of this version.

    Args:
        of: what is of the task, for the message.

    Raises:
        ModelError: this version does not know it.
    """
    if name not in TASKS:
        raise ModelError(
            f"{of} is of the task {name!r}, which version {__version__} of DosePrediction does not "
            f"know; it knows {', '.join(sorted(TASKS))}. Install a version that knows it, or "
            "choose another model."
        )
    return TASKS[name]


def require_task(name: str, gives: Gives, of: str = "The model") -> None:
    """Refuse a task that gives something else than what is wanted.

    Raises:
        ModelError: it does, or this version does not know it; says what to do.
    """
    given = task_entry(name, of).gives
    if given != gives:
        raise ModelError(f"{of} {_REFUSED[given]}")


def task_class(name: str, of: str = "The model") -> type[Task]:
    """The implementation of a task, which needs torch; raises as `task_entry`."""
    module, _, attribute = task_entry(name, of).implementation.partition(":")
    implementation: type[Task] = getattr(importlib.import_module(module), attribute)
    return implementation
