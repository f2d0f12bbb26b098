"""The isodose levels of the person at this machine, kept from one session to the next."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.files import write_json
from DosePredictionLib.schema import read_json

from .flow.levels import levels_text, parse_levels
from .flow.state import Levels

__all__ = ["OwnLevels"]


@dataclass(frozen=True)
class OwnLevels:
    """Levels in a file.

    Args:
        path: it need not exist. One that cannot be read holds none, and one that cannot be written
            is left: levels are still drawn.
    """

    path: Path

    @classmethod
    def of_user(cls) -> OwnLevels:
        """Those of the person at this machine."""
        return cls(Path.home() / ".dose-prediction" / "isodoses.json")

    def recall(self) -> Levels | None:
        """The levels; None: the usual ones."""
        try:
            content = read_json(self.path)
            return parse_levels(str(content["levels"]))
        except (DosePredictionError, ValueError, TypeError, KeyError):
            return None

    def remember(self, levels: Levels | None) -> None:
        """Keep them in place of those before."""
        with contextlib.suppress(OSError, ValueError):  # a full disk; a folder in its place
            write_json(self.path, {"levels": levels_text(levels)})
