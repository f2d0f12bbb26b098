"""Contours held against a case's own: overlap, surfaces, volume, and what the plan's dose says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..case import Case
from ..checks.plan_dose import plan_finding
from ..errors import CaseError, NoProtocolError
from ..evaluation.contours import compare_contours
from ..evaluation.dvh import dvh
from ..files import whole_folder
from ..findings import Finding, each_once
from ..io import case_name, read_case
from ..io.totalsegmentator import in_pelvic_terms
from ..mask import Mask
from ..structures.bound import BoundCase, BoundStructure, bind, empty_structures
from ..structures.mapping import fitting_protocol
from ..structures.protocol import StructureProtocol
from ..volume import Volume
from .choices import MappingChoice
from .contour_doses import DoseChoice, predicted_doses

__all__ = ["ContourEvaluation", "ContoursRequest", "dose_on_both", "evaluate_contours"]

_ENDPOINTS = ("Dmean_gy", "D2cc_gy")
_LEAST_GY = 0.1  # that a picture is worth


@dataclass(frozen=True)
class ContoursRequest:
    """What is held against what.

    Args:
        case: with the contours that count as right, and a plan dose where there is one.
        prediction: other contours: a folder of masks or a case folder, a segmentation, an RTSTRUCT
            or a SEG, or a DICOM folder with its CT.
        protocol: id; None: the mapping file's, or the one that fits. If none fits, structures
            of one name are compared.
        mapping: structures of the case for channels.
        predict: by which model the dose is predicted on both contours; None: it is not.
        pictures: folder, made anew, of a picture for each organ whose contour moves the dose.
    """

    case: Path
    prediction: Path
    protocol: str | None = None
    mapping: MappingChoice = field(default_factory=MappingChoice)
    predict: DoseChoice | None = None
    pictures: Path | None = None


@dataclass(frozen=True)
class ContourEvaluation:
    """How two sets of contours agree.

    Args:
        structures: by the name of results: Dice, distances of surfaces, volumes and, with a plan
            dose, its endpoints on both contours (`dose`); with a model, the endpoints on the case's
            own contour of the doses that are predicted for both sets of contours (`predicted`).
        only_in_case, only_in_prediction: structures without a partner.
    """

    case: str
    protocol: str | None
    structures: Mapping[str, Mapping[str, Any]]
    only_in_case: tuple[str, ...]
    only_in_prediction: tuple[str, ...]
    findings: tuple[Finding, ...]
    model: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The record of `evaluate-contours`."""
        return {
            "case": self.case,
            "protocol": self.protocol,
            "model": self.model,
            "structures": dict(self.structures),
            "only_in_case": list(self.only_in_case),
            "only_in_prediction": list(self.only_in_prediction),
            "checks": [finding.as_json() for finding in self.findings],
        }


def evaluate_contours(request: ContoursRequest) -> ContourEvaluation:
    """Compare every organ that both have; targets and external contours are the user's.

    Raises:
        DosePredictionError: one cannot be read, they do not belong together, nothing is in both, or
            the dose cannot be predicted.
    """
    if request.pictures is not None and request.pictures.exists():
        raise CaseError(f"{request.pictures} exists: choose another folder for the pictures.")
    case = read_case(request.case)
    protocol = _protocol(case, request)
    bound = bind(case, protocol, request.mapping.of(protocol))
    masks, findings = _contours(request.prediction, case)
    masks, derived = in_pelvic_terms(masks)
    findings += derived
    other = Case(case_name(request.prediction), case.ct, masks)
    own, others = _organs(bound), _organs_of(other, bound.protocol)
    both = [name for name in own if name in others]
    if not both:
        raise CaseError(
            f"{request.case} and {request.prediction} have no organ in common: the case has "
            f"{', '.join(own) or 'none'}, the other {', '.join(others) or 'none'}."
        )
    plan = plan_finding(bound)
    findings += [plan] if plan is not None else []
    doses = None
    if request.predict is not None:
        exchanged = {name: others[name].mask for name in both}
        doses = predicted_doses(case, own, exchanged, request.mapping, request.predict)
        findings += doses.findings
    structures: dict[str, dict[str, Any]] = {}
    for name in both:
        mask, other_mask = own[name].mask, others[name].mask
        agreement = compare_contours(other_mask, mask)
        structures[name] = {
            **asdict(agreement),
            "volume_difference_cc": agreement.volume_cc - agreement.reference_cc,
            "dose": _change((case.plan_dose, mask), (case.plan_dose, other_mask)),
            "predicted": None if doses is None else _change((doses.own, mask), (doses.other, mask)),
        }
    if request.pictures is not None:
        shown = case.plan_dose or (doses.own if doses is not None else None)
        pairs = {name: (own[name].mask, others[name].mask) for name in both}
        _draw(request.pictures, case, shown, pairs, structures)
    return ContourEvaluation(
        case.name,
        None if bound.protocol is None else bound.protocol.id,
        structures,
        tuple(name for name in own if name not in others),
        tuple(name for name in others if name not in own),
        tuple(each_once([*findings, *bound.findings])),
        None if doses is None else doses.model,
    )


