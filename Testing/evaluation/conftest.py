"""Synthetic doses and structures whose answers are known, shared by the evaluation tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from DosePredictionLib.volume import Grid, Volume


@dataclass(frozen=True)
class Scene:
    """A grid with the coordinates of its voxel centers, mm from the middle."""

    grid: Grid
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def volume(self, array: np.ndarray) -> Volume:
        return Volume(array, self.grid)

    def ball(self, radius_mm: float, center: tuple[float, float, float] = (0, 0, 0)) -> Volume:
        """Occupancy of a ball, rendered from 10³ points in each voxel that its surface meets."""
        distance = self._distance(self.x, self.y, self.z, center)
        reach = 0.5 * float(np.linalg.norm(self.grid.spacing))
        occupancy = (distance < radius_mm).astype(np.float32)
        cut = np.abs(distance - radius_mm) < reach
        steps = (np.arange(10) + 0.5) / 10 - 0.5
        offsets = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
        dx, dy, dz = (offsets * np.asarray(self.grid.spacing)).T
        points = self._distance(
            self.x[cut][:, None] + dx, self.y[cut][:, None] + dy, self.z[cut][:, None] + dz, center
        )
        occupancy[cut] = (points < radius_mm).mean(axis=1)
        return self.volume(occupancy)

    @staticmethod
    def _distance(x, y, z, center) -> np.ndarray:
        return np.sqrt((x - center[0]) ** 2 + (y - center[1]) ** 2 + (z - center[2]) ** 2)


@pytest.fixture
def scene() -> Callable[..., Scene]:
    def build(size=(24, 24, 24), spacing=(2.0, 2.0, 2.0)) -> Scene:
        grid = Grid(size, spacing)
        axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(size, spacing, strict=True)]
        z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
        return Scene(grid, x, y, z)

    return build
