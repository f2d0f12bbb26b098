"""The dose predicted on other contours, against the dose predicted on the case's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..case import Case
from ..findings import Finding
from ..mask import Mask
from ..structures.bound import BoundStructure
from ..volume import Volume
from .choices import MappingChoice

__all__ = ["DoseChoice", "PredictedDoses", "predicted_doses"]


@dataclass(frozen=True)
class DoseChoice:
    """Which model predicts, and where.

    Args:
        model: name or folder; None: the one that fits the case.
        device, precision: as of `predict`.
    """

    model: str | None = None
    device: str = "auto"
    precision: str = "auto"


class PredictedDoses(NamedTuple):
    """Both doses on the case's grid, the model's name, and what was noticed on the way."""

    own: Volume
    other: Volume
    model: str
    findings: tuple[Finding, ...]


def predicted_doses(
    case: Case,
    own: Mapping[str, BoundStructure],
    others: Mapping[str, Mask],
    mapping: MappingChoice,
    choice: DoseChoice,
) -> PredictedDoses:
    """Predict twice; targets, external contour and organs without a partner are the case's own.

    Args:
        own: the case's organs by the name of results.
        others: other contours of some of them, on the case's grid.

    Raises:
        DosePredictionError: no model fits, it is one of organs, or it refuses the case.
    """
    from ..inference.predictor import Predictor, default_model
    from ..models.dose_model import DoseModel

    chosen = mapping.of()
    model = DoseModel.load(choice.model) if choice.model else default_model(case, chosen)
    model.require("dose")
    predictor = Predictor(model, choice.device, choice.precision)
    named = mapping.of(model.protocol)
    plain = replace(case, plan_dose=None)
    first = predictor.predict(plain, named)
    swapped = {own[name].source: mask for name, mask in others.items()}
    exchanged = replace(plain, structures={**case.structures, **swapped})
    second = predictor.predict(exchanged, named)
    findings = (*first.findings, *second.findings)
    return PredictedDoses(first.dose, second.dose, model.manifest.name, findings)
