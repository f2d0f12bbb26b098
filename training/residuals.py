"""Frozen models' doses beside a cache's cases: what heads learn the residuals of.

`python -m training residuals` writes `earlier/<case>.npy` of a cache: the dose that the model
predicts, and, if its folder holds a scale, the expected error; both over the dose scale.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from DosePredictionLib.encoding.encoder import encode
from DosePredictionLib.errors import DosePredictionError, ModelError
from DosePredictionLib.files import write_json
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.io import read_case
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.models.heads import HEADS, ridden_on, verified_heads
from DosePredictionLib.schema import Length, Name, from_json, read_json
from DosePredictionLib.structures.bound import bind

from .cache import named_paths, open_cache, write_earlier
from .config import TrainingConfig
from .data import TrainingCase
from .splits import known_patients_of_model

__all__ = ["add_residuals", "frozen_on", "require_residuals_of"]

_FILE = "residuals.json"


@dataclass(frozen=True)
class _Learned:
    """The content of `earlier/residuals.json`: checksums of the model, then of its scale."""

    weights_sha256: Annotated[tuple[Name, ...], Length(1, 102)]


def add_residuals(model: DoseModel, cases: Path, cache: Path, device: str = "cpu") -> int:
    """Write the model's dose of every case of a cache that has none yet; how many were written.

    Where the dose is there, and the expected error is not, or is another scale's, the dose stays.

    Args:
        cases: folder of the cases that the cache was prepared from.

    Raises:
        DosePredictionError: a case is missing or has changed, shaped the model's weights, or the
            cache has the doses of another model.
    """
    manifest = model.manifest
    paths = named_paths(cases)
    prepared = open_cache(cache, model.protocol, manifest.encoding)
    _require_unseen(model, [case.name for case in prepared])
    missing = next((case.name for case in prepared if case.name not in paths), None)
    if missing is not None:
        raise DosePredictionError(f"{cases} holds no case {missing} of the cache {cache}.")
    predictor = Predictor(model, device)
    scale = predictor.heads.get("scale")
    _bind_cache(cache, prepared, model, None if scale is None else scale.model)
    written = 0
    for case in tqdm(
        open_cache(cache, model.protocol, manifest.encoding), desc="residuals", disable=None
    ):
        stages = None if case.earlier is None else np.asarray(case.earlier, np.float32)
        if stages is not None and len(stages) == (1 if scale is None else 2):
            continue
        if stages is None:
            stages = _dose(predictor, case, paths[case.name])[None]
        if scale is not None:
            found = scale.infer(case.input(), earlier=stages[:1]).output
            stages = np.stack([stages[0], found])
        write_earlier(cache, case.name, stages.astype(np.float16))
        written += 1
    return written


def _dose(predictor: Predictor, case: TrainingCase, path: Path) -> NDArray[np.float32]:
    """The model's dose of a prepared case, whose beams the cache does not hold."""
    model = predictor.model
    bound = bind(read_case(path), model.protocol, required=model.protocol.required)
    encoded = encode(bound, model.manifest.encoding)
    if encoded.body.shape != case.body.shape:
        raise DosePredictionError(f"{path} is another case than the one in the cache.")
    return predictor.dose_of(encoded)


def frozen_on(config: TrainingConfig, name: str) -> TrainingConfig:
    """A recipe of a head for the residuals of a model: its protocol, encoding and prescription.

    Raises:
        ModelError: the recipe is of no head, or a flow's model has no scale.
    """
    if config.task not in HEADS.values():
        raise ModelError(
            f"--frozen is for recipes of heads ({', '.join(HEADS.values())}); this one is of the "
            f"task {config.task}."
        )
    model = DoseModel.load(name)
    scale = verified_heads(model).get("scale")
    wants_scale = config.task == HEADS["flow"]
    if wants_scale and scale is None:
        raise ModelError(
            f"{model.manifest.name} has no head of its expected error, which samples are drawn "
            f"by: train and export one into {model.folder}/scale first."
        )
    weights = ridden_on(model, scale if wants_scale else None)
    return replace(
        config,
        protocol=model.manifest.protocol,
        encoding=model.manifest.encoding,
        prescription_gy=dict(model.manifest.expectations.prescription_gy),
        task_options={"weights_sha256": list(weights)},
    )


def require_residuals_of(cache: Path, config: TrainingConfig) -> None:
    """Refuse a cache whose doses are of another model than the recipe's.

    Raises:
        DosePredictionError: says what to do.
    """
    wanted = tuple(config.task_options.get("weights_sha256", ()))
    known = _learned(cache)
    if known is None or known[: len(wanted)] != wanted:
        raise DosePredictionError(
            f"{cache} does not hold the doses of the frozen model, with the scale that it has now: "
            "write them (python -m training residuals), into another cache if it has those of "
            "another model."
        )


def _bind_cache(
    cache: Path, prepared: Sequence[TrainingCase], model: DoseModel, scale: DoseModel | None
) -> None:
    """Say in the cache whose doses it holds; expected errors of another scale are taken out."""
    known, weights = _learned(cache), ridden_on(model, scale)
    doses = model.manifest.checksums
    if known is None and any(case.earlier is not None for case in prepared):
        raise DosePredictionError(f"{cache} holds doses of earlier stages: prepare another cache.")
    if known is not None and known[: len(doses)] != doses:
        raise DosePredictionError(f"{cache} holds doses of other weights: prepare another cache.")
    if known != weights:
        for case in prepared:
            if case.earlier is not None and len(case.earlier) > 1:
                write_earlier(cache, case.name, np.array(case.earlier[:1]))
    (cache / "earlier").mkdir(exist_ok=True)
    write_json(cache / "earlier" / _FILE, {"weights_sha256": list(weights)})


def _learned(cache: Path) -> tuple[str, ...] | None:
    path = cache / "earlier" / _FILE
    if not path.is_file():
        return None
    content: Mapping[str, object] = read_json(path)
    return from_json(_Learned, content, str(path)).weights_sha256


def _require_unseen(model: DoseModel, names: list[str]) -> None:
    seen = known_patients_of_model(model.manifest)
    if seen is None:
        sys.stderr.write(
            f"warning: the card of {model.manifest.name} does not list whom it has seen.\n"
        )
        return
    known = sorted(seen & set(names))
    if known:
        raise ModelError(
            f"{len(known)} cases shaped the weights of {model.manifest.name} "
            f"({', '.join(known[:5])}): its errors on them are too small to learn from."
        )
