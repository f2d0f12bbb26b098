"""A result as files: dose, tables, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..prediction import Prediction
from .results import SceneResult

__all__ = ["write_dose", "write_result_report", "write_tables"]


def write_dose(dose: Any, path: Path) -> Path:
    """A dose node as NIfTI or NRRD (by suffix), Gy, in the scene's world coordinates."""
    raise NotImplementedError


def write_tables(result: SceneResult, folder: Path) -> list[Path]:
    """Metrics, goals, scores and changes as CSV."""
    raise NotImplementedError


def write_result_report(result: SceneResult, prediction: Prediction, path: Path) -> Path:
    """The HTML report; needs matplotlib and Jinja2, and takes seconds."""
    raise NotImplementedError
