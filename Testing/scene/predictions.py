"""A prediction without a network: the plan, changed."""

from __future__ import annotations

from typing import Any

import numpy as np

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.prediction import Output, Prediction
from DosePredictionLib.structures.mapping import map_structures


def prediction_of(
    case: Case,
    model: DoseModel,
    factor: float = 1.04,
    further: tuple[Output, ...] = (),
    **extra: Any,
) -> Prediction:
    plan = case.plan_dose
    array = case.structures["PTV"].array * 45.0 if plan is None else plan.array * factor
    mapping = map_structures(list(case.structures), model.protocol)
    body = mapping.structure("Body")
    assert body is not None
    dose = case.ct.with_array(np.asarray(array, dtype=np.float32))
    return Prediction(
        case=case,
        model=model,
        outputs=(Output("dose", dose, "dose", "Gy"), *further),
        mapping=mapping,
        prescription=Prescription({"PTV": 45.0}, 25),
        external=case.structures[body],
        findings=(),
        fallbacks=(),
        device="cpu",
        precision="fp32",
        seconds={"inference": 1.0},
        **extra,
    )
