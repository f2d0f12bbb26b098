"""Model folders: a manifest (`model.json`) and weights (`weights.safetensors`), never a pickle."""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..encoding.encoder import EncodingSettings
from ..errors import ModelError
from ..files import whole_folder
from ..networks import DoseNetwork, build_network
from ..schema import to_json
from ..structures.protocol import StructureProtocol
from .expectations import ModelExpectations
from .manifest import (
    MANIFEST_FILE,
    SCHEMA_MINOR,
    SCHEMA_VERSION,
    Architecture,
    Member,
    ModelFolder,
    ModelManifest,
    check_model_name,
    installed_manifests,
    read_model_folder,
)
from .published import published_expectations, recognized

__all__ = [
    "Architecture",
    "DoseModel",
    "Member",
    "ModelManifest",
    "new_folder",
    "write_manifest",
]

_WEIGHTS = "weights.safetensors"
_STATE_KEYS = ("model", "model_state_dict", "network_state_dict")


class DoseModel(ModelFolder):
    """A model folder with its weights."""

    @classmethod
    def load(cls, model: str | Path) -> DoseModel:
        """A model by its name or the path of its folder.

        Raises:
            ModelError: there is none; the message lists the installed ones.
        """
        path = Path(model)
        if (path / MANIFEST_FILE).is_file():
            return cls._from_folder(path)
        installed = cls.installed()
        for candidate in installed:
            if candidate.manifest.name == str(model):
                return candidate
        names = ", ".join(sorted(m.manifest.name for m in installed)) or "none"
        raise ModelError(
            f"There is no model {str(model)!r}: neither a folder with {MANIFEST_FILE} nor one of "
            f"the installed models ({names})."
        )

    @classmethod
    def installed(cls) -> list[DoseModel]:
        """Models in the shipped, the named and the user's folders; the first of a name wins.

        Each carries what was noticed in the search: it may stand in for one that was skipped.
        """
        models, skipped = installed_manifests()
        return [cls(m.folder, m.manifest, (*m.findings, *skipped)) for m in models]

    @classmethod
    def _from_folder(cls, folder: Path) -> DoseModel:
        model = read_model_folder(folder)
        return cls(folder, model.manifest, model.findings)

    @property
    def weights_path(self) -> Path:
        """The weights file."""
        return self.folder / _WEIGHTS

    @property
    def members(self) -> tuple[Member, ...]:
        """Every network of the model: the one of `weights.safetensors`, then the others."""
        return (Member(_WEIGHTS, self.manifest.weights_sha256), *self.manifest.members)

    def verify(self) -> None:
        """Check every weights file against the manifest's checksum.

        Raises:
            ModelError: a file is missing, or is not the one that the manifest describes.
        """
        for member in self.members:
            self.verified(member)

    def verified(self, member: Member) -> Path:
        """The weights file of a member, checked as `verify` does."""
        if member.file != Path(member.file).name:
            raise ModelError(
                f"{self.folder / MANIFEST_FILE} names the weights {member.file!r}: they must lie "
                "in the model's own folder."
            )
        path = self.folder / member.file
        if not path.is_file():
            raise ModelError(f"{path} is missing. Install the model again.")
        found = _sha256(path)
        if found != member.sha256:
            raise ModelError(
                f"{path} has the SHA-256 {found[:12]}…, its manifest says "
                f"{member.sha256[:12]}…: the file is damaged or was exchanged. "
                "Install the model again."
            )
        return path

    def network(self, member: Member | None = None) -> DoseNetwork:
        """A network with its weights, verified, in eval mode and float32 on the CPU.

        Args:
            member: which of an ensemble; by default the first.

        Raises:
            ModelError: the checksum is wrong, or the weights do not fit the architecture.
        """
        member = member or self.members[0]
        path = self.verified(member)
        architecture = member.architecture or self.manifest.architecture
        network = build_network(architecture.name, architecture.arguments)
        try:
            weights = load_file(path)
        except SafetensorError as exception:
            raise ModelError(f"{path} is damaged: {exception}.") from exception
        _load_strictly(network, weights, str(path))
        return network.eval()

    @classmethod
    def create(
        cls, folder: Path, manifest: ModelManifest, weights: Mapping[str, Tensor]
    ) -> DoseModel:
        """Write a model folder, whole or not at all; the checksum is filled in.

        Raises:
            ModelError: the folder exists, or a weight is NaN or infinite.
        """
        _require_sound(weights, f"The model {manifest.name} was not written")
        with new_folder(folder) as partial:
            contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
            save_file(contiguous, partial / _WEIGHTS)
            (partial / _WEIGHTS).chmod(0o644)
            manifest = replace(
                manifest,
                schema_minor=SCHEMA_MINOR,
                weights_sha256=_sha256(partial / _WEIGHTS),
            )
            write_manifest(partial, manifest)
        return cls(folder, manifest)

    @classmethod
    def import_checkpoint(
        cls,
        checkpoint: Path,
        name: str,
        protocol: StructureProtocol,
        root: Path,
        encoding: EncodingSettings | None = None,
        expectations: ModelExpectations | None = None,
    ) -> DoseModel:
        """Turn a published checkpoint into a model folder below `root`.

        The checkpoint is a state dict, bare or under a key of `_STATE_KEYS`, of one of the networks
        that `models.published` recognises. Tensors only are unpickled; keys and shapes must fit
        exactly.

        Raises:
            ModelError: it cannot be read, would execute code, or is of another architecture.
        """
        check_model_name(name)
        weights = _state_dict(checkpoint)
        published = recognized(weights, protocol, str(checkpoint))
        network = build_network(published.architecture, published.arguments)
        _load_strictly(network, published.weights, str(checkpoint))
        manifest = ModelManifest(
            schema_version=SCHEMA_VERSION,
            name=name,
            title=f"{name} (imported)",
            protocol=protocol.id,
            architecture=Architecture(published.architecture, published.arguments),
            encoding=encoding or published.encoding,
            expectations=expectations or published_expectations(protocol),
            weights_sha256="",
            training={"source": f"imported from {checkpoint.name}"},
            validation={},
        )
        return cls.create(root / name, manifest, network.state_dict())


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder aside that takes the name of `folder` when the block ends well.

    Raises:
        ModelError: the folder exists.
    """
    if folder.exists():
        raise ModelError(f"{folder} exists. Choose another name, or remove it first.")
    with whole_folder(folder) as aside:
        yield aside


def write_manifest(folder: Path, manifest: ModelManifest) -> None:
    """Write `model.json`."""
    text = json.dumps(to_json(manifest), indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _state_dict(checkpoint: Path) -> dict[str, Tensor]:
    if not checkpoint.is_file():
        raise ModelError(f"There is no checkpoint {checkpoint}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle's protocol, before our own line
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exception:
        raise ModelError(
            f"{checkpoint} holds more than tensors and would execute code when opened; it is "
            "refused. Ask its author for a plain state dict."
        ) from exception
    except Exception as exception:  # what a damaged file makes of torch's reader
        reason = (str(exception) or type(exception).__name__).splitlines()[0]
        raise ModelError(f"{checkpoint} is not a readable checkpoint: {reason}.") from exception
    for key in _STATE_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ModelError(
            f"{checkpoint} holds no state dict: expected one bare, or under "
            f"{', '.join(map(repr, _STATE_KEYS))}."
        )
    _require_sound(content, str(checkpoint))
    # A network trained under DistributedDataParallel carries this prefix.
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def _require_sound(weights: Mapping[Any, Tensor], source: str) -> None:
    """Refuse names that are no texts, and tensors that do not hold finite values of their own."""
    for name, tensor in weights.items():
        if not isinstance(name, str):
            raise ModelError(f"{source} calls a weight {name!r}: names of weights are texts.")
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            fault = f"is stored as {tensor.layout} of {tensor.dtype}"
        elif tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            fault = "repeats fewer stored values than its shape has"
        elif tensor.is_complex():
            fault = "is complex"
        elif not torch.isfinite(tensor.float()).all():
            fault = "holds NaN or infinite values"
        else:
            continue
        raise ModelError(f"{source}: the weight {name} {fault}. Save it again.")


def _load_strictly(network: DoseNetwork, weights: Mapping[str, Tensor], source: str) -> None:
    try:
        network.load_state_dict(dict(weights), strict=True)
    except RuntimeError as exception:
        reason = " ".join(str(exception).split())[:300]
        raise ModelError(f"{source} does not fit the architecture: {reason}") from exception
