"""The numbers of a prediction between two processes: JSON, and the DVHs' curves beside it.

The bands of the DVHs are a file of their own; without one there are none.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..app.bands import Bands
from ..errors import WorkerError
from ..evaluation.curve import VolumeCurve
from ..evaluation.dvh import Dvh
from ..evaluation.result import Evaluation
from ..schema import from_json, read_json, to_json

__all__ = ["each_dvh", "read_bands", "read_measures", "write_bands", "write_measures"]

_NUMBERS, _CURVES, _BANDS = "measures.json", "curves.npz", "bands.json"


def write_measures(folder: Path, measures: Evaluation) -> None:
    """Write the numbers into the folder of their prediction."""
    arrays: dict[str, Any] = {}

    def without_curve(number: int, dvh: Dvh) -> Dvh:
        if dvh.curve is not None:
            arrays[f"dose_{number}"] = dvh.curve.dose_gy
            arrays[f"volume_{number}"] = dvh.curve.volume
        return replace(dvh, curve=None)

    numbers = to_json(each_dvh(measures, without_curve))
    np.savez(folder / _CURVES, **arrays)
    (folder / _NUMBERS).write_text(json.dumps(numbers, ensure_ascii=True), encoding="ascii")


def read_measures(folder: Path) -> Evaluation:
    """The numbers written by `write_measures`.

    Raises:
        WorkerError: there are none, or they are damaged.
    """
    numbers = from_json(Evaluation, read_json(folder / _NUMBERS, WorkerError), error=WorkerError)
    with np.load(folder / _CURVES, allow_pickle=False) as arrays:

        def with_curve(number: int, dvh: Dvh) -> Dvh:
            if f"dose_{number}" not in arrays:
                return dvh
            curve = VolumeCurve(arrays[f"dose_{number}"], arrays[f"volume_{number}"])
            return replace(dvh, curve=curve)

        return each_dvh(numbers, with_curve)


def write_bands(folder: Path, bands: Bands) -> None:
    """Write the bands into the folder of their prediction."""
    (folder / _BANDS).write_text(json.dumps(to_json(bands), ensure_ascii=True), encoding="ascii")


def read_bands(folder: Path) -> Bands:
    """The bands written by `write_bands`.

    Raises:
        WorkerError: there are none, or they are damaged.
    """
    bands: Bands = from_json(Bands, read_json(folder / _BANDS, WorkerError), error=WorkerError)
    return bands


def each_dvh(measures: Evaluation, change: Callable[[int, Dvh], Dvh]) -> Evaluation:
    """Every DVH changed; each has a number, the same whenever they are counted."""
    number = itertools.count()
    planned, body = measures.planned, measures.body
    return replace(
        measures,
        predicted={key: change(next(number), dvh) for key, dvh in measures.predicted.items()},
        planned=planned and {key: change(next(number), dvh) for key, dvh in planned.items()},
        body=(change(next(number), body[0]), body[1] and change(next(number), body[1])),
    )