def _protocol(case: Case, request: ContoursRequest) -> StructureProtocol | None:
    """The protocol that was named or that fits; contours alone, so that no target is required."""
    named = request.protocol or request.mapping.protocol
    if named is not None:
        return StructureProtocol.load(named)
    try:
        chosen, empty = request.mapping.of(), empty_structures(case)
        return fitting_protocol(list(case.structures), chosen, empty, required=())
    except NoProtocolError:
        return None


def _contours(path: Path, case: Case) -> tuple[dict[str, Mask], list[Finding]]:
    """Contours by name, on the case's grid."""
    from ..io.dicom import is_dicom, read_contours
    from ..io.nifti import add_structures, mask_files, read_structures
    from ..io.volumes import file_stem

    if not path.exists():
        raise CaseError(f"There are no contours {path}: no such file or folder.")
    findings: list[Finding] = []
    masks: dict[str, Mask] = {}
    files = mask_files(path) if path.is_dir() else {file_stem(path): path}
    if not is_dicom(path):
        for file in files.values():
            add_structures(masks, read_structures(file, case.grid, findings), file)
        if not masks:
            raise CaseError(f"{path} holds no masks: expected a file a structure.")
        return masks, findings
    frame = case.origin.frame_of_reference_uid if case.origin else None
    alone = [path] if path.is_file() else [each for each in path.iterdir() if is_dicom(each)]
    if len(alone) == 1:
        return read_contours(alone[0], case.grid, frame)
    read = read_case(path)
    if not read.grid.matches(case.grid):
        raise CaseError(f"{path} lies on {read.grid}, {case.name} on {case.grid}: other CTs.")
    return dict(read.structures), list(read.findings)


def _organs(bound: BoundCase) -> dict[str, BoundStructure]:
    """Structures that are neither target nor external contour."""
    return {
        name: each
        for name, each in bound.structures.items()
        if each.role not in ("target", "external")
    }


def _organs_of(case: Case, protocol: StructureProtocol | None) -> dict[str, BoundStructure]:
    """As `_organs`, of other contours under the same protocol; by their own names without one."""
    if protocol is None:
        return _organs(BoundCase(case, None, None, None, ()))
    return _organs(bind(case, protocol, required=()))


def dose_on_both(dose_gy: Volume, own: Mask, other: Mask) -> dict[str, Any]:
    """What a dose says on two contours: endpoint → `reference`, `contour` and `difference`, Gy.

    Args:
        own: the `reference`.
        other: the `contour`; the difference is what it says more. None where one is empty.
    """
    return _change((dose_gy, own), (dose_gy, other)) or {}


def _change(
    own: tuple[Volume | None, Mask], other: tuple[Volume | None, Mask]
) -> dict[str, Any] | None:
    """Endpoints of a dose in a contour and of another dose or contour, Gy; None without a dose."""
    read = {}
    for name, (dose, mask) in (("reference", own), ("contour", other)):
        if dose is None:
            return None
        read[name] = dvh(dose, mask)
    found: dict[str, Any] = {}
    for key in _ENDPOINTS:
        values = {name: each.endpoint(key) for name, each in read.items()}
        reference, contour = values["reference"], values["contour"]
        known = reference is not None and contour is not None
        values["difference"] = contour - reference if known else None  # type: ignore[operator]
        found[key] = values
    return found


def _draw(
    folder: Path,
    case: Case,
    dose: Volume | None,
    masks: Mapping[str, tuple[Mask, Mask]],
    structures: Mapping[str, Mapping[str, Any]],
) -> None:
    """Draw the organs whose contour moves an endpoint by `_LEAST_GY` or more, the rest is no news.

    Raises:
        CaseError: there is no dose.
    """
    from ..report.contour_change import ContourChange, draw_change, worst_slice

    if dose is None:
        raise CaseError(
            f"{case.name} has no plan dose to draw: leave out --pictures, or let the dose be "
            "predicted (--predict)."
        )
    with whole_folder(folder) as aside:
        for name, (own, other) in masks.items():
            said = _in_words(structures[name])
            change = ContourChange(name, case.ct, dose, own, other, said)
            if said and worst_slice(change) is not None:
                draw_change(change, aside / f"{name.replace('/', '_')}.png")


def _in_words(structure: Mapping[str, Any]) -> tuple[str, ...]:
    """What a contour's change does to the doses; nothing if that is less than `_LEAST_GY`."""
    lines, largest = [], 0.0
    for key, label in (("dose", "read on it"), ("predicted", "predicted for it")):
        parts = []
        for endpoint in _ENDPOINTS:
            change = (structure[key] or {}).get(endpoint, {}).get("difference")
            if change is not None:
                parts.append(f"d{endpoint.removesuffix('_gy')} {change:+.2f} Gy")
                largest = max(largest, abs(change))
        if parts:
            lines.append(f"{label}: {', '.join(parts)}")
    return tuple(lines) if largest >= _LEAST_GY else ()
