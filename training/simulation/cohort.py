"""A cohort of simulated patients with plans, as case folders.

    cohort.json                     seed and settings: what every case of the folder is made by
    <split>/<case>/                 a case folder: CT, structures, dose, prescription
    records/<case>.json             the patient's measures, the plan's quality, thrown away plans

Case i of seed S is the same on every machine and in every order, so that machines share a cohort by
index. A case folder appears whole or not at all; what is there already is not made again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from tqdm import tqdm

from DosePredictionLib.case import Case
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.files import whole_folder, write_json
from DosePredictionLib.io.nifti import write_case_folder
from DosePredictionLib.processes import parallel_map
from DosePredictionLib.schema import (
    FreeText,
    Length,
    Name,
    Range,
    from_json,
    read_json,
    to_json,
    validated,
)

from .phantom import phantom_grid, simulate_anatomy
from .planning import Planner, PlanQuality, plan_quality, require_planner
from .population import Patient, draw_patient
from .settings import CohortSettings

__all__ = [
    "Record",
    "Split",
    "claim",
    "is_there",
    "patient_seed",
    "read_records",
    "record_path",
    "redrawn",
    "side_by_side",
    "simulate",
    "split_of",
]

Item = TypeVar("Item")
Result = TypeVar("Result")
Split = Literal["training", "validation", "test"]

_ATTEMPTS = 6
_SPLITS: tuple[Split, ...] = ("test", "training", "training", "validation", "training", "test") + (
    "training",
) * 3


_Seconds = Annotated[float, Range(0, 1e7)]


@dataclass(frozen=True)
@validated
class Record:
    """How one case came about.

    Args:
        name, split: of the case.
        patient: its measures.
        quality: of its plan.
        thrown_away: why earlier patients of the same index were not taken.
        anatomy_seconds, plan_seconds: wall time, the last attempt's.
    """

    name: Name
    split: Split
    patient: Patient
    quality: PlanQuality
    thrown_away: Annotated[tuple[FreeText, ...], Length(0, 100)]
    anatomy_seconds: _Seconds
    plan_seconds: _Seconds


def split_of(index: int) -> Split:
    """Six of nine cases are for training, one for validation, two for the test."""
    return _SPLITS[index % len(_SPLITS)]


def simulate(
    folder: Path, settings: CohortSettings, indices: Iterable[int], workers: int
) -> list[Record]:
    """Make the cases of some indices that are not there yet.

    Returns:
        The records of all asked for, by index.

    Raises:
        DosePredictionError: pyRadPlan cannot work, the folder holds another cohort, no good plan
            was found for an index, or a worker died; the cases made before it stay.
    """
    require_planner()
    claim(folder, settings)
    names = {index: f"sim_{settings.seed}_{index:04d}" for index in indices}
    missing = [index for index, name in names.items() if not is_there(folder, index, name)]
    work = partial(_make, folder, settings)
    for _ in side_by_side(work, [(index, names[index]) for index in missing], workers):
        continue
    return [_record(folder, name) for name in names.values()]


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, unit: str = "plan"
) -> Iterator[tuple[int, Result]]:
    """`parallel_map` in processes of one thread each, with a bar that counts units.

    Raises:
        DosePredictionError: one of them died.
    """
    # Each worker is one thread: plans side by side are faster than threads within one.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    done = parallel_map(work, items, workers, start="spawn")
    yield from tqdm(done, total=len(items), unit=unit)


def read_records(folder: Path) -> list[Record]:
    """The records of every case in a cohort's folder, by name."""
    return [_record(folder, path.stem) for path in sorted((folder / "records").glob("*.json"))]


def redrawn(record: Record, settings: CohortSettings) -> Case:
    """The anatomy of a recorded case, as it was before its plan."""
    grid = phantom_grid(settings.spacing_mm)
    case = simulate_anatomy(record.patient, grid, settings.prescription_gy)
    return replace(case, name=record.name)


def claim(folder: Path, settings: Any) -> None:
    """Make the folder this cohort's, or see that it is.

    Args:
        settings: the dataclass that makes the cohort.

    Raises:
        DosePredictionError: it is another's, or one of another kind.
    """
    path = folder / "cohort.json"
    if path.is_file():
        found = from_json(type(settings), read_json(path), str(path))
        if others := "; ".join(_differences(to_json(found), to_json(settings))):
            raise DosePredictionError(
                f"{folder} holds another cohort ({others}). Choose another --output, or the "
                "same seed and settings."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, to_json(settings))


def _differences(found: Any, wanted: Any, name: str = "") -> Iterator[str]:
    """What of the JSON of one dataclass is not as in another's: ``plan.beams 9, not 5``."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in found | wanted:
            yield from _differences(found.get(key), wanted.get(key), f"{name}.{key}".lstrip("."))
    elif found != wanted:
        yield f"{name} {found}, not {wanted}"


def is_there(folder: Path, index: int, name: str) -> bool:
    """Whether the case of an index is complete."""
    return (folder / split_of(index) / name).is_dir() and record_path(folder, name).is_file()


def _make(folder: Path, settings: CohortSettings, wanted: tuple[int, str]) -> None:
    """Draw patients for an index until one gets a good plan, and write the case by its name."""
    index, name = wanted
    grid = phantom_grid(settings.spacing_mm)
    thrown_away: list[str] = []
    for attempt in range(_ATTEMPTS):
        patient = draw_patient(patient_seed(settings.seed, index, attempt))
        start = time.perf_counter()
        case = simulate_anatomy(patient, grid, settings.prescription_gy)
        drawn = time.perf_counter()
        plan = Planner(case, settings.plan).optimized()
        planned = time.perf_counter()
        quality = plan_quality(case, plan.dose)
        if faults := quality.faults(settings.limits):
            thrown_away.append(f"{patient.site}: {'; '.join(faults)}")
            continue
        # A hundredth of a Gy is finer than any plan is delivered, and packs four times better.
        dose = plan.dose.with_array(np.round(plan.dose.array, 2))
        record = Record(
            name,
            split_of(index),
            patient,
            quality,
            tuple(thrown_away),
            round(drawn - start, 2),
            round(planned - drawn, 2),
        )
        _place(folder, record, replace(case, name=name, plan_dose=dose))
        return
    raise DosePredictionError(
        f"No good plan for {name} in {_ATTEMPTS} patients: {' | '.join(thrown_away)}"
    )


def patient_seed(seed: int, index: int, attempt: int) -> int:
    """The seed of a patient: another for every cohort, index and attempt."""
    return int(np.random.SeedSequence((seed, index, attempt)).generate_state(1)[0])


def _place(folder: Path, record: Record, case: Case) -> None:
    """Record first, case folder last and at once: a case that is there is complete."""
    with whole_folder(folder / record.split / record.name, replace=True) as aside:
        write_case_folder(aside, case)
        write_json(record_path(folder, record.name), asdict(record))


def record_path(folder: Path, name: str) -> Path:
    """Where the record of a case lies."""
    return folder / "records" / f"{name}.json"


def _record(folder: Path, name: str) -> Record:
    path = record_path(folder, name)
    return from_json(Record, read_json(path), str(path))
