"""Cases and predictions between two processes: raw arrays and one JSON file in a folder.

Arrays are uncompressed `.npy` files, memory-mapped when they are read; of a mask the block that
holds anything is kept. The JSON file is written last, so that a folder with one is complete. A
case's origin in DICOM, which names the patient, is not written: it stays with the client. This is
no format to keep: both sides are of the same version.

A volume that was read from such a folder is not written again: the new folder gets another link to
the same file, by which a `CaseReader` knows the volume that it has already.

A window writes one array a call, so that it can draw between calls:

>>> writer = CaseWriter(folder, "patient", grid)  # doctest: +SKIP
>>> writer.ct(ct)  # doctest: +SKIP
>>> writer.structure("PTV", mask)  # doctest: +SKIP
>>> writer.finish(Prescription({"PTV": 45.0}, 25))  # doctest: +SKIP
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from ..app.bands import Bands
from ..beams.arrangement import BeamArrangement
from ..case import Case, Prescription
from ..errors import CaseError, GeometryError, WorkerError
from ..evaluation.result import Evaluation
from ..files import whole_folder
from ..findings import Finding
from ..mask import Mask
from ..models.manifest import ModelFolder, read_manifest
from ..prediction import Output, OutputRole, OutputUnit, Prediction
from ..processes import is_alive
from ..schema import from_json, read_json, to_json
from ..structures.mapping import StructureMapping
from ..volume import Grid, Volume, slabs
from ..wishes import Wish
from .measured import write_bands, write_measures

__all__ = [
    "SCRATCH_PREFIX",
    "CaseReader",
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
_VERSION = 4

_files: MutableMapping[Volume, Path] = WeakKeyDictionary()  # of volumes that were read


@dataclass(frozen=True)
class _Array:
    """An array in the folder; `start` (z, y, x) is where the block of a mask begins."""

    file: str
    start: tuple[int, int, int] | None = None


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
    wishes: tuple[Wish, ...] = ()


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
    beams: BeamArrangement | None = None
    wishes: tuple[Wish, ...] = ()


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

    def ct(self, hu: Volume) -> None:
        """Write the CT, HU."""
        self._ct = self._arrays.write("ct", hu)

    def structure(self, name: str, mask: Mask) -> None:
        """Write a structure's mask.

        Raises:
            CaseError: a structure of that name has been written.
        """
        if name in self._structures:
            raise CaseError(f"Two structures are called {name!r}. Rename one.")
        number = len(self._structures)
        self._structures[name] = self._arrays.write(f"structure_{number:03d}", mask)

    def plan_dose(self, dose_gy: Volume) -> Iterator[None]:
        """Write the plan's dose, Gy, some planes a turn."""
        self._plan_dose = _Array("plan_dose.npy")
        yield from self._arrays.write_in_slabs("plan_dose", dose_gy)

    def dose_mask(self, mask: Mask) -> None:
        """Write where a dose may be non-zero."""
        self._dose_mask = self._arrays.write("dose_mask", mask)

    def strip(self, angle: int, mask: Mask) -> None:
        """Write a strip mask that came with the case."""
        self._strips[str(angle)] = self._arrays.write(f"strip_{angle:03d}", mask)

    def finish(
        self,
        prescription: Prescription | None = None,
        findings: tuple[Finding, ...] = (),
        beams: BeamArrangement | None = None,
        wishes: tuple[Wish, ...] = (),
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
            wishes=wishes,
        )
        _write_record(self._arrays.folder / _CASE, record)
        return self._arrays.folder


def write_case(folder: Path, case: Case) -> Path:
    """Write a whole case at once; see `CaseWriter` for one array a call."""
    writer = CaseWriter(folder, case.name, case.grid)
    writer.ct(case.ct)
    for name, mask in case.structures.items():
        writer.structure(name, mask)
    if case.plan_dose is not None:
        for _ in writer.plan_dose(case.plan_dose):
            pass
    if case.dose_mask is not None:
        writer.dose_mask(case.dose_mask)
    for angle, mask in (case.strips or {}).items():
        writer.strip(angle, mask)
    return writer.finish(case.prescription, case.findings, case.beams, case.wishes)


