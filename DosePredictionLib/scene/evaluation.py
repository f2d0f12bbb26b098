"""The numbers of a dose node without a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..case import Prescription
from ..evaluation.evaluate import Evaluation, EvaluationParts, evaluate
from ..evaluation.goals import GoalSet
from ..structures.bound import bind
from .reading import case_from_nodes

__all__ = ["evaluate_nodes"]


def evaluate_nodes(
    dose: Any,
    segmentation: Any,
    goals: GoalSet | None = None,
    prescription: Prescription | None = None,
    mapping: Mapping[str, str | None] | None = None,
) -> Evaluation:
    """DVHs of all segments in a dose, on the dose's own grid, and goals held against it.

    Where no external contour was drawn, the whole grid stands for the body.

    Args:
        dose: vtkMRMLScalarVolumeNode, Gy.
        segmentation: vtkMRMLSegmentationNode.
        goals: None: none.
        prescription: by the segments' names or the channels'.
        mapping: channel → segment where the matching is overruled.

    Raises:
        CaseError: as `case_from_nodes`.
        MappingError: as `bind`.
    """
    case = case_from_nodes(dose, segmentation).case
    bound = bind(case, None, mapping, prescription)
    return evaluate(bound, case.ct, EvaluationParts(reference=None, goals=goals))
