"""Prepared cases on disk, memory-mapped when training reads them.

    cache.json                what made it: version, protocol, encoding; and the refused cases
    cases/<name>/case.json    name, spacing, prescription and wishes
    cases/<name>/*.npy        the arrays of a `TrainingCase`
    earlier/<name>.npy        its doses of earlier stages, once they are computed

A case folder appears whole or not at all, so that an interrupted `prepare` goes on where it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from DosePredictionLib.encoding.channels.registry import ModelChannels, model_channels
from DosePredictionLib.encoding.encoder import EncodingSettings
from DosePredictionLib.errors import CaseError, DosePredictionError
from DosePredictionLib.files import require_regular_file, whole_file, whole_folder, write_json
from DosePredictionLib.io import case_name
from DosePredictionLib.ranges import DoseGy, SpacingXyzMm
from DosePredictionLib.schema import Length, Name, Share, from_json, read_json, to_json, validated
from DosePredictionLib.structures.protocol import StructureProtocol

from .attempts import attempts
from .data import TrainingCase, case_paths

__all__ = [
    "CACHE_VERSION",
    "HEADER",
    "Prepared",
    "each_case",
    "header",
    "is_cache",
    "named_paths",
    "open_cache",
    "prepare",
    "require_ours",
    "write_earlier",
]

T = TypeVar("T")

CACHE_VERSION = 2  # 1 kept every mask as bits, and no prescription
HEADER = "cache.json"
_EARLIER = "earlier"
_ARRAYS = {
    "mask_bits": "uint32",
    "float32": "float32",
    "float16": "float16",
    "dose_gy": "float32",
    "region": "bool",
    "body": "bool",
}
_MOST_BYTES = 2**36
_ANEW = "Remove the case's folder and prepare it anew (python -m training prepare)."


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did: names of the cases in the cache, and why others are not."""

    cases: tuple[str, ...]
    refused: Mapping[str, str]


def is_cache(folder: Path) -> bool:
    """Whether a folder is a cache."""
    return (folder / HEADER).is_file()


def prepare(
    folder: Path,
    cache: Path,
    protocol: StructureProtocol,
    settings: EncodingSettings,
    workers: int,
    only: Collection[str] | None = None,
) -> Prepared:
    """Encode every case of a folder into a cache; cases that are there already are kept.

    A case that cannot be read or learned from is refused and listed; the others go on.

    Args:
        only: names of the cases that are meant; None: all.

    Raises:
        DosePredictionError: the cache is another version's, protocol's or encoding's, or two
            cases share a name.
    """
    paths = named_paths(folder)
    paths = {name: path for name, path in paths.items() if only is None or name in only}
    if is_cache(cache):
        require_ours(cache, read_json(cache / HEADER), protocol, settings)
    (cache / "cases").mkdir(parents=True, exist_ok=True)
    _write_header(cache, protocol, settings, {})
    missing = {name: p for name, p in paths.items() if not (cache / "cases" / name).is_dir()}
    work = partial(_prepare_case, folder=cache / "cases", protocol=protocol, settings=settings)
    refused = {name: reason for name, _, reason in each_case(work, missing, workers) if reason}
    refused = dict(sorted(refused.items()))
    _write_header(cache, protocol, settings, refused)
    return Prepared(tuple(name for name in paths if name not in refused), refused)


