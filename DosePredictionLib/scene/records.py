"""What a saved scene needs to show, judge and report a result again, as text in a node of its own.

The numbers are those of the prediction; curves are kept at steps of 0.05 Gy, which moves no D_x by
more than that.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..app.bands import Bands
from ..case import Prescription
from ..errors import CaseError
from ..evaluation.curve import VolumeCurve
from ..evaluation.dvh import Dvh
from ..evaluation.result import Evaluation
from ..findings import Finding
from ..prediction import Prediction
from ..schema import from_json, parse_json, to_json
from ..structures.mapping import StructureMapping
from ..worker.measured import each_dvh
from .reading import SegmentInfo
from .runs import Draft

__all__ = ["ROLE_OF_RECORD", "ResultRecord", "read_record", "record_draft", "write_record"]

ROLE_OF_RECORD = "record"
_VERSION = 1
_STEP_GY = 0.05


@dataclass(frozen=True)
class ResultRecord:
    """A result without its nodes.

    Args:
        version: of this form.
        name, label: of the case and of the result.
        model: name.
        protocol: id.
        mapping, prescription, findings, fallbacks, device, precision, seconds: of the prediction.
        segments: by the structure's key.
        measures: without curves.
        curves: number of a DVH, as `each_dvh` counts → its curve.
        checksums: of the inputs, as `Fingerprint.entries`.
        is_hardened: as `SceneCase.is_hardened`.
        options: what else the result rests on, in words of the panel.
        goals: the template that it was held against: an id or a path.
        bands: of the DVHs.
    """

    version: int
    name: str
    label: str
    model: str
    protocol: str
    mapping: StructureMapping
    prescription: Prescription
    segments: dict[str, SegmentInfo]
    measures: Evaluation
    curves: dict[str, str]
    checksums: dict[str, int]
    is_hardened: bool
    findings: tuple[Finding, ...] = ()
    fallbacks: tuple[str, ...] = ()
    device: str = ""
    precision: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    goals: str = ""
    bands: Bands = field(default_factory=Bands)

    @classmethod
    def of(
        cls,
        prediction: Prediction,
        measures: Evaluation,
        segments: Mapping[str, SegmentInfo],
        about: Mapping[str, Any],
    ) -> ResultRecord:
        """The record of a prediction; `about`: the fields that only the scene knows."""
        bare, curves = _without_curves(measures)
        return cls(
            version=_VERSION,
            model=prediction.model.manifest.name,
            protocol=prediction.model.protocol.id,
            mapping=prediction.mapping,
            prescription=prediction.prescription,
            segments=dict(segments),
            measures=bare,
            curves=curves,
            findings=prediction.findings,
            fallbacks=prediction.fallbacks,
            device=prediction.device,
            precision=prediction.precision,
            seconds=dict(prediction.seconds),
            **about,
        )

    def with_measures(self, measures: Evaluation, goals: str | None = None) -> ResultRecord:
        """The same with other numbers, and held against another template."""
        bare, curves = _without_curves(measures)
        kept = self.goals if goals is None else goals
        return replace(self, measures=bare, curves=curves, goals=kept)

    def whole_measures(self) -> Evaluation:
        """The numbers with their curves."""

        def with_curve(number: int, dvh: Dvh) -> Dvh:
            text = self.curves.get(str(number))
            return dvh if text is None else replace(dvh, curve=_unpacked(text))

        return each_dvh(self.measures, with_curve)


def record_draft(name: str, record: ResultRecord) -> Draft:
    """The node of a record, saved as a file of its own beside the scene."""
    text = _text(record)

    def fill(node: Any, nodes: Mapping[str, Any]) -> None:
        node.SetForceCreateStorageNode(True)
        node.SetText(text)

    return Draft(ROLE_OF_RECORD, "vtkMRMLTextNode", f"{name}: record", fill)


def write_record(node: Any, record: ResultRecord) -> None:
    """Replace what a node holds."""
    node.SetText(_text(record))


def read_record(node: Any) -> ResultRecord:
    """What a node holds.

    Raises:
        CaseError: it is damaged, or of another version.
    """
    try:
        content = parse_json(node.GetText() or "")
    except ValueError as error:
        raise CaseError(f"{node.GetName()} holds no record of a prediction: {error}.") from error
    version = content.get("version") if isinstance(content, dict) else None
    if version != _VERSION:
        raise CaseError(
            f"{node.GetName()} has version {version}; this version of the extension reads "
            f"{_VERSION}. Predict again."
        )
    record: ResultRecord = from_json(ResultRecord, content, node.GetName(), CaseError)
    return record


def _text(record: ResultRecord) -> str:
    return json.dumps(to_json(record), ensure_ascii=True, allow_nan=False)


def _without_curves(measures: Evaluation) -> tuple[Evaluation, dict[str, str]]:
    curves: dict[str, str] = {}

    def taken(number: int, dvh: Dvh) -> Dvh:
        if dvh.curve is not None:
            curves[str(number)] = _packed(dvh.curve)
        return replace(dvh, curve=None)

    return each_dvh(measures, taken), curves


def _packed(curve: VolumeCurve) -> str:
    """A curve at even steps, float32, compressed."""
    low, high = float(curve.dose_gy[0]), float(curve.dose_gy[-1])
    count = max(2, int(np.ceil((high - low) / _STEP_GY)) + 1)
    dose_gy: NDArray = np.linspace(low, high, count)
    rows = np.stack([dose_gy, curve.volume_at(dose_gy)]).astype("<f4")
    rows[1, 0] = curve.total
    return base64.b64encode(zlib.compress(rows.tobytes())).decode("ascii")


def _unpacked(text: str) -> VolumeCurve:
    rows = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<f4").reshape(2, -1)
    dose_gy, volume = rows.astype(np.float64)
    # The volume falls to nothing at the highest dose, which the last row may still have.
    return VolumeCurve(np.append(dose_gy, dose_gy[-1]), np.append(volume, 0.0))
