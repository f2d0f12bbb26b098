"""MedNeXt, a U-Net of large-kernel ConvNeXt blocks, from MONAI."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import ModelError
from .dose_network import DoseNetwork, TwoStageDose

__all__ = ["MedNextNetwork"]


class MedNextNetwork(DoseNetwork):
    """One MedNeXt (Roy et al. 2023, doi 10.1007/978-3-031-43901-8_39) on all channels; one dose.

    Needs MONAI, which nothing else here does. Norms are per patient and channel, so that batches
    of any size train alike.

    Args:
        structure_channels: number of structure masks.
        strip_channels: number of tangent strip masks.
        filters: of the first level, doubling with each of the four levels below.
        blocks: of each level on the way down and up.
        expansion: of the channels inside a block.
        kernel: edge of the depthwise convolutions, odd.
        derived_channels: number of channels that the encoding computes from the masks.

    Raises:
        ModelError: MONAI is not installed.
    """

    smallest_edge = 32  # a norm per patient and channel needs more than one voxel at the bottom
    bytes_per_voxel = 1600

    def __init__(
        self,
        structure_channels: int,
        strip_channels: int = 4,
        filters: int = 32,
        blocks: int = 2,
        expansion: int = 2,
        kernel: int = 3,
        derived_channels: int = 0,
    ) -> None:
        super().__init__(structure_channels, strip_channels, derived_channels)
        try:
            from monai.networks.nets.mednext import MedNeXt
        except ImportError as exception:
            raise ModelError(
                "The architecture mednext needs MONAI 1.5 or newer. Install it without touching "
                'torch: pip install --no-deps "monai>=1.5".'
            ) from exception
        self.net = MedNeXt(
            spatial_dims=3,
            init_filters=filters,
            in_channels=self.input_channels,
            out_channels=1,
            encoder_expansion_ratio=expansion,
            decoder_expansion_ratio=expansion,
            bottleneck_expansion_ratio=expansion,
            kernel_size=kernel,
            use_residual_connection=True,
            blocks_down=(blocks,) * 4,
            blocks_bottleneck=blocks,
            blocks_up=(blocks,) * 4,
            norm_type="group",
        )
        _normalize_precisely(self.net)

    def forward(self, x: Tensor) -> TwoStageDose:
        """Predict from `(batch, input_channels, z, y, x)`."""
        return TwoStageDose(None, self.net(x))


def _normalize_precisely(net: nn.Module) -> None:
    """Put instance norms in the place of group norms of one channel each: the same function.

    With channels last in memory torch's group norm takes the variance as mean of squares less
    square of mean in float32, and loses three digits where the mean is ten times the deviation.
    """
    for module in net.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.InstanceNorm3d(child.num_channels, child.eps, affine=True))