def named_paths(folder: Path) -> dict[str, Path]:
    """What may be cases in a folder, by name.

    Raises:
        DosePredictionError: it holds none, or two of one name.
    """
    paths = case_paths(folder)
    names = [case_name(path) for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DosePredictionError(f"{folder} holds two cases of the name {', '.join(twice)}.")
    return dict(zip(names, paths, strict=True))


def each_case(
    work: Callable[[Path], T], paths: Mapping[str, Path], workers: int
) -> Iterator[tuple[str, T | None, str]]:
    """Name, result and "", or name, None and why it was refused, as processes finish them."""
    names = tuple(paths)
    for index, result, reason in attempts(work, tuple(paths.values()), workers, "prepare"):
        yield names[index], result, reason


def open_cache(
    cache: Path, protocol: StructureProtocol, settings: EncodingSettings
) -> list[TrainingCase]:
    """The cases of a cache, memory-mapped, sorted by name.

    Raises:
        DosePredictionError: it is another version's, protocol's or encoding's.
        CaseError: it is empty.
    """
    require_ours(cache, read_json(cache / HEADER), protocol, settings)
    every = (cache / "cases").iterdir() if (cache / "cases").is_dir() else ()
    folders = sorted(path for path in every if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise CaseError(f"The cache {cache} holds no case; {HEADER} says why.")
    channels = model_channels(protocol, settings)
    return [_open_case(folder, channels, cache / _EARLIER) for folder in folders]


def write_earlier(cache: Path, name: str, doses: NDArray[np.float16]) -> None:
    """Keep doses of earlier stages `(stage, z, y, x)` beside a case; whole or not at all."""
    folder = cache / _EARLIER
    folder.mkdir(exist_ok=True)
    with whole_file(folder / f"{name}.npy") as aside, aside.open("wb") as file:
        np.save(file, doses)


def _prepare_case(
    path: Path, folder: Path, protocol: StructureProtocol, settings: EncodingSettings
) -> None:
    """Write `folder/<name>`, whole or not at all."""
    case = TrainingCase.read(path, protocol, settings)
    with whole_folder(folder / case_name(path), replace=True) as aside:
        for name in _ARRAYS:
            np.save(aside / f"{name}.npy", np.ascontiguousarray(getattr(case, name)))
        about = {
            "name": case.name,
            "spacing_mm": case.spacing_mm,
            "prescription_gy": case.prescription_gy,
            "wishes": dict(case.wishes),
        }
        write_json(aside / "case.json", about)


@dataclass(frozen=True)
@validated
class _About:
    """The content of a case's `case.json`."""

    name: Name
    spacing_mm: SpacingXyzMm
    prescription_gy: DoseGy | None
    wishes: Annotated[dict[Name, Share], Length(0, 100)] = field(default_factory=dict)


def _open_case(folder: Path, channels: ModelChannels, earlier: Path) -> TrainingCase:
    path = folder / "case.json"
    about = from_json(_About, read_json(path, CaseError), str(path), CaseError)
    arrays = {name: _open_array(folder / f"{name}.npy", name) for name in _ARRAYS}
    grid = arrays["body"].shape
    for name, array in arrays.items():
        kept = {"float32": "float32", "float16": "float16"}.get(name)
        wanted = (len(channels.stored_as(kept)), *grid) if kept else grid  # type: ignore[arg-type]
        if array.shape != wanted:
            raise CaseError(
                f"{folder}/{name}.npy has the shape {array.shape}, not {wanted}. {_ANEW}"
            )
    stages, file = None, earlier / f"{folder.name}.npy"
    if file.is_file():
        stages = _open_array(file, _EARLIER)
        if stages.ndim != 4 or stages.shape[1:] != grid:
            raise CaseError(f"{file} has the shape {stages.shape}: remove it and mimic anew.")
    return TrainingCase(
        name=about.name,
        spacing_mm=about.spacing_mm,
        prescription_gy=about.prescription_gy,
        wishes=about.wishes,
        channels=channels,
        earlier=stages,
        **arrays,
    )


def _open_array(file: Path, name: str) -> NDArray:
    """An array of a case, mapped; nothing in it is executed.

    Raises:
        CaseError: missing, damaged, or of another type.
    """
    require_regular_file(file, _MOST_BYTES, CaseError)
    try:
        array: NDArray = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as exception:
        reason = " ".join(str(exception).split()) or type(exception).__name__
        raise CaseError(f"{file} cannot be read ({reason}). {_ANEW}") from exception
    wanted = _ARRAYS.get(name, "float16")  # of earlier doses, too
    if array.dtype != wanted:
        raise CaseError(f"{file} holds {array.dtype}, not {wanted}. {_ANEW}")
    return array


def header(protocol: StructureProtocol, settings: EncodingSettings) -> dict[str, Any]:
    """What a cache says about how it was made."""
    return {
        "version": CACHE_VERSION,
        "protocol": protocol.id,
        "inputs": [channel.name for channel in protocol.inputs],
        "encoding": to_json(settings),
    }


def _write_header(
    cache: Path,
    protocol: StructureProtocol,
    settings: EncodingSettings,
    refused: Mapping[str, str],
) -> None:
    content = header(protocol, settings) | {"refused": dict(refused)}
    write_json(cache / HEADER, content)


def require_ours(
    cache: Path, theirs: Any, protocol: StructureProtocol, settings: EncodingSettings
) -> None:
    """Refuse a cache of another version, protocol or encoding, by its header.

    Raises:
        DosePredictionError: names what differs.
    """
    if not isinstance(theirs, Mapping):
        raise DosePredictionError(f"The cache {cache} has no header, but {theirs!r:.40}.")
    version = theirs.get("version")
    if version != CACHE_VERSION:
        raise DosePredictionError(
            f"The cache {cache} has the layout of version {version}, this one reads "
            f"{CACHE_VERSION}: its cases were encoded by other rules. Prepare it anew into another "
            "folder (python -m training prepare)."
        )
    stored = dict(theirs)
    with contextlib.suppress(DosePredictionError):  # what it did not know yet had its default
        stored["encoding"] = to_json(from_json(EncodingSettings, theirs.get("encoding")))
    for key, value in header(protocol, settings).items():
        if stored.get(key) != value:
            raise DosePredictionError(
                f"The cache {cache} was made with another {key} ({theirs.get(key)}) than asked "
                f"for ({value}). Prepare it anew into another folder."
            )
