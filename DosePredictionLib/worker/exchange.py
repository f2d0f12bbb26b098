"""Cases and predictions between two processes: raw arrays and one JSON file in a folder.

Arrays are uncompressed `.npy` files, memory-mapped when they are read; boolean masks are packed,
eight voxels a byte. The JSON file is written last, so that a folder with one is complete. A case's
origin in DICOM, which names the patient, is not written: it stays with the client. This is no
format to keep: both sides are of the same version.

A window writes one array a call, so that it can draw between calls:

>>> writer = CaseWriter(folder, "patient", grid)  # doctest: +SKIP
>>> writer.ct(hounsfield)  # doctest: +SKIP
>>> writer.structure("PTV", mask)  # doctest: +SKIP
>>> writer.finish(Prescription({"PTV": 45.0}, 25))  # doctest: +SKIP
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..beams.arrangement import BeamArrangement
from ..case import Case, Prescription
from ..errors import CaseError, GeometryError, WorkerError
from ..evaluation.result import Evaluation
from ..files import whole_folder
from ..findings import Finding
from ..models.manifest import ModelFolder, read_manifest
from ..prediction import Output, OutputRole, OutputUnit, Prediction
from ..processes import is_alive
from ..schema import from_json, read_json, to_json
from ..structures.mapping import StructureMapping
from ..volume import Grid, Volume, slabs
from .measured import write_measures

__all__ = [
    "SCRATCH_PREFIX",
    "CaseWriter",
    "new_scratch",
    "read_exchanged_case",
    "read_prediction",
    "write_case",
    "write_prediction",
]

SCRATCH_PREFIX = "dose-prediction-"
"""How folders begin that a client makes for one session and that the worker may clear away."""

_CASE, _PREDICTION = "case.json", "prediction.json"
_VERSION = 2


@dataclass(frozen=True)
class _Array:
    """An array in the folder; `packed` states a boolean mask of eight voxels a byte."""

    file: str
    packed: bool = False


@dataclass(frozen=True)
class _CaseRecord:
    version: int
    name: str
    grid: Grid
    ct: _Array
    structures: dict[str, _Array]
    plan_dose: _Array | None
    dose_mask: _Array | None
    strips: dict[str, _Array]
    prescription: Prescription | None
    findings: tuple[Finding, ...]
    beams: BeamArrangement | None = None


@dataclass(frozen=True)
class _OutputRecord:
    key: str
    array: _Array
    role: OutputRole
    unit: OutputUnit
    structure: str | None
    level: float | None
    member: int | None


@dataclass(frozen=True)
class _PredictionRecord:
    version: int
    grid: Grid
    model_folder: str
    outputs: tuple[_OutputRecord, ...]
    external: _Array
    strips: dict[str, _Array]
    mapping: StructureMapping
    prescription: Prescription
    findings: tuple[Finding, ...]
    fallbacks: tuple[str, ...]
    device: str
    precision: str
    seconds: dict[str, float]


def new_scratch() -> Path:
    """A new folder for one session's cases and predictions, readable by this user alone.

    Raises:
        WorkerError: the system's folder for temporary files cannot be written.
    """
    try:
        _sweep_scratch()
        return Path(tempfile.mkdtemp(prefix=f"{SCRATCH_PREFIX}{os.getpid()}-"))
    except OSError as exception:
        raise WorkerError(
            f"No temporary folder can be made ({exception.strerror or exception}). Free some disk "
            "space, or point the environment variable TMPDIR (Windows: TEMP) at a folder that can "
            "be written."
        ) from exception


def _sweep_scratch() -> None:
    """Remove the patients' data of this user's sessions whose client and worker were killed."""
    for left in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*-*"):
        pid = left.name.removeprefix(SCRATCH_PREFIX).split("-")[0]
        if pid.isdigit() and int(pid) != os.getpid() and not is_alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


class CaseWriter:
    """Writes a case array by array. Each call writes one file; `finish` makes the case whole.

    Arrays are `(z, y, x)` on `grid`. Masks are boolean, or any integer type of which every voxel
    that is not zero lies inside, or an occupancy in 0…1 as float.

    Args:
        folder: made if it is missing; must not hold a case.
        name: how outputs call the case.

    Raises:
        WorkerError: the folder holds a case, or cannot be written.
    """

    def __init__(self, folder: Path, name: str, grid: Grid) -> None:
        if (folder / _CASE).exists():
            raise WorkerError(f"{folder} holds a case already. Use another folder.")
        folder.mkdir(parents=True, exist_ok=True)
        self._arrays = _ArrayWriter(folder, grid)
        self._name = name
        self._ct: _Array | None = None
        self._structures: dict[str, _Array] = {}
        self._plan_dose: _Array | None = None
        self._dose_mask: _Array | None = None
        self._strips: dict[str, _Array] = {}

    def ct(self, hu: NDArray) -> None:
        """Write the CT, HU."""
        self._ct = self._arrays.write("ct", hu)

    def structure(self, name: str, mask: NDArray) -> None:
        """Write a structure's mask.

        Raises:
            CaseError: a structure of that name has been written.
        """
        if name in self._structures:
            raise CaseError(f"Two structures are called {name!r}. Rename one.")
        number = len(self._structures)
        self._structures[name] = self._arrays.write(f"structure_{number:03d}", _as_bool(mask))

    def plan_dose(self, dose_gy: NDArray) -> Iterator[None]:
        """Write the plan's dose, Gy, some planes a turn."""
        self._plan_dose = yield from self._arrays.write_in_slabs("plan_dose", dose_gy)

    def dose_mask(self, mask: NDArray) -> None:
        """Write where a dose may be non-zero."""
        self._dose_mask = self._arrays.write("dose_mask", _as_bool(mask))

    def strip(self, angle: int, mask: NDArray) -> None:
        """Write a strip mask that came with the case."""
        self._strips[str(angle)] = self._arrays.write(f"strip_{angle:03d}", _as_bool(mask))

    def finish(
        self,
        prescription: Prescription | None = None,
        findings: tuple[Finding, ...] = (),
        beams: BeamArrangement | None = None,
    ) -> Path:
        """Make the case whole; the folder.

        Raises:
            CaseError: no CT or no structure was written.
        """
        if self._ct is None:
            raise CaseError(f"{self._name} has no CT.")
        if not self._structures:
            raise CaseError(f"{self._name} has no structures: at least a target is needed.")
        record = _CaseRecord(
            version=_VERSION,
            name=self._name,
            grid=self._arrays.grid,
            ct=self._ct,
            structures=self._structures,
            plan_dose=self._plan_dose,
            dose_mask=self._dose_mask,
            strips=self._strips,
            prescription=prescription,
            findings=findings,
            beams=beams,
        )
        _write_record(self._arrays.folder / _CASE, record)
        return self._arrays.folder


