"""Going on from a model's exported weights, if they are what the recipe trains."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.models.manifest import ModelManifest
from DosePredictionLib.networks.configs import network_config
from DosePredictionLib.schema import to_json
from DosePredictionLib.structures.protocol import StructureProtocol

from .config import TrainingConfig
from .loop import Trainer, network_arguments

__all__ = ["continued", "start_from_model", "weights_to_continue"]

_RATE, _WARM_UP = 1 / 3, 0.02

_NO_WEIGHTS_DEPEND_ON = {"checkpoint_activations": False, "coarse_share": 0.0}


def continued(config: TrainingConfig, manifest: ModelManifest) -> TrainingConfig:
    """The recipe as it trains a model on: more gently, soon at its peak, on other crops.

    By the recipe's own seed the weights would meet the crops again that they were trained on.
    """
    seed = config.seed ^ int(manifest.weights_sha256[:7], 16)
    rate = config.learning_rate * _RATE
    return replace(config, learning_rate=rate, warm_up=_WARM_UP, seed=seed)


def start_from_model(trainer: Trainer, folder: Path) -> None:
    """Give a trainer the weights of a model folder; all else begins anew.

    Raises:
        DosePredictionError: see `weights_to_continue`.
    """
    trainer.start_from(weights_to_continue(folder, trainer.config, trainer.protocol))


def weights_to_continue(
    folder: Path, config: TrainingConfig, protocol: StructureProtocol
) -> dict[str, Tensor]:
    """The weights of a model folder that a recipe can go on with.

    Raises:
        DosePredictionError: the model is damaged, an ensemble, or of another protocol, encoding or
            architecture than the recipe.
    """
    model = DoseModel.load(folder)
    differences = _differences(model.manifest, config, protocol)
    if differences:
        raise DosePredictionError(
            f"The model {folder} cannot be continued by this recipe: {'; '.join(differences)}. "
            "Set the recipe's values to the model's (--set), or choose another model."
        )
    return model.network().state_dict()


def _differences(
    manifest: ModelManifest, config: TrainingConfig, protocol: StructureProtocol
) -> list[str]:
    """What keeps a model from being trained on, in words."""
    found = []
    if manifest.members:
        found.append(f"it is an ensemble of {1 + len(manifest.members)} networks")
    if manifest.task != config.task:
        found.append(f"its task is {manifest.task}, the recipe's {config.task}")
    if manifest.protocol != config.protocol:
        found.append(f"its protocol is {manifest.protocol}, the recipe's {config.protocol}")
    theirs, ours = to_json(manifest.encoding), to_json(config.encoding.of_network)
    for name in (name for name in ours if theirs[name] != ours[name]):
        found.append(f"its encoding.{name} is {theirs[name]}, the recipe's {ours[name]}")
    if manifest.architecture.name != config.network.architecture:
        names = manifest.architecture.name, config.network.architecture
        found.append("it is a {}, the recipe trains a {}".format(*names))
        return found
    built = network_config(config.network.architecture, network_arguments(config, protocol))
    theirs = asdict(manifest.architecture.config) | _NO_WEIGHTS_DEPEND_ON
    ours = asdict(built) | _NO_WEIGHTS_DEPEND_ON
    for name in sorted(theirs | ours):
        if theirs.get(name) != ours.get(name):
            found.append(f"its {name} is {theirs.get(name)}, the recipe's {ours.get(name)}")
    return found
