"""The plainest prediction there is: the training patients' mean dose, laid on the target.

    python -m training.simulation.mean_dose --recipe pelvis_simulated --training CACHE --test CACHE

A model must be far better than this to have learned anything but where the target is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from DosePredictionLib.mask import majority
from DosePredictionLib.structures.protocol import StructureProtocol
from training.__main__ import load_recipe
from training.cache import open_cache
from training.data import TrainingCase

__all__ = ["main", "mean_dose_errors"]

_HALF = 48  # voxels on each side of the target's middle


def mean_dose_errors(
    training: list[TrainingCase], test: list[TrainingCase], protocol: StructureProtocol
) -> list[float]:
    """MAE in the body of each test case, Gy, when every target gets the mean dose."""
    blocks = [_around(case.dose_gy, _middle(case, protocol)) for case in training]
    bodies = [_around(case.body.astype(np.float32), _middle(case, protocol)) for case in training]
    mean = np.sum(blocks, axis=0) / np.maximum(np.sum(bodies, axis=0), 1)
    errors = []
    for case in test:
        middle = _middle(case, protocol)
        body = majority(_around(case.body.astype(np.float32), middle))
        dose = _around(case.dose_gy, middle)
        errors.append(float(np.abs(mean - dose)[body].mean()))
    return errors


def _middle(case: TrainingCase, protocol: StructureProtocol) -> NDArray[np.int64]:
    masks = case.labels
    targets = [index for index, channel in enumerate(protocol.inputs) if channel.role == "target"]
    center = ndimage.center_of_mass(masks[targets].max(axis=0))
    return np.rint(center).astype(np.int64)


def _around(array: NDArray, middle: NDArray[np.int64]) -> NDArray[np.float32]:
    """A cube about a voxel; zeros where it reaches beyond."""
    padded = np.pad(np.asarray(array, dtype=np.float32), _HALF)
    z, y, x = (slice(int(m), int(m) + 2 * _HALF) for m in middle)
    return padded[z, y, x]


def main() -> None:
    """Print the mean over the test cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--training", type=Path, required=True, help="cache")
    parser.add_argument("--test", type=Path, required=True, help="cache")
    arguments = parser.parse_args()
    config = load_recipe(arguments.recipe)
    protocol = StructureProtocol.load(config.protocol)
    training, test = (
        open_cache(folder, protocol, config.encoding)
        for folder in (arguments.training, arguments.test)
    )
    errors = mean_dose_errors(training, test, protocol)
    sys.stdout.write(
        f"Mean dose of {len(training)} patients on {len(test)} others: MAE in body "
        f"{np.mean(errors):.2f} Gy.\n"
    )


if __name__ == "__main__":
    main()
