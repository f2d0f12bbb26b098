"""`segment` of a CT of 512×512×165, from start to exit: time and peak memory.

    python -m benchmarks.segment_speed [--model NAME|FOLDER]

The CT is that of the shipped simulated pelvis on finer voxels.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from DosePredictionLib.io import read_case
from DosePredictionLib.io.volumes import write_volume
from DosePredictionLib.resources import resource_path
from DosePredictionLib.volume import Grid

from .large import run_command

__all__ = ["MOST_GB", "MOST_SECONDS", "main"]

MOST_SECONDS, MOST_GB = 20.0, 3.2
_SIZE = (512, 512, 165)


def main() -> None:
    """Print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pelvis-organs-simulated")
    call = parser.parse_args()
    ct = read_case(resource_path("SampleData", "simulated_pelvis")).ct
    spacing = np.array(ct.grid.spacing) * ct.grid.size / _SIZE
    fine = Grid(_SIZE, tuple(spacing.tolist()), ct.grid.origin, ct.grid.direction)
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "ct.nii.gz"
        write_volume(file, ct.resampled_to(fine, "linear"))
        output = str(Path(name) / "out")
        run = run_command("segment", str(file), "--model", call.model, "--output", output)
    sys.stdout.write(
        f"segment of {'×'.join(map(str, _SIZE))} voxels: {run.seconds:.1f} s (wanted: "
        f"{MOST_SECONDS:.0f}; CPU {run.cpu_seconds:.1f} s), peak {run.peak_gb:.2f} GB (wanted: "
        f"{MOST_GB:.1f})\n"
    )


if __name__ == "__main__":
    main()
