"""The findings of the preflight as rows of a list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .i18n import _

if TYPE_CHECKING:
    from DosePredictionLib.findings import Finding

__all__ = ["FindingRow", "blocking_messages", "finding_rows", "finding_text", "findings_title"]


# ": --map PTV70=NAME" and what follows it up to the sentence's end.
_MAP_OPTION = re.compile(r":? --map .*?(?=\.?$|\. )")


@dataclass(frozen=True)
class FindingRow:
    """One finding as it is shown.

    Args:
        severity: `blocking`, `warning` or `info`.
        text: symbol, what was seen, and on the next line what to do.
        tool_tip: severity in words, and whether a click leads somewhere.
        position_mm: where to look, LPS mm.
    """

    severity: str
    text: str
    tool_tip: str
    position_mm: tuple[float, float, float] | None


def finding_rows(findings: Sequence[Finding]) -> list[FindingRow]:
    """Worst first; the same text once."""
    from DosePredictionLib.findings import worst_first

    rows = dict.fromkeys(_row(finding) for finding in worst_first(list(findings)))
    return list(rows)


def findings_title(findings: Sequence[Finding], *, reading: bool = False) -> str:
    """The section's title: how many of what."""
    if reading:
        return _("Checks – reading the inputs…")
    counts = {
        severity: sum(finding.severity == severity for finding in findings)
        for severity in ("blocking", "warning", "info")
    }
    words = {
        "blocking": _("{count} blocking"),
        "warning": _("{count} warnings") if counts["warning"] != 1 else _("{count} warning"),
        "info": _("{count} notes") if counts["info"] != 1 else _("{count} note"),
    }
    parts = [words[name].format(count=count) for name, count in counts.items() if count]
    return _("Checks – {summary}").format(summary=", ".join(parts) or _("nothing found"))


def blocking_messages(findings: Sequence[Finding]) -> tuple[str, ...]:
    """What stops a prediction, with what to do."""
    return tuple(finding_text(f) for f in findings if f.severity == "blocking")


def finding_text(finding: Finding) -> str:
    """What was seen and what to do, on one line."""
    return f"{finding.message} {_for_panel(finding.remedy)}".strip()


def _for_panel(remedy: str) -> str:
    """A remedy without what is typed in a shell: here segments are chosen in the table."""
    return _MAP_OPTION.sub(_(" in the section Structures"), remedy)


def _row(finding: Finding) -> FindingRow:
    symbol, word = {
        "blocking": ("✗", _("Blocks the prediction.")),
        "warning": ("⚠", _("Warning: may spoil the dose.")),
        "info": ("ℹ", _("Worth knowing.")),
    }[finding.severity]
    text = f"{symbol} {finding.message}"
    if finding.remedy:
        text += f"\n→ {_for_panel(finding.remedy)}"
    place = _("Click to see the place.") if finding.position_mm is not None else ""
    return FindingRow(finding.severity, text, f"{word} {place}".strip(), finding.position_mm)
