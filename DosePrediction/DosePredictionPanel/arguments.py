"""What callers of the logic may give, as the worker takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .i18n import _

if TYPE_CHECKING:
    from DosePredictionLib.beams.arrangement import BeamArrangement
    from DosePredictionLib.case import Prescription
    from DosePredictionLib.findings import Finding
    from DosePredictionLib.models.manifest import ModelManifest
    from DosePredictionLib.structures.protocol import StructureProtocol
    from DosePredictionLib.wishes import Wish

__all__ = [
    "as_beams",
    "as_mapping",
    "as_prescription",
    "as_wishes",
    "manifest_of",
    "protocol_of",
    "require_no_blocking",
]


def manifest_of(model: str) -> ModelManifest:
    """The manifest of an installed model.

    Raises:
        ModelError: there is none of that name; lists those that there are.
    """
    from DosePredictionLib.errors import ModelError
    from DosePredictionLib.models.manifest import MANIFEST_FILE, installed_manifests, read_manifest

    if (Path(model) / MANIFEST_FILE).is_file():
        return read_manifest(Path(model))
    manifests = {m.manifest.name: m.manifest for m in installed_manifests().models}
    if model not in manifests:
        raise ModelError(
            _("There is no model {name}; installed are {names}.").format(
                name=model, names=", ".join(sorted(manifests)) or _("none")
            )
        )
    return manifests[model]


def protocol_of(model: str) -> StructureProtocol:
    """The structure protocol of an installed model."""
    from DosePredictionLib.structures.protocol import StructureProtocol

    return StructureProtocol.load(manifest_of(model).protocol)


def as_mapping(
    mapping: Mapping[str, str | None] | str | Path | None, model: str | None
) -> dict[str, str | None]:
    """Channel → structure, from a mapping or the path of a mapping file.

    Raises:
        MappingError: the file cannot be read, or is given without a model.
    """
    from DosePredictionLib.errors import MappingError
    from DosePredictionLib.structures.mapping_files import read_mapping

    if mapping is None:
        return {}
    if isinstance(mapping, (str, Path)):
        if not model:
            raise MappingError(_("A mapping file belongs to a model: name the model, too."))
        return dict(read_mapping(Path(mapping), protocol_of(model)))
    return dict(mapping)


def as_prescription(
    prescription: float | Mapping[str, float] | Prescription | None, model: str | None
) -> Prescription | None:
    """A prescription from a dose for the model's highest target, or from target → Gy.

    Raises:
        CaseError: a dose that is not above 0 and at most 200 Gy.
    """
    from DosePredictionLib.case import Prescription

    if prescription is None or isinstance(prescription, Prescription):
        return prescription
    if isinstance(prescription, Mapping):
        return Prescription(dict(prescription))
    target = protocol_of(model).targets[0].name if model else "PTV"
    return Prescription({target: float(prescription)})


def as_beams(beams: str | BeamArrangement | None) -> BeamArrangement | None:
    """An arrangement from a name or gantry angles, as `predict --beams` takes them.

    Raises:
        CaseError: it cannot be read, or is no arrangement.
    """
    from DosePredictionLib.beams.arrangement import parse_beams

    return parse_beams(beams, "beams") if isinstance(beams, str) else beams


def as_wishes(wishes: str | Sequence[str] | None) -> tuple[Wish, ...]:
    """Wishes from one goal's text or several, as `predict --goal` takes them.

    Raises:
        DosePredictionError: one cannot be read, or is no upper limit of a V_d in percent.
    """
    from DosePredictionLib.app.choices import WishesChoice

    texts = [wishes] if isinstance(wishes, str) else wishes or ()
    return WishesChoice.parse(texts).wishes


def require_no_blocking(findings: Sequence[Finding]) -> None:
    """Refuse inputs that cannot be predicted.

    Raises:
        CaseError: the first blocking finding, with what to do.
    """
    from DosePredictionLib.errors import CaseError

    for finding in findings:
        if finding.severity == "blocking":
            raise CaseError(f"{finding.message} {finding.remedy}".strip())
