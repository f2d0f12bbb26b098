"""Organs that always lie in front of, or above, another."""

from __future__ import annotations

from ..findings import Finding
from .thresholds import (
    ANATOMICAL_ORDER,
    ORDER_MM,
)
from .view import CaseView

__all__ = ["check_anatomical_order"]


def check_anatomical_order(view: CaseView) -> list[Finding]:
    """Organs that always lie in front of, or above, another: an image flipped is found out."""
    for name, other_name, axis, word in ANATOMICAL_ORDER:
        one, other = view.by_tg263(name), view.by_tg263(other_name)
        if one is None or other is None:
            continue
        # Anterior is −y, superior is +z.
        ahead = (other.center_mm[1] - one.center_mm[1], one.center_mm[2] - other.center_mm[2])
        distance = ahead[axis - 1]
        if distance < -ORDER_MM:
            opposite = "posterior" if word == "anterior" else "inferior"
            message = (
                f"{one.name} lies {-distance:.0f} mm {opposite} to {other.name}; it should be "
                f"{word} to it."
            )
            remedy = "Check that the image is not flipped, and that the contours are named rightly."
            kind = "orientation-implausible"
            return [Finding(kind, "warning", message, remedy, one.name, one.center_mm)]
    return []