def read_exchanged_case(folder: Path, only: Collection[str] | None = None) -> Case:
    """A case written by `CaseWriter`; its arrays are memory-mapped, read-only.

    Args:
        only: the structures to read; None: all.

    Raises:
        CaseError: an array is missing or truncated, or the case cannot be right.
        WorkerError: there is no case, or it is of another version.
    """
    return CaseReader().read(folder, only)


class CaseReader:
    """Reads one case after another. What it shares with the last one is the same object."""

    def __init__(self) -> None:
        self._known: MutableMapping[tuple[int, ...], Volume] = WeakValueDictionary()
        self._last: Case | None = None  # keeps its volumes known

    def read(self, folder: Path, only: Collection[str] | None = None) -> Case:
        """See `read_exchanged_case`."""
        record = _read_record(_CaseRecord, folder / _CASE)
        arrays = _ArrayReader(folder, record.grid, self._known)
        self._last = Case(
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
            wishes=record.wishes,
        )
        return self._last


def write_prediction(
    folder: Path,
    prediction: Prediction,
    seconds: Mapping[str, float] | None = None,
    measures: Evaluation | None = None,
    bands: Bands | None = None,
) -> None:
    """Write a prediction, without its case, to a folder that appears whole or not at all.

    Args:
        seconds: time of further steps, beside the prediction's own.
        measures: its numbers, for `measured.read_measures`.
        bands: of its DVHs, for `measured.read_bands`.
    """
    with whole_folder(folder) as aside:
        if measures is not None:
            write_measures(aside, measures)
            write_bands(aside, bands or Bands())
        arrays = _ArrayWriter(aside, prediction.grid)
        strips = prediction.strips or {}
        record = _PredictionRecord(
            version=_VERSION,
            grid=prediction.grid,
            model_folder=str(prediction.model.folder),
            outputs=tuple(_written(arrays, output) for output in prediction.outputs),
            external=arrays.write("external", prediction.external),
            strips={str(a): arrays.write(f"strip_{a:03d}", m) for a, m in strips.items()},
            mapping=prediction.mapping,
            prescription=prediction.prescription,
            findings=prediction.findings,
            fallbacks=prediction.fallbacks,
            device=prediction.device,
            precision=prediction.precision,
            seconds=_added(seconds or {}, prediction.seconds),
            beams=prediction.case.beams,
            wishes=prediction.case.wishes,
        )
        _write_record(aside / _PREDICTION, record)


