"""Scores of a model or a run on prepared cases, by the library's own evaluation.

The cases are scored on the grid that they were prepared on. Where that is the case's own
(`native`), the numbers are those of `dose-prediction predict` and `evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from DosePredictionLib.encoding.encoder import EncodingSettings
from DosePredictionLib.encoding.prescription import prescription_factor
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.evaluation.evaluate import evaluate
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.networks import DoseNetwork, build_network
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.tasks.dose_regression import scored_dose_gy
from DosePredictionLib.tasks.registry import task_class
from DosePredictionLib.volume import Volume

from .checkpoints import load_checkpoint
from .config import TrainingConfig, model_prescription_gy, stored_config
from .data import TrainingCase
from .distributed import gathered, is_first, this_share
from .loop import network_arguments
from .validation import bound_case, labelled, network_dose_gy

__all__ = ["Candidate", "averaged_network", "of_model", "of_run", "record_of", "records_of"]


@dataclass(frozen=True)
class Candidate:
    """What is evaluated.

    Args:
        protocol: of its channels.
        encoding: that its cases were prepared with.
        prescription_gy: target → Gy, of the plans that it learned.
        predict: the dose of a case `(z, y, x)`, Gy, unclamped.
    """

    protocol: StructureProtocol
    encoding: EncodingSettings
    prescription_gy: Mapping[str, float]
    predict: Callable[[TrainingCase], NDArray[np.float32]]


def of_model(model: DoseModel, device: str, precision: str) -> Candidate:
    """A model folder, with its mirroring and all its networks."""
    predictor, encoding = Predictor(model, device, precision), model.manifest.encoding
    task, levels_gy = predictor.task, model.manifest.expectations.prescription_gy

    def predict(case: TrainingCase) -> NDArray[np.float32]:
        encoded = labelled(case, task, levels_gy)
        arrays = predictor.infer(encoded.input, earlier=encoded.earlier).arrays
        doses = {name: combined.mean for name, combined in arrays.items()}
        return task.dose_gy(doses, encoded.prescription_factor)

    return Candidate(model.protocol, encoding, levels_gy, predict)


def averaged_network(
    run: Path, checkpoint: str, device: torch.device | str = "cpu"
) -> tuple[TrainingConfig, DoseNetwork]:
    """A run's recipe, and its network with the averaged weights of a checkpoint, in eval mode.

    Raises:
        DosePredictionError: there is no such checkpoint.
    """
    config = stored_config(run)
    if not (run / checkpoint).is_file():
        raise DosePredictionError(f"{run} holds no checkpoint {checkpoint}.")
    arguments = network_arguments(config, StructureProtocol.load(config.protocol))
    network = build_network(config.network.architecture, arguments)
    network.load_state_dict(load_checkpoint(run / checkpoint, torch.device("cpu"))["average"])
    network.to(device, memory_format=network.memory_format).eval()  # type: ignore[call-overload]
    return config, network


def of_run(run: Path, checkpoint: str, device: torch.device) -> Candidate:
    """The averaged weights of a run's checkpoint.

    Raises:
        DosePredictionError: there is no such checkpoint.
    """
    config, network = averaged_network(run, checkpoint, device)
    protocol = StructureProtocol.load(config.protocol)
    task = task_class(config.task, f"The run {run}")(protocol, config.encoding)
    levels_gy = model_prescription_gy(config, protocol)
    return Candidate(
        protocol,
        config.encoding,
        levels_gy,
        lambda case: network_dose_gy(task, network, case, levels_gy),
    )


def records_of(candidate: Candidate, cases: Sequence[TrainingCase]) -> list[dict[str, Any]]:
    """The record of every case, in order, shared among the ranks; all of them return all."""
    share = this_share()
    mine = range(share.rank, len(cases), share.ranks)
    bar = tqdm(mine, unit="case", disable=None if is_first() else True)
    ours = [(index, record_of(candidate, cases[index])) for index in bar]
    every = [each for of_rank in gathered(ours) for each in of_rank]
    return [record for _, record in sorted(every, key=lambda each: each[0])]


def record_of(candidate: Candidate, case: TrainingCase) -> dict[str, Any]:
    """What `dose-prediction evaluate` says of a case, without goals and gamma."""
    factor = prescription_factor(case.prescription_gy, candidate.prescription_gy)
    prescriptions_gy = {name: gy * factor for name, gy in candidate.prescription_gy.items()}
    bound = bound_case(case, candidate.protocol, prescriptions_gy)
    dose_gy = scored_dose_gy(candidate.predict(case), bound)
    evaluation = evaluate(bound, Volume(dose_gy, bound.case.grid))
    return {"case": case.name, **evaluation.as_json()}
