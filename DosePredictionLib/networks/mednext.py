"""MedNeXt, a U-Net of large-kernel ConvNeXt blocks, from MONAI."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import ModelError
from .configs import MedNextConfig
from .dose_network import DoseNetwork, TwoStageDose

__all__ = ["MedNextNetwork"]


class MedNextNetwork(DoseNetwork):
    """One MedNeXt (Roy et al. 2023, doi 10.1007/978-3-031-43901-8_39) on all channels; one dose.

    Needs MONAI, which nothing else here does. Norms are per patient and channel, so that batches
    of any size train alike.

    Args:
        config: channels, filters and blocks.

    Raises:
        ModelError: MONAI is not installed.
    """

    bytes_per_voxel = 1600

    def __init__(self, config: MedNextConfig) -> None:
        super().__init__(config)
        try:
            from monai.networks.nets.mednext import MedNeXt
        except ImportError as exception:
            raise ModelError(
                "The architecture mednext needs MONAI 1.5 or newer. Install it without touching "
                'torch: pip install --no-deps "monai>=1.5".'
            ) from exception
        self.net = MedNeXt(
            spatial_dims=3,
            init_filters=config.filters,
            in_channels=self.input_channels,
            out_channels=1,
            encoder_expansion_ratio=config.expansion,
            decoder_expansion_ratio=config.expansion,
            bottleneck_expansion_ratio=config.expansion,
            kernel_size=config.kernel,
            use_residual_connection=True,
            blocks_down=(config.blocks,) * 4,
            blocks_bottleneck=config.blocks,
            blocks_up=(config.blocks,) * 4,
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
