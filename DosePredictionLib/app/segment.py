"""Organs found on CTs, from files to files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..case import Case
from ..checks.registry import check_case
from ..errors import CaseError, ModelError
from ..files import check_file_name, file_set, json_text
from ..findings import Finding, each_once, worst_first
from ..io import read_case
from ..io.nifti import write_case_folder
from ..mask import Mask
from ..prediction import Prediction
from ..structures.bound import propose_binding
from .choices import MappingChoice
from .output import json_ready
from .outputs import earlier_files, require_no_foreign, require_writable
from .predict import Watch
from .several import Several, work_on_cases

if TYPE_CHECKING:
    from ..models.dose_model import DoseModel

__all__ = ["FORMATS", "SegmentRequest", "SegmentedCase", "model_of_organs", "segment_cases"]

Format = Literal["nifti", "seg", "rtstruct", "dicom-seg"]
FORMATS: tuple[Format, ...] = ("nifti", "seg", "rtstruct", "dicom-seg")
"""A case folder, a segmentation of 3D Slicer, or contours or masks on the slices of a DICOM CT."""

_OF_SLICES = {"rtstruct": "an RTSTRUCT", "dicom-seg": "a DICOM SEG"}

_RECORD = "segmentation.json"
_STATEMENT = (
    "Contours that a neural network found: proposals to be checked by somebody. Research only; not "
    "for clinical use."
)
_CONTRIBUTION = "Organs contoured by a neural network; research only"
_OF_THE_CALL = ("structure-missing", "external-missing")  # what is found is not missing


@dataclass(frozen=True)
class SegmentRequest:
    """On what to find organs, and with what.

    Args:
        cases: CTs, or folders and files that `read_case` takes.
        output: the files of a case go into a folder of its name in it.
        model: name or folder; None: the one that is installed.
        device: `auto`, `cpu`, `cuda` or `cuda:n`.
        precision: `auto`, `fp32`, `bf16` or `fp16`.
        mapping: structures for channels.
        fill_missing: keep the case's own contours, and add organs that have none.
        format: what is written.
    """

    cases: tuple[Path, ...]
    output: Path
    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    mapping: MappingChoice = field(default_factory=MappingChoice)
    fill_missing: bool = False
    format: Format = "nifti"


@dataclass(frozen=True)
class SegmentedCase:
    """Contours that have been written; `record` is the content of `segmentation.json`."""

    folder: Path
    record: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The record, with paths that lead to its files."""
        files = [str(self.folder / name) for name in self.record["files"]]
        return {**self.record, "folder": str(self.folder), "files": files}

    def text(self) -> str:
        """The record in a few lines for people."""
        record = self.record
        lines = [
            f"{record['case']}: {record['model']} on {record['device']} in {record['precision']}, "
            f"{record['seconds']['total']:.1f} s",
            f"  written {self.folder}",
        ]
        for name, each in record["structures"].items():
            source = "found - check it" if each["source"] == "model" else "the case's own"
            lines.append(f"  {name:<24}{each['volume_cc']:>9.1f} cc  {source}")
        return "\n".join([*lines, "  Research only; not for clinical use."])


def segment_cases(request: SegmentRequest, watch: Watch | None = None) -> Several[SegmentedCase]:
    """Find the organs of each case and write them. See `work_on_cases` for what becomes of errors.

    Raises:
        DosePredictionError: the request itself is wrong, or its only case failed.
    """
    watch = watch or Watch()
    require_writable(request.output)
    if request.format == "dicom-seg":
        from ..io.dicom.seg_writing import require_seg_writer

        require_seg_writer()
    model = model_of_organs(request.model)
    from ..inference.predictor import Predictor

    predictor = Predictor(model, request.device, request.precision)

    def one(path: Path) -> SegmentedCase:
        started = time.perf_counter()
        case = read_case(path, ct_alone=True)
        _require_place(path, case, request)
        prediction = predictor.predict(
            case,
            request.mapping.of(predictor.model.protocol),
            progress=lambda share, stage: watch.progress(case.name, share, stage),
        )
        contoured = _contoured(prediction, request.fill_missing)
        watch.findings(contoured.findings)
        return _write(prediction, contoured, request, started)

    return work_on_cases(request.cases, one, watch.failed)


def model_of_organs(name: str | None) -> DoseModel:
    """The model of organs that was named, or the one that is installed.

    Raises:
        ModelError: there is none, it finds no organs, or there are several to choose from.
    """
    from ..models.dose_model import DoseModel
    from ..tasks.registry import task_entry

    if name is not None:
        model = DoseModel.load(name)
        model.require("segment")
        return model
    installed = DoseModel.installed()
    models = [each for each in installed if task_entry(each.manifest.task).gives == "segment"]
    chosen = [each for each in models if each.manifest.default] or models
    if not chosen:
        raise ModelError(
            "No model that finds organs is installed: install the extension again, which ships "
            "one, or train one (docs/segmentation.md) and name its folder by --model."
        )
    if len(chosen) > 1:
        names = ", ".join(each.manifest.name for each in chosen)
        raise ModelError(f"Several models find organs ({names}): name one by --model.")
    return chosen[0]


