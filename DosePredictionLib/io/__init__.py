"""Cases from files: one reader a format, one function that finds the right one."""

from __future__ import annotations

from pathlib import Path

from ..case import Case
from ..errors import CaseError
from .openkbp import is_openkbp, read_openkbp

__all__ = ["read_case"]


def read_case(path: str | Path) -> Case:
    """Read a case of any known kind."""
    path = Path(path)
    if is_openkbp(path):
        return read_openkbp(path)
    raise CaseError(f"{path} is no known case.")
