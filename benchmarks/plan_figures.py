"""What a model makes of each plan of a simulated cohort, kept: both tables of plans read it.

A plan is predicted once: its figures lie in `FIGURES/<model>-<checksum>/<plan>.json`, and what is
there is not predicted again. Plans of one anatomy share its CT and masks, and what is computed from
them. Figures are those of the library's evaluation, on the CT's own grid, as `predict` gives them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from scipy import ndimage
from tqdm import tqdm

from DosePredictionLib.case import Case
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.evaluation.dvh import Dvh
from DosePredictionLib.evaluation.evaluate import EvaluationParts, evaluate
from DosePredictionLib.files import write_json
from DosePredictionLib.inference.allocator import keep_freed_memory
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.io import read_case
from DosePredictionLib.mask import Mask
from DosePredictionLib.models.dose_model import (
    SCHEMA_VERSION,
    Architecture,
    DoseModel,
    ModelManifest,
)
from DosePredictionLib.models.expectations import ModelExpectations
from DosePredictionLib.processes import parallel_map
from DosePredictionLib.schema import (
    Length,
    Name,
    Range,
    from_json,
    read_json,
    to_json,
    validated,
)
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from training.config import model_prescription_gy
from training.evaluation import averaged_network
from training.loop import network_arguments
from training.simulation.plans import AnatomyPlans, PlanRecord, read_plan_records
from training.simulation.techniques import WISHED_GY

__all__ = [
    "SOFT_MM",
    "OrganFigures",
    "PlanFigures",
    "Planned",
    "add_arguments",
    "figures_of_cohort",
    "softened",
]

SOFT_MM = 3.0
"""Of a Gaussian that softens masks as a network's are: 8 mm from 10 to 90 %. Assumed."""

_CHECKPOINT = "last.pt"
_PROTOCOL = "pelvis"

_Gy = Annotated[float, Range(0, 1000)]
_Percent = Annotated[float, Range(0, 100.001)]


@dataclass(frozen=True)
@validated
class OrganFigures:
    """An organ, (prediction, plan) of each.

    Args:
        mean_gy: mean dose.
        wished_percent: volume that gets the dose that wishes limit; None: no wish is on it.
    """

    mean_gy: tuple[_Gy, _Gy]
    wished_percent: tuple[_Percent, _Percent] | None = None


@dataclass(frozen=True)
@validated
class PlanFigures:
    """A plan's prediction against the plan.

    Args:
        mae_gy: mean absolute error in the body.
        target_d95_gy: of the PTV, (prediction, plan).
        organs: by channel.
        soft_gy: mean absolute difference in the body from the dose for soft organs; None: not
            computed.
    """

    mae_gy: _Gy
    target_d95_gy: tuple[_Gy, _Gy]
    organs: Annotated[dict[Name, OrganFigures], Length(0, 100)]
    soft_gy: _Gy | None = None


@dataclass(frozen=True)
class Planned:
    """A plan of the cohort with its figures; `anatomy` is shared by the plans of one."""

    anatomy: AnatomyPlans
    plan: PlanRecord
    figures: PlanFigures


