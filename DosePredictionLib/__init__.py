"""Radiotherapy dose prediction: cases, models, prediction and evaluation.

Research software, not a medical device; not for clinical use.

>>> from DosePredictionLib import predict, read_case
>>> prediction = predict(read_case("Resources/SampleData/openkbp/pt_201.npz"))  # doctest: +SKIP
>>> prediction.dose.array.max()  # Gy, (z, y, x) on the CT's own grid  # doctest: +SKIP

Names are imported on first use, so that importing the package costs nothing: no torch, no readers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_HOME = {
    "Case": "case",
    "DosePredictionError": "errors",
    "DoseModel": "models.dose_model",
    "Grid": "volume",
    "Prediction": "prediction",
    "Predictor": "inference.predictor",
    "Prescription": "case",
    "StructureProtocol": "structures.protocol",
    "Volume": "volume",
    "dose_score": "evaluation.scores",
    "dvh": "evaluation.dvh",
    "dvh_score": "evaluation.scores",
    "gamma": "evaluation.gamma",
    "predict": "inference.predictor",
    "read_case": "io",
    "tangent_strips": "encoding.strips",
}

__all__ = [
    "Case",
    "DoseModel",
    "DosePredictionError",
    "Grid",
    "Prediction",
    "Predictor",
    "Prescription",
    "StructureProtocol",
    "Volume",
    "__version__",
    "dose_score",
    "dvh",
    "dvh_score",
    "gamma",
    "predict",
    "read_case",
    "tangent_strips",
]

if TYPE_CHECKING:
    from .case import Case, Prescription
    from .encoding.strips import tangent_strips
    from .errors import DosePredictionError
    from .evaluation.dvh import dvh
    from .evaluation.gamma import gamma
    from .evaluation.scores import dose_score, dvh_score
    from .inference.predictor import Predictor, predict
    from .io import read_case
    from .models.dose_model import DoseModel
    from .prediction import Prediction
    from .structures.protocol import StructureProtocol
    from .volume import Grid, Volume


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
