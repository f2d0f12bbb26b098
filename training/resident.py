"""Cases that lie whole on the device that trains, which then cuts and varies the crops itself.

Processes that prepare crops keep up with a CPU's training, not with a GPU's (docs/training.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .data import TrainingCase

__all__ = ["ResidentCase", "fitting_device"]

_MOST_OF_FREE_MEMORY = 0.5  # the rest is for the network


@dataclass(frozen=True, eq=False)
class ResidentCase:
    """A `TrainingCase` on a device.

    Args:
        input: float16 `(channel, z, y, x)`; recomputed channels are left as their padding.
        dose_gy: float32 `(1, z, y, x)`.
        region, body: bool, likewise.
        earlier: float16 `(stage, z, y, x)`; no stages: there are none.
        padding: of each channel, float32.
    """

    input: Tensor
    dose_gy: Tensor
    region: Tensor
    body: Tensor
    earlier: Tensor
    padding: Tensor

    @classmethod
    def of(cls, case: TrainingCase, device: torch.device) -> ResidentCase:
        """The case, on a device."""
        earlier = case.earlier
        if earlier is None:
            earlier = np.zeros((0, *case.body.shape), dtype=np.float16)

        def moved(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.array(values)).to(device)

        return cls(
            input=moved(case.stored_block((0, 0, 0), case.body.shape).astype(np.float16)),
            dose_gy=moved(case.dose_gy[None]),
            region=moved(case.region[None]),
            body=moved(case.body[None]),
            earlier=moved(earlier),
            padding=torch.tensor([c.padding for c in case.channels.channels], device=device),
        )

    def input_block(self, start: Sequence[int], size: Sequence[int]) -> Tensor:
        """See `TrainingCase.stored_block`."""
        padding = self.padding[:, None, None, None].expand(-1, *size)
        return block(self.input, start, size, padding)


def block(
    values: Tensor, start: Sequence[int], size: Sequence[int], padding: Tensor | float = 0.0
) -> Tensor:
    """A block of `(channel, z, y, x)`, float32; `padding` where it reaches beyond."""
    result = torch.zeros(values.shape[0], *size, device=values.device)
    result += padding
    source, target = [slice(None)], [slice(None)]
    for first, extent, length in zip(start, size, values.shape[1:], strict=True):
        low, high = max(first, 0), min(first + extent, length)
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    result[tuple(target)] = values[tuple(source)].float()
    return result


def fitting_device(cases: Sequence[TrainingCase], device: torch.device) -> torch.device | None:
    """The device, if it is a GPU and the cases fit into half of its free memory; else None."""
    if device.type != "cuda":
        return None
    needed = sum(_bytes(case) for case in cases)
    free, _ = torch.cuda.mem_get_info(device)
    return device if needed < _MOST_OF_FREE_MEMORY * free else None


def _bytes(case: TrainingCase) -> int:
    stages = 0 if case.earlier is None else len(case.earlier)
    return case.body.size * (2 * (len(case.channels) + stages) + 4 + 1 + 1)
