"""A real patient, cropped to what the shipped model predicts in a second or two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import OPENKBP_SAMPLE

from DosePredictionLib.case import Case
from DosePredictionLib.io import read_case
from DosePredictionLib.volume import Volume
from DosePredictionLib.worker.client import WorkerClient


@pytest.fixture(scope="session")
def small_case() -> Case:
    """Sixteen slices through the middle of the shipped head-and-neck patient's targets."""
    case = read_case(OPENKBP_SAMPLE)
    target = next(mask for name, mask in case.structures.items() if "PTV" in name)
    middle = int(np.median(np.nonzero(target.array)[0]))
    slices = slice(middle - 8, middle + 8)

    def cropped(volume: Volume) -> Volume:
        x, y, _ = volume.grid.size
        grid = volume.grid.cropped((0, 0, slices.start), (x, y, 16))
        return Volume(np.ascontiguousarray(volume.array[slices]), grid)

    assert case.plan_dose is not None and case.dose_mask is not None
    return replace(
        case,
        ct=cropped(case.ct),
        structures={name: cropped(mask) for name, mask in case.structures.items()},
        plan_dose=cropped(case.plan_dose),
        dose_mask=cropped(case.dose_mask),
    )


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerClient]:
    """A worker that stays warm over a module's tests."""
    with WorkerClient() as client:
        yield client


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    """A launcher as an installed Slicer has it: a process in front of the real interpreter."""
    import sys

    path = tmp_path / "PythonSlicer"
    path.write_text(f'#!/bin/sh\n"{sys.executable}" "$@" <&0\n', encoding="utf-8")
    path.chmod(0o755)
    return path
