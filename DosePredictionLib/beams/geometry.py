"""Where a beam's rays run: source, axes, and the projection onto the plane of the isocenter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .arrangement import BeamArrangement

__all__ = ["BeamFrame", "Lattice", "beam_frame"]

Array = NDArray[np.float32]


@dataclass(frozen=True)
class BeamFrame:
    """A coplanar beam's axes, LPS.

    Args:
        source_mm: where all rays come from.
        toward: from the source along the beam's axis, of length 1, (x, y).
        across: perpendicular to it in the axial plane, (x, y): u.
        sad_mm: from the source to the isocenter.
    """

    source_mm: tuple[float, float, float]
    toward: tuple[float, float]
    across: tuple[float, float]
    sad_mm: float

    def plane(self, x_mm: Array, y_mm: Array) -> tuple[Array, Array]:
        """Distance from the source along the axis, and u, of places in the axial plane, mm."""
        x, y = x_mm - self.source_mm[0], y_mm - self.source_mm[1]
        axial: Array = x * self.toward[0] + y * self.toward[1]
        lateral: Array = x * self.across[0] + y * self.across[1]
        u: Array = lateral * (self.sad_mm / axial)
        return axial, u

    def height(self, z_mm: Array, axial_mm: Array) -> Array:
        """v: along the patient, in the plane of the isocenter, mm."""
        height: Array = (z_mm - self.source_mm[2]) * (self.sad_mm / axial_mm)
        return height


@dataclass(frozen=True)
class Lattice:
    """Fluence elements `(v, u)` of one beam in the plane of the isocenter.

    Args:
        first_mm: (u, v) of the first element's center, from the beam's axis.
        shape: (v, u).
        step_mm: edge of an element.
    """

    first_mm: tuple[float, float]
    shape: tuple[int, int]
    step_mm: float

    @classmethod
    def around(cls, u_mm: Array, v_mm: Array, step_mm: float, margin_mm: float) -> Lattice:
        """The elements that cover places and a margin; centers lie on multiples of the edge."""
        first, shape = [], []
        for values in (u_mm, v_mm):
            low = int(np.floor((values.min() - margin_mm) / step_mm))
            high = int(np.ceil((values.max() + margin_mm) / step_mm))
            first.append(low * step_mm)
            shape.append(high - low + 1)
        return cls((first[0], first[1]), (shape[1], shape[0]), step_mm)

    @property
    def u_mm(self) -> Array:
        """Centers along u."""
        return (self.first_mm[0] + self.step_mm * np.arange(self.shape[1])).astype(np.float32)

    @property
    def v_mm(self) -> Array:
        """Centers along v."""
        return (self.first_mm[1] + self.step_mm * np.arange(self.shape[0])).astype(np.float32)

    def index(self, u_mm: Array, v_mm: Array) -> tuple[Array, Array]:
        """Continuous indices along u and v."""
        u = (u_mm - np.float32(self.first_mm[0])) / np.float32(self.step_mm)
        v = (v_mm - np.float32(self.first_mm[1])) / np.float32(self.step_mm)
        return u, v


def beam_frame(
    arrangement: BeamArrangement, gantry_degrees: float, isocenter_mm: Sequence[float]
) -> BeamFrame:
    """The axes of a field.

    Args:
        isocenter_mm: LPS.
    """
    x, y, _ = arrangement.source_direction(gantry_degrees)
    source = [
        center + arrangement.sad_mm * step
        for center, step in zip(isocenter_mm, (x, y, 0.0), strict=True)
    ]
    return BeamFrame((source[0], source[1], source[2]), (-x, -y), (-y, x), arrangement.sad_mm)
