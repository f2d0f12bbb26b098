"""CT values that several rules share, HU. Thresholds that one rule alone uses stand beside it."""

from __future__ import annotations

__all__ = ["AIR_BELOW_HU", "AIR_HU", "SKIN_HU"]

AIR_HU = -1000.0
"""Air, by the definition of the unit; what a voxel outside the image or the patient counts as."""

AIR_BELOW_HU = -700.0
"""Darker than this is air and nothing else: between lung (about −850 … −700, inside the patient)
and everything solid, so that thin sheets beside the patient stand out."""

SKIN_HU = -300.0
"""Between air and skin at half of their contrast, with room for a voxel that holds more air."""
