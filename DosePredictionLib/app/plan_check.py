"""Whether a machine can deliver the plan of an RTPLAN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CaseError
from ..planning.aperture import complexity
from ..planning.check import CheckRow, check_plan
from ..planning.machine import Machine

__all__ = ["PlanCheck", "PlanCheckRequest", "check_plan_file", "rows_as_text"]


@dataclass(frozen=True)
class PlanCheckRequest:
    """A plan and what it is checked against.

    Args:
        plan: an RTPLAN.
        machine: id of a shipped machine, or a JSON file.
    """

    plan: Path
    machine: str


@dataclass(frozen=True)
class PlanCheck:
    """Every limit with its verdict, and how intricate the plan is.

    Args:
        left_out: beams without monitor units, which deliver nothing and are not judged.
    """

    plan: Path
    label: str
    machine: str
    rows: Sequence[CheckRow]
    complexity: Mapping[str, Any]
    left_out: Sequence[str] = ()

    @property
    def passed(self) -> bool:
        """Whether no limit is broken."""
        return all(row.passed for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """The record of `plan-check`."""
        return {
            "plan": str(self.plan),
            "label": self.label,
            "machine": self.machine,
            "passed": self.passed,
            "violations": sum(not row.passed for row in self.rows),
            "rows": [row.as_json() for row in self.rows],
            "complexity": dict(self.complexity),
            "left_out": list(self.left_out),
        }

    def text(self) -> str:
        """Rows as a table, broken limits first."""
        broken = sum(not row.passed for row in self.rows)
        verdict = "no limit is broken" if not broken else f"{broken} limits are broken"
        figures = ", ".join(f"{key} {value}" for key, value in self.complexity.items())
        head = f"{self.plan.name} ({self.label}) on {self.machine}: {verdict}"
        lines = [head, f"  {figures}"]
        if self.left_out:
            lines.append(f"  left out, without monitor units: {', '.join(self.left_out)}")
        return "\n".join([*lines, *rows_as_text(self.rows)])


def check_plan_file(request: PlanCheckRequest) -> PlanCheck:
    """Check an RTPLAN.

    Raises:
        DosePredictionError: no such machine, or a plan that cannot be read.
    """
    from ..io.dicom.files import open_dicom, quiet_parser
    from ..io.dicom.plan import read_plan

    machine = Machine.load(request.machine)
    if not request.plan.is_file():
        raise CaseError(f"There is no RTPLAN {request.plan}: name one file.")
    with quiet_parser():
        plan = read_plan(open_dicom(request.plan))
        is_brachy = plan.file.item.has("BrachyTreatmentType")
    if is_brachy:
        raise CaseError(
            f"{request.plan} is a plan of brachytherapy: name a plan of photon beams from outside."
        )
    doses = [dose_gy for _, _, dose_gy in plan.targets]
    fraction_gy = max(doses) / plan.fractions if doses and plan.fractions else None
    rows = check_plan(plan.beams, machine, fraction_gy, plan.broken_references)
    figures = complexity(plan.beams, fraction_gy)
    return PlanCheck(request.plan, plan.label, machine.id, rows, figures, plan.left_out)


def rows_as_text(rows: Sequence[CheckRow]) -> list[str]:
    """A line for each limit, broken ones first: its worst beam, and how many beams break it."""
    by_limit: dict[str, list[CheckRow]] = {}
    for row in rows:
        by_limit.setdefault(row.id, []).append(row)
    lines = []
    for same in sorted(by_limit.values(), key=lambda same: all(row.passed for row in same)):
        row = min(same, key=lambda row: (row.passed, row.margin))
        broken = sum(not each.passed for each in same)
        verdict = "FAIL" if broken else "ok  "
        value = "not stated" if row.value is None else f"{row.value:.6g}"
        place = ", ".join(part for part in (row.beam or "plan", row.place) if part)
        count = f" ({broken} of {len(same)})" if broken else ""
        line = f"  {verdict} {row.label:<36}{value:>11} {row.unit:<7}{_allowed(row):<16}"
        lines.append(f"{line}{place}{count}")
    return lines


def _allowed(row: CheckRow) -> str:
    if row.lowest is not None and row.highest is not None:
        same = row.lowest == row.highest
        return f"= {row.lowest:g}" if same else f"{row.lowest:g} … {row.highest:g}"
    return f">= {row.lowest:g}" if row.lowest is not None else f"<= {row.highest:g}"
