"""A cohort of simulated anatomies without plans: CT and contours, for networks that find organs.

    cohort.json                     seed and spacing: what every case of the folder is made by
    <split>/<case>/                 a case folder: CT, target and organs; the body is left to the CT
    records/<case>.json             the patient's measures, and how its CT was taken

Case i of seed S is the same on every machine and in every order; splits are those of `cohort`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from DosePredictionLib.files import whole_folder, write_json
from DosePredictionLib.io.nifti import write_case_folder
from DosePredictionLib.ranges import Seed
from DosePredictionLib.schema import Name, from_json, read_json, validated

from .cohort import Split, claim, is_there, patient_seed, record_path, side_by_side, split_of
from .phantom import phantom_grid, simulate_anatomy
from .population import Patient, draw_patient
from .scan import Scan, draw_scan, scanned
from .settings import EdgeMm

__all__ = ["AnatomyRecord", "AnatomySettings", "simulate_anatomies"]


@dataclass(frozen=True)
@validated
class AnatomySettings:
    """What makes a cohort of anatomies.

    Args:
        seed: of everything in it.
        spacing_mm: of the anatomy (x, y, z); the distance of the slices is the scan's.
        kind: keeps its folder apart from a cohort with plans.
    """

    seed: Seed
    spacing_mm: tuple[EdgeMm, EdgeMm, EdgeMm] = (3.0, 3.0, 3.0)
    kind: Literal["anatomies"] = "anatomies"


@dataclass(frozen=True)
@validated
class AnatomyRecord:
    """How one case came about."""

    name: Name
    split: Split
    patient: Patient
    scan: Scan


def simulate_anatomies(
    folder: Path, settings: AnatomySettings, indices: Iterable[int], workers: int
) -> tuple[list[AnatomyRecord], float]:
    """Make the cases of some indices that are not there yet.

    Returns:
        The records of all asked for, by index, and the wall time, s.

    Raises:
        DosePredictionError: the folder holds another cohort, or a worker died; the cases made
            before it stay.
    """
    claim(folder, settings)
    start = time.perf_counter()
    names = {index: f"anatomy_{settings.seed}_{index:04d}" for index in indices}
    missing = [(index, name) for index, name in names.items() if not is_there(folder, index, name)]
    for _ in side_by_side(partial(_make, folder, settings), missing, workers, "case"):
        continue
    seconds = time.perf_counter() - start
    return [_record(folder, name) for name in names.values()], seconds


def _make(folder: Path, settings: AnatomySettings, wanted: tuple[int, str]) -> None:
    """Draw a patient and a scan for an index, and write the case by its name."""
    index, name = wanted
    seed = patient_seed(settings.seed, index, 0)
    patient, scan = draw_patient(seed), draw_scan(seed)
    case = scanned(simulate_anatomy(patient, phantom_grid(settings.spacing_mm)), scan)
    # Without the contour of the body, training sees the one that prediction derives from the CT.
    organs = {each: mask for each, mask in case.structures.items() if each != "Body"}
    record = AnatomyRecord(name, split_of(index), patient, scan)
    with whole_folder(folder / record.split / name, replace=True) as aside:
        write_case_folder(aside, replace(case, name=name, structures=organs))
        write_json(record_path(folder, name), asdict(record))


def _record(folder: Path, name: str) -> AnatomyRecord:
    path = record_path(folder, name)
    return from_json(AnatomyRecord, read_json(path), str(path))