def write_case(folder: Path, case: Case) -> Path:
    """Write a whole case at once; see `CaseWriter` for one array a call."""
    writer = CaseWriter(folder, case.name, case.grid)
    writer.ct(case.ct.array)
    for name, mask in case.structures.items():
        writer.structure(name, mask.array)
    if case.plan_dose is not None:
        for _ in writer.plan_dose(case.plan_dose.array):
            pass
    if case.dose_mask is not None:
        writer.dose_mask(case.dose_mask.array)
    for angle, mask in (case.strips or {}).items():
        writer.strip(angle, mask.array)
    return writer.finish(case.prescription, case.findings, case.beams)


def read_exchanged_case(folder: Path, only: Collection[str] | None = None) -> Case:
    """A case written by `CaseWriter`; CT and doses are memory-mapped, read-only.

    Args:
        only: the structures to unpack, which takes a while; None: all.

    Raises:
        CaseError: an array is missing or truncated, or the case cannot be right.
        WorkerError: there is no case, or it is of another version.
    """
    record = _read_record(_CaseRecord, folder / _CASE)
    arrays = _ArrayReader(folder, record.grid)
    return Case(
        name=record.name,
        ct=arrays.read(record.ct),
        structures={
            name: arrays.read(array)
            for name, array in record.structures.items()
            if only is None or name in only
        },
        plan_dose=arrays.read_optional(record.plan_dose),
        prescription=record.prescription,
        dose_mask=arrays.read_optional(record.dose_mask),
        strips={int(a): arrays.read(array) for a, array in record.strips.items()} or None,
        findings=record.findings,
        beams=record.beams,
    )


def write_prediction(
    folder: Path,
    prediction: Prediction,
    seconds: Mapping[str, float] | None = None,
    measures: Evaluation | None = None,
) -> None:
    """Write a prediction, without its case, to a folder that appears whole or not at all.

    Args:
        seconds: time of further steps, beside the prediction's own.
        measures: its numbers, for `measured.read_measures`.
    """
    with whole_folder(folder) as aside:
        if measures is not None:
            write_measures(aside, measures)
        arrays = _ArrayWriter(aside, prediction.grid)
        strips = prediction.strips or {}
        record = _PredictionRecord(
            version=_VERSION,
            grid=prediction.grid,
            model_folder=str(prediction.model.folder),
            outputs=tuple(_written(arrays, output) for output in prediction.outputs),
            external=arrays.write("external", prediction.external.array),
            strips={str(a): arrays.write(f"strip_{a:03d}", m.array) for a, m in strips.items()},
            mapping=prediction.mapping,
            prescription=prediction.prescription,
            findings=prediction.findings,
            fallbacks=prediction.fallbacks,
            device=prediction.device,
            precision=prediction.precision,
            seconds=_added(seconds or {}, prediction.seconds),
        )
        _write_record(aside / _PREDICTION, record)


