"""Doses of earlier stages beside a cache's cases: coarse networks', and what beams give of them.

Each patient's coarse dose comes from the runs that have not seen the patient, so that the next
stage learns from the errors that it will meet.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from DosePredictionLib.encoding.encoder import EncodedCase, encode
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.io import read_case
from DosePredictionLib.networks import DoseNetwork, build_network
from DosePredictionLib.processes import parallel_map
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.tasks.beam_dose import earlier_doses
from DosePredictionLib.tasks.dose_regression import final_dose

from .cache import named_paths, open_cache, write_earlier
from .config import TrainingConfig
from .evaluation import averaged_network
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
    config, network = averaged_network(folder, checkpoint)
    return CoarseRun(folder, config, network, patients_of_run(folder))


def add_earlier(
    cases: Path,
    cache: Path,
    runs: Sequence[CoarseRun],
    device: str = "cpu",
    workers: int = 1,
) -> int:
    """Write the earlier doses of every case of a cache that has none yet; how many were written.

    Args:
        cases: folder of the cases that the cache was prepared from.
        runs: of one protocol and encoding, that of the cache.
        device: where the coarse networks run.
        workers: processes, each of which runs them.

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
    missing = next((case.name for case in wanted if case.name not in paths), None)
    if missing is not None:
        raise DosePredictionError(f"{cases} holds no case {missing} of the cache {cache}.")
    work = [
        _Wanted(case.name, paths[case.name], case.body.shape, _unseen(case.name, runs))
        for case in wanted
    ]
    write = functools.partial(_write_earlier, cache, device, workers > 1)
    start: Literal["spawn"] | None = "spawn" if workers > 1 else None  # as GPUs need it
    done = parallel_map(write, work, workers, start)
    for _ in tqdm(done, total=len(work), unit="case", desc="mimic", disable=None):
        pass
    return len(work)


class _Wanted(NamedTuple):
    """A case of the cache, and the folders of the runs that have not seen it."""

    name: str
    path: Path
    shape: tuple[int, ...]
    runs: tuple[Path, ...]


def _write_earlier(cache: Path, device: str, among_others: bool, wanted: _Wanted) -> None:
    """Write one case's earlier doses.

    Args:
        among_others: other processes work beside this one: each takes one thread.
    """
    if among_others:
        torch.set_num_threads(1)
    runs = [_loaded(folder) for folder in wanted.runs]
    config = runs[0].config
    protocol = StructureProtocol.load(config.protocol)
    bound = bind(read_case(wanted.path), protocol, required=protocol.required)
    encoded = encode(bound, config.encoding)
    if encoded.body.shape != wanted.shape:
        raise DosePredictionError(f"{wanted.name} is another case than the one in {cache}.")
    networks = [run.network.to(device) for run in runs]
    write_earlier(cache, wanted.name, _earlier(encoded, networks, device))


@functools.lru_cache(maxsize=8)
def _loaded(folder: Path) -> CoarseRun:
    """`coarse_run`, once a process."""
    return coarse_run(folder)


def coarse_weights(
    runs: Sequence[CoarseRun],
    config: TrainingConfig,
    protocol: StructureProtocol,
    others: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor] | None:
    """The weights of a recipe's network, the coarse networks of runs in their places.

    Args:
        others: what all else is; None: as the recipe begins.

    Returns:
        None: neither the recipe nor the call speaks of coarse networks.

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
    if others is not None:
        network.load_state_dict(others)
    for place, run in zip(places, runs, strict=True):
        if (run.config.protocol, run.config.encoding) != (config.protocol, config.encoding):
            raise DosePredictionError(
                f"{run.folder} has another protocol or encoding than the recipe: it sees other "
                "input than the network that it is to be a stage of."
            )
        try:
            place.load_state_dict(run.network.state_dict())
        except RuntimeError as exception:
            raise DosePredictionError(
                f"The network of {run.folder} is not what the recipe's network.options say of "
                "its coarse networks (coarse_filters, coarse_head_filters)."
            ) from exception
    return network.state_dict() if runs else None


def _unseen(name: str, runs: Sequence[CoarseRun]) -> tuple[Path, ...]:
    """Folders of the runs that have not seen a patient.

    Raises:
        DosePredictionError: all of them have.
    """
    unseen = tuple(run.folder for run in runs if name not in run.patients)
    if not unseen:
        raise DosePredictionError(
            f"Every run was trained on {name}: the next stage would learn from a dose that no new "
            "patient gets. Train the runs on different parts of the patients (--fold)."
        )
    return unseen


@torch.inference_mode()
def _earlier(
    encoded: EncodedCase, networks: Sequence[DoseNetwork], device: str
) -> NDArray[np.float16]:
    x = torch.from_numpy(encoded.input)[None].to(device, memory_format=torch.channels_last_3d)
    coarse = np.mean([final_dose(network(x)).cpu().numpy() for network in networks], axis=0)
    if encoded.beams is None:
        return coarse[None].astype(np.float16)
    return earlier_doses(coarse, encoded.beams).astype(np.float16)
