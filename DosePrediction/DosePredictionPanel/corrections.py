"""Corrections of the mapping, remembered for the next case with the same names.

One JSON file; each entry is a mapping file of the library (`protocol`, `channels`) with the names
of the case beside it. The newest entries are kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.files import write_json
from DosePredictionLib.schema import read_json

__all__ = ["Corrections"]

_KEPT = 200


@dataclass(frozen=True)
class Corrections:
    """The remembered corrections.

    Args:
        path: the file; it need not exist. One that cannot be read counts as empty, and one that
            cannot be written is left: to forget a correction must not stop a prediction.
    """

    path: Path

    @classmethod
    def of_user(cls) -> Corrections:
        """Those of the person at this machine."""
        return cls(Path.home() / ".dose-prediction" / "corrections.json")

    def recall(self, protocol: str, names: Iterable[str]) -> dict[str, str | None]:
        """Channel → structure as corrected for a case with exactly these names; {} if never."""
        wanted = sorted(set(names))
        for entry in reversed(self._entries()):
            if entry["protocol"] == protocol and entry["names"] == wanted:
                return dict(entry["channels"])
        return {}

    def remember(
        self, protocol: str, names: Iterable[str], channels: Mapping[str, str | None]
    ) -> None:
        """Replace what is remembered for these names; no channels: forget them."""
        wanted = sorted(set(names))
        entries = [
            entry
            for entry in self._entries()
            if entry["protocol"] != protocol or entry["names"] != wanted
        ]
        if channels:
            entries.append({"protocol": protocol, "channels": dict(channels), "names": wanted})
        self._write(entries[-_KEPT:])

    def _entries(self) -> list[dict[str, Any]]:
        try:
            content = read_json(self.path)
        except DosePredictionError:
            return []
        entries = content.get("cases") if isinstance(content, dict) else None
        return [entry for entry in entries or () if _is_entry(entry)]

    def _write(self, entries: list[dict[str, Any]]) -> None:
        with contextlib.suppress(OSError, ValueError):  # a full disk; a folder in its place
            write_json(self.path, {"cases": entries})


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("protocol"), str)
        and isinstance(entry.get("channels"), dict)
        and isinstance(entry.get("names"), list)
    )
