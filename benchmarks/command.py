"""The whole `dose-prediction predict` of the shipped head-and-neck case, from start to files.

python -m benchmarks.command
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_CASE = Path(__file__).parent.parent / "Resources" / "SampleData" / "openkbp" / "pt_235.npz"


def main() -> None:
    """Print wall time, the steps' times and the peak memory of a fresh process."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "DosePredictionLib", "predict", str(_CASE)]
        command += ["--output", output, "--report", "--json"]
        started = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - started
    record = json.loads(done.stdout)["cases"][0]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    steps = ", ".join(f"{step} {each:.1f} s" for step, each in record["timings"].items())
    sys.stdout.write(
        f"predict with report: {seconds:.1f} s from start to exit, peak {peak:.2f} GiB "
        f"({record['device']}, {record['precision']}; {steps})\n"
    )


if __name__ == "__main__":
    main()
