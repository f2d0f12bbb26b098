"""How doses of other prescriptions share one model: by one factor, in training and prediction."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import CaseError
from ..structures.bound import BoundCase

__all__ = ["prescription_factor", "require_each_level"]


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


def require_each_level(bound: BoundCase, model_gy: Mapping[str, float]) -> None:
    """Refuse a prescription, given for this prediction, that leaves out what the model must know.

    Args:
        bound: the case with the given prescription.
        model_gy: the model's, target → Gy.

    Raises:
        CaseError: a name in it is no target of the case, the protocol or the model, or the model
            has several levels and a target of the case has none.
    """
    given, targets = bound.prescriptions_gy, bound.named("target")
    known = {*targets, *model_gy}
    if bound.protocol is not None:
        known |= {channel.name for channel in bound.protocol.targets}
    unknown = [name for name in given if name not in known]
    if unknown:
        raise CaseError(
            f"The prescription is for {', '.join(unknown)}, which is no target of "
            f"{bound.case.name}: prescribe {', '.join(targets or model_gy)}, as in "
            f"--prescription {next(iter(targets or model_gy))}=GY."
        )
    missing = [name for name in targets if name in model_gy and name not in given]
    if len(model_gy) > 1 and missing:
        options = " ".join(f"--prescription {name}=GY" for name in targets)
        raise CaseError(
            f"The model has a level for each target, and {', '.join(missing)} of "
            f"{bound.case.name} has none in the prescription: give every target's ({options})."
        )
