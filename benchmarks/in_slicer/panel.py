"""The panel inside a 3D Slicer with a window: how long Apply takes, and how long the window stops.

    Slicer --python-script benchmarks/in_slicer/panel.py --size 256 256 64

The shipped simulated patient is brought onto a grid of that size, predicted twice with the default
model of its protocol (the second time by a warm worker), and measured while the window draws. A
step is what the module does in one turn of the event loop; a gap is the time between two turns,
with everything that Slicer draws in it. This file lies in a folder of its own because Slicer puts a
script's folder first on `sys.path`.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import qt
import slicer

_SAMPLE = Path(__file__).resolve().parents[2] / "Resources" / "SampleData" / "simulated_pelvis"
_BEAT_MS = 5
_REST_S = 2.0  # after a result the panel looks once more at its inputs
_LONGEST_WAIT_S = 300.0


class _Beat:
    """The longest gaps of the event loop, and the longest steps of the module."""

    def __init__(self) -> None:
        from DosePredictionPanel.steps import StepRunner

        self.gaps: list[float] = []
        self.steps: list[float] = []
        self.before_steps = 0  # how many of the gaps
        self._last = time.perf_counter()
        self._timer = qt.QTimer()
        self._timer.setInterval(_BEAT_MS)
        self._timer.connect("timeout()", self._beat)
        take_step = StepRunner._tick

        def timed(runner: Any) -> None:
            if not self.steps:
                self.before_steps = len(self.gaps)
            started = time.perf_counter()
            take_step(runner)
            self.steps.append(time.perf_counter() - started)

        StepRunner._tick = timed  # type: ignore[method-assign, assignment]

    def until(self, done: Callable[[], bool]) -> float:
        """Let the window live until something is true; the seconds that took."""
        self.gaps, self.steps = [], []
        started = self._last = time.perf_counter()
        self._timer.start()
        while not done():
            slicer.app.processEvents()
            time.sleep(0.001)
            if time.perf_counter() - started > _LONGEST_WAIT_S:
                raise TimeoutError("The panel did not get ready.")
        self._timer.stop()
        return time.perf_counter() - started

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now

    def __str__(self) -> str:
        def longest(values: list[float]) -> str:
            return ", ".join(f"{1000 * value:.0f}" for value in sorted(values)[:-5:-1]) or "none"

        return f"longest steps {longest(self.steps)} ms; longest gaps {longest(self.gaps)} ms"


def _is_ready(panel: Any, rested: float) -> bool:
    """Whether the panel has rested until a time and can be applied."""
    return bool(time.perf_counter() > rested and panel.ui.applyButton.enabled)


def measure(size: tuple[int, int, int]) -> None:
    """Drive the panel and print what it took."""
    slicer.util.selectModule("DosePrediction")
    panel = slicer.modules.doseprediction.widgetRepresentation().self().panel
    beat = _Beat()
    parameters = panel.parameters
    nodes = _sample_of(size)
    parameters.ctVolume, parameters.segmentation, parameters.planDose = nodes
    seconds = beat.until(lambda: bool(panel.ui.applyButton.enabled))
    _say(f"{'×'.join(map(str, size))} voxels, model {parameters.modelName}")
    _say(f"inputs read and checked: {seconds:.2f} s; {beat}")
    before = _resident_mib()
    for name in ("first Apply", "warm Apply"):
        rested = time.perf_counter() + _REST_S
        beat.until(partial(_is_ready, panel, rested))
        panel.ui.applyButton.click()
        seconds = beat.until(lambda: panel.run is None)
        # Inputs were handed over before: the module's first step is to read the result.
        waiting = max(beat.gaps[: beat.before_steps], default=0.0)
        stated, grown = str(beat), _resident_mib() - before
        shown = beat.until(lambda: not panel.is_showing_result)
        timings = panel.logic.shared.prediction(parameters.resultDose).seconds
        _say(
            f"{name}: dose in the scene after {seconds:.2f} s, all of it shown {shown:.2f} s later"
        )
        _say(f"  in the worker: {timings}; Slicer's memory grew by {grown:.0f} MiB")
        _say(f"  while the worker works: longest gap {1000 * waiting:.0f} ms")
        _say(f"  with taking up the result: {stated}")
        _say(f"  showing: {beat}")
    started = time.perf_counter()
    parameters.goalTemplate = "prostate_78_39"
    _say(f"another goal template: {time.perf_counter() - started:.3f} s")


def _sample_of(size: tuple[int, int, int]) -> tuple[Any, Any, Any]:
    """Nodes of the shipped patient on a grid of `size` voxels (x, y, z)."""
    from DosePredictionLib.io import read_case
    from DosePredictionLib.mask import to_binary
    from DosePredictionLib.scene.loading import load_case
    from DosePredictionLib.volume import Grid, Volume

    case = read_case(_SAMPLE)
    assert case.plan_dose is not None
    extent_mm = np.array(case.grid.size) * case.grid.spacing
    in_plane = max(extent_mm[0] / size[0], extent_mm[1] / size[1])
    spacing = np.array([in_plane, in_plane, extent_mm[2] / size[2]])
    low_mm = np.array(case.grid.origin) - np.array(case.grid.spacing) / 2
    margin_mm = (spacing * size - extent_mm) / 2
    grid = Grid(size, tuple(spacing), tuple(low_mm - margin_mm + spacing / 2))
    ct = case.ct.resampled_to(grid, "linear", outside=-1000.0)
    masks = {name: mask.resampled_to(grid, "linear") for name, mask in case.structures.items()}
    fitted = replace(
        case,
        ct=Volume(np.round(ct.array).astype(np.int16), grid),
        structures={name: Volume(to_binary(mask.array), grid) for name, mask in masks.items()},
        plan_dose=case.plan_dose.resampled_to(grid, "linear"),
    )
    return load_case(fitted)


def _resident_mib() -> float:
    """This process's memory (Linux); nan elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(s.split()[1]) / 1024 for s in lines if s.startswith("VmRSS")), np.nan)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _run() -> None:
    code = 0
    try:
        parser = argparse.ArgumentParser(add_help=False)  # Slicer keeps --help for itself
        parser.add_argument("--size", type=int, nargs=3, default=(256, 256, 64))
        measure(tuple(parser.parse_args(sys.argv[1:]).size))
    except (Exception, SystemExit):  # Slicer would stay up with it
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    slicer.util.exit(code)


if __name__ == "__main__":
    qt.QTimer.singleShot(1000, _run)
