"""The calibration that holds for a prediction, and by which model a dose was predicted."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ..errors import ModelError
from ..evaluation.calibration import (
    CALIBRATION_FILE,
    Calibration,
    StructureCalibration,
    read_calibration,
)
from ..evaluation.goal_probability import with_probabilities
from ..evaluation.plan_review import plan_review
from ..evaluation.result import ENDPOINTS
from ..evaluation.widths import StructureWidths, Widths, error_widths
from ..findings import Finding
from ..ranges import DoseGy
from ..schema import Length, Name, Pattern, from_json, parse_json, read_json, to_json, validated

if TYPE_CHECKING:
    from ..evaluation.result import Evaluation, GoalResults
    from ..models.manifest import ModelFolder, ModelManifest
    from ..prediction import Prediction

__all__ = [
    "BANDS_MISSING",
    "Bands",
    "PredictedBy",
    "PredictedFor",
    "PredictionRecord",
    "grid_words",
    "model_calibration",
    "prediction_calibration",
    "read_record",
    "with_widths",
]

BANDS_MISSING = "bands-missing"
"""Id of the finding that says why a model's calibration gave no bands."""

_PLANNED_OTHERWISE = {"beams-unlike-model", "technique-unlike-model"}  # findings of checks
_OTHERWISE = "the calibration's plans were made as those that the model learned from"

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
class NoticedThen:
    """A finding of the prediction, by its id."""

    id: Name


@dataclass(frozen=True)
@validated
class PredictionRecord:
    """What `prediction.json` says of how the dose came about."""

    model: PredictedBy
    prescription: PredictedFor
    checks: Annotated[tuple[NoticedThen, ...], Length(0, 10_000)] = ()
    widths: Annotated[Mapping[Name, StructureWidths], Length(0, 1000)] = field(default_factory=dict)

    @property
    def is_planned_otherwise(self) -> bool:
        """Whether the case's beams or technique are not those that the model learned from."""
        return bool(_PLANNED_OTHERWISE & {check.id for check in self.checks})

    def require_calibrated(self, calibration: Calibration, what: str) -> None:
        """Refuse a calibration that does not hold for the dose.

        Raises:
            ModelError: it is of other weights, protocol or prescription, or the case's beams or
                technique are not those of the calibration's plans.
        """
        calibration.require_weights(self.model.weights, self.model.protocol, what)
        other = calibration.other_prescription(self.prescription.target_gy)
        if other is None and self.is_planned_otherwise:
            other = _OTHERWISE
        if other is not None:
            raise ModelError(f"{what}: {other}.")


@dataclass(frozen=True)
class Bands:
    """What a calibration says of a prediction, as it travels with it.

    Args:
        content: the bands, as `prediction.json` has them; None without any.
        missing: why there are none although the model is calibrated.
        review: of the plan, as `prediction.json` has it; None without a plan or a calibration.
        calibrated: what was calibrated, packed; a scene may hold the prediction against further
            goals, and be opened where the model is not.
        samples: the DVHs of drawn doses, as `prediction.json` has them; None: none were drawn.
    """

    content: dict[str, Any] | None = None
    missing: str = ""
    review: dict[str, Any] | None = None
    calibrated: str = ""
    samples: dict[str, Any] | None = None

    @classmethod
    def of(cls, prediction: Prediction, evaluation: Evaluation) -> Bands:
        """By the calibration in the model's folder."""
        calibration, findings = prediction_calibration(prediction)
        if calibration is None:
            return cls(missing=" ".join(finding.message for finding in findings))
        evaluation = with_widths(prediction, evaluation)
        review = plan_review(evaluation, calibration.for_case(evaluation.widths))
        packed = _packed(calibration.structures, evaluation.widths)
        return cls(calibration.bands(evaluation), "", review, packed)

    @property
    def structures(self) -> Mapping[str, StructureCalibration] | None:
        """What was calibrated, for this case; None without it, or where a scene's is damaged."""
        return _unpacked(self.calibrated) if self.calibrated else None

    def likely(self, goals: GoalResults) -> GoalResults:
        """Records of goals with their probabilities, or why there is none."""
        return with_probabilities(goals, self.structures)


def with_widths(prediction: Prediction, evaluation: Evaluation) -> Evaluation:
    """The evaluation with what the dose's expected error makes of its endpoints, if it has one."""
    errors = prediction.of_roles(["expected error"])
    if not errors or evaluation.widths:
        return evaluation
    keys = {name: dict.fromkeys(ENDPOINTS) for name in prediction.bound.structures}
    for goal in evaluation.goal_records:
        if goal["endpoint"] and goal["bound_to"] in keys:
            keys[goal["bound_to"]][goal["endpoint"]["key"]] = None
    widths = error_widths(
        prediction.bound,
        prediction.dose,
        errors[0].volume,
        evaluation.prescriptions_gy,
        {name: tuple(each) for name, each in keys.items()},
    )
    return replace(evaluation, widths=widths)


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
    calibration.require_weights(manifest.checksums, manifest.protocol, what)
    calibration.require_grid(grid_words(manifest), what)
    return calibration


def grid_words(manifest: ModelManifest) -> str:
    """A model's grid in a line, as in `native, spacing_mm_min 3.5 × 3.5 × 2`."""
    grid = to_json(manifest.encoding.grid)
    stated = {key: value for key, value in grid.items() if value is not None}
    kind = stated.pop("kind")
    words = [f"{name} {_axes(value)}" for name, value in stated.items()]
    between = manifest.between_voxels
    return ", ".join([kind, *words, *([] if between == "linear" else [f"read as {between}"])])


def _axes(value: float | Sequence[float]) -> str:
    values = value if isinstance(value, Sequence) else [value]
    return " × ".join(f"{each:g}" for each in values)


def prediction_calibration(
    prediction: Prediction, named: Path | None = None
) -> tuple[Calibration | None, tuple[Finding, ...]]:
    """The calibration that holds for a prediction, or None, and why the model's own does not.

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
        remedy = "Take a model that learned from plans made like this one."
        return None, (_no_bands(f"{_OTHERWISE}.", remedy),)
    return calibration, ()


def _packed(structures: Mapping[str, StructureCalibration], widths: Widths) -> str:
    """By structure, its calibration and the case's widths, as compressed JSON in base64."""
    content = {
        name: [to_json(each), to_json(widths[name]) if name in widths else None]
        for name, each in structures.items()
    }
    text = json.dumps(content)
    return base64.b64encode(zlib.compress(text.encode("ascii"))).decode("ascii")


@lru_cache(maxsize=4)
def _unpacked(text: str) -> dict[str, StructureCalibration] | None:
    """Each as it is for the case; None if what was packed is damaged."""
    try:
        content = parse_json(zlib.decompress(base64.b64decode(text)).decode("ascii"))
        found = {}
        for name, (known, widths) in content.items():
            of_case = None if widths is None else from_json(StructureWidths, widths)
            found[name] = from_json(StructureCalibration, known).for_case(of_case)
        return found
    except (ValueError, TypeError, AttributeError, zlib.error):
        return None


@lru_cache(maxsize=4)
def _as_read(path: Path, _modified_ns: int) -> Calibration:
    """A file that has not changed is not read again: a worker needs it for each prediction."""
    return read_calibration(path)


def _no_bands(reason: str, remedy: str) -> Finding:
    return Finding(
        BANDS_MISSING,
        "warning",
        f"The DVHs have no bands, the goals no probabilities: {reason}",
        remedy,
    )
