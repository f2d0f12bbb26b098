"""What `model.json` says of a model. Reads manifests without torch, so that a list of models and
their cards costs a window nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..checks.preflight import ModelExpectations
from ..encoding.encoder import EncodingSettings
from ..errors import ModelError
from ..resources import model_folders
from ..schema import from_json, read_json
from ..structures.protocol import StructureProtocol

__all__ = [
    "MANIFEST_FILE",
    "SCHEMA_VERSION",
    "Architecture",
    "Member",
    "ModelFolder",
    "ModelManifest",
    "installed_manifests",
    "read_manifest",
]

SCHEMA_VERSION = 1
MANIFEST_FILE = "model.json"
_NOT_CLINICAL = "Research only. Not a medical device; not for clinical use."


@dataclass(frozen=True)
class Architecture:
    """A network of `networks.ARCHITECTURES` and the arguments of its class."""

    name: str
    arguments: dict[str, int]


@dataclass(frozen=True)
class Member:
    """A further network of an ensemble.

    Args:
        file: its weights, a file in the model's folder.
        sha256: checksum of the file.
        architecture: None: that of the manifest.
    """

    file: str
    sha256: str
    architecture: Architecture | None = None


@dataclass(frozen=True)
class ModelManifest:
    """Everything about a model but its weights, as `model.json` holds it.

    Args:
        schema_version: version of this format.
        name: the model's name, that of its folder.
        title: how a person reads it.
        protocol: id of the structure protocol.
        architecture: network class and arguments.
        encoding: how a case becomes the network's input.
        expectations: the cases that the model was made for: prescription, fractions, spacing …
        training: data and its citation, recipe, seed, steps, hardware, code version.
        validation: figures measured, on what and by which command.
        intended_use: what it is for, and what not.
        licence: of the weights.
        weights_sha256: checksum of the weights file.
        default: whether it is picked for its protocol when none is named.
        mirror: whether prediction averages the dose with that of the mirrored patient, mirrored
            back: twice the time for a smaller error.
        members: networks beside the first, whose outputs are averaged with its own.
        task: what its networks were trained for: a name of `tasks.TASKS`.
    """

    schema_version: int
    name: str
    title: str
    protocol: str
    architecture: Architecture
    encoding: EncodingSettings
    expectations: ModelExpectations
    weights_sha256: str
    training: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    intended_use: str = _NOT_CLINICAL
    licence: str = ""
    default: bool = False
    mirror: bool = False
    members: tuple[Member, ...] = ()
    task: str = "dose_regression"


@dataclass(frozen=True)
class ModelFolder:
    """A model folder, its manifest read. `model.DoseModel` adds the weights."""

    folder: Path
    manifest: ModelManifest

    @cached_property
    def protocol(self) -> StructureProtocol:
        """The model's structure protocol."""
        return StructureProtocol.load(self.manifest.protocol)


def read_manifest(folder: Path) -> ModelManifest:
    """The manifest of a model folder; the weights are not looked at.

    Raises:
        ModelError: it is missing, of another schema version, or malformed.
    """
    path = folder / MANIFEST_FILE
    content = read_json(path, ModelError)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise ModelError(
            f"{path} has schema version {version}; this version reads {SCHEMA_VERSION}."
        )
    return from_json(ModelManifest, content, str(path), ModelError)


def installed_manifests() -> list[tuple[Path, ModelManifest]]:
    """Folder and manifest of the models in the shipped, the named and the user's folders.

    The first of a name wins.

    Raises:
        ModelError: as `read_manifest`.
    """
    found: dict[str, tuple[Path, ModelManifest]] = {}
    for root in model_folders():
        for path in sorted(root.glob(f"*/{MANIFEST_FILE}")):
            manifest = read_manifest(path.parent)
            found.setdefault(manifest.name, (path.parent, manifest))
    return list(found.values())
