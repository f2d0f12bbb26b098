"""Does a scale head know where a dose is wrong? Beside a regression on what anybody can see.

    python -m benchmarks.expected_error --model MODEL --fit CACHE --cases CACHE

on caches to which `python -m training residuals` has added dose and expected error. A line a case:
Spearman's correlation with |plan − dose| above 5 Gy of the expected error, and of a cubic
regression on dose, dose gradient and distance to the target, fitted to the cases of --fit.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from DosePredictionLib.evaluation.ensembles import rank_correlation
from DosePredictionLib.models.dose_model import DoseModel

from .residuals import Residuals, read_residuals

__all__ = ["Surface", "main"]

_VOXELS = 20_000  # of a case, for the fit


class Surface:
    """|error| as a cubic polynomial of dose, gradient and distance, by least squares."""

    def __init__(self, cases: list[Residuals]) -> None:
        random = np.random.default_rng(0)
        rows, errors = [], []
        for each in cases:
            places = np.flatnonzero(each.high)
            chosen = random.choice(places, min(_VOXELS, places.size), replace=False)
            rows.append(_seen(each, chosen))
            errors.append(np.abs(each.error_gy).ravel()[chosen])
        seen = np.concatenate(rows)
        self._middle, self._width = seen.mean(axis=0), seen.std(axis=0)
        design = self._design(seen)
        self._weights, *_ = np.linalg.lstsq(design, np.concatenate(errors), rcond=None)

    def expected_gy(self, case: Residuals) -> NDArray[np.float64]:
        """At the case's voxels above 5 Gy."""
        found: NDArray[np.float64] = (
            self._design(_seen(case, np.flatnonzero(case.high))) @ self._weights
        )
        return found

    def _design(self, seen: NDArray) -> NDArray[np.float64]:
        x = (seen - self._middle) / self._width
        columns = [np.ones(len(x))]
        for degree in (1, 2, 3):
            for picked in itertools.combinations_with_replacement(range(x.shape[1]), degree):
                columns.append(x[:, picked].prod(axis=1))
        return np.stack(columns, axis=1)


def _seen(case: Residuals, places: NDArray) -> NDArray[np.float64]:
    quantities = (case.dose_gy, case.gradient_gy_mm(), case.target_distance_mm())
    return np.stack([each.ravel()[places] for each in quantities], axis=1).astype(np.float64)


def main() -> None:
    """Print a line a case, and the means."""
    if len(sys.argv) == 1:
        sys.stdout.write("needs a model and two caches: --model, --fit, --cases\n")
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder or name, with a scale")
    parser.add_argument("--fit", type=Path, required=True, help="cache that the regression sees")
    parser.add_argument("--cases", type=Path, required=True, help="cache that is judged")
    arguments = parser.parse_args()
    model = DoseModel.load(arguments.model)
    surface = Surface(read_residuals(model, arguments.fit))
    rows = []
    sys.stdout.write(
        f"{'case':<24}{'head':>8}{'surface':>9}{'|error|':>9}{'expected':>10}{'bias, Gy':>10}\n"
    )
    for each in read_residuals(model, arguments.cases):
        error, scale = each.error_gy[each.high], each.scale_gy[each.high]
        size = np.abs(error)
        row = (
            rank_correlation(size, scale),
            rank_correlation(size, surface.expected_gy(each)),
            float(size.mean()),
            float(scale.mean()),
            float(error.mean()),
        )
        rows.append(row)
        sys.stdout.write(f"{each.case.name:<24}{_numbers(row)}\n")
        sys.stdout.flush()
    if rows:
        sys.stdout.write(f"{'mean':<24}{_numbers(tuple(np.mean(rows, axis=0)))}\n")


def _numbers(row: tuple[float, ...]) -> str:
    head, surface, error, expected, bias = row
    return f"{head:>8.3f}{surface:>9.3f}{error:>9.2f}{expected:>10.2f}{bias:>+10.2f}"


if __name__ == "__main__":
    main()
