"""The walk that both U-Nets share: down four levels, through a bridge, and up again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .checkpointing import recomputed

__all__ = ["EncoderDecoder3D", "in_slabs"]

_STREAM_ABOVE_VOXELS = 2**21
_SLAB = 32
_HALO = 2  # the two 3³ convolutions of a block see two voxels beyond


class EncoderDecoder3D(nn.Module):
    """Forward pass over `enc1 … enc4, bridge, up4 … up1, dec4 … dec1, out_conv`.

    Subclasses register these modules; their names are those of published checkpoints. A block's
    reach must be two voxels, `up` must double the size by stride 2, and `pool` halves it.
    """

    enc1: nn.Module
    enc2: nn.Module
    enc3: nn.Module
    enc4: nn.Module
    bridge: nn.Module
    up4: nn.Module
    up3: nn.Module
    up2: nn.Module
    up1: nn.Module
    dec4: nn.Module
    dec3: nn.Module
    dec2: nn.Module
    dec1: nn.Module
    out_conv: nn.Module
    pool: nn.Module

    checkpoint_activations = False
    """Whether training recomputes each level's activations instead of keeping them."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map `(batch, in_channels, z, y, x)` to `(batch, out_channels, z, y, x)`.

        The input may come in several tensors that hold its channels in order. z, y and x must be
        multiples of 16; the encoding pads to that. In inference a large volume passes the first
        level in slabs: full-size tensors there are most of the memory.
        """
        return self._walk(self._last_level, *inputs)

    def features(self, *inputs: Tensor) -> Tensor:
        """As `forward`, without `out_conv`: `(batch, base_filters, z, y, x)`."""
        return self._walk(self._last_features, *inputs)

    def _walk(self, last: Callable[[Tensor, Tensor], Tensor], *inputs: Tensor) -> Tensor:
        inference = not (self.training or torch.is_grad_enabled())
        streamed = inference and inputs[0][0, 0].numel() > _STREAM_ABOVE_VOXELS
        if streamed:
            skip1 = in_slabs(self._first_level, inputs)
        else:
            skip1 = self._run(self._first_level, (self.enc1,), *inputs)
        del inputs
        skip2 = self._encode(self.enc2, skip1)
        skip3 = self._encode(self.enc3, skip2)
        skip4 = self._encode(self.enc4, skip3)
        y = self._encode(self.bridge, skip4)
        y = self._decode(self.up4, self.dec4, y, skip4)
        del skip4
        y = self._decode(self.up3, self.dec3, y, skip3)
        del skip3
        y = self._decode(self.up2, self.dec2, y, skip2)
        del skip2
        if streamed:
            return in_slabs(last, [skip1], y)
        return self._run(last, (self.up1, self.dec1), skip1, y)

    def _run(
        self,
        function: Callable[..., Tensor],
        modules: tuple[nn.Module, ...],
        *inputs: Tensor,
    ) -> Tensor:
        """One level, its activations kept or recomputed."""
        if self.checkpoint_activations and torch.is_grad_enabled():
            return recomputed(function, modules, *inputs)
        return function(*inputs)

    def _encode(self, block: nn.Module, above: Tensor) -> Tensor:
        return self._run(lambda x: block(self.pool(x)), (block,), above)

    def _decode(self, up: nn.Module, block: nn.Module, below: Tensor, skip: Tensor) -> Tensor:
        def level(y: Tensor, s: Tensor) -> Tensor:
            joined: Tensor = block(torch.cat((up(y), s), dim=1))
            return joined

        return self._run(level, (up, block), below, skip)

    def _first_level(self, *inputs: Tensor) -> Tensor:
        first: Tensor = self.enc1(inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=1))
        return first

    def _last_features(self, skip1: Tensor, y: Tensor) -> Tensor:
        features: Tensor = self.dec1(torch.cat((self.up1(y), skip1), dim=1))
        return features

    def _last_level(self, skip1: Tensor, y: Tensor) -> Tensor:
        dose: Tensor = self.out_conv(self._last_features(skip1, y))
        return dose


def in_slabs(
    function: Callable[..., Tensor], full: Sequence[Tensor], half: Tensor | None = None
) -> Tensor:
    """`function(*full)`, or `function(*full, half)`, computed in slabs along z and put together.

    Exact: each slab is computed with a halo as wide as the function's reach, which is then cut off.

    Args:
        full: tensors `(batch, channel, z, y, x)`.
        half: a tensor of half the size along each axis.
    """
    depth = full[0].shape[2]
    result: Tensor | None = None
    for start in range(0, depth, _SLAB):
        stop = min(start + _SLAB, depth)
        low, high = max(start - _HALO, 0), min(stop + _HALO, depth)
        pieces = [tensor[:, :, low:high] for tensor in full]
        if half is not None:
            pieces.append(half[:, :, low // 2 : high // 2])
        slab = function(*pieces)[:, :, start - low : stop - low]
        if result is None:
            shape = (*slab.shape[:2], depth, *slab.shape[3:])
            result = torch.empty(shape, dtype=slab.dtype, device=slab.device).to(
                memory_format=torch.channels_last_3d
            )
        result[:, :, start:stop] = slab
    assert result is not None
    return result
