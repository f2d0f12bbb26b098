"""What is wished of a plan: upper limits of an organ's V_d, as inputs of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from .ranges import DoseGy
from .schema import Name, Range, validated

__all__ = ["Wish"]


@dataclass(frozen=True)
@validated
class Wish:
    """At most a percentage of an organ's volume gets a dose or more.

    Args:
        structure: as the case or the protocol calls it.
        dose_gy: of V_d.
        percent: of the structure's volume.
    """

    structure: Name
    dose_gy: DoseGy
    percent: Annotated[float, Range(0, 100)]

    def __str__(self) -> str:
        return f"{self.structure} V{self.dose_gy:g}Gy <= {self.percent:g} %"
