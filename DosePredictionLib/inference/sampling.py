"""Expected error and samples of a dose, by the heads in its model's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..prediction import Output, OutputRole
from ..tasks.task import Decoding
from ..volume import Volume
from .ensemble import RunningSpread
from .running import Cancelled, Progress
from .stated import require_finite

if TYPE_CHECKING:
    from .predictor import Predictor

__all__ = ["BEFORE_SAMPLES", "MOST_SAMPLES", "Drawing", "head_outputs", "require_samples"]

MOST_SAMPLES = 100

_SAMPLE: tuple[OutputRole, ...] = ("sample",)

BEFORE_SAMPLES = 0.3
"""Share of the work that is done before the first sample."""


@dataclass(frozen=True)
class Drawing:
    """How many samples are drawn, and who hears of it.

    Args:
        samples: of doses; 0: none.
        seed: of the first; each further one takes the next.
    """

    samples: int = 0
    seed: int = 0
    progress: Progress | None = None
    cancelled: Cancelled | None = None


def require_samples(model: str, heads: Mapping[str, Predictor], samples: int) -> None:
    """Refuse samples of a model that draws none, or an impossible number.

    Raises:
        ModelError: says what to do.
    """
    if not 0 <= samples <= MOST_SAMPLES:
        raise ModelError(f"Up to {MOST_SAMPLES} samples are drawn; got {samples}.")
    if samples and "flow" not in heads:
        raise ModelError(
            f"{model} has no head that draws samples. Choose a model with one, train one "
            "(docs/diffusion.md), or leave out --samples."
        )


def head_outputs(
    heads: Mapping[str, Predictor],
    dose: NDArray[np.float32],
    decoding: Decoding,
    drawing: Drawing,
) -> list[Output]:
    """`expected_error` if there is a scale; `sample_1` … and their `sample_spread`.

    Args:
        heads: by the names of their folders.
        dose: the regression's, `(z, y, x)` on the model's grid, in units of the dose scale.

    Raises:
        PredictionError: an array is not finite; a sample's seed is named.
        PredictionCancelled: the caller cancelled.
    """
    if "scale" not in heads:
        return []
    name, x = decoding.bound.case.name, decoding.encoded.input
    scale = heads["scale"].infer(x, cancelled=drawing.cancelled, earlier=dose[None])
    require_finite(name, scale)
    outputs = list(heads["scale"].task.decode(scale.arrays, decoding).outputs)
    earlier, spread = np.stack([dose, scale.output]), RunningSpread()
    for number in range(1, drawing.samples + 1):
        seed = drawing.seed + number - 1
        report = None
        if drawing.progress is not None:
            report = _part(drawing.progress, number, drawing.samples)
        flow = heads["flow"]
        found = flow.infer(x, report, drawing.cancelled, _SAMPLE, seed, earlier)
        require_finite(name, found, seed)
        (sample,) = flow.task.decode(found.arrays, decoding).outputs
        spread.add(sample.volume.array)
        outputs.append(replace(sample, key=f"sample_{number}", member=number))
    if spread.spread is not None:
        volume = Volume(spread.spread, decoding.bound.case.grid)
        outputs.append(Output("sample_spread", volume, "spread", "Gy"))
    return outputs


def _part(progress: Progress, number: int, count: int) -> Progress:
    """Progress of one sample among several."""

    def report(share: float, stage: str) -> None:
        done = (number - 1 + share) / count
        progress(BEFORE_SAMPLES + (1 - BEFORE_SAMPLES) * done, f"{stage} {number} of {count}")

    return report
