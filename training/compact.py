"""Prepared cases in one small file, for travelling to the machine that trains.

Every case is cut to the box of its dose region. Inside the region the CT keeps steps of 8 HU or
less, the dose steps of 0.05 Gy; outside it the CT is air and the dose is 0. Masks are packed bits,
and channels that the encoding derives from masks are made anew from what the box holds of them. The
file is a zip of arrays, compressed by LZMA, which `numpy.load` reads:

    cache.json          what made it, as in a cache; and the refused cases
    <name>/ct.npy       the region's voxels, in steps from the lower end of the CT window
    <name>/dose.npy     uint8 (2, z, y, x), low and high bytes of the dose's third differences
    <name>/masks.npy    packed bits of region, body and the mask channels, (mask, z, y, x)
    <name>/shape.npy, <name>/spacing_mm.npy, <name>/prescription_gy.npy (NaN: none)
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from DosePredictionLib.encoding.channels.registry import ModelChannels, model_channels
from DosePredictionLib.encoding.channels.wish import WishChannel
from DosePredictionLib.encoding.encoder import EncodingSettings
from DosePredictionLib.errors import CaseError, DosePredictionError
from DosePredictionLib.files import whole_file
from DosePredictionLib.networks.configs import NetworkConfig
from DosePredictionLib.schema import parse_json
from DosePredictionLib.structures.protocol import StructureProtocol

from .cache import HEADER, Prepared, each_case, header, named_paths, require_ours
from .data import DOSE_STEP_GY, TrainingCase, cut

__all__ = ["open_compact", "pack", "unpack", "write_compact"]

_CT_STEP_HU = 8.0
_ARRAYS = ("ct", "dose", "masks", "shape", "spacing_mm", "prescription_gy")

Packed = dict[str, NDArray[Any]]


def write_compact(
    folder: Path,
    file: Path,
    protocol: StructureProtocol,
    settings: EncodingSettings,
    workers: int,
    only: Collection[str] | None = None,
) -> Prepared:
    """Encode every case of a folder into one file, which appears whole or not at all.

    A case that cannot be read or learned from is refused and listed; the others go on.

    Args:
        only: names of the cases that are meant; None: all.

    Raises:
        DosePredictionError: two cases share a name, or the encoding has channels that cannot be
            made from masks.
    """
    _require_packable(model_channels(protocol, settings))
    work = partial(_packed, protocol=protocol, settings=settings)
    names: list[str] = []
    refused: dict[str, str] = {}
    paths = named_paths(folder)
    paths = {name: path for name, path in paths.items() if only is None or name in only}
    with whole_file(file) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_LZMA) as archive:
        for name, packed, reason in each_case(work, paths, workers):
            if packed is None:
                refused[name] = reason
                continue
            names.append(name)
            _write_case(archive, name, packed)
        content = header(protocol, settings) | {"refused": dict(sorted(refused.items()))}
        archive.writestr(HEADER, json.dumps(content, indent=2, ensure_ascii=False))
    return Prepared(tuple(sorted(names)), dict(sorted(refused.items())))


def open_compact(
    file: Path, protocol: StructureProtocol, settings: EncodingSettings
) -> list[TrainingCase]:
    """The cases of a compact file, unpacked into memory, sorted by name.

    Raises:
        DosePredictionError: it is damaged, or another version's, protocol's or encoding's.
        CaseError: it is empty.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            theirs = parse_json(archive.read(HEADER).decode("utf-8"))
            names = sorted({name.split("/")[0] for name in archive.namelist() if "/" in name})
        require_ours(file, theirs, protocol, settings)
        channels = model_channels(protocol, settings)
        _require_packable(channels)
        if not names:
            raise CaseError(f"{file} holds no case; its {HEADER} says why.")
        with np.load(file) as arrays:
            return [
                unpack(name, {k: arrays[f"{name}/{k}"] for k in _ARRAYS}, channels)
                for name in tqdm(names, unit="case", desc="unpack", disable=None)
            ]
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as exception:
        raise DosePredictionError(
            f"{file} is no compact file of cases: {exception}."
        ) from exception


def pack(case: TrainingCase) -> Packed:
    """What the file keeps of a case."""
    box = case.region_box
    region, bits = case.region[box], case.mask_bits[box]
    levels = _ct_levels(case.channels.settings)
    ct = np.round(case.ct[box][region] * levels).astype(np.min_scalar_type(levels))
    masks = [(bits >> np.uint32(bit)) & np.uint32(1) for bit in range(int(bits.max()).bit_length())]
    return {
        "ct": ct,
        "dose": _differences(case.dose_steps),
        "masks": np.packbits(np.stack([region, case.body[box], *masks]).astype(bool)),
        "shape": np.array(region.shape),
        "spacing_mm": np.array(case.spacing_mm),
        "prescription_gy": np.array(case.prescription_gy or np.nan),
    }


