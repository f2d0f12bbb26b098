"""What the drawn doses of a prediction say: the DVH of each, and how its endpoints spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..prediction import Prediction

__all__ = ["sample_dvhs", "sample_lines", "without_samples"]

_SHOWN = "Dmean_gy"


def sample_dvhs(prediction: Prediction) -> dict[str, Any] | None:
    """The content of `samples` in `prediction.json`; None: none were drawn.

    Returns:
        `count`, `seed` (of the first), `volume_percent`, and by structure its `endpoints` (key →
        a value a sample) and `curves_gy` (a sample's doses at 1, 2, … 99 % of the volume).
    """
    from ..evaluation.evaluate import EvaluationParts, evaluate
    from ..evaluation.widths import VOLUMES_PERCENT, curve_doses

    drawn = prediction.of_roles(["sample"])
    if not drawn:
        return None
    parts = EvaluationParts(reference=None)
    structures: dict[str, Any] = {}
    for sample in drawn:
        found = evaluate(prediction.bound, sample.volume, parts)
        for name, values in found.endpoints().items():
            curve = found.predicted[name].curve
            if curve is None:
                continue
            known = structures.setdefault(name, {"endpoints": {}, "curves_gy": []})
            known["curves_gy"].append([round(float(gy), 2) for gy in curve_doses(curve)])
            for key, value in values["endpoints"].items():
                known["endpoints"].setdefault(key, []).append(value)
    return {
        "count": len(drawn),
        "seed": prediction.seed,
        "volume_percent": list(VOLUMES_PERCENT),
        "structures": structures,
    }


def without_samples(prediction: Prediction) -> Prediction:
    """The prediction without the drawn doses themselves; their spread stays."""
    kept = tuple(output for output in prediction.outputs if output.role != "sample")
    return replace(prediction, outputs=kept)


def sample_lines(samples: Mapping[str, Any]) -> list[str]:
    """Mean doses of the samples in a few lines for people."""
    lines = [f"  samples     {samples['count']} doses; mean dose, Gy:"]
    for name, known in samples["structures"].items():
        values = np.array([v for v in known["endpoints"].get(_SHOWN, ()) if v is not None])
        if values.size:
            lines.append(f"    {name:<24}{values.min():6.1f} to {values.max():.1f}")
    return lines
