"""Which patients a run has seen, and which none may see."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from DosePredictionLib.errors import DosePredictionError, ModelError
from DosePredictionLib.files import write_json
from DosePredictionLib.models.manifest import ModelManifest
from DosePredictionLib.resources import resource_path
from DosePredictionLib.schema import Length, Name, from_json, read_json

__all__ = [
    "DATA_FILE",
    "PATIENTS",
    "Fold",
    "HeldOut",
    "chosen",
    "held_out",
    "known_patients_of_model",
    "names_in_fold",
    "patient_of",
    "patients_of_run",
    "record_patients",
    "require_apart_from_held_out",
    "trained_on",
]

_PLAN_OF_ANATOMY = re.compile(r"(plan_\d+_\d+)_[^_]+_\d+")

DATA_FILE = "data.json"
PATIENTS = "patients"
"""The entry of `data.json` and of a model's card: everyone whose plan shaped the weights."""

HeldOut = Literal["leave-out", "only"]
Fold = tuple[int, int]
"""(k, n): the k-th of n parts, from 0."""

_Names = Annotated[tuple[Name, ...], Length(0, 1_000_000)]


@dataclass(frozen=True)
class _Listed:
    names: _Names


def held_out(protocol: str) -> frozenset[str]:
    """Patients of the protocol's public cohort that are never trained on.

    Args:
        protocol: id, after which `Resources/Cohorts/<id>.json` is called.
    """
    path = resource_path("Cohorts", f"{protocol}.json")
    if not path.is_file():
        return frozenset()
    return frozenset(_names(read_json(path).get("held_out"), f"{path}.held_out"))


def chosen(names: Iterable[str], protocol: str, which: HeldOut | None) -> list[str]:
    """The names without those held out, or these alone.

    Args:
        which: None: all.

    Raises:
        DosePredictionError: none is left.
    """
    every, apart = list(names), held_out(protocol)
    if which is None:
        return every
    left = [name for name in every if (name in apart) == (which == "only")]
    if not left:
        raise DosePredictionError(
            f"No case is left by --held-out {which}: {len(apart)} patients of the protocol "
            f"{protocol} are held out, and of the {len(every)} cases "
            f"{sum(name in apart for name in every)} are among them."
        )
    return left


def names_in_fold(names: Sequence[str], fold: Fold, seed: int) -> set[str]:
    """Who belongs to a part: each patient to one, drawn by the seed from all of them.

    All plans of a simulated anatomy are of one patient.

    Raises:
        DosePredictionError: there are fewer patients than parts.
    """
    part, parts = fold
    patients = sorted({patient_of(name) for name in names})
    if len(patients) < parts:
        raise DosePredictionError(f"{len(patients)} cases cannot be divided into {parts} parts.")
    order = np.random.default_rng(seed).permutation(len(patients))
    chosen_patients = {patients[index] for index in order[part::parts]}
    return {name for name in names if patient_of(name) in chosen_patients}


def trained_on(
    names: Sequence[str],
    protocol: str,
    which: HeldOut | None,
    without: Collection[str],
    fold: Fold | None,
    seed: int,
) -> set[str]:
    """The names without those held out or left out, or of all parts but one.

    Args:
        which: see `chosen`.
        without: names to leave out.
        fold: the part to leave out, drawn by the seed from all who are not held out, so that it is
            the same whoever is left out.

    Raises:
        DosePredictionError: one to leave out is not there, or none is left.
    """
    unknown = sorted(set(without) - set(names))
    if unknown:
        raise DosePredictionError(f"--without {' '.join(unknown)}: no training case is so called.")
    kept = set(chosen(names, protocol, which))
    if fold:
        kept -= names_in_fold(sorted(kept), fold, seed)
    kept -= set(without)
    if not kept:
        raise DosePredictionError("--without leaves no case to train on.")
    return kept


def patient_of(name: str) -> str:
    """A case's patient: its name, but for what `training.simulation.plans` says of the plan."""
    found = _PLAN_OF_ANATOMY.fullmatch(name)
    return found[1] if found else name


def record_patients(run: Path, names: Collection[str]) -> None:
    """Add patients to `data.json` of a run folder; what else it says stays.

    Raises:
        ModelError: the file cannot be read.
    """
    path = run / DATA_FILE
    content: dict[str, Any] = read_json(path, ModelError) if path.is_file() else {}
    known = set(_names(content.get(PATIENTS, ()), f"{path}.{PATIENTS}"))
    write_json(path, {**content, PATIENTS: sorted({*known, *names})})


def patients_of_run(run: Path) -> frozenset[str]:
    """Everyone whose plan shaped a run's weights, through every ancestor.

    Raises:
        ModelError: its `data.json` does not say it.
    """
    path = run / DATA_FILE
    return _stated(read_json(path, ModelError), str(path))


def known_patients_of_model(manifest: ModelManifest) -> frozenset[str] | None:
    """Everyone whose plan shaped a model's weights; None: its card does not say it.

    Raises:
        ModelError: its card's list is none.
    """
    if PATIENTS not in manifest.training:
        return None
    return _stated(manifest.training, f"The card of the model {manifest.name}")


def require_apart_from_held_out(patients: Collection[str], protocol: str, what: str) -> None:
    """Refuse weights that were shaped by a patient who is held out.

    Args:
        what: whose they are, for the message.

    Raises:
        ModelError: names the patients.
    """
    seen = sorted(held_out(protocol) & set(patients))
    if seen:
        raise ModelError(
            f"{what} was trained on {len(seen)} patients of the protocol {protocol} that are held "
            f"out ({', '.join(seen[:5])}{' …' if len(seen) > 5 else ''}): its figures on them "
            "would mean nothing. Train anew with --held-out leave-out."
        )


def _stated(content: Mapping[str, Any], where: str) -> frozenset[str]:
    if not isinstance(content, Mapping) or PATIENTS not in content:
        raise ModelError(
            f"{where} does not list the patients ({PATIENTS}) whose plans shaped the weights. Add "
            "them, those of what it continued from included."
        )
    return frozenset(_names(content[PATIENTS], f"{where}: {PATIENTS}"))


def _names(value: Any, where: str) -> tuple[str, ...]:
    return from_json(_Listed, {"names": value}, where, ModelError).names
