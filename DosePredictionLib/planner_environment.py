"""Where the planner's packages are: with the present interpreter's, or in a folder of their own.

pyRadPlan brings packages that Slicer has in other versions, so that nothing of it enters Slicer's
Python: on request pip fills a folder that only the planner's process has on its path. It is no
virtual environment by `venv`, because Slicer's interpreter lives by `PYTHONHOME`, with which Python
passes over `pyvenv.cfg`: its pip would install into Slicer.

Imports nothing but the standard library and the library's own.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import DosePredictionError, PredictionCancelled
from .files import whole_folder

__all__ = ["STEPS", "has_planner", "install_planner", "planner_folder", "planner_packages"]

STEPS: tuple[tuple[str, ...], ...] = (
    (
        "array-api-compat",
        "array-api-extra",
        "array-api-strict",
        "h5py",
        "Jinja2",
        "matplotlib>=3.9.2",
        "numpy>=2.0,<2.4",
        "numpydantic",
        "pint",
        "pydantic>=2.10,<2.13",
        "pydantic-settings",
        "pydicom>=2.4.4",
        "pymatreader",
        "scipy>=1.13",
        "SimpleITK>=2.4",
        "tqdm",
    ),
    # Alone: the packages of its language-model assistant, a hundred, plan nothing.
    ("--no-deps", "pyRadPlan==0.5.0"),
)
"""What pip is asked for, one call after the other."""

_LOOK_EVERY_SECONDS = 0.1
_LINES_KEPT = 40


def planner_folder() -> Path:
    """Where this user's planner is installed, for this version of Python."""
    tag = sys.implementation.cache_tag or "python"
    return Path.home() / ".dose-prediction" / f"planner-{tag}"


def planner_packages(folder: Path) -> Path | None:
    """What the planner's process needs on its path: nothing where this Python has pyRadPlan."""
    return None if importlib.util.find_spec("pyRadPlan") is not None else folder


def has_planner(folder: Path) -> bool:
    """Whether plans can be made: with this Python's packages, or with those of the folder."""
    return planner_packages(folder) is None or (folder / "pyRadPlan").is_dir()


def install_planner(
    folder: Path,
    heard: Callable[[float, str], None] = lambda share, stage: None,
    cancelled: Callable[[], bool] = lambda: False,
    steps: Sequence[Sequence[str]] = STEPS,
) -> None:
    """Have pip fill a folder, which appears whole or not at all.

    Args:
        heard: the share done (below 0: unknown), and what is being done.
        cancelled: asked ten times a second.
        steps: arguments of `pip install`, one call after the other.

    Raises:
        PredictionCancelled: `cancelled()` returned true.
        DosePredictionError: pip failed; its last words are in the message.
    """
    with whole_folder(folder, replace=True) as aside:
        for number, asked in enumerate(steps):
            heard(number / len(steps), f"installing {asked[-1]} and {len(asked) - 1} more")
            _pip([*asked, "--target", str(aside)], cancelled)
        heard(1.0, "installed")


def _pip(arguments: Sequence[str], cancelled: Callable[[], bool]) -> None:
    command = [sys.executable, "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
    try:
        process = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise DosePredictionError(f"pip cannot be started ({error}).") from error
    said = _said(process, cancelled)
    if process.returncode:
        last = next((line for line in reversed(said) if line.strip()), "no reason given")
        raise DosePredictionError(
            f"pip could not install the planner: {last.strip()} Look at the connection to the "
            "package index (proxy?) and at the free disk space, about 700 MB, and try again."
        )


def _said(process: subprocess.Popen[str], cancelled: Callable[[], bool]) -> list[str]:
    """What a process says to its end; ended early when it is cancelled."""
    import threading

    lines: list[str] = []
    stream = process.stdout
    assert stream is not None

    def listen() -> None:
        for line in stream:
            lines.append(line)
            del lines[:-_LINES_KEPT]

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        while process.poll() is None:
            if cancelled():
                raise PredictionCancelled("Cancelled; nothing was installed.")
            time.sleep(_LOOK_EVERY_SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        listener.join(5)
    return lines