@dataclass(frozen=True)
class _Settings:
    """What the work on an anatomy needs: folders, and whether soft organs are predicted, too."""

    cohort: Path
    model: Path
    figures: Path
    soft: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which plans are predicted, and with what."""
    add = parser.add_argument
    add("--cohort", type=Path, required=True, help="of `training simulate --beams mixed`")
    add("--model", required=True, help="name or folder of a model, or a run")
    add("--split", default="test")
    add("--workers", type=int, default=1, help="processes")
    add("--figures", type=Path, help="where they are kept (default: COHORT/figures)")


def figures_of_cohort(
    call: argparse.Namespace, model: str, most: int, soft: bool = False
) -> list[Planned]:
    """The figures of every plan that the arguments ask for, by anatomy.

    Args:
        call: what `add_arguments` reads.
        model: name or folder of a model, or a run.
        most: anatomies, the first ones.
        soft: also predict plans without wishes for soft organs.

    Raises:
        DosePredictionError: there are no such plans, or one cannot be predicted.
    """
    cohort, split = call.cohort, call.split
    every = [each for each in read_plan_records(cohort) if each.split == split]
    anatomies = [each for each in every if any(not plan.faults for plan in each.plans)][:most]
    if not anatomies:
        raise DosePredictionError(f"{cohort} has no plans of the split {split!r}.")
    with _loaded(model) as loaded:
        manifest = loaded.manifest
        read = "" if manifest.between_voxels == "linear" else f"-{manifest.between_voxels}"
        name = f"{Path(model).name}-{manifest.weights_sha256[:12]}{read}"
        folder = (call.figures or cohort / "figures") / name
        folder.mkdir(parents=True, exist_ok=True)
        settings = _Settings(cohort, loaded.folder, folder, soft)
        start: Literal["spawn"] | None = "spawn" if call.workers > 1 else None
        done = parallel_map(partial(_predicted, settings), anatomies, call.workers, start)
        found = dict(tqdm(done, total=len(anatomies), unit="anatomy"))
    return [each for index in sorted(found) for each in found[index]]


@contextmanager
def _loaded(model: str) -> Iterator[DoseModel]:
    """A model, or one made of a run for as long as it is needed.

    A run's card is not filled in, and its protocol may be one that no model ships with.
    """
    run = Path(model)
    if not (run / _CHECKPOINT).is_file():
        yield DoseModel.load(model)
        return
    config, network = averaged_network(run, _CHECKPOINT)
    protocol = StructureProtocol.load(config.protocol)
    arguments = network_arguments(config, protocol)
    manifest = ModelManifest(
        schema_version=SCHEMA_VERSION,
        name=run.name,
        title=run.name,
        protocol=config.protocol,
        architecture=Architecture(config.network.architecture, arguments),
        encoding=config.encoding,
        expectations=ModelExpectations(prescription_gy=model_prescription_gy(config, protocol)),
        weights_sha256="",
        task=config.task,
    )
    with tempfile.TemporaryDirectory() as folder:
        yield DoseModel.create(Path(folder) / run.name, manifest, network.state_dict())


@cache
def _predictor(folder: Path) -> Predictor:
    """Once in each process."""
    keep_freed_memory()
    torch.set_num_threads(1)
    return Predictor(str(folder))


def _predicted(settings: _Settings, anatomy: AnatomyPlans) -> list[Planned]:
    """Every plan of an anatomy that is in the cohort."""
    found, first = [], None
    for plan in anatomy.plans:
        if plan.faults:
            continue
        soft = settings.soft and plan.level == 0
        path = settings.figures / f"{plan.name}.json"
        figures = _kept(path)
        if figures is None or (soft and figures.soft_gy is None):
            case = read_case(settings.cohort / anatomy.split / plan.name)
            # The same objects: what was computed from them is kept with them.
            first = first or case
            case = replace(case, ct=first.ct, structures=first.structures)
            figures = _figures(_predictor(settings.model), case, soft)
            write_json(path, to_json(figures))
        found.append(Planned(anatomy, plan, figures))
    return found


def _kept(path: Path) -> PlanFigures | None:
    return from_json(PlanFigures, read_json(path), str(path)) if path.is_file() else None


def _figures(predictor: Predictor, case: Case, soft: bool) -> PlanFigures:
    dose = predictor.predict(case).dose
    bound = bind(case, StructureProtocol.load(_PROTOCOL))
    plan = case.plan_dose
    assert plan is not None
    # Another object than the case's own, whose belonging to it would be doubted.
    parts = EvaluationParts(plan.with_array(plan.array), scores=frozenset({"errors"}))
    evaluation = evaluate(bound, dose, parts)
    predicted, planned = evaluation.predicted, evaluation.planned
    assert planned is not None and evaluation.scores is not None
    soft_gy = None
    if soft:
        other = predictor.predict(softened(case)).dose
        body = case.structures["Body"].majority()
        soft_gy = float(np.abs(other.array - dose.array)[body].mean())
    organs = {name: _organ(name, predicted[name], planned[name]) for name in bound.named("organ")}
    target = (predicted["PTV"].dose_at_percent(95) or 0, planned["PTV"].dose_at_percent(95) or 0)
    return PlanFigures(evaluation.scores["mae_body_gy"], target, organs, soft_gy)


def _organ(name: str, ours: Dvh, plan: Dvh) -> OrganFigures:
    means = (ours.mean_gy or 0.0, plan.mean_gy or 0.0)
    wished_gy = WISHED_GY.get(name)
    if wished_gy is None:
        return OrganFigures(means)
    volumes = (ours.volume_at_gy(wished_gy) or 0.0, plan.volume_at_gy(wished_gy) or 0.0)
    return OrganFigures(means, volumes)


def softened(case: Case) -> Case:
    """The case with organs as a network finds them, with soft edges; PTV and body stay."""
    soft: dict[str, Mask] = {}
    for name, mask in case.structures.items():
        sigma = [SOFT_MM / mm for mm in reversed(case.grid.spacing)]
        if name not in ("PTV", "Body"):
            blurred = ndimage.gaussian_filter(mask.array.astype(np.float32), sigma)
            mask = Mask(blurred.clip(0, 1), case.grid)
        soft[name] = mask
    return replace(case, structures=soft)
