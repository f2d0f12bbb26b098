"""How doses of other prescriptions share one model: by one factor, in training and prediction."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["prescription_factor"]


def prescription_factor(case_gy: float | None, model_gy: Mapping[str, float]) -> float:
    """The case's prescription over the model's, for a model of one level; else 1.

    Training divides a plan's dose by it, prediction multiplies the network's.

    Args:
        case_gy: of the case's highest target; None: it has none, and the model's own is assumed.
        model_gy: the model's, target → Gy. With several levels the levels are inputs of the
            network (`level_gy` of the protocol) and nothing is scaled.
    """
    if case_gy is None or len(model_gy) != 1:
        return 1.0
    factor = case_gy / next(iter(model_gy.values()))
    return 1.0 if abs(factor - 1) < 1e-6 else factor
