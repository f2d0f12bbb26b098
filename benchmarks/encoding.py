"""Reading a 512×512×200 CT with nine structures from disk, and encoding it; strips of a case.

python -m benchmarks.encoding
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from DosePredictionLib.case import Case
from DosePredictionLib.encoding.encoder import EncodingSettings, GridSettings, encode
from DosePredictionLib.encoding.strips import strip_masks
from DosePredictionLib.io import read_case
from DosePredictionLib.io.volumes import write_volume
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume

_SHAPES = {
    "PTV": ((0, 0, 0), (60, 50, 90)),
    "Bladder": ((0, -55, 10), (40, 25, 35)),
    "Rectum": ((0, 60, 0), (20, 20, 60)),
    "Small_Intestine": ((0, -30, 150), (90, 50, 60)),
    "Marrow": ((0, 70, 80), (80, 20, 60)),
    "SpinalCord": ((0, 85, 150), (10, 10, 80)),
    "FemurHead_L": ((90, 0, -10), (25, 25, 25)),
    "FemurHead_R": ((-90, 0, -10), (25, 25, 25)),
    "Body": ((0, 0, 0), (190, 125, 2000)),
}


def _ellipsoid(grid: Grid, center: tuple, radii: tuple) -> np.ndarray:
    x, y, z = (
        (grid.origin[a] + grid.spacing[a] * np.arange(grid.size[a]) - center[a]) / radii[a]
        for a in range(3)
    )
    return (z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2) <= 1


def _write_case(folder: Path) -> Path:
    grid = Grid((512, 512, 200), (0.9, 0.9, 2.5), (-230.0, -230.0, -250.0))
    masks = {name: _ellipsoid(grid, *shape) for name, shape in _SHAPES.items()}
    noise = np.random.default_rng(0).normal(30, 20, (1, *grid.shape[1:])).astype(np.int16)
    ct = np.where(masks["Body"], noise, np.int16(-1000))
    write_volume(folder / "ct.nii.gz", Volume(ct, grid))
    for name, mask in masks.items():
        write_volume(folder / f"{name}.nii.gz", Volume(mask, grid))
    return folder


def main() -> None:
    """Print the times."""
    protocol = StructureProtocol.load("pelvis")
    settings = EncodingSettings(GridSettings("fixed-spacing", spacing_mm=(2.5, 2.5, 3.0)))
    with tempfile.TemporaryDirectory() as name:
        folder = _write_case(Path(name))
        started = time.perf_counter()
        case: Case = read_case(folder)
        read = time.perf_counter() - started
        encoded = encode(bind(case, protocol), settings)
        total = time.perf_counter() - started
    write = sys.stdout.write
    write(f"CT of 512×512×200 with nine structures: read {read:.1f} s, encoded onto ")
    write(
        f"{'×'.join(map(str, encoded.grid.size))} in {total - read:.1f} s, {total:.1f} s in all\n"
    )
    grid = Grid((256, 256, 64), (2.0, 2.0, 5.0), (-255.0, -255.0, -157.5))
    ptv, body = (_ellipsoid(grid, *_SHAPES[key]) for key in ("PTV", "Body"))
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        strip_masks(ptv, body, grid)
        seconds.append(time.perf_counter() - started)
    write(f"Four strip masks of 64×256×256: {1000 * sorted(seconds)[2]:.0f} ms on one core\n")


if __name__ == "__main__":
    main()
