"""`_()`: Slicer's translation; outside Slicer the text itself."""

from __future__ import annotations

__all__ = ["_"]

try:
    from slicer.i18n import tr as _
except ImportError:  # tests without Slicer, or slicer-core, which has no translations

    def _(text: str) -> str:
        return text
