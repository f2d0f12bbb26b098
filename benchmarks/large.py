"""`predict` and `evaluate` of a CT of 512×512×400 with 30 structures: time and peak memory.

As a NIfTI folder with a plan dose on the CT's grid, and as DICOM (CT and RTSTRUCT, against a dose
file). Each command runs in a process of its own, whose peak is the kernel's: resident memory, its
libraries included. The case is made up: ellipsoids in a pelvis of noise.

    python -m benchmarks.large [FOLDER]

FOLDER keeps the case for the next run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from benchmarks.dicom import ct_slice, ellipse_contour, new_object, save
from DosePredictionLib.io.dicom.files import RTSTRUCT
from DosePredictionLib.io.volumes import write_volume
from DosePredictionLib.volume import Grid, Volume

__all__ = [
    "MOST_GB",
    "MOST_SECONDS",
    "Ellipsoid",
    "Run",
    "main",
    "measured",
    "run_command",
    "write_large_case",
]

MOST_GB, MOST_SECONDS = 4.0, 40.0

_GRID = Grid((512, 512, 400), (0.9, 0.9, 2.0), (-230.0, -230.0, -400.0))
_OTHERS = 21
_GY = 45.0
_MODEL = "pelvis-simulated"


class Ellipsoid(NamedTuple):
    """A structure: center and radii, mm, LPS."""

    center: tuple[float, float, float]
    radii: tuple[float, float, float]


class Run(NamedTuple):
    """One command, from start to exit: wall and CPU time, and 10⁹ bytes of resident memory."""

    seconds: float
    cpu_seconds: float
    peak_gb: float


_CHANNELS = {
    "PTV": Ellipsoid((0, 0, 0), (40, 30, 45)),
    "Bladder": Ellipsoid((0, -45, 5), (32, 18, 28)),
    "Rectum": Ellipsoid((0, 48, 0), (16, 16, 50)),
    "Small_Intestine": Ellipsoid((0, -20, 80), (80, 45, 40)),
    "Marrow": Ellipsoid((0, 62, 40), (90, 14, 60)),
    "SpinalCord": Ellipsoid((0, 78, 130), (8, 8, 90)),
    "FemurHead_L": Ellipsoid((85, 0, 0), (24, 24, 24)),
    "FemurHead_R": Ellipsoid((-85, 0, 0), (24, 24, 24)),
    "Body": Ellipsoid((0, 0, 0), (190, 130, 3000)),
}


def main() -> None:
    """Print time and peak of each command."""
    if sys.argv[1:2] == ["--write"]:
        write_large_case(Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(sys.argv[1] if sys.argv[1:] else name)
        for label, run in measured(folder).items():
            sys.stdout.write(
                f"{label:<16} {run.seconds:5.1f} s (wanted: {MOST_SECONDS:.0f}; CPU "
                f"{run.cpu_seconds:.1f} s), peak {run.peak_gb:4.2f} GB (wanted: {MOST_GB:.0f})\n"
            )
            sys.stdout.flush()


def measured(folder: Path) -> dict[str, Run]:
    """Each command on the case in `folder`, which is made where it is missing."""
    if not (folder / "made").exists():
        # In another process: a child's peak begins with its parent's.
        command = [sys.executable, "-m", "benchmarks.large", "--write", str(folder)]
        subprocess.run(command, check=True)
    plan = str(folder / "nifti" / "dose_plan.nii.gz")
    runs = {}
    for kind in ("nifti", "dicom"):
        case, output = str(folder / kind), folder / f"out_{kind}"
        runs[f"{kind} predict"] = run_command(
            "predict", case, "--model", _MODEL, "--output", str(output)
        )
        dose = str(output / kind / "dose.nii.gz")
        against = [] if kind == "nifti" else ["--reference", plan]
        runs[f"{kind} evaluate"] = run_command(
            "evaluate", "--case", case, "--prediction", dose, *against
        )
    return runs


def run_command(*arguments: str) -> Run:
    """One command of the library in a process of its own."""
    command = [sys.executable, "-m", "DosePredictionLib", *arguments, "--json"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read().decode("utf-8", "replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    scale = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes on Linux
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Run(time.perf_counter() - started, cpu_seconds, usage.ru_maxrss * scale / 1e9)


def write_large_case(folder: Path) -> None:
    """Write `nifti`, with a plan dose, and `dicom`, without one, of the same patient."""
    rng = np.random.default_rng(0)
    structures = dict(_CHANNELS)
    for number in range(_OTHERS):
        x, y, z = (float(v) for v in rng.uniform((-110, -60, -250), (110, 60, 250)))
        a, b, c = (float(v) for v in rng.uniform((10, 10, 15), (50, 35, 80)))
        structures[f"Other {number + 1}"] = Ellipsoid((x, y, z), (a, b, c))
    noise = rng.normal(40, 15, _GRID.shape[1:]).astype(np.int16)
    inside = {name: _mask(each) for name, each in structures.items()}
    hu = np.where(inside["Body"], noise, np.int16(-1000))
    _write_nifti(folder / "nifti", hu, inside)
    _write_dicom(folder / "dicom", hu, structures)
    (folder / "made").touch()


def _mask(shape: Ellipsoid) -> np.ndarray:
    """Boolean `(z, y, x)`."""
    x, y, z = (
        (origin + step * np.arange(size) - center) / radius
        for origin, step, size, center, radius in zip(
            _GRID.origin, _GRID.spacing, _GRID.size, *shape, strict=True
        )
    )
    square = (z**2)[:, None, None] + (y**2)[None, :, None] + (x**2)[None, None, :]
    result: np.ndarray = square <= 1
    return result


def _write_nifti(folder: Path, hu: np.ndarray, inside: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True)
    write_volume(folder / "ct.nii.gz", Volume(hu, _GRID))
    for name, mask in inside.items():
        write_volume(folder / f"{name}.nii.gz", Volume(mask, _GRID))
    dose = _dose_gy()
    dose[~inside["Body"]] = 0
    write_volume(folder / "dose_plan.nii.gz", Volume(dose, _GRID))
    description = {"prescription": {"PTV": _GY}, "fractions": 25}
    (folder / "case.json").write_text(json.dumps(description), encoding="utf-8")


def _dose_gy() -> np.ndarray:
    """A plateau on the PTV that falls off to a bath, float32."""
    x, y, z = (
        ((origin + step * np.arange(size)) / radius).astype(np.float32)
        for origin, step, size, radius in zip(
            _GRID.origin, _GRID.spacing, _GRID.size, _CHANNELS["PTV"].radii, strict=True
        )
    )
    distance = np.sqrt((z**2)[:, None, None] + (y**2)[None, :, None] + (x**2)[None, None, :])
    dose: np.ndarray = np.float32(_GY) / (1 + np.exp(3 * (distance - np.float32(1.8))))
    return dose.astype(np.float32)


def _write_dicom(folder: Path, hu: np.ndarray, structures: dict[str, Ellipsoid]) -> None:
    folder.mkdir(parents=True)
    uids = (generate_uid(), generate_uid(), generate_uid())
    heights = [_GRID.origin[2] + _GRID.spacing[2] * z for z in range(_GRID.size[2])]
    for z, plane in enumerate(hu):
        stored = (plane + 1000).astype("<u2")
        slice_ = ct_slice(uids, [*_GRID.origin[:2], heights[z]], _GRID.spacing[0], stored)
        save(folder / f"{z:03d}.dcm", slice_, ExplicitVRLittleEndian)
    drawn = new_object(RTSTRUCT, "RTSTRUCT", uids[0], uids[1], generate_uid())
    drawn.StructureSetROISequence, drawn.ROIContourSequence = [], []
    for number, (name, shape) in enumerate(structures.items(), 1):
        roi, contours = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, uids[0]
        contours.ReferencedROINumber = number
        contours.ContourSequence = [
            ellipse_contour(
                shape.center,
                shape.radii[0] * float(np.sqrt(1 - share)),
                height,
                shape.radii[1] / shape.radii[0],
            )
            for height in heights
            if (share := ((height - shape.center[2]) / shape.radii[2]) ** 2) < 0.999
        ]
        drawn.StructureSetROISequence.append(roi)
        drawn.ROIContourSequence.append(contours)
    save(folder / "rs.dcm", drawn, ImplicitVRLittleEndian)


if __name__ == "__main__":
    main()
