"""Running a network over a volume: whole, or in overlapping tiles; with progress and cancel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..errors import PredictionCancelled
from ..networks import DoseNetwork
from ..tasks.task import Pick
from .slicewise import SliceWise, over_volumes

__all__ = ["Cancelled", "Progress", "Watch", "run_tiled", "run_whole", "tile_starts"]

Progress = Callable[[float, str], None]
"""Called with the share done, 0…1, and the stage in words."""

Cancelled = Callable[[], bool]
"""Asked again and again; true ends the work."""

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def run_whole(network: nn.Module, x: Tensor, pick: Pick) -> Tensor:
    """What `pick` keeps of the network's output, `(…, z, y, x)`, float32.

    Args:
        x: input `(1, channel, z, y, x)`.
    """
    return pick(over_volumes(network)(x))


def run_tiled(network: nn.Module, x: Tensor, tile: int, overlap: int, pick: Pick) -> Tensor:
    """The output of `run_whole` from slabs along z that overlap and fade into each other.

    Needs less memory than `run_whole` and sees less context near a slab's ends: the result differs
    there by what lies beyond the overlap. A network of two dimensions has no such context: its
    slices pass one by one, and the result is the same.

    Args:
        x: input `(1, channel, z, y, x)`; z a multiple of the network's divisor.
        tile, overlap: slices of a slab, and how many two slabs share; multiples of the divisor.
    """
    volumes = over_volumes(network, at_once=1)
    if isinstance(volumes, SliceWise):
        return pick(volumes(x))
    depth = x.shape[2]
    total: Tensor | None = None
    weights = torch.zeros(depth, dtype=torch.float32, device=x.device)
    ramp = torch.arange(1, tile + 1, dtype=torch.float32, device=x.device)
    fade = torch.minimum(ramp, ramp.flip(0)).clamp(max=max(overlap, 1))
    for start in tile_starts(depth, tile, overlap):
        stop = min(start + tile, depth)
        slab = run_whole(network, x[:, :, start:stop], pick)
        if total is None:
            shape = (*slab.shape[:-3], depth, *slab.shape[-2:])
            total = torch.zeros(shape, dtype=torch.float32, device=x.device)
        weight = fade[: stop - start]
        total[..., start:stop, :, :] += slab * weight[:, None, None]
        weights[start:stop] += weight
    assert total is not None
    return total / weights[:, None, None]


def tile_starts(depth: int, tile: int, overlap: int) -> list[int]:
    """First slices of slabs that cover `depth` and overlap by at least `overlap`."""
    if depth <= tile:
        return [0]
    starts = list(range(0, depth - tile, tile - overlap))
    return [*starts, depth - tile]


@dataclass(eq=False)
class Watch:
    """Progress and cancellation of one network's work on a volume; see `tasks.task.Passes.watch`.

    Args:
        voxels: input voxels of one pass over the volume.
        progress, cancelled: the caller's.
    """

    voxels: int
    progress: Progress | None
    cancelled: Cancelled | None

    @contextmanager
    def __call__(
        self,
        network: nn.Module,
        passes: int,
        stages: Mapping[str, str],
        share: tuple[float, float] = (0.0, 1.0),
    ) -> Iterator[None]:
        """Report progress and ask for cancellation at every convolution of the network.

        Raises:
            PredictionCancelled: `cancelled()` returned true.
        """
        if self.progress is None and self.cancelled is None:
            yield
            return
        assert isinstance(network, DoseNetwork)
        total = _cost_per_voxel(network) * self.voxels * passes
        work = _Work(total, share, self.progress)
        handles = []
        for name, module in network.named_modules():
            if isinstance(module, _CONVOLUTIONS):
                handles.append(module.register_forward_pre_hook(self._ask))
                stage = stages.get(name.split(".")[0], stages.get("", "prediction"))
                handles.append(module.register_forward_hook(work.reporting(stage)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _ask(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if self.cancelled is not None and self.cancelled():
            raise PredictionCancelled("The prediction was cancelled; nothing was written.")


@dataclass(eq=False)
class _Work:
    """How much of `total` is done; it is reported as a part of `share`."""

    total: float
    share: tuple[float, float]
    progress: Progress | None
    done: float = field(default=0.0, init=False)

    def reporting(self, stage: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        """A hook that counts a convolution as done."""
        first, last = self.share

        def report(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.done += _cost(module, output)
            if self.progress is not None:
                self.progress(first + (last - first) * min(self.done / self.total, 1.0), stage)

        return report


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
        shape = (1, network.input_channels, *[edge] * network.dimensions)
        network(torch.zeros(shape, dtype=parameter.dtype, device=parameter.device))
    finally:
        for handle in handles:
            handle.remove()
    return total / edge**network.dimensions
