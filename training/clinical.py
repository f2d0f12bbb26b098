"""Hundreds of DICOM patients to case folders for training, without their names.

Two steps. `names` reads every structure name of the cohort and proposes a channel for each in a
file that a person corrects. `prepare` writes a case folder for each patient, which every command
reads, with `plan.npz` and a QA sheet beside its volumes. Both go on where they stopped.

    output/
      <patient>-<plan>/        keyed hashes of patient ID and of structure set and plan
        ct.nii.gz, <channel>.nii.gz, dose_plan.nii.gz, case.json
        plan.npz               signed distances, prescription, constraint vector, beams
        qa.png                 slices with contours and dose
      refused.csv              pseudonym and reason of those that were not prepared

The key of the hashes lies elsewhere: `~/.dose-prediction/clinical.key`, or where `--key` says.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from DosePredictionLib.case import Case
from DosePredictionLib.checks.plan_dose import learning_finding
from DosePredictionLib.errors import CaseError
from DosePredictionLib.evaluation.dvh import dvhs
from DosePredictionLib.evaluation.goals import GoalSet, evaluate_goals
from DosePredictionLib.files import whole_folder, write_json
from DosePredictionLib.geometry import signed_distance_mm
from DosePredictionLib.io.nifti import write_case_folder
from DosePredictionLib.mask import Mask
from DosePredictionLib.processes import usable_cores
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
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.mapping import propose_mapping
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.tables import write_table
from DosePredictionLib.volume import Volume

from .arguments import WORKERS, within
from .attempts import attempts
from .pseudonyms import identifier, read_key, without_identity

if TYPE_CHECKING:  # pydicom is not there where a cache is trained on
    from DosePredictionLib.io.dicom.plan import Plan

__all__ = [
    "CohortNames",
    "CohortSettings",
    "add_arguments",
    "identifier",
    "patient_folders",
    "prepare_cohort",
    "propose_names",
    "run",
    "signed_distance",
]

DISTANCE_LIMIT_MM = 50.0
_PLAN_DIGITS = 6
_QA_DPI = 110
_QA_WORDS = {"Prediction": "Plan dose", "Predicted dose": "Plan dose, for training only."}


@dataclass(frozen=True)
@validated
class CohortNames:
    """Which channel each structure name of a cohort means; corrected by a person.

    Args:
        protocol: id of the protocol.
        channels: name as typed → channel, or None: not used.
        patients: name → how many patients have it.
        reasons: name → why this channel was proposed.
    """

    protocol: Annotated[str, Length(1, 4096)]
    channels: dict[FreeText, Name | None]
    patients: dict[FreeText, Annotated[int, Range(0, 1_000_000)]] = field(default_factory=dict)
    reasons: dict[FreeText, FreeText] = field(default_factory=dict)


@dataclass(frozen=True)
class CohortSettings:
    """How a cohort is prepared.

    Args:
        output: folder of case folders.
        names: what `propose_names` wrote, corrected.
        key: secret that identifiers are hashed with; the same key gives the same identifiers.
        goals: whose metrics make the constraint vector; None: no vector.
    """

    output: Path
    names: CohortNames
    key: bytes
    goals: GoalSet | None = None


def patient_folders(root: Path) -> list[Path]:
    """Folders below `root`, one a patient (or a plan of one).

    Raises:
        CaseError: there is none.
    """
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    if not folders:
        raise CaseError(f"{root} holds no folders: expected one DICOM folder a patient.")
    return folders


# --- Names --------------------------------------------------------------------------------------


def propose_names(
    folders: Sequence[Path], protocol: StructureProtocol, workers: int
) -> tuple[CohortNames, dict[str, str]]:
    """A channel for every name in the cohort, and the folders that could not be read.

    A name that means different channels in different patients, as "PTV1" may, gets none.
    """
    patients: Counter[str] = Counter()
    meanings: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: dict[str, str] = {}
    refused: dict[str, str] = {}
    for index, found, reason in attempts(_names_of, folders, workers, "names"):
        if found is None:
            refused[str(folders[index])] = reason
            continue
        names, empty = found
        patients.update(names)
        mapping = propose_mapping(names, protocol, empty=empty)
        for match in mapping.matches:
            if match.structure is not None:
                meanings[match.structure][match.channel] += 1
                reasons[match.structure] = match.reason
    channels: dict[str, str | None] = {}
    for name in sorted(patients):
        seen = meanings.get(name, Counter())
        channels[name] = next(iter(seen)) if len(seen) == 1 else None
        if len(seen) > 1:
            stated = ", ".join(f"{channel} in {count}" for channel, count in seen.most_common())
            reasons[name] = f"not clear: {stated} patients"
        elif not seen:
            reasons[name] = "fits no channel"
    return CohortNames(protocol.id, channels, dict(patients), reasons), refused


def _names_of(folder: Path) -> tuple[list[str], list[str]]:
    """Names of a patient's structures, and those that are empty."""
    from DosePredictionLib.io.dicom import read_dicom

    structures = read_dicom(folder).case.structures
    return list(structures), [name for name, mask in structures.items() if not mask.array.any()]


