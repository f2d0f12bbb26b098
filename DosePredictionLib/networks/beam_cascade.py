"""A cascade that knows the beams: coarse dose, what the beams can give of it, refinement."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from .configs import BeamCascadeConfig, HalfResolutionConfig
from .dose_network import DoseNetwork, TwoStageDose
from .half_resolution import HalfResolutionNetwork

__all__ = ["BeamCascadeNetwork"]


class BeamCascadeNetwork(DoseNetwork):
    """Coarse networks, whose doses are averaged; and one that corrects the dose before it.

    Between them the task computes which dose the beams can give that comes nearest to the coarse
    one: `earlier` holds both. The refining network sees the input and `earlier`, and predicts the
    difference from its last channel. The coarse networks are trained before, by themselves, and
    keep their weights: what they predict for a patient they have seen would teach the refining one
    to rely on them.

    What is predicted may hold a share of the coarse dose: the refining network learns the errors of
    its patients by heart, which are not those of the coarse networks.

    Args:
        config: channels and filters.
    """

    bytes_per_voxel = 500

    def __init__(self, config: BeamCascadeConfig) -> None:
        super().__init__(config)
        seen = HalfResolutionConfig(
            config.structure_channels,
            config.strip_channels,
            config.derived_channels,
            filters=config.coarse_filters,
            head_filters=config.coarse_head_filters,
        )
        self.coarse = nn.ModuleList(
            HalfResolutionNetwork(seen) for _ in range(config.coarse_networks)
        )
        self.coarse.requires_grad_(False)
        self.earlier_channels = 2 if config.mimics else 1
        self.coarse_share = config.coarse_share
        more = config.derived_channels + self.earlier_channels
        self.refine = HalfResolutionNetwork(
            replace(
                seen,
                derived_channels=more,
                filters=config.filters,
                head_filters=config.head_filters,
            )
        )
        # Training begins at the dose before it.
        nn.init.zeros_(self.refine.out_conv.weight)
        assert self.refine.out_conv.bias is not None
        nn.init.zeros_(self.refine.out_conv.bias)

    def forward(self, x: Tensor, earlier: Tensor | None = None) -> TwoStageDose:
        """Predict from `(batch, input_channels, z, y, x)`.

        Args:
            earlier: coarse dose and, if the network `mimics`, the mimicked one `(batch, 1 or 2, z,
                y, x)`. None: the coarse dose is predicted, and stands for both.
        """
        if earlier is None:
            coarse = torch.stack([network(x).final.float() for network in self.coarse]).mean(0)
            earlier = coarse.expand(-1, self.earlier_channels, -1, -1, -1)
        change = self.refine(torch.cat([x, earlier.to(x.dtype)], dim=1)).final
        return TwoStageDose(earlier[:, :1], earlier[:, -1:] + change)
