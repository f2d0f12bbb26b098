"""Slicer's data probe with doses as people read them: "41.97 Gy", not "41.970348"."""

from __future__ import annotations

import functools
from typing import Any

import slicer

__all__ = ["gray_text", "show_doses_in_gray"]


def show_doses_in_gray() -> None:
    """Have the data probe write volumes in Gy with two decimals; once in a session.

    It has no place for formats of one's own: its method is wrapped, and whatever is no number in
    Gy goes through as it was. Without a data probe nothing happens.
    """
    instance = getattr(slicer.modules, "DataProbeInstance", None)
    widget = getattr(instance, "infoWidget", None)
    original = getattr(widget, "getPixelString", None)
    if widget is None or original is None or hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def in_gray(volume: Any, ijk: Any) -> str:
        return gray_text(volume, str(original(volume, ijk)))

    widget.getPixelString = in_gray


def gray_text(volume: Any, text: str) -> str:
    """The probe's text of a voxel; rounded and with its unit where the volume is in Gy."""
    units = volume.GetVoxelValueUnits() if volume is not None else None
    if units is None or units.GetCodeValue() != "Gy":
        return text
    try:
        return f"{float(text):.2f} Gy"
    except ValueError:  # "Out of Frame"
        return text
