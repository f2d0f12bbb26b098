"""Bands of a prediction from its model's calibration, and by which model a dose was predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ..errors import ModelError
from ..evaluation.calibration import CALIBRATION_FILE, Calibration, read_calibration, weights_of
from ..findings import Finding
from ..ranges import DoseGy
from ..schema import Length, Name, Pattern, from_json, read_json, validated

if TYPE_CHECKING:
    from ..evaluation.result import Evaluation
    from ..models.manifest import ModelFolder
    from ..prediction import Prediction

__all__ = [
    "BANDS_MISSING",
    "Bands",
    "PredictedBy",
    "PredictedFor",
    "PredictionRecord",
    "model_calibration",
    "prediction_bands",
    "read_record",
]

BANDS_MISSING = "bands-missing"
"""Id of the finding that says why a model's calibration gave no bands."""

_PLANNED_OTHERWISE = {"beams-unlike-model", "technique-unlike-model"}  # findings of checks

_Sha256 = Annotated[str, Pattern("[0-9a-f]{64}", "a SHA-256 of 64 hexadecimal digits")]


@dataclass(frozen=True)
@validated
class PredictedBy:
    """The model that a record names; `members_sha256` are the networks beside its first."""

    name: Name
    protocol: Name
    weights_sha256: _Sha256
    members_sha256: Annotated[tuple[_Sha256, ...], Length(0, 100)] = ()

    @property
    def weights(self) -> tuple[str, ...]:
        """Checksums of all networks."""
        return (self.weights_sha256, *self.members_sha256)


@dataclass(frozen=True)
@validated
class PredictedFor:
    """The prescription that a dose was scaled to, target → Gy."""

    target_gy: Annotated[Mapping[Name, DoseGy], Length(1, 100)]


@dataclass(frozen=True)
@validated
class PredictionRecord:
    """What `prediction.json` says of how the dose came about."""

    model: PredictedBy
    prescription: PredictedFor


@dataclass(frozen=True)
class Bands:
    """The bands of a prediction, as they travel with it.

    Args:
        content: as `prediction.json` has them; None without any.
        missing: why there are none although the model is calibrated.
    """

    content: dict[str, Any] | None = None
    missing: str = ""

    @classmethod
    def of(cls, prediction: Prediction, evaluation: Evaluation) -> Bands:
        """By the calibration in the model's folder."""
        content, findings = prediction_bands(prediction, evaluation)
        return cls(content, " ".join(finding.message for finding in findings))


def read_record(path: Path) -> PredictionRecord:
    """How a predicted dose came about.

    Raises:
        ModelError: there is no `prediction.json`, or it does not say it.
    """
    return from_json(PredictionRecord, read_json(path, ModelError), str(path), ModelError, [])


def model_calibration(model: ModelFolder, named: Path | None = None) -> Calibration | None:
    """The calibration of a model: the named file, else that of its folder; None: it has none.

    Raises:
        ModelError: it cannot be read, or is of other weights or another protocol.
    """
    path = named or model.folder / CALIBRATION_FILE
    if named is None and not path.is_file():
        return None
    calibration = (
        _as_read(path, path.stat().st_mtime_ns) if named is None else read_calibration(path)
    )
    manifest = model.manifest
    what = f"the model {manifest.name}"
    calibration.require_weights(weights_of(manifest), manifest.protocol, what)
    return calibration


def prediction_bands(
    prediction: Prediction, evaluation: Evaluation, named: Path | None = None
) -> tuple[dict[str, Any] | None, tuple[Finding, ...]]:
    """The bands of a prediction, or None, and why there are none although there is a calibration.

    Args:
        named: a calibration that goes before the model's own.

    Raises:
        ModelError: the named calibration is of another model. One in the model's folder that
            cannot be used is a finding: the dose stands without it.
    """
    try:
        calibration = model_calibration(prediction.model, named)
    except ModelError as exception:
        if named is not None:
            raise
        return None, (_no_bands(str(exception), "Remove or renew the model's calibration."),)
    if calibration is None:
        return None, ()
    other = calibration.other_prescription(prediction.prescription.target_gy)
    if other is not None:
        return None, (_no_bands(f"{other}.", "Calibrate plans of this prescription."),)
    if _PLANNED_OTHERWISE & {finding.id for finding in prediction.findings}:
        reason = "the calibration's plans were made as those that the model learned from."
        return None, (_no_bands(reason, "Calibrate plans that were made like this one."),)
    return calibration.bands(evaluation), ()


@lru_cache(maxsize=4)
def _as_read(path: Path, _modified_ns: int) -> Calibration:
    """A file that has not changed is not read again: a worker needs it for each prediction."""
    return read_calibration(path)


def _no_bands(reason: str, remedy: str) -> Finding:
    return Finding(BANDS_MISSING, "warning", f"The DVHs have no bands: {reason}", remedy)
