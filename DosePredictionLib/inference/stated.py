"""What is refused, and what is stated, around a run of the networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..checks.registry import check_prediction
from ..encoding.encoder import EncodingSettings
from ..errors import PredictionError
from ..findings import Finding
from ..structures.bound import BoundCase
from ..tasks.task import Decoded

if TYPE_CHECKING:
    from .predictor import Inference

__all__ = ["checked", "refuse_blocking", "require_finite", "with_strip_margin"]


def refuse_blocking(case: str, findings: Sequence[Finding]) -> None:
    """Refuse a case that a check blocks.

    Raises:
        PredictionError: with the first check's message and remedy.
    """
    blocking = [finding for finding in findings if finding.severity == "blocking"]
    if blocking:
        first = blocking[0]
        more = f" (and {len(blocking) - 1} more)" if len(blocking) > 1 else ""
        raise PredictionError(f"{case}: {first.message} {first.remedy}{more}".strip())


def with_strip_margin(
    settings: EncodingSettings, margin_mm: float | None
) -> tuple[EncodingSettings, list[Finding]]:
    """The encoding with another margin of the strips, and what is to be said of it."""
    own_mm = settings.strips.margin_mm
    if margin_mm is None or margin_mm == own_mm:
        return settings, []
    if not np.isfinite(margin_mm) or margin_mm < 0:
        raise PredictionError(f"The margin of the strips must be 0 mm or more; got {margin_mm}.")
    finding = Finding(
        "strip-margin-unlike-model",
        "warning",
        f"The strips have a margin of {margin_mm:g} mm; the model was trained with {own_mm:g} mm.",
        "Set it back, unless this is an experiment.",
    )
    return replace(settings, strips=replace(settings.strips, margin_mm=margin_mm)), [finding]


def checked(bound: BoundCase, decoded: Decoded) -> list[Finding]:
    """What the checks after a prediction find in its dose, if it has one."""
    judged = replace(bound, prescription=decoded.prescription)
    doses = [output.volume for output in decoded.outputs if output.role == "dose"]
    return [finding for dose in doses for finding in check_prediction(judged, dose)]


def require_finite(case: str, inference: Inference, drawn_by: int | None = None) -> None:
    """Refuse NaN and infinity in any array.

    Args:
        drawn_by: the seed of a sample.

    Raises:
        PredictionError: names the array, and the seed.
    """
    for name, combined in inference.arrays.items():
        if not np.all(np.isfinite(combined.mean)):
            seed = "" if drawn_by is None else f" of the seed {drawn_by}"
            raise PredictionError(
                f"The {name}{seed} of {case} holds NaN or infinite values (precision "
                f"{inference.precision}); nothing was written. Try --precision fp32."
            )
