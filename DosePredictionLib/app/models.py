"""Installed models: listed, shown, verified, imported from checkpoints, combined."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks.distribution import model_distribution
from ..errors import ModelError
from ..findings import Finding
from ..resources import model_folders
from ..schema import to_json
from ..structures.protocol import StructureProtocol
from .bands import model_calibration

if TYPE_CHECKING:
    from ..models.dose_model import DoseModel

__all__ = [
    "CombineRequest",
    "ImportRequest",
    "ListedModel",
    "MadeModel",
    "combine",
    "import_checkpoint",
    "list_models",
    "show_model",
    "skipped_models",
    "verify_model",
]


@dataclass(frozen=True)
class ImportRequest:
    """A published checkpoint to make a model folder of.

    Args:
        checkpoint: file.
        name: of the model.
        protocol: id.
        output: folder of model folders; None: the user's own.
        spacing_mm: (x, y, z), for cases that do not have the network's own size.
    """

    checkpoint: Path
    name: str
    protocol: str
    output: Path | None = None
    spacing_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class CombineRequest:
    """Models whose doses are averaged as one.

    Args:
        models: names or folders.
        name: of the combined model.
        title: how a person reads it; None: the name.
        output: folder of model folders; None: the user's own.
        mirror: average with mirrored patients, too.
    """

    models: tuple[str, ...]
    name: str
    title: str | None = None
    output: Path | None = None
    mirror: bool = False


@dataclass(frozen=True)
class ListedModel:
    """An installed model.

    Args:
        parameters: trainable values of all its networks; None if one needs what is not installed.
    """

    name: str
    title: str
    protocol: str
    architecture: str
    networks: int
    parameters: int | None
    default: bool
    path: str

    def as_json(self) -> dict[str, Any]:
        """Its JSON object."""
        return dict(to_json(self))


@dataclass(frozen=True)
class MadeModel:
    """A model folder that was written."""

    name: str
    path: str
    networks: int

    def as_json(self) -> dict[str, str]:
        """`name` and `path`."""
        return {"name": self.name, "path": self.path}


def list_models() -> tuple[ListedModel, ...]:
    """Every installed model."""
    from ..models.dose_model import DoseModel

    return tuple(_listed(model) for model in DoseModel.installed())


def skipped_models() -> tuple[Finding, ...]:
    """Why folders in the model path are not among the models."""
    from ..models.manifest import installed_manifests

    return tuple(installed_manifests().skipped)


def show_model(name: str) -> dict[str, Any]:
    """A model's card, as JSON types.

    Raises:
        ModelError: it is missing or damaged.
    """
    from ..models.dose_model import DoseModel
    from ..models.heads import verified_heads

    model = DoseModel.load(name)
    calibration, distribution = model_calibration(model), model_distribution(model)
    return {
        **to_json(model.manifest),
        "path": str(model.folder),
        "calibration": None if calibration is None else calibration.summary(),
        "distribution": None if distribution is None else distribution.summary(),
        "heads": {
            name: {"title": head.manifest.title, "weights_sha256": head.manifest.weights_sha256}
            for name, head in verified_heads(model).items()
        },
    }


def verify_model(name: str) -> dict[str, Any]:
    """Check a model's weights against its checksum; its calibration, distribution and heads too.

    Raises:
        ModelError: they are not those of the manifest, or one of these is of others.
    """
    from ..models.dose_model import DoseModel
    from ..models.heads import verified_heads

    model = DoseModel.load(name)
    for each in (model, *verified_heads(model).values()):
        for member in each.members:
            each.network(member)
    model_calibration(model)
    model_distribution(model)
    manifest = model.manifest
    return {"name": manifest.name, "verified": True, "sha256": manifest.weights_sha256}


def import_checkpoint(request: ImportRequest) -> MadeModel:
    """Turn a published checkpoint into a model folder.

    Raises:
        DosePredictionError: it does not fit, or the spacing is for another kind of grid.
    """
    from ..models.dose_model import DoseModel
    from ..models.published import published_encoding

    protocol = StructureProtocol.load(request.protocol)
    encoding = None
    if request.spacing_mm is not None:
        encoding = published_encoding(protocol)
        if encoding.grid.kind != "as-is":
            raise ModelError(f"--spacing is for protocols of a fixed grid, not {protocol.id}.")
        encoding = replace(encoding, grid=replace(encoding.grid, spacing_mm=request.spacing_mm))
    root = request.output or model_folders()[-1]
    model = DoseModel.import_checkpoint(request.checkpoint, request.name, protocol, root, encoding)
    return _made(model)


def combine(request: CombineRequest) -> MadeModel:
    """Make one model of several.

    Raises:
        ModelError: they do not go together.
    """
    from ..models.combine import combine_models
    from ..models.dose_model import DoseModel

    models = [DoseModel.load(name) for name in request.models]
    root = request.output or model_folders()[-1]
    title = request.title or request.name
    return _made(combine_models(models, request.name, title, root, request.mirror))


def _made(model: DoseModel) -> MadeModel:
    return MadeModel(model.manifest.name, str(model.folder), len(model.members))


def _listed(model: DoseModel) -> ListedModel:
    manifest = model.manifest
    return ListedModel(
        name=manifest.name,
        title=manifest.title,
        protocol=manifest.protocol,
        architecture=manifest.architecture.name,
        networks=len(model.members),
        parameters=_parameters(model),
        default=manifest.default,
        path=str(model.folder),
    )


def _parameters(model: DoseModel) -> int | None:
    from ..networks import build_network, parameter_count

    architectures = [each.architecture or model.manifest.architecture for each in model.members]
    try:
        networks = [build_network(each.name, each.arguments) for each in architectures]
    except ModelError:
        return None
    return sum(parameter_count(network) for network in networks)
