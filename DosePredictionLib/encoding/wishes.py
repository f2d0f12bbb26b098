"""The wishes that a model takes, and those that a case states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..errors import CaseError
from ..findings import Finding
from ..ranges import DoseGy
from ..schema import Length, Name, from_json, validated
from ..structures.bound import BoundCase
from ..wishes import Wish
from .settings import EncodingSettings

__all__ = ["WishInputs", "stated_wishes", "unused_wishes", "wish_inputs"]

_SAME_GY = 0.05
_SPARE_PERCENT = 1.0  # what a grid makes of an organ's volume


@dataclass(frozen=True)
@validated
class WishInputs:
    """`EncodingSettings.further["wish"]`: that a model takes wishes.

    Args:
        dose_gy: channel of an organ → dose of the V_d that may be limited.
    """

    dose_gy: Annotated[dict[Name, DoseGy], Length(1, 100)]

    def __str__(self) -> str:
        return ", ".join(f"{name} V{dose_gy:g}Gy" for name, dose_gy in self.dose_gy.items())


def wish_inputs(settings: EncodingSettings) -> WishInputs | None:
    """What an encoding says of wishes; None: the model takes none.

    Raises:
        DosePredictionError: an entry is unknown or out of its range.
    """
    own = settings.further.get("wish")
    return None if own is None else from_json(WishInputs, own, "encoding.further.wish")


def stated_wishes(bound: BoundCase, settings: EncodingSettings) -> Mapping[str, float]:
    """Channel → the share of the organ that may get its dose; empty: nothing is stated.

    A model without wishes leaves a case's alone.

    Raises:
        CaseError: a wish is on a structure that is not there or on a metric that the model does
            not take, two are on one, or the target alone exceeds the limit.
    """
    inputs = wish_inputs(settings)
    if inputs is None:
        return {}
    stated: dict[str, float] = {}
    for wish in bound.case.wishes:
        name = bound.resolve(wish.structure)
        if name is None or name not in bound.structures:
            raise CaseError(
                f"The goal {wish} is on a structure that {bound.case.name} does not have; it has "
                f"{', '.join(bound.structures)}."
            )
        known = inputs.dose_gy.get(name)
        if known is None or abs(known - wish.dose_gy) > _SAME_GY:
            raise CaseError(f"The model does not know the goal {wish}: it takes {inputs}.")
        if name in stated:
            raise CaseError(f"Two goals are on {name} V{wish.dose_gy:g}Gy: leave one out.")
        _require_possible(wish, name, bound)
        stated[name] = wish.percent / 100
    return stated


def unused_wishes(bound: BoundCase, settings: EncodingSettings) -> list[Finding]:
    """That a case states wishes which the model leaves alone."""
    wishes = bound.case.wishes
    if not wishes or settings.structures == "learned" or wish_inputs(settings) is not None:
        return []
    stated = "; ".join(str(wish) for wish in wishes)
    message = f"The case has wishes ({stated}), of which the model knows nothing."
    return [Finding("wishes-unknown-to-model", "info", message)]


def _require_possible(wish: Wish, name: str, bound: BoundCase) -> None:
    """Refuse a limit below what lies inside the target."""
    organ = bound.structures[name].mask.binary()
    target = np.any([mask.binary() for mask in bound.targets], axis=0)
    inside = 100.0 * np.count_nonzero(organ & target) / max(int(np.count_nonzero(organ)), 1)
    if wish.percent + _SPARE_PERCENT < inside:
        raise CaseError(
            f"The goal {wish} cannot be met: {inside:.0f} % of {name} lies inside the target, "
            "which gets its prescription. State a higher limit."
        )