def read_prediction(folder: Path, case: Case) -> Prediction:
    """A prediction written by `write_prediction`; doses are memory-mapped, read-only.

    Args:
        case: the one that was predicted; `read_exchanged_case` gives it back.

    Raises:
        CaseError: an array is missing or truncated.
        WorkerError: there is no prediction, it is of another version, or an output's role is none.
        PredictionError: two outputs have one key, or a key is no safe name.
        ModelError: the model's folder has gone.
    """
    record = _read_record(_PredictionRecord, folder / _PREDICTION)
    arrays = _ArrayReader(folder, record.grid)
    model_folder = Path(record.model_folder)
    return Prediction(
        case=case,
        model=ModelFolder(model_folder, read_manifest(model_folder)),
        outputs=tuple(_read(arrays, output) for output in record.outputs),
        mapping=record.mapping,
        prescription=record.prescription,
        external=arrays.read(record.external),
        findings=record.findings,
        fallbacks=record.fallbacks,
        device=record.device,
        precision=record.precision,
        seconds=record.seconds,
        strips={int(a): arrays.read(array) for a, array in record.strips.items()} or None,
    )


def _written(arrays: _ArrayWriter, output: Output) -> _OutputRecord:
    return _OutputRecord(
        key=output.key,
        array=arrays.write(f"output_{output.key}", output.volume.array),
        role=output.role,
        unit=output.unit,
        structure=output.structure,
        level=output.level,
        member=output.member,
    )


def _read(arrays: _ArrayReader, record: _OutputRecord) -> Output:
    return Output(
        record.key,
        arrays.read(record.array),
        record.role,
        record.unit,
        record.structure,
        record.level,
        record.member,
    )


class _ArrayWriter:
    """Writes arrays of one grid into one folder."""

    def __init__(self, folder: Path, grid: Grid) -> None:
        self.folder = folder
        self.grid = grid

    def write_in_slabs(self, name: str, array: NDArray) -> Generator[None, None, _Array]:
        """As `write`, with a pause after every few planes."""
        self._require_shape(name, array)
        path = self.folder / f"{name}.npy"
        mapped = np.lib.format.open_memmap(path, "w+", array.dtype, array.shape)
        for part in slabs(array.shape):
            mapped[part] = array[part]
            yield
        return _Array(path.name)

    def _require_shape(self, name: str, array: NDArray) -> None:
        if array.shape != self.grid.shape:
            raise GeometryError(
                f"{name} has the shape (z, y, x) {array.shape}, the grid {self.grid.shape}."
            )

    def write(self, name: str, array: NDArray) -> _Array:
        self._require_shape(name, array)
        packed = array.dtype == bool
        stored = np.packbits(array) if packed else np.ascontiguousarray(array)
        np.save(self.folder / f"{name}.npy", stored, allow_pickle=False)
        return _Array(f"{name}.npy", packed)


class _ArrayReader:
    """Reads arrays of one grid from one folder."""

    def __init__(self, folder: Path, grid: Grid) -> None:
        self._folder = folder
        self._grid = grid

    def read(self, array: _Array) -> Volume:
        path = self._folder / array.file
        shape = self._grid.shape
        voxels = int(np.prod(shape))
        try:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as exception:
            if isinstance(exception, OSError) and exception.errno == errno.ENOMEM:
                raise MemoryError(f"{path} cannot be mapped") from exception
            raise CaseError(f"{path} cannot be read: {exception}.") from exception
        stored: NDArray[Any] = np.asarray(mapped)
        if array.packed:
            if stored.dtype != np.uint8 or stored.shape != ((voxels + 7) // 8,):
                raise CaseError(f"{path} holds no packed mask of {voxels} voxels.")
            return Volume(np.unpackbits(stored, count=voxels).view(bool).reshape(shape), self._grid)
        return Volume(stored, self._grid)

    def read_optional(self, array: _Array | None) -> Volume | None:
        return None if array is None else self.read(array)


def _added(before: Mapping[str, float], own: Mapping[str, float]) -> dict[str, float]:
    """Steps that came before a prediction's own, and a total over all."""
    total = sum(before.values()) + own["total"]
    return {**before, **own, "total": round(total, 3)}


def _as_bool(mask: NDArray) -> NDArray:
    """Integer masks as boolean; boolean ones and occupancies as they are."""
    return mask if mask.dtype.kind in "bf" else mask.astype(bool)


def _write_record(path: Path, record: _CaseRecord | _PredictionRecord) -> None:
    # ASCII: a name that came from a file system need not be valid Unicode.
    path.write_text(json.dumps(to_json(record), ensure_ascii=True), encoding="ascii")


def _read_record(kind: type[Any], path: Path) -> Any:
    content = read_json(path, WorkerError)
    version = content.get("version") if isinstance(content, Mapping) else None
    if version != _VERSION:
        raise WorkerError(f"{path} has version {version}; this version reads {_VERSION}.")
    return from_json(kind, content, str(path), WorkerError)
