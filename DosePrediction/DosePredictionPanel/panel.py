"""The panel: sections, the store between them and the executor. It decides and computes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer

from .charts import Charts
from .corrections import Corrections
from .data_probe import show_doses_in_gray
from .executor.context import Context, Ports, SceneExecutor
from .executor.scene_watch import SceneWatch
from .flow.events import (
    ApplyPressed,
    CancelPressed,
    ChoicesChanged,
    Entered,
    Event,
    Exited,
    NextFindingPressed,
    PanelClosed,
    Started,
    StructureHovered,
)
from .flow.state import PanelState, Run
from .flow.store import Store
from .installation import SlicerInstallation
from .own_levels import OwnLevels
from .parameter_binding import ParameterBinding
from .parameters import DosePredictionParameterNode
from .qt_clock import QtClock
from .qt_dialogs import QtDialogs
from .sections import SECTIONS, make_section
from .services import services

__all__ = ["Panel"]

_KEYS: dict[str, Callable[[], Event]] = {
    "Ctrl+Return": lambda: ApplyPressed(time.monotonic()),
    "Ctrl+Backspace": CancelPressed,
    "F8": NextFindingPressed,
}
"""Keys → what they do while the module is open."""


class Panel:
    """What the module's widget holds.

    Args:
        logic: a `DosePredictionLogic`.
        ui_folder: where the sections' `.ui` files lie.

    Attributes:
        widget: all sections, one below the other.
        ui: the widgets of all sections by name.
        store: the state, and where events go.
    """

    def __init__(self, logic: Any, ui_folder: Path) -> None:
        self.logic = logic
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for name in SECTIONS:
            section = slicer.util.loadUI(str(ui_folder / f"{name}.ui"))
            layout.addWidget(section)
            section.setMRMLScene(slicer.mrmlScene)
        layout.addStretch(1)
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.store = Store(self._draw)
        dispatch = self.store.dispatch
        self._sections = [make_section(name, self.ui, dispatch) for name in SECTIONS]
        self._binding = ParameterBinding(
            self.ui, logic.getParameterNode, lambda choices: dispatch(ChoicesChanged(choices))
        )
        self._watch = SceneWatch(dispatch)
        ports = Ports(
            services=services(),
            clock=QtClock(),
            parameters=self._binding,
            dialogs=QtDialogs(Charts(self._curve_hovered)),
            installer=SlicerInstallation(),
            corrections=Corrections.of_user(),
            levels=OwnLevels.of_user(),
        )
        self.store.executor = SceneExecutor(Context(ports, dispatch, self._watch))
        self._shortcuts = [self._shortcut(keys, event) for keys, event in _KEYS.items()]
        show_doses_in_gray()
        self._draw(self.store.state)
        self._watch.start()
        dispatch(Started())

    def enter(self) -> None:
        """The module is opened."""
        self._enable_shortcuts(True)
        self.store.dispatch(Entered())

    def exit(self) -> None:
        """Another module is opened."""
        self._enable_shortcuts(False)
        self.store.dispatch(Exited())

    def close(self) -> None:
        """The panel goes away."""
        self._enable_shortcuts(False)
        self._watch.stop()
        self.store.close(PanelClosed())
        self._binding.removeObservers()

    @property
    def parameters(self) -> DosePredictionParameterNode:
        """The scene's parameters; there are some whenever a scene is open."""
        assert self._binding.parameters is not None
        return self._binding.parameters

    @property
    def run(self) -> Run | None:
        """The prediction under way."""
        return self.store.state.run

    @property
    def is_showing_result(self) -> bool:
        """Whether a new result is being shown, step by step."""
        return self.store.state.showing is not None

    def _curve_hovered(self, name: str) -> None:
        """The curve of a structure is under the mouse; the table of DVHs knows its key."""
        result = self.store.state.result
        table = None if result is None else result.tables.get("dvh")
        rows = () if table is None else zip(table.rows, table.places, strict=True)
        keys = {cells[0].text: key for cells, (key, _sense) in rows if cells[0].text}
        self.store.dispatch(StructureHovered(keys.get(name, "")))

    def _shortcut(self, keys: str, event: Callable[[], Event]) -> Any:
        """Keys of the main window, while the module is open; without a window there are none."""
        window = slicer.util.mainWindow()
        if window is None:
            return None
        shortcut = qt.QShortcut(qt.QKeySequence(keys), window)
        shortcut.enabled = False
        shortcut.connect("activated()", lambda: self.store.dispatch(event()))
        return shortcut

    def _enable_shortcuts(self, is_enabled: bool) -> None:
        for shortcut in self._shortcuts:
            if shortcut is not None:
                shortcut.enabled = is_enabled

    def _draw(self, state: PanelState) -> None:
        for section in self._sections:
            section.draw(state)
