"""The panel without its window: store, executor, a real scene and a real worker over pipes."""

from __future__ import annotations

import contextlib
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import slicer
from DosePredictionPanel.corrections import Corrections
from DosePredictionPanel.executor.context import Context, Ports, SceneExecutor
from DosePredictionPanel.executor.scene_watch import SceneWatch
from DosePredictionPanel.flow import events as on
from DosePredictionPanel.flow.levels import levels_text
from DosePredictionPanel.flow.state import Choices, PanelState
from DosePredictionPanel.flow.store import Store
from DosePredictionPanel.own_levels import OwnLevels
from DosePredictionPanel.services import Services
from DosePredictionPanel.views import run_view

from DosePredictionLib.worker.launch import worker_launch
from DosePredictionLib.worker.messages import Failure, Log, Progress, Ready
from DosePredictionLib.worker.session import Session

_LONGEST_S = 120.0
_FASTER = 10  # than a person, whose strokes and choices the panel waits for


class LoopClock:
    """An event loop that turns when it is reported to."""

    def __init__(self) -> None:
        self.timers: list[LoopTimer] = []

    def now_s(self) -> float:
        return time.monotonic()

    def timer(
        self, call: Callable[[], None], milliseconds: int = 0, *, repeats: bool = False
    ) -> LoopTimer:
        return LoopTimer(self, call, milliseconds / 1000 / _FASTER, repeats)

    def turn(self) -> None:
        """Call what is due, each once."""
        now = self.now_s()
        for timer in [each for each in self.timers if each.due_s <= now]:
            if timer in self.timers:  # not stopped by one before it
                timer.fire()


class LoopTimer:
    """See `DosePredictionPanel.clock.Timer`."""

    def __init__(
        self, clock: LoopClock, call: Callable[[], None], seconds: float, repeats: bool
    ) -> None:
        self._clock, self._call, self._seconds, self._repeats = clock, call, seconds, repeats
        self.due_s = 0.0

    def start(self) -> None:
        self.stop()
        self.due_s = self._clock.now_s() + self._seconds
        self._clock.timers.append(self)

    def stop(self) -> None:
        with contextlib.suppress(ValueError):
            self._clock.timers.remove(self)

    def fire(self) -> None:
        if not self._repeats:
            self.stop()
        self._call()


