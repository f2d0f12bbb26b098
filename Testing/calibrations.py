"""A calibration of made-up residuals, for a model whose predictions need bands."""

from __future__ import annotations

import json
from pathlib import Path

from DosePredictionLib.evaluation.calibration import (
    CALIBRATION_FILE,
    VOLUMES_PERCENT,
    Calibration,
    StructureCalibration,
)
from DosePredictionLib.models.manifest import ModelFolder
from DosePredictionLib.schema import to_json

PATIENTS = 19
"""The 90 % interval spans their residuals from the lowest to the highest."""


def calibrate(model: ModelFolder, *names: str) -> Path:
    """Write `calibration.json`: plans lie up to 0.9 Gy or percent beside predictions.

    Args:
        names: of the structures.
    """
    steps = tuple(0.1 * (rank - PATIENTS // 2) for rank in range(PATIENTS))
    each = StructureCalibration(
        {"Dmean_gy": steps, "D95_gy": steps, "V40Gy_percent": steps},
        (2.0,) * len(VOLUMES_PERCENT),
        tuple(0.05 * (1 + rank) for rank in range(PATIENTS)),
    )
    calibration = Calibration(
        schema_version=1,
        model=model.manifest.name,
        weights_sha256=model.manifest.checksums,
        protocol=model.manifest.protocol,
        prescription_gy={"PTV": 45.0},
        patients=tuple(f"patient {rank}" for rank in range(PATIENTS)),
        structures=dict.fromkeys(names, each),
    )
    path = model.folder / CALIBRATION_FILE
    path.write_text(json.dumps(to_json(calibration)), encoding="utf-8")
    return path
