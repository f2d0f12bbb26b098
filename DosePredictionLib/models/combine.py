"""Several models in one folder, whose doses are averaged."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import ModelError
from .dose_model import DoseModel, Member, new_folder, write_manifest
from .manifest import SCHEMA_MINOR, check_model_name

__all__ = ["combine_models"]


def combine_models(
    models: Sequence[DoseModel], name: str, title: str, root: Path, mirror: bool = False
) -> DoseModel:
    """Write the ensemble `root/name`, whole or not at all.

    The first model's card is kept but for its figures and its being the default: those are not the
    ensemble's.

    Args:
        models: of one protocol and encoding; architectures may differ, and an ensemble counts with
            all its networks.
        name: of the ensemble.
        title: how a person reads it.
        root: folder of model folders.
        mirror: whether each network's dose is averaged with that of the mirrored patient.

    Raises:
        ModelError: fewer than two networks, models that see their cases differently, damaged
            weights, or a folder that exists.
    """
    check_model_name(name)
    sources = [(model, member) for model in models for member in model.members]
    if len(sources) < 2:
        raise ModelError("An ensemble takes two networks or more: name two models.")
    _require_alike(models)
    members = tuple(
        Member(
            "weights.safetensors" if number == 1 else f"weights-{number}.safetensors",
            member.sha256,
            member.architecture or model.manifest.architecture,
        )
        for number, (model, member) in enumerate(sources, start=1)
    )
    first = models[0].manifest
    manifest = replace(
        first,
        name=name,
        title=title,
        architecture=members[0].architecture or first.architecture,
        weights_sha256=members[0].sha256,
        members=members[1:],
        training={"ensemble": [{"name": m.manifest.name, **m.manifest.training} for m in models]},
        validation={},
        default=False,
        mirror=mirror,
        schema_minor=SCHEMA_MINOR,
    )
    with new_folder(root / name) as partial:
        for member, (model, source) in zip(members, sources, strict=True):
            shutil.copyfile(model.verified(source), partial / member.file)
        write_manifest(partial, manifest)
    return DoseModel(root / name, manifest)


def _require_alike(models: Sequence[DoseModel]) -> None:
    first = models[0].manifest
    for manifest in (model.manifest for model in models[1:]):
        if (manifest.protocol, manifest.encoding) != (first.protocol, first.encoding):
            raise ModelError(
                f"{manifest.name} and {first.name} differ in protocol or encoding: the networks "
                "of an ensemble must see the same input."
            )
        if manifest.between_voxels != first.between_voxels:
            raise ModelError(
                f"{manifest.name}'s dose between voxels is read as {manifest.between_voxels}, "
                f"{first.name}'s as {first.between_voxels}: an ensemble has one dose to read."
            )
        if manifest.task != first.task:
            raise ModelError(
                f"{manifest.name} is of the task {manifest.task}, {first.name} of {first.task}: "
                "the networks of an ensemble must give the same outputs."
            )
