"""What `model.json` says of a model. Reads manifests without torch, so that a list of models and
their cards costs a window nothing.

The format has a version and a minor version. A minor version only adds fields: an older folder is
read with their defaults, and what a newer one added is left out with a finding. A newer version
changes what fields mean, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from .. import __version__
from ..encoding.encoder import EncodingSettings
from ..errors import ModelError
from ..files import check_file_name
from ..findings import Finding
from ..interpolation import BetweenVoxels
from ..networks.configs import NetworkConfig, network_config
from ..resources import model_folders
from ..schema import (
    FieldError,
    FreeText,
    Length,
    Name,
    Pattern,
    Range,
    from_json,
    read_json,
    validated,
)
from ..structures.protocol import StructureProtocol
from ..tasks.registry import TASKS, Gives, require_task
from .expectations import ModelExpectations

__all__ = [
    "MANIFEST_FILE",
    "SCHEMA_MINOR",
    "SCHEMA_VERSION",
    "Architecture",
    "InstalledModels",
    "Member",
    "ModelFolder",
    "ModelManifest",
    "check_model_name",
    "installed_manifests",
    "read_manifest",
    "read_model_folder",
]

SCHEMA_VERSION = 1
SCHEMA_MINOR = 7
"""0: as first published. 1: `schema_minor` and `task`. 2: `expectations.beams`.
3: `encoding.structures`. 4: `encoding.further.wish`, `encoding.further.beam.open_fields`.
5: `rides_on`. 6: `between_voxels`. 7: `coarse_share` of a `beam_cascade`."""

MANIFEST_FILE = "model.json"
_NOT_CLINICAL = "Research only. Not a medical device; not for clinical use."
_Sha256 = Annotated[str, Pattern("([0-9a-f]{64})?", "a SHA-256 of 64 hexadecimal digits")]


@dataclass(frozen=True)
@validated
class Architecture:
    """A network of `networks.ARCHITECTURES` and the fields of its configuration.

    Raises:
        ModelError: the architecture is unknown, or does not take these arguments.
    """

    name: Name
    arguments: dict[Name, Any]

    def __post_init__(self) -> None:
        network_config(self.name, self.arguments)

    @property
    def config(self) -> NetworkConfig:
        """The arguments, typed, with defaults filled in."""
        return network_config(self.name, self.arguments)


@dataclass(frozen=True)
@validated
class Member:
    """A further network of an ensemble.

    Args:
        file: its weights, a file in the model's folder.
        sha256: checksum of the file.
        architecture: None: that of the manifest.
    """

    file: Name
    sha256: _Sha256
    architecture: Architecture | None = None


@dataclass(frozen=True)
@validated
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
        between_voxels: how a dose between the model's voxels is read: `linear`, or `averages`, as
            of the smooth dose whose averages over these voxels are the network's: plans are
            averaged to a grid that is coarser than theirs.
        members: networks beside the first, whose outputs are averaged with its own.
        schema_minor: which additions to this version of the format the file may hold.
        task: what its networks were trained for: a name of `tasks.registry.TASKS`.
        rides_on: of a head, checksums of all networks whose residuals it learned, in their order.
    """

    schema_version: Annotated[int, Range(1, SCHEMA_VERSION)]
    name: Name
    title: Name
    protocol: Annotated[str, Length(1, 4096)]
    architecture: Architecture
    encoding: EncodingSettings
    expectations: ModelExpectations
    weights_sha256: _Sha256
    training: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    intended_use: FreeText = _NOT_CLINICAL
    licence: FreeText = ""
    default: bool = False
    mirror: bool = False
    between_voxels: BetweenVoxels = "linear"
    members: Annotated[tuple[Member, ...], Length(0, 100)] = ()
    schema_minor: Annotated[int, Range(0, 10_000)] = SCHEMA_MINOR
    task: Name = "dose_regression"
    rides_on: Annotated[tuple[_Sha256, ...], Length(0, 102)] = ()

    @property
    def checksums(self) -> tuple[str, ...]:
        """Of the weights of all networks, in their order."""
        return (self.weights_sha256, *(member.sha256 for member in self.members))

    def __post_init__(self) -> None:
        check_model_name(self.name)
        if self.task not in TASKS:
            raise FieldError(
                "task",
                f"is {self.task!r}, which version {__version__} of DosePrediction does not know; "
                f"it knows {', '.join(sorted(TASKS))}. Install a version that knows it.",
            )


