"""Running a network over a volume: whole, or in overlapping tiles; with progress and cancel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import PredictionCancelled, PredictionError
from ..networks import DoseNetwork

__all__ = ["Cancelled", "Progress", "run_tiled", "run_whole", "tile_starts", "watched"]

Progress = Callable[[float, str], None]
"""Called with the share done, 0…1, and the stage in words."""

Cancelled = Callable[[], bool]
"""Asked again and again; true ends the work."""

_CONVOLUTIONS = (nn.Conv3d, nn.ConvTranspose3d)


def run_whole(network: DoseNetwork, x: Tensor, coarse: bool = False) -> Tensor:
    """The final dose `(z, y, x)`, float32, of an input `(1, channel, z, y, x)`.

    Args:
        coarse: stack the final and the coarse dose, `(2, z, y, x)`.

    Raises:
        PredictionError: the coarse dose is asked of a network of one stage.
    """
    dose = network(x)
    if coarse:
        if dose.coarse is None:
            raise PredictionError("This model has one stage: there is no coarse dose to keep.")
        return torch.cat([dose.final[0], dose.coarse[0]]).float()
    return dose.final[0, 0].float()


def run_tiled(
    network: DoseNetwork, x: Tensor, tile: int, overlap: int, coarse: bool = False
) -> Tensor:
    """The dose of `run_whole` from slabs along z that overlap and fade into each other.

    Needs less memory than `run_whole` and sees less context near a slab's ends: the result differs
    there by what lies beyond the overlap.

    Args:
        x: input `(1, channel, z, y, x)`; z a multiple of the network's divisor.
        tile, overlap: slices of a slab, and how many two slabs share; multiples of the divisor.
    """
    depth = x.shape[2]
    shape = (2, *x.shape[2:]) if coarse else x.shape[2:]
    total = torch.zeros(shape, dtype=torch.float32, device=x.device)
    weights = torch.zeros(depth, dtype=torch.float32, device=x.device)
    ramp = torch.arange(1, tile + 1, dtype=torch.float32, device=x.device)
    fade = torch.minimum(ramp, ramp.flip(0)).clamp(max=max(overlap, 1))
    for start in tile_starts(depth, tile, overlap):
        stop = min(start + tile, depth)
        slab = run_whole(network, x[:, :, start:stop], coarse)
        weight = fade[: stop - start]
        total[..., start:stop, :, :] += slab * weight[:, None, None]
        weights[start:stop] += weight
    return total / weights[:, None, None]


def tile_starts(depth: int, tile: int, overlap: int) -> list[int]:
    """First slices of slabs that cover `depth` and overlap by at least `overlap`."""
    if depth <= tile:
        return [0]
    starts = list(range(0, depth - tile, tile - overlap))
    return [*starts, depth - tile]


@contextmanager
def watched(
    network: DoseNetwork,
    voxels: int,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> Iterator[None]:
    """Report progress and ask for cancellation before every convolution of the network.

    Args:
        voxels: input voxels of all passes together, so that progress ends at 1.

    Raises:
        PredictionCancelled: `cancelled()` returned true.
    """
    if progress is None and cancelled is None:
        yield
        return
    names = {"stage1": "coarse dose", "stage2": "final dose"}
    total = _cost_per_voxel(network) * voxels
    done = 0.0

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if cancelled is not None and cancelled():
            raise PredictionCancelled("The prediction was cancelled; nothing was written.")

    def after(stage: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def report(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal done
            done += _cost(module, output)
            if progress is not None:
                progress(min(done / total, 1.0), stage)

        return report

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, _CONVOLUTIONS):
            handles.append(module.register_forward_pre_hook(before))
            stage = names.get(name.split(".")[0], "dose")
            handles.append(module.register_forward_hook(after(stage)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _cost(module: nn.Module, output: Tensor) -> float:
    """Multiplications of a convolution, up to a constant."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    return output.numel() / output.shape[1] * weight.numel()


def _cost_per_voxel(network: DoseNetwork) -> float:
    """Cost of one input voxel, from a pass over the smallest input."""
    edge = network.smallest_edge
    total = 0.0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += _cost(module, output)

    convolutions = [m for m in network.modules() if isinstance(m, _CONVOLUTIONS)]
    handles = [module.register_forward_hook(add) for module in convolutions]
    parameter = next(network.parameters())
    try:
        shape = (1, network.input_channels, edge, edge, edge)
        network(torch.zeros(shape, dtype=parameter.dtype, device=parameter.device))
    finally:
        for handle in handles:
            handle.remove()
    return total / edge**3
