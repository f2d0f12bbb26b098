"""A large CT with many structures, in processes of their own: bounded time and memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.large import MOST_GB, MOST_SECONDS, measured


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="measures by wait4")
def test_512_by_512_by_400_with_30_structures_stays_within_bounds(tmp_path: Path) -> None:
    runs = measured(tmp_path)
    assert set(runs) == {"nifti predict", "nifti evaluate", "dicom predict", "dicom evaluate"}
    for name, run in runs.items():
        assert run.peak_gb <= MOST_GB, (name, run)
        # CPU time on both cores: what the clock shows depends on what else the machine does.
        assert run.cpu_seconds <= 2 * MOST_SECONDS, (name, run)
