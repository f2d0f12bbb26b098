"""Doses of earlier stages beside a cache's cases: coarse networks', and what beams give of them.

Each patient's coarse dose comes from the runs that have not seen the patient, so that the next
stage learns from the errors that it will meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from DosePredictionLib.encoding.encoder import EncodedCase, encode
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.io import read_case
from DosePredictionLib.networks import DoseNetwork, build_network
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.tasks.beam_dose import earlier_doses
from DosePredictionLib.tasks.dose_regression import final_dose

from .cache import named_paths, open_cache, write_earlier
from .checkpoints import load_checkpoint
from .config import TrainingConfig, stored_config
from .loop import network_arguments
from .splits import patients_of_run

__all__ = ["CoarseRun", "add_earlier", "coarse_run", "coarse_weights"]


@dataclass(frozen=True, eq=False)
class CoarseRun:
    """A trained coarse network.

    Args:
        folder: of the run.
        config: its recipe.
        network: with averaged weights, in eval mode.
        patients: whose plans shaped the weights.
    """

    folder: Path
    config: TrainingConfig
    network: DoseNetwork
    patients: frozenset[str]


def coarse_run(folder: Path, checkpoint: str = "last.pt") -> CoarseRun:
    """Read a run whose network is to be an earlier stage.

    Raises:
        DosePredictionError: it is incomplete, or does not say whom it has seen.
    """
    config = stored_config(folder)
    protocol = StructureProtocol.load(config.protocol)
    if not (folder / checkpoint).is_file():
        raise DosePredictionError(f"{folder} holds no checkpoint {checkpoint}.")
    network = build_network(config.network.architecture, network_arguments(config, protocol))
    network.load_state_dict(load_checkpoint(folder / checkpoint, torch.device("cpu"))["average"])
    network.to(memory_format=network.memory_format).eval()  # type: ignore[call-overload]
    return CoarseRun(folder, config, network, patients_of_run(folder))


def add_earlier(cases: Path, cache: Path, runs: Sequence[CoarseRun]) -> int:
    """Write the earlier doses of every case of a cache that has none yet; how many were written.

    Args:
        cases: folder of the cases that the cache was prepared from.
        runs: of one protocol and encoding, that of the cache.

    Raises:
        DosePredictionError: the runs differ, a case is missing or has changed, or every run has
            seen a patient.
    """
    config = runs[0].config
    for run in runs[1:]:
        if (run.config.protocol, run.config.encoding) != (config.protocol, config.encoding):
            raise DosePredictionError(
                f"{run.folder} and {runs[0].folder} have another protocol or encoding: they "
                "cannot be one stage."
            )
    protocol = StructureProtocol.load(config.protocol)
    paths = named_paths(cases)
    wanted = [c for c in open_cache(cache, protocol, config.encoding) if c.earlier is None]
    unseen = {case.name: _unseen(case.name, runs) for case in wanted}
    for case in tqdm(wanted, unit="case", desc="mimic", disable=None):
        if case.name not in paths:
            raise DosePredictionError(f"{cases} holds no case {case.name} of the cache {cache}.")
        bound = bind(read_case(paths[case.name]), protocol, required=protocol.required)
        encoded = encode(bound, config.encoding)
        if encoded.body.shape != case.body.shape:
            raise DosePredictionError(f"{case.name} is another case than the one in {cache}.")
        write_earlier(cache, case.name, _earlier(encoded, unseen[case.name]))
    return len(wanted)


def coarse_weights(
    runs: Sequence[CoarseRun], config: TrainingConfig, protocol: StructureProtocol
) -> dict[str, Tensor] | None:
    """The weights that a recipe begins with, the coarse networks of runs in their places.

    What is trained begins as it would without them. None: neither the recipe nor the call speaks of
    coarse networks.

    Raises:
        DosePredictionError: the recipe has no place for them, or they are of another architecture.
    """
    torch.manual_seed(config.seed)
    network = build_network(config.network.architecture, network_arguments(config, protocol))
    places = getattr(network, "coarse", ())
    if len(places) != len(runs):
        raise DosePredictionError(
            f"The recipe's network takes {len(places)} coarse networks; --coarse names "
            f"{len(runs)}. Set network.options of the recipe, or name {len(places) or 'no'} runs."
        )
    for place, run in zip(places, runs, strict=True):
        try:
            place.load_state_dict(run.network.state_dict())
        except RuntimeError as exception:
            raise DosePredictionError(
                f"The network of {run.folder} is not what the recipe's network.options say of "
                "its coarse networks (coarse_filters, coarse_head_filters)."
            ) from exception
    return network.state_dict() if runs else None


def _unseen(name: str, runs: Sequence[CoarseRun]) -> list[DoseNetwork]:
    """The networks that have not seen a patient.

    Raises:
        DosePredictionError: all of them have.
    """
    networks = [run.network for run in runs if name not in run.patients]
    if not networks:
        raise DosePredictionError(
            f"Every run was trained on {name}: the next stage would learn from a dose that no new "
            "patient gets. Train the runs on different parts of the patients (--fold)."
        )
    return networks


@torch.inference_mode()
def _earlier(encoded: EncodedCase, networks: Sequence[DoseNetwork]) -> NDArray[np.float16]:
    x = torch.from_numpy(encoded.input)[None].to(memory_format=torch.channels_last_3d)
    coarse = np.mean([final_dose(network(x)).numpy() for network in networks], axis=0)
    if encoded.beams is None:
        return coarse[None].astype(np.float16)
    return earlier_doses(coarse, encoded.beams).astype(np.float16)
