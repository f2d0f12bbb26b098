"""Published checkpoints: which network they are of, and how that wants its input.

To add one: a function from its state dict to a `Published`, and its line in `_KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from ..encoding.encoder import EncodingSettings, GridSettings
from ..encoding.strips import StripSettings
from ..errors import ModelError
from ..structures.protocol import StructureProtocol
from .expectations import ModelExpectations

__all__ = [
    "OPENKBP_SLICE_ORDER",
    "Published",
    "published_encoding",
    "published_expectations",
    "recognized",
]

OPENKBP_SLICE_ORDER = (
    "Brainstem",
    "SpinalCord",
    "RightParotid",
    "LeftParotid",
    "Esophagus",
    "Larynx",
    "Mandible",
    "PTV56",
    "PTV63",
    "PTV70",
    "possible dose mask",
    "CT",
)
"""Input channels of the published 2D network: structures as the data set lists them, mask, CT."""

_TWO_STAGE = "stage1.enc1.0.weight"
_DILATED = "encoder.encoder_1.0.single_conv.0.weight"


@dataclass(frozen=True, eq=False)
class Published:
    """A checkpoint as this library builds it.

    Args:
        architecture, arguments: of the network.
        weights: its state dict, for channels in the order of `encoding`.
        encoding: how a case becomes its input.
    """

    architecture: str
    arguments: dict[str, Any]
    weights: Mapping[str, Tensor]
    encoding: EncodingSettings


def recognized(
    weights: Mapping[str, Tensor], protocol: StructureProtocol, source: str
) -> Published:
    """What a published state dict is of, read off its names and shapes.

    Args:
        source: the checkpoint, for messages.

    Raises:
        ModelError: it is of no network that is known, or of one for other channels.
    """
    for mark, kind in _KINDS.items():
        if mark in weights:
            return kind(weights, protocol, source)
    raise ModelError(
        f"{source} is no two-stage network, which has {_TWO_STAGE}, and no dilated 2D U-Net, which "
        f"has {_DILATED}. Other published checkpoints are not known."
    )


def published_encoding(protocol: StructureProtocol) -> EncodingSettings:
    """How published two-stage checkpoints of a protocol expect their input."""
    if protocol.id == "pelvis":
        # The published cases fix the size alone; the spacing serves cases of any other size.
        grid = GridSettings(kind="as-is", size=(256, 256, 64), spacing_mm=(2.0, 2.0, 5.0))
        return EncodingSettings(grid=grid, masks="touched", dose_scale_gy=52.0)
    grid = GridSettings(
        kind="native", spacing_mm_min=(2.7, 2.7, 1.5), spacing_mm_max=(5.5, 5.5, 3.5)
    )
    return EncodingSettings(grid=grid, air_outside_external=True, dose_scale_gy=70.0)


def published_expectations(protocol: StructureProtocol) -> ModelExpectations:
    """The cases that published checkpoints of a protocol were made for."""
    levels = {c.name: c.level_gy for c in protocol.targets if c.level_gy is not None}
    return ModelExpectations(prescription_gy=levels or {"PTV": 45.0})


def _convolution(
    weights: Mapping[str, Tensor], dimensions: int, otherwise: str, name: str
) -> tuple[int, int]:
    """Filters and input channels of a convolution.

    Raises:
        ModelError: `otherwise`, and why: it is missing, or none of so many dimensions.
    """
    if name not in weights:
        raise ModelError(f"{otherwise}: it lacks {name}.")
    shape = weights[name].shape
    if len(shape) != dimensions + 2:
        raise ModelError(
            f"{otherwise}: {name} has the shape {list(shape)}, not that of a {dimensions}D "
            "convolution."
        )
    return shape[0], shape[1]


def _two_stage(
    weights: Mapping[str, Tensor], protocol: StructureProtocol, source: str
) -> Published:
    """The two-stage network; its arguments are read off the first convolutions' shapes."""
    shape_of = partial(_convolution, weights, 3, f"{source} is no two-stage network")
    filters1, inputs1 = shape_of(_TWO_STAGE)
    filters2, inputs2 = shape_of("stage2.enc1.conv1.weight")
    structures, strips = inputs1 - 1, inputs2 - inputs1 - 1
    if structures != len(protocol.inputs):
        raise ModelError(
            f"{source} takes {structures} structures, protocol {protocol.id} has "
            f"{len(protocol.inputs)}. Choose another --protocol."
        )
    if strips != 4:
        raise ModelError(f"{source} takes {strips} strip channels; four angles are known.")
    arguments = {
        "structure_channels": structures,
        "strip_channels": strips,
        "stage1_filters": filters1,
        "stage2_filters": filters2,
    }
    return Published("two_stage", arguments, weights, published_encoding(protocol))


def _dilated_unet2d(
    weights: Mapping[str, Tensor], protocol: StructureProtocol, source: str
) -> Published:
    """The dilated 2D network of the OpenKBP slices; its first convolution's channels are sorted."""
    ours = ("CT", *(channel.name for channel in protocol.inputs), "possible dose mask")
    if set(ours) != set(OPENKBP_SLICE_ORDER):
        raise ModelError(
            f"{source} is the 2D network of the OpenKBP slices, whose structures the protocol "
            f"{protocol.id} has not. Import it with --protocol openkbp."
        )
    shape_of = partial(_convolution, weights, 2, f"{source} is no dilated 2D U-Net")
    names = [_DILATED, *(f"encoder.encoder_{level}.1.single_conv.0.weight" for level in (2, 3, 4))]
    widths = [shape_of(name)[0] for name in names]
    inputs = shape_of(_DILATED)[1]
    if inputs != len(ours):
        raise ModelError(
            f"{source} takes {inputs} channels; the 2D network of the OpenKBP slices takes "
            f"{len(ours)}: ten structures, the possible-dose mask and the CT."
        )
    order = [OPENKBP_SLICE_ORDER.index(name) for name in ours]
    arguments = {
        "structure_channels": len(protocol.inputs),
        "strip_channels": 0,
        "derived_channels": 1,
        "widths": widths,
    }
    encoding = replace(
        published_encoding(protocol),
        strips=StripSettings(angles=()),
        further={"region": {"of": "possible_dose_mask"}},
    )
    sorted_weights = {**weights, _DILATED: weights[_DILATED][:, order]}
    return Published("dilated_unet2d", arguments, sorted_weights, encoding)


_KINDS: Mapping[str, Callable[[Mapping[str, Tensor], StructureProtocol, str], Published]] = {
    _TWO_STAGE: _two_stage,
    _DILATED: _dilated_unet2d,
}
"""The weight by whose name a network is recognised → what is made of the state dict."""