@dataclass(frozen=True)
class ModelFolder:
    """A model folder, its manifest read. `dose_model.DoseModel` adds the weights.

    Args:
        findings: what was noticed while it was looked for and read.
    """

    folder: Path
    manifest: ModelManifest
    findings: tuple[Finding, ...] = field(default=(), compare=False)

    @cached_property
    def protocol(self) -> StructureProtocol:
        """The model's structure protocol."""
        return StructureProtocol.load(self.manifest.protocol)

    def require(self, gives: Gives) -> None:
        """Refuse a model whose task gives something else; see `tasks.registry.require_task`."""
        require_task(self.manifest.task, gives, f"The model {self.manifest.name}")


class InstalledModels(NamedTuple):
    """The models that can be read, and why others in the model path were skipped."""

    models: tuple[ModelFolder, ...]
    skipped: tuple[Finding, ...]


def check_model_name(name: str) -> str:
    """The name, if a model's folder may be called so.

    Raises:
        ModelError: says what a name is made of.
    """
    check_file_name(name, "a model", ModelError)
    if name.startswith("."):
        raise ModelError(f"{name!r} cannot name a model: hidden folders hold none.")
    return name


def read_manifest(folder: Path) -> ModelManifest:
    """The manifest of a model folder; the weights are not looked at.

    Raises:
        ModelError: it is missing, of a newer schema version, or malformed.
    """
    return read_model_folder(folder).manifest


def read_model_folder(folder: Path) -> ModelFolder:
    """A model folder with its manifest; a finding names the additions that this version ignores.

    Raises:
        ModelError: as `read_manifest`.
    """
    path = folder / MANIFEST_FILE
    content = read_json(path, ModelError)
    if not isinstance(content, dict) or "schema_version" not in content:
        raise ModelError(f"{path} is no manifest of a model: it has no schema_version.")
    version = content["schema_version"]
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ModelError(
            f"{path} has schema version {version}; the installed DosePrediction {__version__} "
            f"reads up to {SCHEMA_VERSION}. Install a newer version, or export the model again "
            "with this one."
        )
    minor = content.setdefault("schema_minor", 0)
    newer = isinstance(minor, int) and minor > SCHEMA_MINOR
    ignored: list[str] | None = [] if newer else None
    manifest = from_json(ModelManifest, content, str(path), ModelError, ignored)
    if not ignored:
        return ModelFolder(folder, manifest)
    names = ", ".join(place.removeprefix(f"{path}.") for place in ignored)
    finding = Finding(
        "model-newer",
        "warning",
        f"The model {manifest.name} is of schema version {version}.{minor}, this version knows "
        f"{SCHEMA_VERSION}.{SCHEMA_MINOR}: {names} was ignored.",
        "Install a newer version of DosePrediction.",
    )
    return ModelFolder(folder, manifest, (finding,))


def installed_manifests() -> InstalledModels:
    """The models in the shipped, the named and the user's folders; the first of a name wins.

    What is no readable model folder is skipped and named; hidden folders are not looked at.
    """
    found: dict[str, ModelFolder] = {}
    skipped: list[Finding] = []
    for folder in _candidates(skipped):
        try:
            model = read_model_folder(folder)
        except ModelError as exception:
            skipped.append(
                Finding(
                    "model-skipped",
                    "warning",
                    f"A model folder was skipped: {exception}",
                    f"Repair or remove {folder}.",
                )
            )
            continue
        first = found.setdefault(model.manifest.name, model)
        if first is not model:
            skipped.append(
                Finding(
                    "model-name-twice",
                    "warning",
                    f"Two models are called {model.manifest.name}: {first.folder} is used, "
                    f"{folder} was skipped.",
                    "Rename or remove one of them, or name it by its folder.",
                )
            )
    return InstalledModels(tuple(found.values()), tuple(skipped))


def _candidates(skipped: list[Finding]) -> Iterator[Path]:
    """Folders in the model path that hold a manifest, each once."""
    seen: set[tuple[int, int]] = set()
    for root in model_folders():
        try:
            folders = sorted(root.iterdir()) if root.is_dir() else []
        except OSError as exception:
            message = f"The folder of models {root} cannot be read: {exception.strerror}."
            skipped.append(Finding("model-skipped", "warning", message, "See its permissions."))
            continue
        for folder in (each for each in folders if not each.name.startswith(".")):
            try:
                (folder / MANIFEST_FILE).stat()
                about = folder.stat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as exception:
                message = f"The folder {folder} cannot be read: {exception.strerror}."
                skipped.append(Finding("model-skipped", "warning", message, "See its permissions."))
                continue
            if (about.st_dev, about.st_ino) not in seen:
                seen.add((about.st_dev, about.st_ino))
                yield folder
