"""Going on from a model's exported weights, if they are what the recipe trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.manifest import ModelManifest
from DosePredictionLib.model import DoseModel
from DosePredictionLib.schema import to_json

from .loop import Trainer, network_arguments

__all__ = ["start_from_model"]

_OF_TRAINING_ALONE = {"checkpoint_activations": 0}


def start_from_model(trainer: Trainer, folder: Path) -> None:
    """Give a trainer the weights of a model folder; all else begins anew.

    A recipe may add derived channels to a model that has none: their weights begin at zero, so that
    the first prediction is the model's own.

    Raises:
        DosePredictionError: the model is damaged, an ensemble, or of another protocol, encoding or
            architecture than the recipe.
    """
    model = DoseModel.load(folder)
    differences = _differences(model.manifest, trainer)
    if differences:
        raise DosePredictionError(
            f"The model {folder} cannot be continued by this recipe: {'; '.join(differences)}. "
            "Set the recipe's values to the model's (--set), or choose another model."
        )
    weights = model.network().state_dict()
    if _adds_derived(trainer, model.manifest):
        weights = _widened(weights, trainer.network.state_dict())
    trainer.start_from(weights)


def _adds_derived(trainer: Trainer, manifest: ModelManifest) -> bool:
    """Whether the recipe has derived channels and the model none."""
    theirs = manifest.encoding.derived.count(trainer.protocol)
    return theirs == 0 < trainer.config.encoding.derived.count(trainer.protocol)


def _widened(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with zeros for the inputs that are new, which come last (see `DoseNetwork`)."""
    result = dict(weights)
    for name, weight in weights.items():
        if weight.shape != wanted[name].shape:
            missing = wanted[name].shape[1] - weight.shape[1]
            zeros = weight.new_zeros(weight.shape[0], missing, *weight.shape[2:])
            result[name] = torch.cat([weight, zeros], dim=1)
    return result


def _differences(manifest: ModelManifest, trainer: Trainer) -> list[str]:
    """What keeps a model from being trained on, in words."""
    config, found = trainer.config, []
    may_differ = {"derived", "derived_channels"} if _adds_derived(trainer, manifest) else set()
    if manifest.members:
        found.append(f"it is an ensemble of {1 + len(manifest.members)} networks")
    if manifest.protocol != config.protocol:
        found.append(f"its protocol is {manifest.protocol}, the recipe's {config.protocol}")
    theirs, ours = to_json(manifest.encoding), to_json(config.encoding)
    for name in (name for name in ours if theirs[name] != ours[name] and name not in may_differ):
        found.append(f"its encoding.{name} is {theirs[name]}, the recipe's {ours[name]}")
    if manifest.architecture.name != config.network.architecture:
        names = manifest.architecture.name, config.network.architecture
        found.append("it is a {}, the recipe trains a {}".format(*names))
        return found
    theirs = manifest.architecture.arguments | _OF_TRAINING_ALONE
    ours = network_arguments(config, trainer.protocol) | _OF_TRAINING_ALONE
    for name in sorted((theirs | ours).keys() - may_differ):
        if theirs.get(name) != ours.get(name):
            found.append(f"its {name} is {theirs.get(name)}, the recipe's {ours.get(name)}")
    return found