class PipeWorker:
    """The real worker's process with threads in place of Qt's signals."""

    def __init__(self, scratch: Path, packages: Path | None = None) -> None:
        self._scratch, self._packages, self._session = scratch, packages, Session()
        self._process: subprocess.Popen[bytes] | None = None
        self._handlers: dict[str, Callable[[Any], None]] = {}
        self._arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    @property
    def is_busy(self) -> bool:
        """Whether a request has no answer yet."""
        self.take_up()
        return bool(self._handlers)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send(self, request: Any, on_reply: Callable[[Any], None]) -> None:
        if not self.is_running:
            self._start()
        line = self._session.predict(request)
        self._handlers[request.id] = on_reply
        self._write(line)

    def cancel(self, id: str) -> None:
        if id in self._handlers and self.is_running:
            self._write(self._session.cancel(id))

    def wait(self, is_done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        deadline = time.monotonic() + (timeout_s or _LONGEST_S)
        while not is_done() and time.monotonic() < deadline:
            self.take_up()
            time.sleep(0.01)
        return is_done()

    def stop(self, wait: bool = False) -> None:
        if self._process is not None:
            self._write(self._session.shutdown())
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(120)
            self._ended()

    def kill(self) -> None:
        """As if the system had ended it, in the midst of its work."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(120)

    def take_up(self) -> None:
        """Hand over what has arrived."""
        while not self._arrived.empty():
            data = self._arrived.get()
            if not data:
                self._ended()
                return
            for reply in self._session.feed(data):
                self._hand_over(reply)

    def _start(self) -> None:
        launch = worker_launch(scratch=self._scratch, packages=self._packages)
        self._process = process = subprocess.Popen(
            [launch.program, *launch.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(launch.environment),
            bufsize=0,
        )
        self._arrived = arrived = queue.SimpleQueue()
        stream: Any = process.stdout

        def carry() -> None:
            with stream:
                while data := stream.read(65536):
                    arrived.put(data)
            arrived.put(b"")

        threading.Thread(target=carry, daemon=True).start()

    def _write(self, line: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(line)

    def _ended(self) -> None:
        if self._process is None:
            return
        code, self._process = self._process.wait(120), None
        session, self._session = self._session, Session()
        for failure in session.ended(code):
            self._hand_over(failure)

    def _hand_over(self, reply: Any) -> None:
        if isinstance(reply, (Ready, Log)):
            return
        handler = self._handlers.get(reply.id)
        if handler is None:
            return
        if not isinstance(reply, Progress):
            del self._handlers[reply.id]
        handler(reply)
        assert not isinstance(reply, Failure) or reply.message


class Parameters:
    """A parameter node without Slicer's wrapper."""

    def __init__(self) -> None:
        self.choices = Choices()

    def take(self) -> Choices:
        return self.choices

    def drop(self) -> None:
        self.choices = Choices()  # a closed scene's are empty

    def write(self, changes: dict[str, Any]) -> None:
        self.choices = replace(self.choices, **changes)


class Dialogs:
    """Answers at once."""

    def __init__(self) -> None:
        self.path, self.goals, self.plan, self.opened = "", "", "", ""

    def path_for(self, kind: str) -> str:
        return self.path

    def goals_file(self) -> str:
        return self.goals

    def plan_file(self) -> str:
        return self.plan

    def open_file(self, path: str) -> None:
        self.opened = path

    def arrange_charts(self) -> None:
        self.arranged = True

    def busy(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()


class Installer:
    """Everything is there."""

    def missing(self) -> str:
        return ""

    def install(self) -> None:
        raise AssertionError("nothing is missing")

    def report(self, done: Callable[[str, dict[str, str]], None]) -> None:
        done("complete", {"auto": "Automatic", "cpu": "CPU"})


class Bench:
    """A panel to be driven by a test, and looked at through its state."""

    def __init__(self, services: Services, home: Path) -> None:
        self.services, self.clock = services, services.clock
        self.parameters, self.dialogs = Parameters(), Dialogs()
        self.store = Store(lambda state: None)
        dispatch = self.store.dispatch
        self.watch = SceneWatch(dispatch)
        corrections = Corrections(home / "corrections.json")
        self.levels = levels = OwnLevels(home / "isodoses.json")
        ports = Ports(
            services,
            self.clock,
            self.parameters,
            self.dialogs,
            Installer(),
            corrections,
            levels,
        )
        self.store.executor = SceneExecutor(Context(ports, dispatch, self.watch))
        self.watch.start()
        dispatch(on.Started())
        dispatch(on.Entered())

    def ports_levels(self) -> str:
        """What is kept of the isodose levels."""
        return levels_text(self.levels.recall())

    @property
    def state(self) -> PanelState:
        return self.store.state

    @property
    def notices(self) -> list[str]:
        return [notice.text for notice in run_view(self.state).notices]

    @property
    def is_ready(self) -> bool:
        return run_view(self.state).button.enabled and self.state.run is None

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is under way or waits for its time."""
        assert isinstance(self.clock, LoopClock)
        state = self.state
        return not (state.run or state.reading or state.showing or self.clock.timers)

    def choose(self, **choices: Any) -> None:
        """As a script does: nodes, not their ids."""
        plain = {k: v.GetID() if hasattr(v, "GetID") else v for k, v in choices.items()}
        self.parameters.write(plain)
        self.store.dispatch(on.ChoicesChanged(self.parameters.choices))

    def node(self, id: str) -> Any:
        """A node by its id."""
        return slicer.mrmlScene.GetNodeByID(id)

    def turn(self) -> None:
        """One turn of the event loop."""
        assert isinstance(self.clock, LoopClock)
        self.clock.turn()
        for worker in self.services.workers:
            worker.take_up()  # type: ignore[attr-defined]

    def until(self, done: Callable[[], bool], seconds: float = _LONGEST_S) -> None:
        """Turn the loop until something is so."""
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, (run_view(self.state), self.state.reading)
            self.turn()
            time.sleep(0.001)

    def apply(self) -> None:
        """Press the button once everything is read and checked."""
        self.until(lambda: self.is_ready and self.is_at_rest)
        self.press()
        assert self.state.run is not None, self.notices

    def press(self) -> None:
        """Press the button; not as the second click of a double click."""
        self.store.dispatch(on.ApplyPressed(self.state.pressed_s + 10 if self.pressed else 0.0))

    @property
    def pressed(self) -> bool:
        return self.state.pressed_s >= 0

    def predict(self) -> None:
        """From the inputs to the shown result."""
        self.apply()
        self.until(lambda: self.state.run is None)
        self.until(lambda: self.is_at_rest)
