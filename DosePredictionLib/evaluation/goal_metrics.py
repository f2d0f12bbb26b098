"""What a clinical goal measures in a DVH."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import DosePredictionError
from .dvh import Dvh
from .indices import homogeneity_icru83, paddick_conformity, r50, rtog_conformity

__all__ = ["INDICES", "Metric", "MetricKind", "NotEvaluable"]

MetricKind = Literal[
    "mean", "min", "max", "dose_percent", "dose_cc", "volume", "geud", "CI", "RTOG_CI", "HI", "R50"
]

INDICES = ("CI", "RTOG_CI", "HI", "R50")


class NotEvaluable(DosePredictionError):
    """Why a metric has no value; the message is the reason."""


@dataclass(frozen=True)
class Metric:
    """What a goal measures.

    Args:
        kind: which measure.
        amount: percent or cc of D_x, dose of V_d, exponent of gEUD; None for the others.
        of_prescription: whether V_d's dose is a percentage of the prescription.
        unit: of the value: `Gy`, `%Rx`, `%`, `cc`, or empty for an index.
    """

    kind: MetricKind
    amount: float | None = None
    of_prescription: bool = False
    unit: str = ""

    @property
    def needs_body(self) -> bool:
        """Whether the value depends on the dose outside the structure."""
        return self.kind in ("CI", "RTOG_CI", "R50")

    @property
    def endpoint(self) -> str | None:
        """The key of the DVH endpoint that is measured (`dvh.parse_endpoint`); None: it is none."""
        amount = "" if self.amount is None else f"{self.amount:.10g}"
        if self.kind in ("mean", "min", "max"):
            return f"D{self.kind}_gy"
        if self.kind in ("dose_percent", "dose_cc"):
            return f"D{amount}{'cc' if self.kind == 'dose_cc' else ''}_gy"
        if self.kind == "volume":
            unit = "cc" if self.unit == "cc" else "percent"
            return f"V{amount}{'percent' if self.of_prescription else 'Gy'}_{unit}"
        return None

    def __str__(self) -> str:
        amount = "" if self.amount is None else f"{self.amount:g}"
        if self.kind in ("mean", "min", "max"):
            return f"D{self.kind}"
        if self.kind == "dose_percent":
            return f"D{amount}%"
        if self.kind == "dose_cc":
            return f"D{amount}cc"
        if self.kind == "volume":
            return f"V{amount}{'%Rx' if self.of_prescription else 'Gy'}"
        return f"gEUD(a={amount})" if self.kind == "geud" else self.kind

    def value(
        self,
        curve: Dvh,
        prescription_gy: float | None = None,
        body: Dvh | None = None,
        geud_a: float | None = None,
    ) -> float:
        """The metric of one structure in its own unit.

        Args:
            curve: the structure's DVH.
            prescription_gy: what `%Rx` and the indices refer to.
            body: DVH of the body, for conformity and R50.
            geud_a: exponent of gEUD where the text gives none.

        Raises:
            NotEvaluable: with the reason.
        """
        if curve.volume_cc <= 0:
            raise NotEvaluable("the structure is empty")
        needs_rx = self.of_prescription or self.unit == "%Rx" or self.needs_body
        if needs_rx and prescription_gy is None:
            raise NotEvaluable("it needs a prescription, and there is none")
        if self.kind in INDICES:
            return self._index(curve, prescription_gy, body)
        if self.kind == "volume":
            return self._volume(curve, prescription_gy)
        dose_gy = self._dose_gy(curve, geud_a)
        return 100.0 * dose_gy / (prescription_gy or 1.0) if self.unit == "%Rx" else dose_gy

    def _dose_gy(self, curve: Dvh, geud_a: float | None) -> float:
        amount = 0.0 if self.amount is None else self.amount
        value: float | None
        if self.kind == "geud":
            exponent = geud_a if self.amount is None else self.amount
            if exponent is None:
                raise NotEvaluable("gEUD needs the structure's exponent: geud_a in the goals file")
            value = curve.geud(exponent)
        elif self.kind == "dose_percent":
            value = curve.dose_at_percent(amount)
        elif self.kind == "dose_cc":
            value = curve.dose_at_cc(amount)
            if value is None:
                raise NotEvaluable(
                    f"the structure has {curve.volume_cc:.3g} cc, less than {amount:g} cc"
                )
        else:
            value = {"mean": curve.mean_gy, "min": curve.min_gy, "max": curve.max_gy}[self.kind]
        return _defined(value)

    def _volume(self, curve: Dvh, prescription_gy: float | None) -> float:
        dose_gy = 0.0 if self.amount is None else self.amount
        if self.of_prescription:
            dose_gy *= (prescription_gy or 0.0) / 100.0
        if self.unit == "cc":
            return _defined(curve.volume_at_gy_cc(dose_gy))
        return _defined(curve.volume_at_gy(dose_gy))

    def _index(self, curve: Dvh, prescription_gy: float | None, body: Dvh | None) -> float:
        if self.kind == "HI":
            return _defined(homogeneity_icru83(curve))
        if body is None:
            raise NotEvaluable("it needs the body's contour, and there is none")
        rx_gy = prescription_gy or 0.0
        if self.kind == "CI":
            return _defined(paddick_conformity(curve, body, rx_gy))
        if self.kind == "RTOG_CI":
            return _defined(rtog_conformity(curve, body, rx_gy))
        return _defined(r50(curve, body, rx_gy))


def _defined(value: float | None) -> float:
    if value is None:
        raise NotEvaluable("it is not defined for this dose")
    return value
