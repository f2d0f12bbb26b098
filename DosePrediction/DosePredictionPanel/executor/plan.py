"""Whether a plan could give a dose, asked of the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..flow.beams import from_text
from ..flow.effects import CheckDeliverability
from ..flow.events import DeliverabilityChecked
from ..i18n import _
from .context import Context, carries_out, node_of

if TYPE_CHECKING:
    from DosePredictionLib.findings import Finding

__all__: list[str] = []


@carries_out(CheckDeliverability)
def _check(context: Context, effect: CheckDeliverability) -> None:
    def done(finding: Finding | None, error: str, details: str = "") -> None:
        text = "" if finding is None else f"{finding.message} {finding.remedy}".strip()
        severity = "" if finding is None else finding.severity
        context.dispatch(DeliverabilityChecked(effect.token, text, severity, error, details))

    dose = node_of(effect.dose)
    if dose is None:
        done(None, _("The result has been removed. Predict again."))
        return
    beams = from_text(effect.beams) if effect.beams else None
    context.ports.services.check_deliverability(dose, beams, done)
