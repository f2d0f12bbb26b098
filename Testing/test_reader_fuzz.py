"""Real files of every format but DICOM, damaged: read or refused in one line, never another CT."""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import (
    OPENKBP_SAMPLE,
    csv_folder,
    pelvis_case,
    segment_keys,
    write_case_folder,
    write_segmentation,
)

from DosePredictionLib.case import Case
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.io import read_case
from DosePredictionLib.io.vmat_writer import PROTOCOL, write_vmat
from DosePredictionLib.io.volumes import write_volume
from DosePredictionLib.structures.bound import bind

FLIPS = 60
MUTATIONS = 60
_LONGEST_S = 5.0  # of the processor: the machine may be busy


def small_case() -> Case:
    return pelvis_case((20, 16, 12), (18.0, 16.0, 16.0))


def image_case(folder: Path, suffix: str) -> Path:
    """A case whose CT, PTV and dose are of one format."""
    case = small_case()
    write_case_folder(folder, case)
    for name in ("ct", "PTV", "dose_plan"):
        (folder / f"{name}.nii.gz").unlink()
    write_volume(folder / f"ct{suffix}", case.ct)
    write_volume(folder / f"PTV{suffix}", case.structures["PTV"])
    assert case.plan_dose is not None
    write_volume(folder / f"dose_plan{suffix}", case.plan_dose)
    return folder


def segmentation_case(folder: Path) -> Path:
    """A case whose structures are layers and labels of one segmentation, and of a label map."""
    case = small_case()
    folder.mkdir()
    write_volume(folder / "ct.nii.gz", case.ct)
    masks = {name: mask.array.astype(np.uint8) for name, mask in case.structures.items()}
    layers = np.stack([masks["PTV"] + 2 * masks["Bladder"], masks["Body"]], axis=-1)
    keys = segment_keys(("PTV", 1, 0), ("Bladder", 2, 0), ("Body", 1, 1))
    write_segmentation(folder / "s.seg.nrrd", layers, case.grid, keys)
    labels = np.where(masks["FemurHead_L"] > 0, 7, 0) + np.where(masks["FemurHead_R"] > 0, 9, 0)
    write_volume(folder / "femurs.nii.gz", case.ct.with_array(labels.astype(np.int16)))
    (folder / "femurs.json").write_text(json.dumps({"7": "FemurHead_L", "9": "FemurHead_R"}))
    return folder


def packed_case(folder: Path) -> Path:
    path = folder / "pt_235.npz"
    folder.mkdir()
    shutil.copy(OPENKBP_SAMPLE, path)
    return path


def vmat_case(folder: Path) -> Path:
    """A file of the VMAT diffusion project."""
    folder.mkdir()
    case = small_case()
    write_vmat(folder / "phantom.npz", bind(case, PROTOCOL))
    return folder / "phantom.npz"


CASES: dict[str, tuple[Callable[[Path], Path], list[str], bool]] = {
    ".nii": (
        lambda folder: image_case(folder, ".nii"),
        ["ct.nii", "PTV.nii", "dose_plan.nii"],
        False,
    ),
    ".nii.gz": (lambda folder: image_case(folder, ".nii.gz"), ["ct.nii.gz", "PTV.nii.gz"], True),
    ".nrrd": (lambda folder: image_case(folder, ".nrrd"), ["ct.nrrd", "PTV.nrrd"], True),
    ".mha": (lambda folder: image_case(folder, ".mha"), ["ct.mha", "dose_plan.mha"], True),
    ".seg.nrrd": (segmentation_case, ["s.seg.nrrd", "femurs.nii.gz", "femurs.json"], False),
    "csv": (csv_folder, ["ct.csv", "PTV70.csv", "dose.csv", "voxel_dimensions.csv"], False),
    "npz": (packed_case, [""], True),
    "vmat npz": (vmat_case, [""], True),
}


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    """One bit changed; of the head of the file as often as of all of it."""
    data = bytearray(content)
    end = min(len(data), 400) if rng.random() < 0.5 else len(data)
    data[rng.integers(0, end)] ^= 1 << int(rng.integers(0, 8))
    return bytes(data)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, cut off, doubled, zeroed, or digits of a text exchanged."""
    data = bytearray(content)
    end = min(len(data), 1000) if rng.random() < 0.5 else len(data)
    at, length = int(rng.integers(0, end)), int(rng.integers(1, 100))
    kind = rng.integers(0, 5)
    if kind == 0:
        for place in rng.integers(0, end, rng.integers(1, 20)):
            data[place] = rng.integers(0, 256)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        data[at:at] = data[at : at + length]
    elif kind == 3:
        data[at : at + length] = bytes(len(data[at : at + length]))
    else:
        for place in range(at, min(at + 4 * length, len(data))):
            if chr(data[place]) in "0123456789.-,() ":
                data[place] = ord(rng.choice(list("0123456789.-,e()")))
    return bytes(data)


def read_or_refused(path: Path, folder: Path, number: int) -> Case | None:
    started = time.process_time()
    try:
        case = read_case(path)
        assert np.isfinite(case.ct.array).all()
    except DosePredictionError as exception:
        message = str(exception)
        assert "\n" not in message and len(message) < 2000, number
        message.encode("utf-8")
        assert folder.name in message or "phantom" in message, message
        case = None
    assert time.process_time() - started < _LONGEST_S, number
    return case


@pytest.mark.parametrize("kind", CASES)
def test_flipped_bits_are_refused_or_change_no_voxel_behind_a_checksum(
    tmp_path: Path, kind: str
) -> None:
    make, names, has_checksum = CASES[kind]
    path = make(tmp_path / "fuzzed")
    before = read_case(path)
    rng = np.random.default_rng(11)
    read = 0
    for number in range(FLIPS):
        file = path / names[number % len(names)] if names != [""] else path
        original = file.read_bytes()
        file.write_bytes(flipped(original, rng))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a library's own line is a line too many
            case = read_or_refused(path, tmp_path / "fuzzed", number)
        file.write_bytes(original)
        if case is None:
            continue
        read += 1
        if has_checksum:
            assert np.array_equal(case.ct.array, before.ct.array), number
    assert read < FLIPS
    assert np.array_equal(read_case(path).ct.array, before.ct.array)


@pytest.mark.parametrize("kind", CASES)
def test_mutated_files_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    make, names, _ = CASES[kind]
    path = make(tmp_path / "fuzzed")
    rng = np.random.default_rng(12)
    for number in range(MUTATIONS):
        file = path / names[number % len(names)] if names != [""] else path
        original = file.read_bytes()
        file.write_bytes(mutated(original, rng))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_or_refused(path, tmp_path / "fuzzed", number)
        file.write_bytes(original)


def test_nothing_is_printed_about_a_damaged_header(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for kind, (make, names, _) in CASES.items():
        if kind in ("npz", "vmat npz", "csv"):
            continue
        path = make(tmp_path / kind.strip("."))
        rng = np.random.default_rng(13)
        for number in range(20):
            file = path / names[number % len(names)]
            original = file.read_bytes()
            file.write_bytes(mutated(original, rng))
            read_or_refused(path, path, number)
            file.write_bytes(original)
    assert capfd.readouterr() == ("", "")
