"""Every check, in one table: when it runs, what it needs, and what it may find.

A new check is a file with one function of a `CaseView`, and a line in `CHECKS`. Nothing here
changes a case; readers and the encoding do their own refusals (another grid, NaN, a target that
does not fit the model's grid).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from ..findings import Finding, Severity, worst_first
from ..models.expectations import ModelExpectations
from ..structures.bound import BoundCase
from ..volume import Volume
from .anatomical_order import check_anatomical_order
from .body_site import OTHER_SITE, check_body_site
from .couch import check_couch
from .ct_length import check_ct_length
from .distribution import Distribution
from .external_holes import check_external_holes
from .femoral_heads import check_femoral_heads
from .gaps import check_gaps
from .hounsfield import check_hounsfield
from .left_out import MAPPED, check_left_out
from .metal import check_metal
from .model_beams import check_model_beams
from .model_delivery import check_model_delivery
from .model_hu_range import check_model_hu_range
from .model_prescription import check_model_prescription
from .model_spacing import check_model_spacing
from .outside_body import check_outside_body
from .overlaps import check_overlaps
from .plan_dose import IMPOSSIBLE, NOT_COMPARABLE, UNLIKE, check_plan_dose
from .presence import check_presence
from .prone import check_prone
from .sides import check_sides
from .target_dose import check_target_dose
from .unlike_training import UNLIKE_TRAINING, check_unlike_training
from .view import CaseView

__all__ = ["CHECKS", "OF_THE_RESULT", "Check", "check_case", "check_prediction"]


@dataclass(frozen=True)
class Check:
    """One check.

    Args:
        run: looks at a case and says what it noticed.
        findings: id of each finding that it may make → the severities that it may have.
        phase: before or after the inference.
        needs_hu: left out when the CT holds no HU: then nothing separates the patient from air.
    """

    run: Callable[[CaseView], list[Finding]]
    findings: Mapping[str, tuple[Severity, ...]]
    phase: Literal["before", "after"] = "before"
    needs_hu: bool = False


_INFO: tuple[Severity, ...] = ("info",)
_WARNING: tuple[Severity, ...] = ("warning",)

CHECKS: tuple[Check, ...] = (
    Check(
        check_hounsfield,
        {
            "ct-not-hu": ("blocking",),
            "ct-without-air": _WARNING,
            "ct-padding": _INFO,
            "target-not-tissue": _WARNING,
        },
    ),
    Check(
        check_presence,
        {
            "structure-missing": ("info", "blocking"),
            "structure-empty": ("warning", "blocking"),
            "structure-tiny": _WARNING,
            "external-missing": _INFO,
        },
    ),
    Check(check_left_out, {MAPPED: ("blocking",)}),
    Check(check_body_site, {OTHER_SITE: ("blocking",)}),
    Check(check_femoral_heads, {"femur-not-head": _WARNING}),
    Check(check_gaps, {"structure-gaps": _WARNING}),
    Check(check_overlaps, {"structures-overlap": _WARNING}),
    Check(check_sides, {"left-right-swapped": _WARNING}),
    Check(check_anatomical_order, {"orientation-implausible": _WARNING}),
    Check(
        check_outside_body,
        {"target-outside-body": ("warning", "blocking"), "structure-outside-body": _WARNING},
        needs_hu=True,
    ),
    Check(check_external_holes, {"external-completed": ("info", "warning")}),
    Check(check_metal, {"metal": ("info", "warning")}, needs_hu=True),
    Check(check_couch, {"couch-in-body": _WARNING}, needs_hu=True),
    Check(check_prone, {"patient-prone": _WARNING}, needs_hu=True),
    Check(check_ct_length, {"ct-short": _WARNING}, needs_hu=True),
    Check(check_model_spacing, {"spacing-out-of-range": _WARNING}),
    Check(check_model_hu_range, {"hu-out-of-range": _WARNING}),
    Check(check_model_prescription, {"prescription-unlike-model": _WARNING}),
    Check(
        check_model_delivery,
        {"fractionation-unlike-model": _WARNING, "technique-unlike-model": _WARNING},
    ),
    Check(check_model_beams, {"beams-unlike-model": _WARNING, "beams-unknown-to-model": _INFO}),
    Check(check_plan_dose, {IMPOSSIBLE: _WARNING, UNLIKE: _WARNING, NOT_COMPARABLE: _WARNING}),
    Check(check_unlike_training, {UNLIKE_TRAINING: _WARNING}, needs_hu=True),
    Check(check_target_dose, {"target-dose-implausible": _WARNING}, phase="after"),
)
"""In the order in which they run."""

OF_THE_RESULT = frozenset(
    {UNLIKE_TRAINING, *(id for each in CHECKS if each.phase == "after" for id in each.findings)}
)
"""Ids of the findings that are to be read beside a dose, not only before it is predicted."""


def check_case(
    bound: BoundCase,
    expectations: ModelExpectations | None = None,
    distribution: Distribution | None = None,
) -> list[Finding]:
    """Everything that may spoil a prediction of this case, worst first.

    What the binding and the case say already (a channel without structure) is not said again.

    Args:
        bound: a case bound to a protocol.
        expectations: what the model's card states; without it there is nothing to compare with.
        distribution: what the model's patients were like, likewise.
    """
    view = CaseView(bound, expectations or ModelExpectations(), distribution=distribution)
    return _findings(view, "before")


def check_prediction(bound: BoundCase, dose: Volume) -> list[Finding]:
    """What is wrong with a predicted dose, worst first.

    Args:
        bound: the case.
        dose: Gy, on the case's grid.
    """
    return _findings(CaseView(bound, dose=dose), "after")


def _findings(view: CaseView, phase: Literal["before", "after"]) -> list[Finding]:
    mapped = () if view.bound.mapping is None else view.bound.mapping.findings
    said = {(f.id, f.structure) for f in (*mapped, *view.bound.findings)}
    findings: list[Finding] = []
    for check in CHECKS:
        blocked = any(finding.id == "ct-not-hu" for finding in findings)
        if check.phase != phase or (check.needs_hu and blocked):
            continue
        made = check.run(view)
        assert all(f.severity in check.findings[f.id] for f in made), (check.run.__name__, made)
        findings += made
    return worst_first([f for f in findings if (f.id, f.structure) not in said])
