"""The sections of the panel from top to bottom: one line, one `.ui` and one module each.

A section named `Checks` has its widgets in `Resources/UI/Checks.ui` and the class `ChecksSection`
in `sections/checks.py`, made with (`ui`, `dispatch`), which draws a state with `draw(state)` and
reports with events what the person does.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from ..flow.events import Event
from ..flow.state import PanelState

__all__ = ["SECTIONS", "Section", "make_section"]

SECTIONS = (
    "Inputs",
    "Beams",
    "Wishes",
    "Structures",
    "Contours",
    "Checks",
    "Run",
    "Result",
    "Plan",
    "Display",
    "Advanced",
    "Installation",
)


class Section(Protocol):
    """A part of the panel."""

    def draw(self, state: PanelState) -> None:
        """Show a state; cheap when nothing that it shows has changed."""


def make_section(name: str, ui: Any, dispatch: Callable[[Event], None]) -> Section:
    """A section of the registry; `ui` has all widgets of the panel by name."""
    module = import_module(f".{name.lower()}", __name__)
    section: Section = getattr(module, f"{name}Section")(ui, dispatch)
    return section
