"""A cohort of simulated anatomies, each planned with several beams and wishes, as case folders.

    cohort.json                        seed and settings: what every case of the folder is made by
    <split>/<plan>/                    a case folder: CT, structures, dose, beams, wishes
    records/<anatomy>.json             the patient, the scan, and every plan's quality or fault

A plan is called `plan_<seed>_<anatomy>_<technique>_<level>`. Splits are by anatomy: no patient is
planned in two. Anatomy i of seed S is the same on every machine and in every order. What is there
is not made again: an anatomy is complete once its record is there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from DosePredictionLib.beams.arrangement import BeamArrangement
from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.evaluation.dvh import dvh
from DosePredictionLib.files import whole_folder, write_json
from DosePredictionLib.io.nifti import write_case_folder
from DosePredictionLib.schema import FreeText, Length, Name, Range, from_json, read_json, validated
from DosePredictionLib.wishes import Wish

from .cohort import claim, patient_seed, record_path, side_by_side
from .fast_planning import FastPlanner
from .phantom import phantom_grid, simulate_anatomy
from .planning import Plan, PlanQuality, plan_quality, require_planner
from .population import Patient, Site, draw_patient
from .scan import Scan, draw_scan, scanned
from .settings import TECHNIQUES, PlanCohortSettings, Technique
from .techniques import draw_arrangement, draw_wishes, limits_of, techniques_of

__all__ = [
    "AnatomyPlans",
    "PlanRecord",
    "PlanSplit",
    "plan_split_of",
    "read_plan_records",
    "simulate_plans",
]

PlanSplit = Literal["training", "validation", "calibration", "test"]

_SPLITS: tuple[PlanSplit, ...] = (
    *("training", "test", "training", "validation", "training"),
    *("test", "training", "calibration", "training", "test"),
)
_SLICES_MM = (3.0, 3.0, 3.0, 4.0, 5.0, 6.0, 8.0)
_OTHER_SITES: dict[str, Site] = {"male": "prostate_only", "female": "nodes"}
_OTHER_SITE = 0.3
_BESIDE_TARGET_MM = 30.0  # of the body that no cut takes away

_Seconds = Annotated[float, Range(0, 1e7)]
_Percent = Annotated[float, Range(0, 100)]


@dataclass(frozen=True)
@validated
class PlanRecord:
    """One plan.

    Args:
        name: of its case folder.
        technique, asymmetric: of its beams.
        beams: in words.
        level: of the wishes.
        wishes: what was asked for.
        reached_percent: organ → what the plan gives of it.
        quality: of the plan.
        faults: why it was left out; empty: it is in the cohort.
        cpu_seconds: of this plan, the beams' geometry counted with the first.
    """

    name: Name
    technique: Technique
    asymmetric: bool
    beams: FreeText
    level: Annotated[int, Range(0, 10)]
    wishes: Annotated[tuple[Wish, ...], Length(0, 100)]
    reached_percent: Annotated[dict[Name, _Percent], Length(0, 100)]
    quality: PlanQuality
    faults: Annotated[tuple[FreeText, ...], Length(0, 10)]
    cpu_seconds: _Seconds


@dataclass(frozen=True)
@validated
class AnatomyPlans:
    """An anatomy and its plans.

    Args:
        name, split: of the anatomy.
        patient, scan: its measures, and how its CT was taken.
        plans: all that were made.
        cpu_seconds: of the anatomy without its plans.
    """

    name: Name
    split: PlanSplit
    patient: Patient
    scan: Scan
    plans: Annotated[tuple[PlanRecord, ...], Length(0, 1000)]
    cpu_seconds: _Seconds


def plan_split_of(index: int) -> PlanSplit:
    """Five of ten anatomies are for training, one validates, one calibrates, three test."""
    return _SPLITS[index % len(_SPLITS)]


def simulate_plans(
    folder: Path, settings: PlanCohortSettings, indices: Iterable[int], workers: int
) -> list[AnatomyPlans]:
    """Make the plans of the anatomies of some indices that are not there yet.

    Returns:
        The records of all asked for, by index.

    Raises:
        DosePredictionError: pyRadPlan cannot work, the folder holds another cohort, or a worker
            died; what was made before it stays.
    """
    require_planner()
    claim(folder, settings)
    names = {index: f"plan_{settings.seed}_{index:04d}" for index in indices}
    missing = [
        (index, name) for index, name in names.items() if not record_path(folder, name).is_file()
    ]
    for _ in side_by_side(partial(_make, folder, settings), missing, workers, "anatomy"):
        continue
    return [_record(record_path(folder, name)) for name in names.values()]


def read_plan_records(folder: Path) -> list[AnatomyPlans]:
    """The records of every anatomy in a cohort's folder, by name."""
    return [_record(path) for path in sorted((folder / "records").glob("*.json"))]


def _record(path: Path) -> AnatomyPlans:
    return from_json(AnatomyPlans, read_json(path), str(path))