# --- Cases --------------------------------------------------------------------------------------


def prepare_cohort(
    folders: Sequence[Path], settings: CohortSettings, workers: int
) -> tuple[list[str], dict[str, str]]:
    """Write the case folder of every patient that is not there yet.

    Returns:
        Identifiers of those prepared, now or before, and folder → reason of those refused.
        `refused.csv` has the reasons, with pseudonyms in place of folders, files and patients.
    """
    settings.output.mkdir(parents=True, exist_ok=True)
    prepared: list[str] = []
    refused: dict[str, str] = {}
    work = partial(_prepare, settings=settings)
    for index, name, reason in attempts(work, folders, workers, "prepare"):
        if name is None:
            refused[str(folders[index])] = reason
        else:
            prepared.append(name)
    rows = [("pseudonym", "reason"), *sorted(_pseudonymous(refused, settings.key))]
    write_table(settings.output / "refused.csv", rows)
    return sorted(prepared), refused


def _pseudonymous(refused: dict[str, str], key: bytes) -> Iterable[tuple[str, str]]:
    for folder, reason in refused.items():
        pseudonym = _pseudonym(key, folder)
        yield pseudonym, without_identity(reason, Path(folder), pseudonym)


def _pseudonym(key: bytes, folder: str) -> str:
    """What `refused.csv` calls a folder: its patient may not be known."""
    return identifier(key, "folder", Path(folder).name)


def signed_distance(mask: Volume) -> NDArray[np.float16]:
    """Distance to the surface, negative inside, clipped at ±50 mm and scaled to ±1, `(z, y, x)`.

    1 everywhere for an empty structure. The image's edge is no surface, but a structure may leave
    the image there.
    """
    inside = Mask.of(mask).majority()
    distance = signed_distance_mm(inside, mask.grid.spacing, DISTANCE_LIMIT_MM)
    return (distance / np.float32(DISTANCE_LIMIT_MM)).astype(np.float16)


def _prepare(folder: Path, settings: CohortSettings) -> str:
    """Write one case folder, whole or not at all; its identifier."""
    from DosePredictionLib.io.dicom import read_dicom

    found = read_dicom(folder)
    case = found.case
    assert case.origin is not None
    if case.plan_dose is None or case.prescription is None:
        raise CaseError(f"{folder} has no plan dose or no prescription to learn from.")
    protocol = StructureProtocol.load(settings.names.protocol)
    masks = _channels(case, settings.names, protocol)
    sources: dict[str, str | None] = {
        channel: next(name for name, mask in case.structures.items() if mask is masks[channel])
        for channel in masks
    }
    doubt = learning_finding(bind(case, protocol, {**dict.fromkeys(protocol.names), **sources}))
    if doubt is not None:
        raise CaseError(f"{folder} has no dose to learn from: {doubt.message}")
    plan_uids = [
        each.instance_uid for each in (case.origin.structure_set, case.origin.plan) if each
    ]
    patient = identifier(settings.key, case.origin.patient["PatientID"])
    name = f"{patient}-{identifier(settings.key, *plan_uids, digits=_PLAN_DIGITS)}"
    target = settings.output / name
    if (target / "case.json").is_file():
        return name
    with whole_folder(target, replace=True) as aside:
        _write_case(aside, case, masks, settings.names)
        np.savez_compressed(aside / "plan.npz", **_plan_arrays(case, masks, found.plan, settings))
        _write_qa(aside / "qa.png", case, masks, protocol)
    return name


def _channels(case: Case, names: CohortNames, protocol: StructureProtocol) -> dict[str, Volume]:
    """Channel → mask, by the corrected names.

    Raises:
        CaseError: two structures mean one channel, a name is not in the file, or no target is left.
    """
    masks: dict[str, Volume] = {}
    sources: dict[str, str] = {}
    for structure, mask in case.structures.items():
        if structure not in names.channels:
            raise CaseError(f"{structure!r} is not in the file of names: propose the names again.")
        channel = names.channels[structure]
        if channel is None or not mask.array.any():
            continue
        if channel in masks:
            raise CaseError(
                f"{sources[channel]!r} and {structure!r} both mean {channel}: correct the names."
            )
        masks[channel], sources[channel] = mask, structure
    if not any(channel.name in masks for channel in protocol.targets):
        raise CaseError("No structure is a target by the file of names.")
    return masks


def _write_case(folder: Path, case: Case, masks: dict[str, Volume], names: CohortNames) -> None:
    assert case.prescription is not None
    prescription = replace(case.prescription, target_gy=_prescription(case, names))
    write_case_folder(folder, replace(case, structures=masks, prescription=prescription))