def read_prediction(folder: Path, case: Case) -> Prediction:
    """A prediction written by `write_prediction`; doses are memory-mapped, read-only.

    Args:
        case: that was predicted, with whatever beams and wishes, as `read_exchanged_case` has it.

    Raises:
        CaseError: an array is missing or truncated.
        WorkerError: there is no prediction, it is of another version, or an output's role is none.
        PredictionError: two outputs have one key, or a key is no safe name.
        ModelError: the model's folder has gone.
    """
    record = _read_record(_PredictionRecord, folder / _PREDICTION)
    arrays = _ArrayReader(folder, record.grid)
    model_folder = Path(record.model_folder)
    chosen, own = (record.beams, record.wishes), (case.beams, case.wishes)
    return Prediction(
        case=case if chosen == own else replace(case, beams=record.beams, wishes=record.wishes),
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
        array=arrays.write(f"output_{output.key}", output.volume),
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
    """Writes volumes of one grid into one folder."""

    def __init__(self, folder: Path, grid: Grid) -> None:
        self.folder = folder
        self.grid = grid

    def write(self, name: str, volume: Volume) -> _Array:
        """Write a volume at once; a boolean one as a mask."""
        self._require_grid(name, volume)
        path = self.folder / f"{name}.npy"
        if not isinstance(volume, Mask) and volume.array.dtype == bool:
            volume = Mask.of(volume)
        if not self._linked(volume, path):
            stored = volume.block if isinstance(volume, Mask) else volume.array
            np.save(path, np.ascontiguousarray(stored), allow_pickle=False)
        if not isinstance(volume, Mask):
            return _Array(path.name)
        z, y, x = volume.bounding_box() or (slice(0, 0),) * 3
        return _Array(path.name, (int(z.start), int(y.start), int(x.start)))

    def write_in_slabs(self, name: str, volume: Volume) -> Iterator[None]:
        """Write a volume that is no mask, with a pause after every few planes."""
        self._require_grid(name, volume)
        path, array = self.folder / f"{name}.npy", volume.array
        if self._linked(volume, path):
            return
        mapped = np.lib.format.open_memmap(path, "w+", array.dtype, array.shape)
        for part in slabs(array.shape):
            mapped[part] = array[part]
            yield

    def _linked(self, volume: Volume, path: Path) -> bool:
        """Whether the file that a volume was read from stands here, too, under this name."""
        if volume not in _files:
            return False
        try:
            os.link(_files[volume], path)
        except OSError:  # it has gone, or the file system knows no links
            return False
        return True

    def _require_grid(self, name: str, volume: Volume) -> None:
        if volume.grid.shape != self.grid.shape:
            raise GeometryError(
                f"{name} has the shape (z, y, x) {volume.grid.shape}, the grid {self.grid.shape}."
            )


class _ArrayReader:
    """Reads volumes of one grid from one folder.

    Args:
        known: file → the volume that was read from it.
    """

    def __init__(
        self, folder: Path, grid: Grid, known: MutableMapping[tuple[int, ...], Volume] | None = None
    ) -> None:
        self._folder = folder
        self._grid = grid
        self._known = {} if known is None else known

    def read(self, array: _Array) -> Volume:
        path = self._folder / array.file
        try:
            about = path.stat()
            key = (about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size)
            known = self._known.get(key)
            if known is not None and known.grid == self._grid:
                return known
            stored: NDArray[Any] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError) as exception:
            if isinstance(exception, OSError) and exception.errno == errno.ENOMEM:
                raise MemoryError(f"{path} cannot be mapped") from exception
            raise CaseError(f"{path} cannot be read: {exception}.") from exception
        volume = self._volume(path, stored, array.start)
        self._known[key] = volume
        _files[volume] = path
        return volume

    def _volume(self, path: Path, stored: NDArray[Any], start: tuple[int, ...] | None) -> Volume:
        if start is None:
            return Volume(stored, self._grid)
        if stored.ndim != 3 or np.any(np.add(start, stored.shape) > self._grid.shape):
            raise CaseError(f"{path} holds no block of {self._grid}.")
        z, y, x = (slice(a, a + n) for a, n in zip(start, stored.shape, strict=True))
        return Mask.of_block(stored, (z, y, x), self._grid)

    def read_optional(self, array: _Array | None) -> Volume | None:
        return None if array is None else self.read(array)


def _added(before: Mapping[str, float], own: Mapping[str, float]) -> dict[str, float]:
    """Steps that came before a prediction's own, and a total over all."""
    total = sum(before.values()) + own["total"]
    return {**before, **own, "total": round(total, 3)}


def _write_record(path: Path, record: _CaseRecord | _PredictionRecord) -> None:
    # ASCII: a name that came from a file system need not be valid Unicode.
    path.write_text(json.dumps(to_json(record), ensure_ascii=True), encoding="ascii")


def _read_record(kind: type[Any], path: Path) -> Any:
    content = read_json(path, WorkerError)
    version = content.get("version") if isinstance(content, Mapping) else None
    if version != _VERSION:
        raise WorkerError(f"{path} has version {version}; this version reads {_VERSION}.")
    return from_json(kind, content, str(path), WorkerError)
