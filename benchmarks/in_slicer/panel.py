"""The panel inside a 3D Slicer with a window: how long Apply takes, and how long the window stops.

    Slicer --python-script benchmarks/in_slicer/panel.py --size 256 256 64

The shipped simulated patient, on a grid of that size if one is given, is predicted twice with the
default model of its protocol (the second time by a warm worker), and measured while the window
draws. Then strokes are predicted live, a second patient is loaded, predicted and switched to and
fro, and Apply is pressed `--applies` times more, to see what piles up. A step is what the module
does in one turn of the event loop; a gap is the time between two turns, with everything that Slicer
draws in it.
This file lies in a folder of its own because Slicer puts a script's folder first on `sys.path`.
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
            time.sleep(_BEAT_MS / 1000)  # the worker needs the processor
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


def measure(size: tuple[int, int, int] | None, applies: int) -> None:
    """Drive the panel and print what it took."""
    slicer.util.selectModule("DosePrediction")
    panel = slicer.modules.doseprediction.widgetRepresentation().self().panel
    beat = _Beat()
    parameters = panel.parameters
    nodes = _sample_of(size)
    parameters.ctVolume, parameters.segmentation, parameters.planDose = nodes
    seconds = beat.until(lambda: bool(panel.ui.applyButton.enabled))
    voxels = "×".join(map(str, nodes[0].GetImageData().GetDimensions()))
    _say(f"{voxels} voxels, model {parameters.modelName}")
    _say(f"inputs read and checked: {seconds:.2f} s; {beat}")
    before = _resident_mib()
    for name in ("first Apply", "warm Apply"):
        _apply(panel, beat, name)
        _say(f"  Slicer's memory grew by {_resident_mib() - before:.0f} MiB")
    started = time.perf_counter()
    parameters.goalTemplate = "prostate_78_39"
    _say(f"another goal template: {time.perf_counter() - started:.3f} s")
    _strokes(panel, beat, nodes)
    _switches(panel, beat, nodes[0])
    _pile(panel, beat, applies)


def _apply(panel: Any, beat: _Beat, name: str) -> None:
    """Press the button and say what came of it, from the press to the dose on the slices."""
    rested = time.perf_counter() + _REST_S
    beat.until(partial(_is_ready, panel, rested))
    panel.ui.applyButton.click()
    seconds = beat.until(lambda: panel.run is None)
    # Inputs were handed over before: the module's first step is to read the result.
    waiting = max(beat.gaps[: beat.before_steps], default=0.0)
    stated = str(beat)
    shown = beat.until(lambda: not panel.is_showing_result)
    timings = panel.logic.shared.prediction(panel.parameters.resultDose).seconds
    inference = timings["inference"]
    _say(
        f"{name}: on the slices after {seconds + shown:.2f} s, inference {inference:.2f} s "
        f"(in the scene after {seconds:.2f} s)"
    )
    _say(f"  in the worker: {timings}")
    _say(f"  while the worker works: longest gap {1000 * waiting:.0f} ms")
    _say(f"  with taking up the result: {stated}")
    _say(f"  showing: {beat}")


def _strokes(panel: Any, beat: _Beat, nodes: tuple[Any, Any, Any]) -> None:
    """Slices of the bladder are taken away, one after the other, with Live."""
    beat.until(partial(_is_ready, panel, time.perf_counter() + _REST_S))
    panel.parameters.live = True
    content = nodes[1].GetSegmentation()
    segment = content.GetSegmentIdBySegmentName("Bladder")
    for _ in range(3):
        array = slicer.util.arrayFromSegmentBinaryLabelmap(nodes[1], segment, nodes[0])
        array[array.any(axis=(1, 2)).nonzero()[0][0]] = 0
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, nodes[1], segment, nodes[0])
        started = time.perf_counter()
        rest = beat.until(lambda: panel.run is not None)
        beat.until(lambda: panel.run is None and not panel.is_showing_result)
        seconds = time.perf_counter() - started
        timings = panel.logic.shared.prediction(panel.parameters.resultDose).seconds
        _say(
            f"live stroke: {seconds:.2f} s, of which inference {timings['inference']:.2f} s; "
            f"{rest:.2f} s until it is asked for, at rest and read; {beat}"
        )
        _say(f"  in the worker: {timings}")
        beat.until(partial(_is_ready, panel, time.perf_counter() + _REST_S))
    panel.parameters.live = False


def _switches(panel: Any, beat: _Beat, first: Any) -> None:
    """To a second patient and back."""
    second, *_ = panel.logic.loadSample("DosePredictionProstate")
    beat.until(partial(_is_ready, panel, time.perf_counter() + _REST_S))
    _apply(panel, beat, "second patient")
    for name, ct in (("back to the first", first), ("to the second again", second)):
        started = time.perf_counter()
        panel.parameters.ctVolume = ct
        beat.until(lambda: not panel.is_showing_result)
        _say(f"switching {name}: {time.perf_counter() - started:.2f} s; {beat}")
        beat.until(partial(_is_ready, panel, time.perf_counter() + _REST_S))


def _pile(panel: Any, beat: _Beat, applies: int) -> None:
    """The same again and again: nothing may pile up."""
    counts = []
    for _ in range(applies):
        beat.until(partial(_is_ready, panel, time.perf_counter() + _REST_S))
        panel.ui.applyButton.click()
        beat.until(lambda: panel.run is None and not panel.is_showing_result)
        counts.append((slicer.mrmlScene.GetNumberOfNodes(), _resident_mib()))
    if counts:
        (nodes, mib), (nodes_after, mib_after) = counts[0], counts[-1]
        _say(
            f"{applies} Applies: {nodes} nodes, then {nodes_after}; {mib:.0f} MiB, then "
            f"{mib_after:.0f} ({100 * (mib_after / mib - 1):+.1f} %)"
        )


def _sample_of(size: tuple[int, int, int] | None) -> tuple[Any, Any, Any]:
    """Nodes of the shipped patient on a grid of `size` voxels (x, y, z); None: on its own."""
    from DosePredictionLib.io import read_case
    from DosePredictionLib.mask import to_binary
    from DosePredictionLib.scene.loading import load_case
    from DosePredictionLib.volume import Grid, Volume

    case = read_case(_SAMPLE)
    assert case.plan_dose is not None
    if size is None:
        return load_case(case)
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
        parser.add_argument("--size", type=int, nargs=3)
        parser.add_argument("--applies", type=int, default=20)
        call = parser.parse_args(sys.argv[1:])
        measure(call.size and tuple(call.size), call.applies)
    except (Exception, SystemExit):  # Slicer would stay up with it
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    slicer.util.exit(code)


if __name__ == "__main__":
    qt.QTimer.singleShot(1000, _run)
