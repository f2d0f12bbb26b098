"""Small batches with anisotropic voxels and structures of a few voxels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from DosePredictionLib.losses import LossInput

SHAPE = (4, 6, 8)
NAMES = ("PTV", "Rectum", "SpinalCord", "Body")
ROLES = ("target", "organ", "organ", "external")
SCALE_GY = 52.0


@pytest.fixture
def batch() -> Callable[..., LossInput]:
    """Two patients; `dtype` of the doses, `empty=True` without any voxel of interest."""

    def build(dtype: torch.dtype = torch.float64, empty: bool = False) -> LossInput:
        random = torch.Generator().manual_seed(3)
        shape = (2, 1, *SHAPE)
        reference = torch.rand(shape, generator=random, dtype=torch.float64)
        noise = torch.rand(shape, generator=random, dtype=torch.float64) - 0.5
        structures = torch.zeros(2, len(NAMES), *SHAPE, dtype=torch.bool)
        strips = torch.zeros(2, 4, *SHAPE)
        if not empty:
            structures[:, 0, 1:3, 2:5, 2:5] = True
            structures[:, 1, 1:3, 4:6, 3:6] = True
            structures[0, 2, :, 0:2, 3:5] = True  # the second patient has none
            structures[:, 3, :, :, 1:7] = True
            strips[:, 0, 1:3, :, 2:5] = 1
            strips[:, 2, 1:3, 2:5, 1:7] = 1
        return LossInput(
            prediction=(reference + 0.4 * noise).to(dtype),
            coarse=(reference - 0.3 * noise).to(dtype),
            reference=reference.to(dtype),
            region=structures[:, 3:4].clone(),
            structures=structures,
            names=NAMES,
            roles=ROLES,
            dose_scale_gy=SCALE_GY,
            strips=strips,
            spacing_mm=torch.tensor([[4.0, 4.0, 2.5], [3.0, 5.0, 2.0]]),
        )

    return build