def unpack(name: str, packed: Packed, channels: ModelChannels) -> TrainingCase:
    """The case again, in a grid of multiples of what the networks divide by."""
    shape = tuple(int(edge) for edge in packed["shape"])
    x, y, z = (float(mm) for mm in packed["spacing_mm"])
    voxels = int(np.prod(shape))
    planes = np.unpackbits(packed["masks"])
    planes = planes[: planes.size // voxels * voxels].reshape(-1, *shape).astype(bool)
    region, body = planes[0], planes[1]
    bits = np.zeros(shape, dtype=np.uint32)
    for bit, mask in enumerate(planes[2:]):
        bits |= mask.astype(np.uint32) << np.uint32(bit)
    (ct_index,) = channels.indices("ct")
    ct = np.full(shape, channels.channels[ct_index].padding, dtype=np.float32)
    ct[region] = packed["ct"] / np.float32(_ct_levels(channels.settings))
    dose_gy = (_sums(packed["dose"]) * DOSE_STEP_GY).astype(np.float32)
    size = [-(-edge // NetworkConfig.divisor) * NetworkConfig.divisor for edge in shape]
    start = [(edge - whole) // 2 for edge, whole in zip(shape, size, strict=True)]
    bits, dose_gy, region, body = (cut(a, start, size) for a in (bits, dose_gy, region, body))
    gy = float(packed["prescription_gy"])
    case = TrainingCase(
        name=name,
        mask_bits=bits,
        float32=np.zeros((len(channels.stored_as("float32")), *size), np.float32),
        float16=np.zeros((len(channels.stored_as("float16")), *size), np.float16),
        dose_gy=dose_gy,
        region=region,
        body=body,
        spacing_mm=(x, y, z),
        prescription_gy=None if math.isnan(gy) else gy,
        channels=channels,
    )
    values = case.stored_block((0, 0, 0), size)
    values[ct_index] = cut(ct, start, size, channels.channels[ct_index].padding)
    kept = {ct_index, *channels.stored_as("bits"), *channels.stored_as("recomputed")}
    made = [index for index in range(len(channels)) if index not in kept]
    channels.remake(made, values, body, (x, y, z))
    return replace(
        case,
        float32=values[channels.stored_as("float32")],
        float16=values[channels.stored_as("float16")].astype(np.float16),
    )


def _require_packable(channels: ModelChannels) -> None:
    """Refuse channels of which the file could not hold, or make from masks, what training needs.

    Raises:
        DosePredictionError: names them.
    """
    lost = [
        channel.name
        for channel in channels.channels
        if isinstance(channel, WishChannel)
        or (channel.group != "ct" and channel.storage != "bits" and not channel.from_masks)
    ]
    if lost:
        raise DosePredictionError(
            f"A compact file keeps the CT and binary masks; {', '.join(lost)} cannot be made from "
            "them. Train on a cache instead (prepare --output)."
        )


def _ct_levels(settings: EncodingSettings) -> int:
    """Steps from one end of the CT window to the other."""
    low, high = settings.ct_window_hu
    return math.ceil((high - low) / _CT_STEP_HU)


def _differences(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Third differences, along every axis once, as their low and high bytes `(2, z, y, x)`."""
    for axis in range(3):
        values = np.diff(values, axis=axis, prepend=np.uint16(0))
    # Small ones of either sign become small numbers, so that the high bytes are nearly all 0.
    signed = values.view(np.int16)
    folded = np.where(signed < 0, ~signed, signed).view(np.uint16) << np.uint16(1)
    folded |= (signed < 0).astype(np.uint16)
    return np.stack([folded & np.uint16(255), folded >> np.uint16(8)]).astype(np.uint8)


def _sums(differences: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Undo `_differences`."""
    low, high = differences.astype(np.uint16)
    folded = low | (high << np.uint16(8))
    half = folded >> np.uint16(1)
    values = np.where(folded & np.uint16(1), ~half, half)
    for axis in range(3):
        values = np.cumsum(values, axis=axis, dtype=np.uint16)
    return values


def _packed(path: Path, protocol: StructureProtocol, settings: EncodingSettings) -> Packed:
    """Read and pack one case; runs in a worker."""
    return pack(TrainingCase.read(path, protocol, settings))


def _write_case(archive: zipfile.ZipFile, name: str, packed: Packed) -> None:
    for key, array in packed.items():
        with archive.open(f"{name}/{key}.npy", "w") as member:
            np.lib.format.write_array(member, array, allow_pickle=False)