def _prescription(case: Case, names: CohortNames) -> dict[str, float]:
    """Dose by channel; a target that no channel takes keeps its name."""
    assert case.prescription is not None
    return {
        names.channels.get(target) or target: dose_gy
        for target, dose_gy in case.prescription.target_gy.items()
    }


def _plan_arrays(
    case: Case, masks: dict[str, Volume], plan: Plan | None, settings: CohortSettings
) -> dict[str, Any]:
    """What `plan.npz` holds; beams as `beam<number>_<quantity>`, see `Beam` for their units."""
    arrays: dict[str, Any] = {
        "channels": np.array(list(masks)),
        "signed_distance": np.stack([signed_distance(mask) for mask in masks.values()]),
        "spacing_mm_zyx": np.array(case.grid.spacing[::-1]),
    }
    prescription = _prescription(case, settings.names)
    arrays["prescription_targets"] = np.array(list(prescription))
    arrays["prescription_gy"] = np.array(list(prescription.values()))
    if settings.goals is not None:
        assert case.plan_dose is not None
        results = evaluate_goals(
            settings.goals, dvhs(case.plan_dose, masks), prescriptions_gy=prescription
        )
        arrays["constraints"] = np.array(
            [f"{goal.structure}: {goal.text}" for goal in settings.goals.goals]
        )
        arrays["constraint_limits"] = np.array([goal.limit for goal in settings.goals.goals])
        arrays["constraint_values"] = np.array(
            [np.nan if each["value"] is None else each["value"] for each in results]
        )
    for beam in plan.beams if plan else ():
        quantities = {
            key: value
            for key, value in vars(beam).items()
            if isinstance(value, np.ndarray) or key in ("meterset", "energy_mv", "leaves_along")
        }
        for key, value in quantities.items():
            if value is not None:
                arrays[f"beam{beam.number}_{key}"] = np.asarray(value)
    return arrays


def _write_qa(
    path: Path, case: Case, masks: dict[str, Volume], protocol: StructureProtocol
) -> None:
    """Slices through target and dose with every contour, for a person to look over."""
    from matplotlib.text import Text

    from DosePredictionLib.report import ReportInput, ReportStructure
    from DosePredictionLib.report.figures import slices_figure
    from DosePredictionLib.report.slices import slice_views

    assert case.plan_dose is not None
    structures = [
        ReportStructure(channel.label, channel.color, masks[channel.name], channel.role)
        for channel in protocol.channels
        if channel.name in masks
    ]
    report = ReportInput(
        case=case,
        prediction=case.plan_dose,
        structures=structures,
        reference=None,
        metadata={},
        evaluation={},
    )
    figure = slices_figure(report, *slice_views(report))
    for text in figure.findobj(Text):  # the report's wording is a prediction's
        text.set_text(_QA_WORDS.get(text.get_text().split(".")[0], text.get_text()))
    figure.savefig(path, dpi=_QA_DPI)


# --- The command --------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the preparation of a clinical cohort."""
    parser.add_argument("--cases", type=Path, required=True, help="one DICOM folder a patient")
    parser.add_argument("--output", type=Path, required=True, help="folder of case folders")
    parser.add_argument("--protocol", default="pelvis", help="id of the protocol")
    parser.add_argument("--names", type=Path, help="file of names (default: OUTPUT/names.json)")
    parser.add_argument(
        "--key",
        type=Path,
        help="secret key (default: ~/.dose-prediction/clinical.key, made if none)",
    )
    parser.add_argument("--goals", help="goal set of the constraint vector")
    parser.add_argument("--workers", type=within(WORKERS), default=usable_cores())


def run(arguments: argparse.Namespace) -> int:
    """Propose the names if there is no file of them yet, else prepare the cohort.

    Returns:
        0: done; 3: some patients were refused.
    """
    folders = patient_folders(arguments.cases)
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.names or arguments.output / "names.json"
    if not path.is_file():
        protocol = StructureProtocol.load(arguments.protocol)
        names, refused = propose_names(folders, protocol, arguments.workers)
        write_json(path, to_json(names))
        sys.stdout.write(
            f"{path} proposes a channel for {len(names.channels)} names of "
            f"{len(folders) - len(refused)} patients. Correct it, then run the command again.\n"
        )
    else:
        names = from_json(CohortNames, read_json(path, CaseError), str(path), CaseError)
        goals = GoalSet.load(arguments.goals) if arguments.goals else None
        key = read_key(arguments.key, arguments.output)
        settings = CohortSettings(arguments.output, names, key, goals)
        prepared, refused = prepare_cohort(folders, settings, arguments.workers)
        sys.stdout.write(f"{len(prepared)} of {len(folders)} prepared in {arguments.output}.\n")
        for folder in sorted(refused):
            sys.stderr.write(f"{_pseudonym(key, folder)} in refused.csv is {folder}\n")
    for folder, reason in sorted(refused.items()):
        sys.stderr.write(f"refused: {folder}: {reason}\n")
    return 3 if refused else 0
