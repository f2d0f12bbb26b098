"""A pelvis whose organs differ in HU alone, and a network that knows them by that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from support import ellipsoid, pelvis_case
from torch import nn

from DosePredictionLib.case import Case
from DosePredictionLib.encoding.encoder import network_channels
from DosePredictionLib.models.dose_model import Architecture, DoseModel, ModelManifest
from DosePredictionLib.models.expectations import ModelExpectations
from DosePredictionLib.networks import build_network
from DosePredictionLib.networks.multipass_unet3d import MultiPassUNet3D
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Volume
from training.recipes.pelvis_organs import recipe

PELVIS = StructureProtocol.load("pelvis")
ENCODING = replace(
    recipe.encoding, grid=replace(recipe.encoding.grid, spacing_mm=(12.0, 12.0, 12.0))
)
ORGANS = {
    "Bladder": ((0, -45, 0), (45, 35, 50), -90),
    "Rectum": ((0, 48, 0), (35, 30, 60), 160),
    "FemurHead_L": ((95, 0, 0), (38, 45, 45), 700),
    "FemurHead_R": ((-95, 0, 0), (38, 45, 45), 450),
}
"""Center and radii, mm, and HU."""

_WIDTH_HU = 70.0


def organs_case(
    size: tuple[int, int, int] = (60, 48, 40), hu_instead: Mapping[str, int] = MappingProxyType({})
) -> Case:
    """A pelvis of ellipsoids that show on the CT; without a plan and a contour of the body."""
    case = pelvis_case(size, (6.0, 6.0, 7.0))
    ct = case.ct.array.copy()
    kept: dict[str, Volume] = {"PTV": case.structures["PTV"]}
    for name, (center, radii, hu) in ORGANS.items():
        mask = ellipsoid(case.grid, center, radii)
        ct[mask] = hu_instead.get(name, hu)
        kept[name] = Volume(mask, case.grid)
    return replace(case, ct=case.ct.with_array(ct), structures=kept, plan_dose=None)


def organ_model(folder: Path, name: str = "organs-by-hu", default: bool = False) -> DoseModel:
    """A model that takes a voxel for the organ whose HU it has, to `_WIDTH_HU`."""
    filters = 4 * len(ORGANS)
    arguments = network_channels(PELVIS, ENCODING) | {"filters": filters, "passes": 1}
    network = build_network("multipass_unet3d", arguments)
    assert isinstance(network, MultiPassUNet3D)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    _know_by_hu(network)
    manifest = ModelManifest(
        schema_version=1,
        name=name,
        title=name,
        protocol="pelvis",
        architecture=Architecture("multipass_unet3d", arguments),
        encoding=ENCODING,
        expectations=ModelExpectations(),
        weights_sha256="",
        task="segmentation",
        default=default,
    )
    return DoseModel.create(folder / name, manifest, network.state_dict())


@torch.no_grad()
def _know_by_hu(network: MultiPassUNet3D) -> None:
    """Trapezoids of the HU from the first level's ReLUs; all deeper levels stay 0."""
    unet = network.unet
    low, high = ENCODING.ct_window_hu
    organs = [channel.name for channel in PELVIS.inputs if channel.role == "organ"]
    filters = 4 * len(ORGANS)
    first, first_norm, _, second, second_norm, _ = unet.enc1
    merge, merge_norm, _, last, last_norm, _ = unet.dec1
    first.weight[:, 0, 1, 1, 1] = 1.0
    skip = merge.weight.shape[1] - filters  # behind what comes up from below
    for index in range(filters):
        second.weight[index, index, 1, 1, 1] = 1.0
        merge.weight[index, skip + index, 1, 1, 1] = 1.0
        last.weight[index, index, 1, 1, 1] = 1.0
    for norm in (first_norm, second_norm, merge_norm, last_norm):
        norm.weight.fill_(1.0)
    unet.out_conv.bias[0] = 2.5
    for number, (name, (_, _, hu)) in enumerate(ORGANS.items()):
        row = 1 + organs.index(name)
        edges = np.array([-1.0, -0.8, 0.8, 1.0]) * _WIDTH_HU + hu
        starts = (edges - low) / (high - low)
        for corner, (start, slope) in enumerate(zip(starts, (1, -1, -1, 1), strict=True)):
            filter_index = 4 * number + corner
            first_norm.bias[filter_index] = -float(start)
            unet.out_conv.weight[row, filter_index] = slope * 6.0 / float(starts[1] - starts[0])
