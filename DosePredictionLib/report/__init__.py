"""What a person looks at: one self-contained HTML report, and its figures as PNG for a paper.

The writers are imported on first use, so that describing a report costs no matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .content import Metadata, ModelCard, ReportInput, ReportStructure

__all__ = [
    "Metadata",
    "ModelCard",
    "ReportInput",
    "ReportStructure",
    "write_figures",
    "write_report",
]

if TYPE_CHECKING:
    from .figures import write_figures
    from .html import write_report

_HOME = {"write_figures": "figures", "write_report": "html"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
