"""Prepared cases on disk, memory-mapped when training reads them.

    cache.json                what made it: version, protocol, encoding; and the refused cases
    cases/<name>/case.json    name and spacing
    cases/<name>/*.npy        the arrays of a `TrainingCase`

A case folder appears whole or not at all, so that an interrupted `prepare` goes on where it was.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from DosePredictionLib.encoding import EncodingSettings
from DosePredictionLib.errors import CaseError, DosePredictionError
from DosePredictionLib.protocol import StructureProtocol
from DosePredictionLib.schema import read_json, to_json

from .data import TrainingCase, case_paths

__all__ = ["CACHE_VERSION", "Prepared", "is_cache", "open_cache", "prepare"]

CACHE_VERSION = 1
_FILE = "cache.json"
_ARRAYS = ("ct", "mask_bits", "dose_gy", "region", "body", "derived")


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did: names of the cases in the cache, and why others are not."""

    cases: tuple[str, ...]
    refused: Mapping[str, str]


def is_cache(folder: Path) -> bool:
    """Whether a folder is a cache."""
    return (folder / _FILE).is_file()


def prepare(
    folder: Path,
    cache: Path,
    protocol: StructureProtocol,
    settings: EncodingSettings,
    workers: int,
) -> Prepared:
    """Encode every case of a folder into a cache; cases that are there already are kept.

    A case that cannot be read or learned from is refused and listed; the others go on.

    Raises:
        DosePredictionError: the cache is another version's, protocol's or encoding's, or two
            cases share a name.
    """
    paths = case_paths(folder)
    if is_cache(cache):
        _require_ours(cache, protocol, settings)
    names = [path.stem if path.is_file() else path.name for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DosePredictionError(f"{folder} holds two cases of the name {', '.join(twice)}.")
    (cache / "cases").mkdir(parents=True, exist_ok=True)
    _write_header(cache, protocol, settings, {})
    refused: dict[str, str] = {}
    with ProcessPoolExecutor(workers) as pool:
        pending = {
            pool.submit(_prepare_case, path, cache / "cases" / name, protocol, settings): name
            for path, name in zip(paths, names, strict=True)
            if not (cache / "cases" / name).is_dir()
        }
        for done in tqdm(as_completed(pending), total=len(pending), unit="case"):
            try:
                done.result()
            except (DosePredictionError, OSError, ValueError, KeyError) as exception:
                refused[pending[done]] = str(exception)
    refused = dict(sorted(refused.items()))
    _write_header(cache, protocol, settings, refused)
    return Prepared(tuple(name for name in names if name not in refused), refused)


def open_cache(
    cache: Path, protocol: StructureProtocol, settings: EncodingSettings
) -> list[TrainingCase]:
    """The cases of a cache, memory-mapped, sorted by name.

    Raises:
        DosePredictionError: it is another version's, protocol's or encoding's.
        CaseError: it is empty.
    """
    _require_ours(cache, protocol, settings)
    folders = sorted(path for path in (cache / "cases").iterdir() if not path.name.startswith("."))
    if not folders:
        raise CaseError(f"The cache {cache} holds no case; {_FILE} says why.")
    return [_open_case(folder) for folder in folders]


def _prepare_case(
    path: Path, folder: Path, protocol: StructureProtocol, settings: EncodingSettings
) -> None:
    case = TrainingCase.read(path, protocol, settings)
    if not np.isfinite(case.dose_gy).all():
        raise CaseError(f"{path}: the plan dose holds NaN or infinite values.")
    if not case.region.any():
        raise CaseError(f"{path}: the region in which dose is learned is empty.")
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        for name in _ARRAYS:
            np.save(aside / f"{name}.npy", np.ascontiguousarray(getattr(case, name)))
        about = {"name": case.name, "spacing_mm": case.spacing_mm}
        (aside / "case.json").write_text(json.dumps(about), encoding="utf-8")
        aside.replace(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _open_case(folder: Path) -> TrainingCase:
    about = read_json(folder / "case.json")
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
    x, y, z = about["spacing_mm"]
    return TrainingCase(name=about["name"], spacing_mm=(x, y, z), **arrays)


def _header(protocol: StructureProtocol, settings: EncodingSettings) -> dict[str, Any]:
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
    content = _header(protocol, settings) | {"refused": dict(refused)}
    partial = cache / f"{_FILE}.partial"
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    partial.replace(cache / _FILE)


def _require_ours(cache: Path, protocol: StructureProtocol, settings: EncodingSettings) -> None:
    theirs, ours = read_json(cache / _FILE), _header(protocol, settings)
    for key, value in ours.items():
        if theirs.get(key) != value:
            raise DosePredictionError(
                f"The cache {cache} was made with another {key} ({theirs.get(key)}) than asked "
                f"for ({value}). Prepare it anew into another folder."
            )