def _require_place(path: Path, case: Case, request: SegmentRequest) -> None:
    """Refuse what could not be written, before work starts.

    Raises:
        CaseError: the case's own files lie there, or contours have no slices to refer to.
    """
    folder = request.output / case.name
    if folder.resolve() == path.resolve():
        raise CaseError(
            f"{folder} is the case itself, whose files are not touched: choose another --output."
        )
    if request.format in _OF_SLICES and case.origin is None:
        raise CaseError(
            f"{case.name} does not come from DICOM: {_OF_SLICES[request.format]} refers to the "
            "CT's slices. Write --format nifti or seg instead."
        )


class _Contoured(NamedTuple):
    """The case with what was found, which of its structures that is, and what is to be said."""

    case: Case
    found: frozenset[str]
    findings: tuple[Finding, ...]


def _contoured(prediction: Prediction, fill_missing: bool) -> _Contoured:
    """Put what was found beside the contours that stay.

    The target is always the case's own, and so is an external contour that it has.
    """
    bound, protocol = prediction.bound, prediction.model.protocol
    own = bound.structures
    always = ("target", "external")
    kept = {each.source: each.mask for each in own.values() if fill_missing or each.role in always}
    taken = {name for name, each in own.items() if each.source in kept}
    found = {each.structure: Mask.of(each.volume) for each in prediction.of_roles(["segment"])}
    if protocol.external is not None:
        found[protocol.external.name] = Mask.of(prediction.external)
    added = {name: mask for name, mask in found.items() if name not in taken and name is not None}
    findings = [
        Finding(
            "contour-name-taken",
            "warning",
            f"The case has a structure of its own called {name}, which fills no channel of that "
            "name: what was found is not written.",
            f"Rename it, or map it (--map {name}={name}).",
            structure=name,
        )
        for name in added
        if name in kept
    ]
    structures = {**added, **kept}
    case = replace(prediction.case, structures=structures, plan_dose=None, strips=None)
    mapping = bound.mapping.assigned if bound.mapping is not None else {}
    chosen: dict[str, str | None] = {n: s for n, s in mapping.items() if s in structures}
    chosen |= {name: name for name in added if name not in kept}
    judged = propose_binding(replace(case, findings=()), protocol, chosen, required=())
    checked = check_case(judged, prediction.model.manifest.expectations)
    # What was said of the case as it came is said anew of what is written.
    again = {(each.id, each.structure) for each in checked}
    findings += [
        each
        for each in prediction.findings
        if each.id not in _OF_THE_CALL and (each.id, each.structure) not in again
    ]
    findings += checked
    return _Contoured(case, frozenset(added) - set(kept), tuple(worst_first(each_once(findings))))


def _write(
    prediction: Prediction, contoured: _Contoured, request: SegmentRequest, started: float
) -> SegmentedCase:
    """Write contours and record as one set; those of an earlier call go.

    Raises:
        CaseError: a file is there that no earlier call wrote.
    """
    case = contoured.case
    folder = request.output / case.name
    earlier = earlier_files(folder, _RECORD)
    manifest = prediction.model.manifest
    record: dict[str, Any] = {
        "statement": _STATEMENT,
        "case": case.name,
        "model": manifest.name,
        "weights_sha256": manifest.weights_sha256,
        "device": prediction.device,
        "precision": prediction.precision,
        "fallbacks": list(prediction.fallbacks),
        "structures": {
            name: {
                "source": "model" if name in contoured.found else "case",
                "volume_cc": float(mask.weights().sum()) * mask.grid.voxel_volume_cc,
            }
            for name, mask in case.structures.items()
        },
    }
    with file_set(folder, earlier) as aside:
        written = _write_contours(aside, prediction, contoured, request.format)
        findings = [*contoured.findings, *written]
        total = round(time.perf_counter() - started, 3)
        record |= {
            "checks": [finding.as_json() for finding in findings],
            "seconds": {**prediction.seconds, "total": total},
            "files": sorted([*(file.name for file in aside.iterdir()), _RECORD]),
        }
        require_no_foreign(folder, record["files"], earlier)
        (aside / _RECORD).write_text(json_text(json_ready(record)), encoding="utf-8")
    return SegmentedCase(folder, record)


def _write_contours(
    folder: Path, prediction: Prediction, contoured: _Contoured, kind: Format
) -> list[Finding]:
    """The contours in the format that was asked for."""
    case = contoured.case
    protocol = prediction.model.protocol
    colors = {channel.name: channel.color for channel in protocol.channels}
    if kind == "nifti":
        safe = {name.replace("/", "_").replace("\\", "_"): m for name, m in case.structures.items()}
        for name in safe:
            check_file_name(name, "a mask's file (write --format seg instead)", CaseError)
        write_case_folder(folder, replace(case, structures=safe))
        return []
    if kind == "seg":
        from ..io.seg_nrrd import write_segmentation

        write_segmentation(folder / "organs.seg.nrrd", case.structures, case.grid, colors)
        return []
    from ..io.dicom.rtstruct import Equipment, write_rtstruct

    equipment = replace(Equipment.of_model(prediction.model.manifest), contribution=_CONTRIBUTION)
    shown = {name: _rgb(color) for name, color in colors.items()}
    path = folder / "organs.dcm"
    if kind == "dicom-seg":
        from ..io.dicom.seg_writing import write_dicom_seg

        write_dicom_seg(path, case, contoured.found, equipment, shown)
        return []
    return write_rtstruct(path, case.structures, case, equipment, "Organs", shown)


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue
