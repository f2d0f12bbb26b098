"""What a number format does to two-stage doses of shipped cases, against float32, and its time.

The shift is the mean difference where float32 gives at least 90 % of the highest prescription; the
difference is the mean absolute one in the body. Seconds are those of the inference of `predict`,
the median of five after a warm-up. With `ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2` in the
environment bfloat16 is emulated: slow, but rounded alike.

    python -m benchmarks.precision
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from DosePredictionLib.inference.allocator import keep_freed_memory
from DosePredictionLib.inference.device import resolve_precision
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.io import read_case
from DosePredictionLib.prediction import Prediction

REPEATS = 5
_SAMPLES = Path(__file__).parent.parent / "Resources" / "SampleData"
SHIPPED_CASES = (
    (_SAMPLES / "openkbp" / "pt_235.npz", "openkbp-two-stage"),
    (_SAMPLES / "simulated_pelvis", "pelvis-simulated"),
)
"""Cases, and the models of the one architecture for which 16 bits are chosen."""


class Deviation(NamedTuple):
    """How far a dose is from that of float32, in Gy."""

    shift_gy: float
    difference_gy: float


def deviation(prediction: Prediction, reference: Prediction) -> Deviation:
    """The mean difference in the high dose, and the mean absolute one in the body.

    Args:
        reference: the same case in float32.
    """
    difference = prediction.dose.array - reference.dose.array
    high = reference.dose.array >= 0.9 * reference.prescription.highest_gy
    body = reference.bound.external.touched()
    return Deviation(float(difference[high].mean()), float(np.abs(difference[body]).mean()))


def main() -> None:
    """Print a row for each shipped case and number format."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    keep_freed_memory()
    write = sys.stdout.write
    write(f"{'':<18}{'format':<8}{'shift, Gy':>10}{'difference, Gy':>16}{'seconds':>9}\n")
    for path, model in SHIPPED_CASES:
        case = read_case(path)
        reference: Prediction | None = None
        for precision in ("fp32", "bf16") if device == "cpu" else ("fp32", "bf16", "fp16"):
            predictor = Predictor(model, device, precision)
            prediction = predictor.predict(case)  # the warm-up
            reference = reference or prediction
            times = [predictor.predict(case).seconds["inference"] for _ in range(REPEATS)]
            found = deviation(prediction, reference)
            write(f"{case.name:<18}{precision:<8}{found.shift_gy:>+10.4f}")
            write(f"{found.difference_gy:>16.4f}{statistics.median(times):>9.2f}\n")
            sys.stdout.flush()
    automatic = resolve_precision("auto", predictor.device)
    write(f"chosen by itself here: {automatic}\n")


if __name__ == "__main__":
    main()