def _make(folder: Path, settings: PlanCohortSettings, wanted: tuple[int, str]) -> None:
    """Draw an anatomy, plan it in every way, and write its cases and then its record."""
    index, name = wanted
    split = plan_split_of(index)
    start = time.process_time()
    patient, scan, case = drawn_case(settings, index)
    planner = FastPlanner(replace(case, name=name), settings.plan)
    drawn = time.process_time()
    made, plans = _planned(planner, settings, index), []
    first: Path | None = None
    for record, arrangement, plan in made:
        plans.append(record)
        if record.faults:
            continue
        planned = replace(
            case,
            name=record.name,
            # A hundredth of a Gy is finer than any plan is delivered, and packs four times better.
            plan_dose=plan.dose.with_array(np.round(plan.dose.array, 2)),
            beams=arrangement,
            wishes=record.wishes,
            prescription=_prescription(settings, record),
        )
        place = folder / split / record.name
        _write(place, planned, first)
        first = place
    about = AnatomyPlans(name, split, patient, scan, tuple(plans), round(drawn - start, 2))
    path = record_path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(about))


def drawn_case(settings: PlanCohortSettings, index: int) -> tuple[Patient, Scan, Case]:
    """The patient of an index, the scan, and the case that it shows: the whole target in it."""
    seed = patient_seed(settings.seed, index, 0)
    rng = np.random.default_rng((seed, 17))
    patient, scan = draw_patient(seed), draw_scan(seed)
    if rng.random() < _OTHER_SITE:
        patient = replace(patient, site=_OTHER_SITES[patient.sex])
    whole = simulate_anatomy(patient, phantom_grid(settings.spacing_mm), settings.prescription_gy)
    box = whole.structures["PTV"].bounding_box()
    assert box is not None
    z_mm, slices = whole.grid.spacing[2], whole.grid.shape[0]
    scan = replace(
        scan,
        slice_mm=float(rng.choice(_SLICES_MM)),
        bottom_mm=min(scan.bottom_mm, max(box[0].start * z_mm - _BESIDE_TARGET_MM, 0.0)),
        top_mm=min(scan.top_mm, max((slices - box[0].stop) * z_mm - _BESIDE_TARGET_MM, 0.0)),
    )
    return patient, scan, scanned(whole, scan)


def _planned(
    planner: FastPlanner, settings: PlanCohortSettings, index: int
) -> Iterator[tuple[PlanRecord, BeamArrangement, Plan]]:
    """Every plan of an anatomy, each arrangement's without wishes first."""
    for technique in techniques_of(index, settings.techniques, settings.arrangements):
        number = TECHNIQUES.index(technique)
        rng = np.random.default_rng((patient_seed(settings.seed, index, 0), 19, number))
        arrangement, asymmetric = draw_arrangement(technique, rng)
        clock = time.process_time()
        arranged = planner.arranged(arrangement)
        free = plan = None
        for level in range(settings.levels if arrangement.modulated else 1):
            wishes = () if free is None else draw_wishes(level, planner.case, free.dose, rng)
            if level and not wishes:
                continue
            plan = arranged.planned(wishes, plan)
            free = free or plan
            spent, clock = time.process_time() - clock, time.process_time()
            quality = plan_quality(planner.case, plan.dose)
            record = PlanRecord(
                f"{planner.case.name}_{technique}_{level}",
                technique,
                asymmetric,
                str(arrangement),
                level,
                wishes,
                _reached(planner.case, plan, wishes),
                quality,
                tuple(quality.faults(limits_of(technique, asymmetric, wishes))),
                round(spent, 2),
            )
            yield record, arrangement, plan


def _reached(case: Case, plan: Plan, wishes: tuple[Wish, ...]) -> dict[str, float]:
    """What a plan gives of each organ that is wished for, %."""
    curves = {wish: dvh(plan.dose, case.structures[wish.structure]) for wish in wishes}
    return {
        wish.structure: round(curve.volume_at_gy(wish.dose_gy) or 0.0, 1)
        for wish, curve in curves.items()
    }


def _prescription(settings: PlanCohortSettings, record: PlanRecord) -> Prescription:
    words = {"open": "open fields", "arc": "arc"}
    technique = words.get(record.technique, f"{record.technique} modulated fields")
    fractions = round(settings.prescription_gy / 1.8)
    return Prescription({"PTV": settings.prescription_gy}, fractions, f"{technique}, simulated")


def _write(place: Path, case: Case, twin: Path | None) -> None:
    """A case folder, whole or not at all.

    Args:
        twin: a folder of the same CT and structures, whose files become this one's, too.
    """
    with whole_folder(place, replace=True) as aside:
        if twin is None:
            write_case_folder(aside, case)
            return
        for file in twin.iterdir():
            if file.name not in ("case.json", "dose_plan.nii.gz"):
                _same_file(file, aside / file.name)
        write_case_folder(aside, case, only_plan=True)


def _same_file(source: Path, place: Path) -> Any:
    """The same file under a second name; a copy where the file system has no such names."""
    try:
        place.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, place)
